"""Tables: numbers are standardised or have normal scores, classes are one-hot. The statistics are part of the model."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from kvae.data import quantiles
from kvae.data.disk import chunks
from kvae.data.spec import DataSpec
from kvae.serialization import register
from kvae.types import Shape, Tensor
from kvae_serve import dates
from kvae_serve.numbers import rounded
from kvae_serve.sealed import unseen
from kvae_serve.sealed.columns import form_fault

#: Integers with at most this many different values are classes, if each has this many rows on average.
_MAX_CLASSES, _ROWS_PER_CLASS = 128, 10
#: Integers beyond this are not exact in float32.
_MAX_INTEGER = 2**24


@register("data.TableSpec")
class TableSpec(DataSpec):
    """Columns of a table, and the conversion between their units and the features that networks see.

    An example is one row, `[num_columns]`: numbers in their own units (NaN if missing), classes as indices. Unit data
    are its features `[num_features]`: first the numbers, then the probabilities of the classes of each class column
    (one-hot in data), and last, for each number that may be missing, whether it is. Each numeric column has a form:

    - `"standard"`: the number minus its mean, divided by its scale.
    - `"quantile"`: the standard normal quantile of its rank, piecewise linear between the knots of the column. A value
      that occurs often is an atom: two knots with the same value, whose scores are the ends of its interval.
    - `"classes"`: an integer with few values; each value is a class. An integer that the training data lack has part
      of the classes around it, less than 1 of each, see `kvae_serve.sealed.unseen`.

    Args:
        columns: For each column `{"name", "kind": "numeric", "mean", "scale"}` or
            `{"name", "kind": "categorical", "classes"}`. A numeric column may have a `"form"`, with `"knots"` and
            `"scores"` for `"quantile"`, `"atoms"` and `"unseen"` for `"classes"`, and `"missing"` if its numbers may be
            missing. Further keys, such as `decimals`, describe how the column is written, see docs/format.md.
            `TableSpec.learn` creates them.
        outside: Columns that are written but not modelled: constants and identifiers.
        order: Names of all written columns in order, conditions included.
        delimiter: Delimiter of written CSV files.
        header: Names of `order` as in written CSV files, if blanks are at their ends.

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
        self,
        columns: Sequence[dict[str, Any]],
        outside: Sequence[dict[str, Any]] = (),
        order: Sequence[str] = (),
        delimiter: str = ",",
        header: Sequence[str] = (),
    ) -> None:
        self.columns = [dict(column) for column in columns]
        self.outside, self.order = [dict(column) for column in outside], list(order)
        self.delimiter, self.header = delimiter, list(header)
        names = [column["name"] for column in self.columns]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"The columns are {names}; expected at least one, all with different names.")
        for column in self.columns:
            _check_column(column)
        self.kind, self.shape, self.range, self.bounded = "table", (len(names),), None, False
        self.mean = self.scale = None  # of features; those of columns are in `columns`
        self.numeric = [i for i, column in enumerate(self.columns) if column["kind"] == "numeric"]
        self.categorical = [i for i, column in enumerate(self.columns) if column["kind"] == "categorical"]
        # Numbers that are one feature each, columns that are one feature per class, and numbers that may be missing.
        self.numbers = [i for i in self.numeric if form_of(self.columns[i]) != "classes"]
        self.one_hot = [i for i in range(len(self.columns)) if i not in self.numbers]
        self.may_miss = [i for i in self.numeric if "missing" in self.columns[i]]
        self._means = np.array([self.columns[i]["mean"] for i in self.numbers], "float32")
        self._scales = np.array([self.columns[i]["scale"] for i in self.numbers], "float32")
        self._unseen = _closeness([self.columns[i] for i in self.one_hot])
        self._quantiles = None
        if any(form_of(self.columns[i]) == "quantile" for i in self.numbers):
            self._quantiles = quantiles.Quantiles([self.columns[i] for i in self.numbers])

    @classmethod
    def learn(
        cls,
        columns: Sequence[dict[str, Any]],
        x: Any,
        outside: Sequence[dict[str, Any]] = (),
        order: Sequence[str] = (),
        *,
        numbers: str = "standard",
        delimiter: str = ",",
        header: Sequence[str] = (),
    ) -> "TableSpec":
        """Create a spec with the statistics of rows.

        Args:
            columns: Columns as in `kvae_serve.readers.Dataset.columns`.
            x: Rows `[num, num_columns]`. A column that is constant in them gets the scale 1.
            outside: Columns as in `kvae_serve.readers.Dataset.outside`.
            order: As `kvae_serve.readers.Dataset.order`.
            delimiter: As `kvae_serve.readers.Dataset.delimiter`.
            header: As `kvae_serve.readers.Dataset.header`.
            numbers: `"standard"`, or `"quantile"` for the quantile form of numbers, and classes for integers with few
                different values.

        Raises:
            ValueError: If `numbers` is a different text, or if all values of a column are missing.

        Example:
            >>> import kvae
            >>> kvae.TableSpec.learn([{"name": "age", "kind": "numeric"}], [[30.0], [50.0]]).columns
            [{'name': 'age', 'kind': 'numeric', 'mean': 40.0, 'scale': 10.0}]
        """
        if numbers not in ("standard", "quantile"):
            raise ValueError(f"numbers is {numbers!r}; expected standard or quantile.")
        learned: list[dict[str, Any]] = []
        num_numeric = sum(column["kind"] == "numeric" for column in columns)
        for column, every in zip(columns, np.asarray(x, "float64").T, strict=True):
            learned.append(dict(column))
            if column["kind"] != "numeric":
                counts = np.bincount(every[every >= 0].astype("int64"), minlength=len(column["classes"]))
                learned[-1]["shares"] = rounded(counts / counts.sum())
                continue
            values = every[~np.isnan(every)]
            if not len(values):
                raise ValueError(f"All values of column {column['name']} are missing; leave it out.")
            # Rounded to float32, the type in the graphs.
            mean, scale = float(np.float32(values.mean())), float(np.float32(values.std())) or 1.0
            learned[-1] |= {"mean": mean, "scale": scale}
            if numbers == "quantile" and values.min() < values.max():
                learned[-1] |= _form(values, num_numeric, _step(column))
            _keep_exact_atoms(learned[-1])
            if len(values) < len(every):
                learned[-1].setdefault("missing", "")
        return cls(learned, outside, order, delimiter, header)

    @property
    def num_classes(self) -> list[int]:
        """Number of classes of each column that is one-hot, in the order of the columns."""
        return [num_classes(self.columns[i]) for i in self.one_hot]

    @property
    def unit_shape(self) -> Shape:
        """Shape of one row's features, see above."""
        return (len(self.numbers) + sum(self.num_classes) + len(self.may_miss),)

    def to_unit(self, x: Tensor) -> Tensor:
        """Convert rows `[batch, num_columns]` to features, float32 `[batch, num_features]`.

        An unknown class becomes zeros, and so does a missing number. An unseen integer becomes its closeness to the
        integers around it.
        """
        x = ops.cast(x, "float32")
        features = []
        missing = ops.isnan(x) if self.may_miss else None
        if missing is not None:
            x = ops.where(missing, self._stand_ins(), x)
        if self.numbers:
            values = ops.take(x, np.array(self.numbers), axis=1)
            scores = (values - self._means) * (1.0 / self._scales)
            if self._quantiles is not None:
                scores = self._quantiles.to_scores(values)
            features.append(scores if missing is None else scores * (1.0 - self._missing(missing, self.numbers)))
        if self.one_hot:
            columns = np.repeat(self.one_hot, self.num_classes)
            one_hot = self._one_hot(ops.take(x, columns, axis=1))
            features.append(one_hot if missing is None else one_hot * (1.0 - self._missing(missing, columns)))
        if missing is not None:
            features.append(self._missing(missing, self.may_miss))
        return ops.concatenate(features, axis=1) if len(features) > 1 else features[0]

    def _one_hot(self, values: Tensor) -> Tensor:
        """Return 1 where a number or an index is the class's, and the closeness of unseen integers."""
        away = values - self._class_values()
        seen = ops.cast(ops.equal(away, 0.0), "float32")
        if self._unseen is None:
            return seen
        each = self._unseen
        down, up = ops.maximum(-away, 0.0), ops.maximum(away, 0.0)
        close = ops.maximum(0.0, 1.0 - down * each["left"] - up * each["right"])
        tails = ops.minimum(down * each["below"] + up * each["above"], unseen.MAX_TAILS)
        close = ops.minimum(close / (1.0 + ops.square(tails)), unseen.CAP)
        # The product is exact, the quotient need not be.
        is_step = ops.equal(ops.floor(away / each["step"] + 0.5) * each["step"], away)
        return ops.maximum(seen, close * ops.cast(is_step, "float32"))

    def _missing(self, missing: Tensor, columns: Any) -> Tensor:
        return ops.take(ops.cast(missing, "float32"), np.array(columns), axis=1)

    def _stand_ins(self) -> np.ndarray:
        """Return the value that replaces a missing one of each column, before it is masked."""
        return np.array([[column.get("mean", 0.0) for column in self.columns]], "float32")

    def _class_values(self) -> np.ndarray:
        """Return the value in a row of each class of each column that is one-hot."""
        return np.concatenate([class_values(self.columns[i]) for i in self.one_hot])

    def to_data(self, x: Tensor) -> Tensor:
        """Convert features `[batch, num_features]` to rows `[batch, num_columns]`.

        A class is the most likely one. A number that may be missing is its value if it is not.
        """
        columns = []
        start = len(self.numbers)
        if self.numbers:
            scores = x[:, :start]
            quantile = self._quantiles
            columns.append(scores * self._scales + self._means if quantile is None else quantile.to_values(scores))
        for index, num in zip(self.one_hot, self.num_classes, strict=True):
            # top_k, because the argmax of Keras does not convert to ONNX.
            classes = ops.top_k(x[:, start : start + num], 1)[1]
            values = class_values(self.columns[index])
            is_index = (values == np.arange(num)).all()
            columns.append(ops.cast(classes, "float32") if is_index else ops.take(values, classes, axis=0))
            start += num
        rows = ops.concatenate(columns, axis=1) if len(columns) > 1 else columns[0]
        order = np.argsort([*self.numbers, *self.one_hot])
        return rows if (order == np.arange(len(order))).all() else ops.take(rows, order, axis=1)

    def log_jacobian(self, likelihood: Any) -> float:
        """Return minus the sum of the log scales of the standard numbers, in nats.

        Classes do not have a unit. `kvae.likelihoods.Mixed` adds the Jacobian of the quantile form, which depends on x.
        """
        standard = [form_of(self.columns[i]) == "standard" for i in self.numbers]
        return -float(np.log(self._scales[standard].astype("float64")).sum()) if likelihood.is_density else 0.0

    def check(self, x: Any, context: str) -> None:
        """Raise ValueError, which names the remedy, unless the NumPy array `x` contains such rows."""
        self._check_array(x, context)
        for index, column in enumerate(self.columns):
            values = x[:, index]
            if index in self.may_miss:
                values = values[~np.isnan(values)]
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
        """Return rows that resemble data: numbers within two scales of their mean, and each class in turn.

        Every fifth number that may be missing is.
        """
        rows = np.zeros((num, *self.shape), "float32")
        for index, column in enumerate(self.columns):
            if index in self.categorical:
                rows[:, index] = np.arange(num) % len(column["classes"])
            elif form_of(column) == "classes":
                rows[:, index] = np.resize(class_values(column), num)
            else:
                offsets = np.sin(1.0 + np.arange(num) * (index + 1.0))
                rows[:, index] = column["mean"] + 2.0 * column["scale"] * offsets
            if index in self.may_miss:
                rows[index % 5 :: 5, index] = np.nan
        return rows

    def manifest(self) -> dict[str, Any]:
        """Return kind, shape and columns as JSON."""
        written: dict[str, Any] = {"outside": self.outside, "order": self.order} if self.order else {}
        written |= {"delimiter": self.delimiter} if self.delimiter != "," else {}
        written |= {"header": self.header} if self.header else {}
        return {"kind": "table", "shape": list(self.shape), "range": None, "columns": self.columns, **written}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        written = {"outside": self.outside, "order": self.order, "delimiter": self.delimiter, "header": self.header}
        return {"columns": self.columns, **written}


