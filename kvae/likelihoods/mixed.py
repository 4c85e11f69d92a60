"""Likelihood of table rows: normal numbers or scores, and categorical classes, independent given z."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from kvae.data.quantiles import Quantiles
from kvae.data.table import TableSpec, form_of, num_classes
from kvae.likelihoods.base import Likelihood, check_sigma, optimal_log_var
from kvae.likelihoods.normal_interval import log_normal_interval
from kvae.loss_terms import LOG_2_PI
from kvae.serialization import register
from kvae.types import Shape, Tensor
from kvae_serve.readers.csv import graph_name

# Standard deviations of 0.01 to 12 times that of the column. Below that, log p would depend on rounding.
BOUNDS = (-9.0, 5.0)
#: Output with the probability that each number is missing.
MISSING = "x_probability_missing"
#: -log p of a class that training did not see, in nats: one in a million.
_UNSEEN = 6.0 * math.log(10.0)


@register("likelihoods.Mixed")
class Mixed(Likelihood):
    """Likelihood of table rows: numbers are normal with one standard deviation per column, classes are categorical.

    Unit data have the layout of `kvae.TableSpec`: numbers, one value per class of each class column (one-hot), and for
    each number that may be missing, whether it is. Parameters have the same layout: means of p, logits of the classes,
    logits of a number missing, and with `sigma="element"` one log variance per number at the end.

    A number in quantile form has a normal score. An atom has the probability of its interval of scores,
    Phi((b - m) / s) - Phi((a - m) / s); other values have the density of the score times its slope, per data unit. A
    missing number adds only the probability that it is missing. A class that is not in the table costs 13.8 nats. An
    integer that training did not see has a share of the probabilities of the integers around it.

    Args:
        columns: Name and number of classes of each column, 0 for a number: `[["age", 0], ["colour", 3]]`.
            `Mixed.from_spec(spec)` reads them from a `TableSpec`.
        sigma: Standard deviations of the numbers. `"optimal"` uses for each column the one that is most likely given
            the errors of the batch, and keeps its running mean (see `Gaussian`). `"shared"` learns one per column by
            gradient. `"element"` is an output of the decoder, one per number. A number fixes all of them, in units of
            the column's scale, or of scores.
        quantiles: `{"knots", "scores"}` of each column in quantile form, by name.
        missing: Names of the numeric columns whose values may be missing.
        unseen: `{"share", "weight"}` of each column whose classes lend probability to unseen integers, by name, see
            `kvae_serve.sealed.unseen`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `columns` is empty or `sigma` is invalid.

    Example:
        >>> import kvae
        >>> kvae.likelihoods.Mixed([["age", 0], ["colour", 3]]).probability_names
        [None, 'x_probability_colour']
    """

    kind = "mixed"
    is_density = True
    for_tables = True

    def __init__(
        self,
        columns: Sequence[Sequence[Any]],
        sigma: float | str = "optimal",
        quantiles: Mapping[str, Mapping[str, Any]] | None = None,
        missing: Sequence[str] = (),
        unseen: Mapping[str, Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.columns: list[Any] = [[str(name), int(num)] for name, num in columns]
        if not self.columns or min(num for _, num in self.columns) < 0:
            raise ValueError(f"columns must be pairs of a name and a number of classes (0 for numbers), got {columns}.")
        names = [name for name, _ in self.columns]
        if unknown := sorted({*(quantiles or {}), *missing, *(unseen or {})} - set(names)):
            raise ValueError(f"quantiles, missing or unseen contain {unknown[0]!r}, which is not a column.")
        check_sigma(sigma, ("optimal", "shared", "element"))
        self.sigma: Any = sigma
        self.missing = list(missing)
        self.num_classes = [num for _, num in self.columns if num]
        self._numbers = [name for name, num in self.columns if not num]
        self.num_numeric = len(self._numbers)
        self.num_extra = self.num_numeric if sigma == "element" else 0
        self.quantiles = {
            name: {key: list(each[key]) for key in ("knots", "scores")} for name, each in (quantiles or {}).items()
        }
        self.unseen = {
            name: {key: list(each[key]) for key in ("share", "weight")} for name, each in (unseen or {}).items()
        }
        self._scores = None
        if self.quantiles:
            line = {"mean": 0.0, "scale": 1.0}
            self._scores = Quantiles([self.quantiles.get(name, line) for name in self._numbers])
        self.log_var: Any = None
        if self.num_numeric and sigma in ("shared", "optimal"):
            self.log_var = self.add_weight(
                (self.num_numeric,), initializer="zeros", trainable=sigma == "shared",
                aggregation="only_first_replica", name="log_var",
            )  # fmt: skip

    @classmethod
    def from_spec(cls, spec: TableSpec, sigma: float | str = "optimal") -> "Mixed":
        """Create the likelihood of the rows of a `TableSpec`.

        Args:
            spec: The table's columns.
            sigma: As in the constructor.
        """
        return cls(sigma=sigma, **cls.arguments(spec))

    @staticmethod
    def arguments(spec: TableSpec) -> dict[str, Any]:
        """Return the constructor arguments that describe the columns of a `TableSpec`."""
        return {
            "columns": [[column["name"], num_classes(column)] for column in spec.columns],
            "quantiles": {column["name"]: column for column in spec.columns if form_of(column) == "quantile"},
            "missing": [spec.columns[index]["name"] for index in spec.may_miss],
            "unseen": {column["name"]: column["unseen"] for column in spec.columns if "unseen" in column},
        }

    @property
    def probability_names(self) -> list[str | None]:
        """For each column, the name of the output with the probabilities of its classes; None for a number."""
        names: list[str | None] = []
        taken = {"x_probability", *([MISSING] if self.missing else [])}
        for index, (column, num) in enumerate(self.columns):
            name = f"x_probability_{graph_name(column).strip('_')}".rstrip("_")
            names.append(None if not num else f"{name}_{index}" if name in taken else name)
            taken.add(names[-1] or "x_probability")
        return names

    def nll(self, x: Tensor, parameters: Tensor, training: bool = False) -> Tensor:
        """Sum -log p over columns, float32 `[batch]`, in nats."""
        nll: Any = 0.0
        if self.num_numeric:
            each = self._number_nll(x, parameters, training)
            nll += ops.sum(each if not self.missing else each * (1.0 - self._is_missing(x, self._numbers)), axis=1)
        classes = [name for name, num in self.columns if num]
        for name, one_hot, logits in zip(classes, self._by_column(x), self._by_column(parameters), strict=True):
            log_prob = ops.log_softmax(logits, axis=-1)
            if name in self.unseen and not training:
                log_prob, possible = self._log_integer(one_hot, log_prob, self.unseen[name])
            else:
                # Training rows contain only classes of the table.
                if name in self.unseen:
                    log_prob = log_prob + np.log1p(-np.array(self.unseen[name]["share"])).astype("float32")
                log_prob, possible = ops.sum(one_hot * log_prob, axis=1), ops.sum(one_hot, axis=1)
            if name in self.missing:
                possible = possible + self._is_missing(x, [name])[:, 0]
            nll += _UNSEEN * (1.0 - possible) - log_prob
        if self.missing:
            is_missing, logits = self._missing_part(x), self._missing_part(parameters)
            nll += ops.sum(ops.softplus(logits) - is_missing * logits, axis=1)
        return nll

    @staticmethod
    def _log_integer(close: Tensor, log_prob: Tensor, unseen: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Return log p of an integer, and whether it is possible, `[batch]` each.

        Args:
            close: Closeness to each class, `[batch, num_classes]`: 1 for the class of a seen integer.
            log_prob: Log probabilities of the classes, same shape.
            unseen: `{"share", "weight"}`.
        """
        share, weight = np.array(unseen["share"]), np.array(unseen["weight"])
        kept = np.log1p(-share).astype("float32")
        lent = np.log(np.maximum(weight, 1e-30)).astype("float32")
        closest = ops.max(close, axis=1, keepdims=True)
        part = ops.where(ops.greater_equal(closest, 1.0), kept, lent) + ops.log(ops.maximum(close, 1e-35))
        total = ops.logsumexp(ops.where(ops.greater(close, 0.0), log_prob + part, -1e30), axis=1)
        is_possible = ops.greater(closest[:, 0], 0.0)
        return ops.where(is_possible, total, 0.0), ops.cast(is_possible, "float32")

    def _number_nll(self, x: Tensor, parameters: Tensor, training: bool) -> Tensor:
        """Return -log p of each number, `[batch, num_numeric]`: per unit of standard numbers, per value of others."""
        scores, mean = x[:, : self.num_numeric], parameters[:, : self.num_numeric]
        squares = ops.square(scores - mean)
        log_var = self._log_var(parameters)
        if self.sigma == "optimal" and training:
            log_var = optimal_log_var(squares, self.log_var, BOUNDS)
        nll = 0.5 * (LOG_2_PI + log_var + squares * ops.exp(-log_var))
        if self._scores is None:
            return nll
        pieces = self._scores.pieces(scores)
        is_atom = ops.greater(pieces.is_atom, 0.5)
        inverse = ops.exp(-0.5 * log_var)
        # Any interval where the piece is not an atom, so that the unused branch stays finite.
        low = ops.where(is_atom, (pieces.low - mean) * inverse, 0.0)
        width = ops.where(is_atom, pieces.width * inverse, 1.0)
        return ops.where(is_atom, -log_normal_interval(low, width), nll - pieces.log_slope)

    def _missing_part(self, features: Tensor) -> Tensor:
        start = self.num_numeric + sum(self.num_classes)
        return features[:, start : start + len(self.missing)]

    def _is_missing(self, x: Tensor, names: Sequence[str]) -> Tensor:
        """Return 1 for each number that is missing, `[batch, len(names)]`."""
        place = np.array([[float(name == other) for name in names] for other in self.missing], "float32")
        return ops.matmul(self._missing_part(x), place)

    def mean(self, parameters: Tensor) -> Tensor:
        """Compute the means of the numbers, and the probabilities of classes and of a number missing.

        Returns:
            float32 `[batch, num_features]`.
        """
        parts = [parameters[:, : self.num_numeric]] if self.num_numeric else []
        parts += [ops.softmax(logits, axis=-1) for logits in self._by_column(parameters)]
        if self.missing:
            parts.append(ops.sigmoid(self._missing_part(parameters)))
        return ops.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

    def outputs(self, parameters: Tensor, data: Any) -> dict[str, Tensor]:
        """Compute everything that is needed to draw a row.

        Returns:
            `x_log_var` `[batch, num_columns]`: log variance of the numbers, in squared data units, or in squared scores
            for the quantile form; 0 for classes. `x_score` `[batch, num_columns]`: mean score, if any column has the
            quantile form. The probabilities of each class column `[batch, num_classes]`. `x_probability_missing`
            `[batch, num_columns]`, if any number may be missing.
        """
        outputs = {}
        if self.num_numeric:
            units = [1.0 if c["name"] in self.quantiles else c.get("scale", 1.0) for c in data.columns]
            log_var = self._in_columns(self._log_var(parameters), self._numbers)
            outputs["x_log_var"] = log_var + (2.0 * np.log(units)).astype("float32") + 0.0 * parameters[:, :1]
        if self.quantiles:
            outputs["x_score"] = self._in_columns(parameters[:, : self.num_numeric], self._numbers)
        return outputs | self._probabilities(parameters)

    def _probabilities(self, parameters: Tensor) -> dict[str, Tensor]:
        """Return the probabilities of the classes of each column, and of missing numbers, by name of the output."""
        names = [name for name in self.probability_names if name]
        parts = zip(names, self._by_column(parameters), strict=True)
        outputs = {name: ops.softmax(logits, axis=-1) for name, logits in parts}
        if self.missing:
            outputs[MISSING] = self._in_columns(ops.sigmoid(self._missing_part(parameters)), self.missing)
        return outputs

    def _in_columns(self, values: Tensor, names: Sequence[str]) -> Tensor:
        """Return values of some columns in the place of their columns, and 0 for the others."""
        place = np.array([[float(name == column) for column, _ in self.columns] for name in names], "float32")
        return ops.matmul(values, place)

    def output_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shapes of `outputs` without the batch axis."""
        row = tuple(shape)
        shapes: dict[str, Shape] = {"x_log_var": row} if self.num_numeric else {}
        shapes |= {"x_score": row} if self.quantiles else {}
        names = zip(self.probability_names, self.columns, strict=True)
        shapes |= {name: (num,) for name, (_, num) in names if name}
        return shapes | ({MISSING: row} if self.missing else {})

    def initial_bias(self, mean: Tensor) -> Tensor:
        """Return the means of the numbers, and the logs of class frequencies and odds, clipped to at least 0.1 %."""
        mean = np.asarray(mean, "float32")
        start = self.num_numeric + sum(self.num_classes)
        share = np.clip(mean[start:], 1e-3, 1 - 1e-3)
        parts = [mean[: self.num_numeric], np.log(np.clip(mean[self.num_numeric : start], 1e-3, None))]
        parts += [np.log(share / (1 - share)), np.zeros(self.num_extra)]
        return np.concatenate(parts).astype("float32")

    def check(self, x: Any, data: Any, context: str) -> None:
        """Raise ValueError unless the data are a table of these columns."""
        columns = [[c["name"], num_classes(c)] for c in getattr(data, "columns", [])]
        if columns != self.columns:
            raise ValueError(
                f"{context}: the columns of the data ({data.kind}, {len(columns)} columns) differ from the "
                f"{len(self.columns)} of the mixed likelihood; build it with Mixed.from_spec(spec)."
            )

    def manifest(self) -> dict[str, Any]:
        """Return the name, sigma, and the name of the output with each column's probabilities (null for a number)."""
        names = {"missing": MISSING} if self.missing else {}
        return {"name": self.kind, "sigma": self.sigma, "probabilities": self.probability_names, **names}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        arguments = {"columns": self.columns, "sigma": self.sigma}
        more = {"quantiles": self.quantiles, "missing": self.missing, "unseen": self.unseen}
        return {**super().get_config(), **arguments, **{name: value for name, value in more.items() if value}}

    def _log_var(self, parameters: Tensor) -> Tensor:
        if self.sigma == "element":
            return ops.clip(parameters[:, -self.num_numeric :], *BOUNDS)
        if self.log_var is None:
            return ops.full((1, self.num_numeric), 2.0 * math.log(self.sigma), "float32")
        return ops.expand_dims(ops.clip(ops.convert_to_tensor(self.log_var), *BOUNDS), 0)

    def _by_column(self, features: Tensor) -> Iterator[Tensor]:
        """Yield the slice `[batch, num_classes]` of each categorical column."""
        start = self.num_numeric
        for num in self.num_classes:
            yield features[:, start : start + num]
            start += num
