"""Tables: columns of numbers, standardised, and columns of classes, one-hot; learned once, and part of the model."""

import math

import numpy as np
from keras import ops

from kvae.data.disk import chunks
from kvae.data.spec import DataSpec
from kvae.serialization import register


@register("data.TableSpec")
class TableSpec(DataSpec):
    """The columns of a table, and the way between their own units and the features that networks see.

    An example is one row, `[num_columns]`: numbers in their own units, classes as indices. Unit data are its features
    `[num_features]`: first all numbers, less their mean and divided by their scale, then each categorical column as
    probabilities of its classes (one-hot, in data).

    Args:
        columns: for each column `{"name", "kind": "numeric", "mean", "scale"}` or
            `{"name", "kind": "categorical", "classes"}`; `TableSpec.learn` makes them.
    """

    def __init__(self, columns):
        self.columns = [dict(column) for column in columns]
        names = [column["name"] for column in self.columns]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"A table has columns, each with a name of its own, got {names}.")
        for column in self.columns:
            _check_column(column)
        self.kind, self.shape, self.range, self.bounded = "table", (len(names),), None, False
        self.numeric = [i for i, column in enumerate(self.columns) if column["kind"] == "numeric"]
        self.categorical = [i for i, column in enumerate(self.columns) if column["kind"] == "categorical"]
        self._means = np.array([self.columns[i]["mean"] for i in self.numeric], "float32")
        self._scales = np.array([self.columns[i]["scale"] for i in self.numeric], "float32")

    @classmethod
    def learn(cls, columns, x):
        """The spec of a table whose means and scales are those of the rows `x`, an array `[num, num_columns]`.

        Args:
            columns: as `kvae_serve.readers.Dataset.columns` has them.
            x: the rows to learn from; of a column that is constant in them the scale is 1.
        """
        ready = []
        for column, values in zip(columns, np.asarray(x, "float64").T, strict=True):
            ready.append({key: column[key] for key in ("name", "kind", "classes") if key in column})
            if column["kind"] == "numeric":
                # As float32, which graphs hold them in.
                ready[-1] |= {"mean": float(np.float32(values.mean())), "scale": float(np.float32(values.std())) or 1.0}
        return cls(ready)

    @property
    def num_classes(self):
        """How many classes each categorical column has, in the order of the columns."""
        return [len(self.columns[i]["classes"]) for i in self.categorical]

    @property
    def unit_shape(self):
        """One number for each numeric column, and for each class of each categorical one."""
        return (len(self.numeric) + sum(self.num_classes),)

    def to_unit(self, x):
        """Rows `[batch, num_columns]` to features `[batch, num_features]`, float32; an unknown class is all zeros."""
        x = ops.cast(x, "float32")
        features = []
        if self.numeric:
            features.append((ops.take(x, np.array(self.numeric), axis=1) - self._means) * (1.0 / self._scales))
        if self.categorical:
            columns = np.repeat(self.categorical, self.num_classes)
            classes = np.concatenate([np.arange(num) for num in self.num_classes]).astype("float32")
            features.append(ops.cast(ops.equal(ops.take(x, columns, axis=1), classes), "float32"))
        return ops.concatenate(features, axis=1) if len(features) > 1 else features[0]

    def to_data(self, x):
        """Features `[batch, num_features]` to rows `[batch, num_columns]`: of classes the most likely one's index."""
        columns = []
        if self.numeric:
            columns.append(x[:, : len(self.numeric)] * self._scales + self._means)
        start = len(self.numeric)
        for num in self.num_classes:
            # top_k, for argmax has no form in ONNX as Keras lowers it.
            columns.append(ops.cast(ops.top_k(x[:, start : start + num], 1)[1], "float32"))
            start += num
        rows = ops.concatenate(columns, axis=1) if len(columns) > 1 else columns[0]
        order = np.argsort([*self.numeric, *self.categorical])
        return rows if (order == np.arange(len(order))).all() else ops.take(rows, order, axis=1)

    def log_jacobian(self, likelihood):
        """Minus the log scales of the numbers, summed, in nats; classes have no unit."""
        return -float(np.log(self._scales.astype("float64")).sum()) if likelihood.is_density else 0.0

    def check(self, x, where):
        """Raise ValueError, with what to do, unless the NumPy array `x` holds such rows."""
        if x.ndim != 2 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"{where}: expected x of shape [batch, {self.shape[0]}], got {list(x.shape)}.")
        if x.dtype.kind not in "iufb":
            raise ValueError(f"{where}: x must be numbers, got {x.dtype}.")
        if not x.size:
            raise ValueError(f"{where}: x holds no examples.")
        for index, column in enumerate(self.columns):
            values = x[:, index]
            if not np.isfinite(values).all():
                raise ValueError(
                    f"{where}: column {column['name']} holds NaN or infinity; remove or replace those values."
                )
            if index in self.categorical:
                num = len(column["classes"])
                bad = values[(values < 0) | (values >= num) | (values != np.floor(values))]
                if bad.size:
                    raise ValueError(
                        f"{where}: column {column['name']} holds {bad[0]:g}, expected the index of a class, "
                        f"0 to {num - 1}."
                    )

    def unit_mean(self, x):
        """Mean features of rows: about 0 for numbers, the shares of the classes; float64 `[num_features]`."""
        return sum(self.unit_array(part).sum(axis=0, dtype="float64") for part in chunks(x)) / len(x)

    def probe(self, num):
        """Rows that look like data: numbers spread over two scales on both sides, each class in turn."""
        rows = np.zeros((num, *self.shape), "float32")
        for index, column in enumerate(self.columns):
            if index in self.categorical:
                rows[:, index] = np.arange(num) % len(column["classes"])
            else:
                spread = np.sin(1.0 + np.arange(num) * (index + 1.0))
                rows[:, index] = column["mean"] + 2.0 * column["scale"] * spread
        return rows

    def manifest(self):
        """Kind, shape and columns as JSON."""
        return {"kind": "table", "shape": list(self.shape), "range": None, "columns": self.columns}

    def get_config(self):
        """The arguments, for Keras."""
        return {"columns": self.columns}


def _check_column(column):
    name, kind = column.get("name"), column.get("kind")
    if not isinstance(name, str) or not name:
        raise ValueError(f"A column has a name, got {name!r}.")
    if kind == "numeric":
        mean, scale = column.get("mean"), column.get("scale")
        if not all(isinstance(each, int | float) and math.isfinite(each) for each in (mean, scale)) or scale <= 0:
            raise ValueError(f"Column {name} needs a mean and a positive scale, got {mean!r} and {scale!r}.")
    elif kind == "categorical":
        classes = column.get("classes")
        if not isinstance(classes, list | tuple) or not classes or len(set(classes)) != len(classes):
            raise ValueError(f"Column {name} needs classes, each with a name of its own, got {classes!r}.")
        column["classes"] = [str(each) for each in classes]
    else:
        raise ValueError(f"Column {name} must be numeric or categorical, got {kind!r}.")