def form_of(column: dict[str, Any]) -> str:
    """Return the form of a numeric column; `"classes"` for a categorical one."""
    return column.get("form", "standard") if column["kind"] == "numeric" else "classes"


def class_values(column: dict[str, Any]) -> np.ndarray:
    """Return the value in a row of each class of a column of the form classes, float32 `[num_classes]`."""
    return np.array(column["atoms"] if column["kind"] == "numeric" else range(len(column["classes"])), "float32")


def num_classes(column: dict[str, Any]) -> int:
    """Return the number of classes of a column; 0 for a column that is one number."""
    return len(class_values(column)) if form_of(column) == "classes" else 0


def _closeness(columns: Sequence[dict[str, Any]]) -> dict[str, np.ndarray] | None:
    """Return the constants of the closeness to each class of each column, float32; None if all are 0 or 1."""
    if not any("unseen" in column for column in columns):
        return None
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*unseen.Slopes._fields, "step")}
    for column in columns:
        num, entry = num_classes(column), column.get("unseen")
        # Without unseen integers the closeness falls to 0 at once.
        side = unseen.Slopes(*np.repeat([[1e30], [1e30], [0.0], [0.0]], num, axis=1))
        if entry:
            side = unseen.slopes(class_values(column).astype("float64"), entry["tail"])
        for name, values in {**side._asdict(), "step": np.full(num, entry["step"] if entry else 1.0)}.items():
            parts[name].append(values)
    return {name: np.concatenate(values).astype("float32") for name, values in parts.items()}


