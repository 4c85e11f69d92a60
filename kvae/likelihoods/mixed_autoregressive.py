"""Likelihood of table rows whose columns depend on each other given z: each is predicted from those before it."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.data.table import TableSpec
from kvae.likelihoods.mixed import BOUNDS, Mixed
from kvae.likelihoods.normal_interval import log_normal_interval
from kvae.loss_terms import LOG_2_PI
from kvae.serialization import register
from kvae.types import Shape, Tensor
from kvae_serve.sealed.features import blocks

#: Standard deviation of the initial embeddings.
_EMBEDDING_SCALE = 0.3
#: Lowest and highest default width, and numbers of a matrix up to which the width is the highest.
_WIDTHS, _MAX_EMBEDDINGS = (8, 64), 12_000
#: Log variance of the components of a mixture at the start, and the range of their means.
_INITIAL_LOG_VAR, _INITIAL_RANGE = -0.5, 1.0


@register("likelihoods.MixedAutoregressive")
class MixedAutoregressive(Mixed):
    """Likelihood of table rows, p(x|z) = product over columns of p(x_j | z, x_1, ..., x_(j-1)).

    Columns that determine each other, such as a code and its text, agree in drawn rows even if z does not determine
    them. The numbers of a column are a mixture of normals. Classes, atoms, unseen integers and missing values are as in
    `Mixed`, and so are the unit data.

    The decoder returns the parameters of p(x_j | z). Features are one-hot classes, numbers or scores, and whether a
    number is missing. With the residuals r of the features before column j (the feature minus its expectation given
    z), the logits and means of the column change by

        r E W_j,

    with two learned matrices, the embeddings E and the effects W. So a column whose predecessors are as expected keeps
    the parameters that the decoder returned.

    Args:
        columns: As for `Mixed`.
        quantiles: As for `Mixed`.
        missing: As for `Mixed`.
        unseen: As for `Mixed`.
        width: Number of columns of E, the rank of the dependence. Default: 64, or less for rows of more than 187
            features, so that E has at most 12,000 numbers; at least 8.
        components: Normals in the mixture of each number.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `columns` is empty, or `width` or `components` is below 1.

    Reference: Uria et al. (2016), Neural autoregressive distribution estimation, https://arxiv.org/abs/1605.02226, for
    the state that accumulates earlier variables; here it is linear, so that z keeps most of what columns share.

    Example:
        >>> import kvae
        >>> likelihood = kvae.likelihoods.MixedAutoregressive([["age", 0], ["colour", 3]], width=8, components=2)
        >>> likelihood.num_extra  # mean, log variance and weight of 2 normals
        6
    """

    kind = "mixed_autoregressive"

    def __init__(
        self,
        columns: Sequence[Sequence[Any]],
        quantiles: Mapping[str, Mapping[str, Any]] | None = None,
        missing: Sequence[str] = (),
        unseen: Mapping[str, Mapping[str, Any]] | None = None,
        width: int | None = None,
        components: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(columns, "element", quantiles, missing, unseen, **kwargs)
        self._blocks = blocks(self.columns, self.missing)
        self.num_features = self.num_numeric + sum(self.num_classes) + len(self.missing)
        if width is None:
            width = max(_WIDTHS[0], min(_WIDTHS[1], _MAX_EMBEDDINGS // self.num_features))
        if min(width, components) < 1:
            raise ValueError(f"width is {width} and components is {components}; expected at least 1.")
        self.width, self.components = int(width), int(components)
        self.num_extra = 3 * self.components * self.num_numeric
        shape, learns = (self.num_features, self.width), len(self.columns) > 1
        spread = keras.initializers.RandomNormal(stddev=_EMBEDDING_SCALE, seed=0)
        self.embedding = self.add_weight(shape, initializer=spread, trainable=learns, name="embedding")
        self.effect = self.add_weight(shape, initializer="zeros", trainable=learns, name="effect")

    @classmethod
    def from_spec(cls, spec: TableSpec, sigma: float | str = "element") -> "MixedAutoregressive":
        """Create the likelihood of the rows of a `TableSpec`.

        Args:
            spec: The table's columns.
            sigma: `"element"`: the decoder returns the standard deviations.

        Raises:
            ValueError: If `sigma` has another value.
        """
        if sigma != "element":
            raise ValueError(f"sigma of {cls.__name__} is {sigma!r}; expected element.")
        return cls(**cls.arguments(spec))

    def nll(self, x: Tensor, parameters: Tensor, training: bool = False) -> Tensor:
        """Sum -log p over columns, float32 `[batch]`, in nats."""
        return super().nll(x, self.given_columns(x, parameters), training)

    def given_columns(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Return the parameters of p(x_j | z, x_1, ..., x_(j-1)).

        Args:
            x: Unit data, float32 `[batch, num_features]`.
            parameters: The decoder's output, `[batch, num_parameters]`.
        """
        residuals = x - self.mean(parameters)
        if self.missing:
            residuals = self._present(x) * residuals
        state: Any = None
        changed: dict[int, Any] = {}
        for block in self._blocks:
            before = state
            for first, end in block.spans:
                changed[first] = parameters[:, first:end]
                if before is not None:
                    changed[first] += ops.matmul(before, ops.transpose(self.effect[first:end]))
                more = ops.matmul(residuals[:, first:end], self.embedding[first:end])
                state = more if state is None else state + more
        features = [changed[first] for first in sorted(changed)]
        return ops.concatenate([*features, parameters[:, self.num_features :]], axis=1)

    def _present(self, x: Tensor) -> Tensor:
        """Return 0 for the values of numbers that are missing and 1 for other features, `[batch, num_features]`."""
        place = np.zeros((len(self.missing), self.num_features), "float32")
        for block in self._blocks:
            if block.flag is not None:
                place[block.flag - (self.num_features - len(self.missing)), block.first : block.end] = 1.0
        return 1.0 - ops.matmul(self._missing_part(x), place)

    def _mixture(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return offsets of the means, log variances and log weights, `[batch, components, num_numeric]` each."""
        num = self.components * self.num_numeric
        parts = (
            ops.reshape(
                parameters[:, self.num_features + at * num : self.num_features + (at + 1) * num],
                (-1, self.components, self.num_numeric),
            )
            for at in range(3)
        )
        offset, log_var, logits = parts
        return offset, ops.clip(log_var, *BOUNDS), ops.log_softmax(logits, axis=1)

    def _number_nll(self, x: Tensor, parameters: Tensor, training: bool) -> Tensor:
        offset, log_var, log_weight = self._mixture(parameters)
        scores = x[:, : self.num_numeric]
        mean = ops.expand_dims(parameters[:, : self.num_numeric], 1) + offset
        log_prob = -0.5 * (LOG_2_PI + log_var + ops.square(ops.expand_dims(scores, 1) - mean) * ops.exp(-log_var))
        if self._scores is not None:
            pieces = self._scores.pieces(scores)
            is_atom = ops.expand_dims(ops.greater(pieces.is_atom, 0.5), 1)
            inverse = ops.exp(-0.5 * log_var)
            # Any interval where the piece is not an atom, so that the unused branch stays finite.
            low = ops.where(is_atom, (ops.expand_dims(pieces.low, 1) - mean) * inverse, 0.0)
            width = ops.where(is_atom, ops.expand_dims(pieces.width, 1) * inverse, 1.0)
            density = log_prob + ops.expand_dims(pieces.log_slope, 1)
            log_prob = ops.where(is_atom, log_normal_interval(low, width), density)
        return -ops.logsumexp(log_weight + log_prob, axis=1)

    def mean(self, parameters: Tensor) -> Tensor:
        """Compute the means of the numbers given z, and the probabilities of classes and of a number missing.

        Returns:
            float32 `[batch, num_features]`.
        """
        if not self.num_numeric:
            return super().mean(parameters)
        offset, _, log_weight = self._mixture(parameters)
        scores = parameters[:, : self.num_numeric] + ops.sum(ops.exp(log_weight) * offset, axis=1)
        return super().mean(ops.concatenate([scores, parameters[:, self.num_numeric :]], axis=1))

    def outputs(self, parameters: Tensor, data: Any) -> dict[str, Tensor]:
        """Compute the parameters of p(x_j | z) of each column j.

        Returns:
            `x_score`, `x_log_var` and `x_weight` `[batch, components, num_columns]`: mean, log variance and weight of
            the normals of each number, in scores for the quantile form and in standard units otherwise; 0 for classes.
            The probabilities of each class column `[batch, num_classes]`. `x_probability_missing`
            `[batch, num_columns]`, if any number may be missing.
        """
        outputs = {}
        if self.num_numeric:
            offset, log_var, log_weight = self._mixture(parameters)
            outputs["x_score"] = ops.expand_dims(parameters[:, : self.num_numeric], 1) + offset
            outputs |= {"x_log_var": log_var, "x_weight": ops.exp(log_weight)}
            outputs = {name: self._in_columns(values, self._numbers) for name, values in outputs.items()}
        return outputs | self._probabilities(parameters)

    def output_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shapes of `outputs` without the batch axis."""
        shapes = {name: each for name, each in super().output_shapes(shape).items() if name[:7] != "x_score"}
        if self.num_numeric:
            shapes |= dict.fromkeys(("x_score", "x_log_var", "x_weight"), (self.components, *shape))
        return shapes

    def initial_bias(self, mean: Tensor) -> Tensor:
        """Return the bias of `Mixed`, and normals with spread means and equal weights."""
        features = super().initial_bias(mean)[: self.num_features]
        spread = np.linspace(-_INITIAL_RANGE, _INITIAL_RANGE, self.components) if self.components > 1 else [0.0]
        num = self.components * self.num_numeric
        parts = [np.repeat(spread, self.num_numeric), np.full(num, _INITIAL_LOG_VAR), np.zeros(num)]
        return np.concatenate([features, *parts]).astype("float32")

    def feature_vectors(self, feature: Tensor) -> dict[str, Tensor]:
        """Return the embedding and the effect of features, `[batch, width]` each.

        Args:
            feature: Index of a feature, int `[batch]`.
        """
        vectors = {"embedding": self.embedding, "effect": self.effect}
        return {name: ops.take(values, feature, axis=0) for name, values in vectors.items()}

    def manifest(self) -> dict[str, Any]:
        """Return the description of `Mixed`, and the rank of the dependence and the size of the mixtures."""
        return {**super().manifest(), "width": self.width, "components": self.components}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        config = {name: value for name, value in super().get_config().items() if name != "sigma"}
        return {**config, "width": self.width, "components": self.components}
