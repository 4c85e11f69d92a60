"""Likelihood of table rows: a Gaussian per numeric column, a categorical per class column, independent given z."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops

from kvae.data.table import TableSpec
from kvae.likelihoods.base import Likelihood, check_sigma, optimal_log_var
from kvae.loss_terms import LOG_2_PI
from kvae.serialization import register
from kvae.types import Shape, Tensor
from kvae_serve.readers.csv import graph_name

# Standard deviations of 0.01 to 12 times that of the column. Below that, log p would depend on rounding.
_BOUNDS = (-9.0, 5.0)


@register("likelihoods.Mixed")
class Mixed(Likelihood):
    """Likelihood of table rows: numbers are normal with one standard deviation per column, classes are categorical.

    Unit data and parameters have the layout of `kvae.TableSpec`: first the numbers (standardised; the means of p),
    then one value per class of each categorical column (one-hot; logits).

    Args:
        columns: Name and number of classes of each column, 0 for a number: `[["age", 0], ["colour", 3]]`.
            `Mixed.from_spec(spec)` reads them from a `TableSpec`.
        sigma: Standard deviations of the numbers. `"optimal"` uses for each column the one that is most likely given
            the errors of the batch, and keeps its running mean (see `Gaussian`). `"shared"` learns one per column by
            gradient. A number fixes all of them, in units of the column's scale.
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

    def __init__(self, columns: Sequence[Sequence[Any]], sigma: float | str = "optimal", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns: list[Any] = [[str(name), int(num)] for name, num in columns]
        if not self.columns or min(num for _, num in self.columns) < 0:
            raise ValueError(f"columns must be pairs of a name and a number of classes (0 for numbers), got {columns}.")
        check_sigma(sigma, ("optimal", "shared"))
        self.sigma: Any = sigma
        self.num_classes = [num for _, num in self.columns if num]
        self.num_numeric = len(self.columns) - len(self.num_classes)
        self.log_var: Any = None
        if self.num_numeric and isinstance(sigma, str):
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
        return cls([[column["name"], len(column.get("classes", ()))] for column in spec.columns], sigma)

    @property
    def probability_names(self) -> list[str | None]:
        """For each column, the name of the output with its probabilities; None for a number."""
        names: list[str | None] = []
        for index, (column, num) in enumerate(self.columns):
            name = f"x_probability_{graph_name(column).strip('_')}".rstrip("_")
            names.append(None if not num else f"{name}_{index}" if name in names or name == "x_probability" else name)
        return names

    def nll(self, x: Tensor, parameters: Tensor, training: bool = False) -> Tensor:
        """Sum -log p over columns, float32 `[batch]`, in nats."""
        nll: Any = 0.0
        if self.num_numeric:
            squares = ops.square(x[:, : self.num_numeric] - parameters[:, : self.num_numeric])
            log_var = self._log_var()
            if self.sigma == "optimal" and training:
                log_var = optimal_log_var(squares, self.log_var, _BOUNDS)
            nll += 0.5 * ops.sum(LOG_2_PI + log_var + squares * ops.exp(-log_var), axis=1)
        for one_hot, logits in zip(self._by_column(x), self._by_column(parameters), strict=True):
            nll -= ops.sum(one_hot * ops.log_softmax(logits, axis=-1), axis=1)
        return nll

    def mean(self, parameters: Tensor) -> Tensor:
        """Compute the means of the numbers and the probabilities of the classes, float32 `[batch, num_features]`."""
        parts = [parameters[:, : self.num_numeric]] if self.num_numeric else []
        parts += [ops.softmax(logits, axis=-1) for logits in self._by_column(parameters)]
        return ops.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

    def outputs(self, parameters: Tensor, data: Any) -> dict[str, Tensor]:
        """Return `x_log_var` in squared data units (0 for a class), and the probabilities of each class column."""
        outputs = {}
        if self.num_numeric:
            scales = np.array([column.get("scale", 1.0) for column in data.columns])
            numeric = np.flatnonzero([num == 0 for _, num in self.columns])
            place = np.zeros((self.num_numeric, len(self.columns)), "float32")
            place[np.arange(self.num_numeric), numeric] = 1.0
            log_var = ops.matmul(ops.reshape(self._log_var(), (1, -1)), place) + (2.0 * np.log(scales)).astype(
                "float32"
            )
            outputs["x_log_var"] = log_var + 0.0 * parameters[:, :1]
        names = [name for name in self.probability_names if name]
        for name, logits in zip(names, self._by_column(parameters), strict=True):
            outputs[name] = ops.softmax(logits, axis=-1)
        return outputs

    def output_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shapes of `outputs`: one value per column for `x_log_var`, one per class for probabilities."""
        shapes: dict[str, Shape] = {"x_log_var": tuple(shape)} if self.num_numeric else {}
        names = zip(self.probability_names, self.columns, strict=True)
        return shapes | {name: (num,) for name, (_, num) in names if name}

    def initial_bias(self, mean: Tensor) -> Tensor:
        """Return the means of the numbers, and the logs of the class frequencies, clipped to at least 0.1 %."""
        shares = np.log(np.clip(np.asarray(mean, "float32"), 1e-3, None))
        return np.concatenate([np.asarray(mean, "float32")[: self.num_numeric], shares[self.num_numeric :]])

    def check(self, x: Any, data: Any, context: str) -> None:
        """Raise ValueError unless the data are a table of these columns."""
        columns = [[c["name"], len(c.get("classes", ()))] for c in getattr(data, "columns", [])]
        if columns != self.columns:
            raise ValueError(
                f"{context}: the columns of the data ({data.kind}, {len(columns)} columns) differ from the "
                f"{len(self.columns)} of the mixed likelihood; build it with Mixed.from_spec(spec)."
            )

    def manifest(self) -> dict[str, Any]:
        """Return the name, sigma, and the name of the output with each column's probabilities (null for a number)."""
        return {"name": self.kind, "sigma": self.sigma, "probabilities": self.probability_names}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "columns": self.columns, "sigma": self.sigma}

    def _log_var(self) -> Tensor:
        if self.log_var is None:
            return ops.full((self.num_numeric,), 2.0 * math.log(self.sigma), "float32")
        return ops.clip(ops.convert_to_tensor(self.log_var), *_BOUNDS)

    def _by_column(self, features: Tensor) -> Iterator[Tensor]:
        """Yield the slice `[batch, num_classes]` of each categorical column."""
        start = self.num_numeric
        for num in self.num_classes:
            yield features[:, start : start + num]
            start += num