def _step(column: dict[str, Any]) -> float:
    """Return the distance between neighbouring values that a column can have, if they are integers."""
    smallest = dates.step(column["format"]) if "format" in column else 1.0
    return float(max(column.get("step", smallest), 1.0))


def _form(values: np.ndarray, num_columns: int, step: float) -> dict[str, Any]:
    """Choose classes for integers with few values that occur often enough, and the quantile form otherwise."""
    distinct, counts = np.unique(values, return_counts=True)
    is_integer = (distinct == np.rint(distinct)).all() and np.abs(distinct).max() <= _MAX_INTEGER
    if is_integer and len(distinct) <= min(_MAX_CLASSES, len(values) // _ROWS_PER_CLASS):
        lent = unseen.learn(distinct, counts, step)
        shares = rounded(counts / counts.sum())
        return {"form": "classes", "atoms": distinct.tolist(), "shares": shares, "unseen": lent}
    return {"form": "quantile", **quantiles.learn(values, num_columns)}


def _keep_exact_atoms(column: dict[str, Any]) -> None:
    """Remove the exact numbers that are not atoms, since these are hardly drawn."""
    if "exact" in column:
        knots = np.array(column.get("knots", ()), "float32")
        atoms = {*knots[1:][np.diff(knots) == 0].tolist(), *np.array(column.get("atoms", ()), "float32").tolist()}
        offset = column.get("offset", 0.0)
        if kept := [each for each in column.pop("exact") if float(np.float32(each - offset)) in atoms]:
            column["exact"] = kept


def _check_column(column: dict[str, Any]) -> None:
    name, kind = column.get("name"), column.get("kind")
    if not isinstance(name, str) or not name:
        raise ValueError(f"The name of a column is {name!r}; expected text.")
    if kind == "numeric":
        mean, scale = column.get("mean"), column.get("scale")
        numbers = all(isinstance(each, int | float) and math.isfinite(each) for each in (mean, scale))
        if not numbers or scale <= 0:  # type: ignore[operator]  # a number by now
            raise ValueError(f"Column {name} needs a mean and a positive scale, got {mean!r} and {scale!r}.")
        if fault := form_fault(column):
            raise ValueError(f"Column {name} has {fault}")
    elif kind == "categorical":
        classes = column.get("classes")
        if not isinstance(classes, list | tuple) or not classes or len(set(classes)) != len(classes):
            raise ValueError(f"Column {name} needs classes with different names, got {classes!r}.")
        column["classes"] = [str(each) for each in classes]
    else:
        raise ValueError(f"Column {name} must be numeric or categorical, got {kind!r}.")
