"""Tables: numeric columns are standardised and categorical columns one-hot. The statistics are part of the model."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from kvae.data.disk import chunks
from kvae.data.spec import DataSpec
from kvae.serialization import register
from kvae.types import Shape, Tensor


@register("data.TableSpec")
class TableSpec(DataSpec):
    """Columns of a table, and the conversion between their units and the features that networks see.

    An example is one row, `[num_columns]`: numbers in their own units, classes as indices. Unit data are its features
    `[num_features]`: first all numbers, minus their mean and divided by their scale, then each categorical column as
    probabilities of its classes (one-hot in data).

    Args:
        columns: For each column `{"name", "kind": "numeric", "mean", "scale"}` or
            `{"name", "kind": "categorical", "classes"}`. Further keys, such as `decimals`, describe how the column is
            written, see docs/format.md. `TableSpec.learn` creates them.
        outside: Columns that are written but not modelled: constants and identifiers.
        order: Names of all written columns in order, conditions included.

    Raises:
        ValueError: If a column is invalid, or two have the same name.

    Example:
        >>> import kvae
        >>> columns = [
        ...     {"name": "age", "kind": "numeric", "mean": 40.0, "scale": 10.0},
        ...     {"name": "colour", "kind": "categorical", "classes": ["red", "green"]},
        ... ]
        >>> kvae.TableSpec(columns).unit_array([[60.0, 1.0]]).tolist()
        [[2.0, 0.0, 1.0]]
    """

    def __init__(
        self, columns: Sequence[dict[str, Any]], outside: Sequence[dict[str, Any]] = (), order: Sequence[str] = ()
    ) -> None:
        self.columns = [dict(column) for column in columns]
        self.outside, self.order = [dict(column) for column in outside], list(order)
        names = [column["name"] for column in self.columns]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"The columns are {names}; expected at least one, all with different names.")
        for column in self.columns:
            _check_column(column)
        self.kind, self.shape, self.range, self.bounded = "table", (len(names),), None, False
        self.mean = self.scale = None  # of features; those of columns are in `columns`
        self.numeric = [i for i, column in enumerate(self.columns) if column["kind"] == "numeric"]
        self.categorical = [i for i, column in enumerate(self.columns) if column["kind"] == "categorical"]
        self._means = np.array([self.columns[i]["mean"] for i in self.numeric], "float32")
        self._scales = np.array([self.columns[i]["scale"] for i in self.numeric], "float32")

    @classmethod
    def learn(
        cls,
        columns: Sequence[dict[str, Any]],
        x: Any,
        outside: Sequence[dict[str, Any]] = (),
        order: Sequence[str] = (),
    ) -> "TableSpec":
        """Create a spec with the means and standard deviations of rows.

        Args:
            columns: Columns as in `kvae_serve.readers.Dataset.columns`.
            x: Rows `[num, num_columns]`. A column that is constant in them gets the scale 1.
            outside: Columns as in `kvae_serve.readers.Dataset.outside`.
            order: As `kvae_serve.readers.Dataset.order`.

        Example:
            >>> import kvae
            >>> kvae.TableSpec.learn([{"name": "age", "kind": "numeric"}], [[30.0], [50.0]]).columns
            [{'name': 'age', 'kind': 'numeric', 'mean': 40.0, 'scale': 10.0}]
        """
        learned: list[dict[str, Any]] = []
        for column, values in zip(columns, np.asarray(x, "float64").T, strict=True):
            learned.append(dict(column))
            if column["kind"] == "numeric":
                # Rounded to float32, the type in the graphs.
                mean, scale = float(np.float32(values.mean())), float(np.float32(values.std())) or 1.0
                learned[-1] |= {"mean": mean, "scale": scale}
        return cls(learned, outside, order)

    @property
    def num_classes(self) -> list[int]:
        """Number of classes of each categorical column, in the order of the columns."""
        return [len(self.columns[i]["classes"]) for i in self.categorical]

    @property
    def unit_shape(self) -> Shape:
        """Shape of one row's features: one number per numeric column and per class of each categorical column."""
        return (len(self.numeric) + sum(self.num_classes),)

    def to_unit(self, x: Tensor) -> Tensor:
        """Convert rows `[batch, num_columns]` to features, float32 `[batch, num_features]`.

        An unknown class becomes zeros.
        """
        x = ops.cast(x, "float32")
        features = []
        if self.numeric:
            features.append((ops.take(x, np.array(self.numeric), axis=1) - self._means) * (1.0 / self._scales))
        if self.categorical:
            columns = np.repeat(self.categorical, self.num_classes)
            classes = np.concatenate([np.arange(num) for num in self.num_classes]).astype("float32")
            features.append(ops.cast(ops.equal(ops.take(x, columns, axis=1), classes), "float32"))
        return ops.concatenate(features, axis=1) if len(features) > 1 else features[0]

    def to_data(self, x: Tensor) -> Tensor:
        """Convert features `[batch, num_features]` to rows `[batch, num_columns]`; a class is the most likely index."""
        columns = []
        if self.numeric:
            columns.append(x[:, : len(self.numeric)] * self._scales + self._means)
        start = len(self.numeric)
        for num in self.num_classes:
            # top_k, because the argmax of Keras does not convert to ONNX.
            columns.append(ops.cast(ops.top_k(x[:, start : start + num], 1)[1], "float32"))
            start += num
        rows = ops.concatenate(columns, axis=1) if len(columns) > 1 else columns[0]
        order = np.argsort([*self.numeric, *self.categorical])
        return rows if (order == np.arange(len(order))).all() else ops.take(rows, order, axis=1)

    def log_jacobian(self, likelihood: Any) -> float:
        """Return minus the sum of the log scales of the numbers, in nats; classes do not have a unit."""
        return -float(np.log(self._scales.astype("float64")).sum()) if likelihood.is_density else 0.0

    def check(self, x: Any, context: str) -> None:
        """Raise ValueError, which names the remedy, unless the NumPy array `x` contains such rows."""
        self._check_array(x, context)
        for index, column in enumerate(self.columns):
            values = x[:, index]
            if not np.isfinite(values).all():
                raise ValueError(
                    f"{context}: column {column['name']} contains NaN or infinity; remove or replace those values."
                )
            if index in self.categorical:
                num = len(column["classes"])
                invalid = values[(values < 0) | (values >= num) | (values != np.floor(values))]
                if invalid.size:
                    raise ValueError(
                        f"{context}: column {column['name']} contains {invalid[0]:g}, expected the index of a class, "
                        f"0 to {num - 1}."
                    )

    def unit_mean(self, x: Any) -> np.ndarray:
        """Compute the mean features: about 0 for numbers, the class frequencies; float64 `[num_features]`."""
        total: Any = sum(self.unit_array(chunk).sum(axis=0, dtype="float64") for chunk in chunks(x))
        return total / len(x)

    def probe(self, num: int) -> np.ndarray:
        """Return rows that resemble data: numbers within two scales of their mean, and each class in turn."""
        rows = np.zeros((num, *self.shape), "float32")
        for index, column in enumerate(self.columns):
            if index in self.categorical:
                rows[:, index] = np.arange(num) % len(column["classes"])
            else:
                offsets = np.sin(1.0 + np.arange(num) * (index + 1.0))
                rows[:, index] = column["mean"] + 2.0 * column["scale"] * offsets
        return rows

    def manifest(self) -> dict[str, Any]:
        """Return kind, shape and columns as JSON."""
        written = {"outside": self.outside, "order": self.order} if self.order else {}
        return {"kind": "table", "shape": list(self.shape), "range": None, "columns": self.columns, **written}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"columns": self.columns, "outside": self.outside, "order": self.order}


def _check_column(column: dict[str, Any]) -> None:
    name, kind = column.get("name"), column.get("kind")
    if not isinstance(name, str) or not name:
        raise ValueError(f"The name of a column is {name!r}; expected text.")
    if kind == "numeric":
        mean, scale = column.get("mean"), column.get("scale")
        numbers = all(isinstance(each, int | float) and math.isfinite(each) for each in (mean, scale))
        if not numbers or scale <= 0:  # type: ignore[operator]  # a number by now
            raise ValueError(f"Column {name} needs a mean and a positive scale, got {mean!r} and {scale!r}.")
    elif kind == "categorical":
        classes = column.get("classes")
        if not isinstance(classes, list | tuple) or not classes or len(set(classes)) != len(classes):
            raise ValueError(f"Column {name} needs classes with different names, got {classes!r}.")
        column["classes"] = [str(each) for each in classes]
    else:
        raise ValueError(f"Column {name} must be numeric or categorical, got {kind!r}.")
