"""Manifest of a sealed file, parsed strictly.

Inputs and outputs of a graph are interpreted by its manifest, so anything missing, of the wrong type or out of range is
refused. Unknown keys are kept and ignored. A newer format is refused. docs/format.md describes each key.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NoReturn

from kvae_serve import dates, strict_json
from kvae_serve.errors import ModelFileError, printable
from kvae_serve.numbers import is_integer, is_number
from kvae_serve.sealed import features
from kvae_serve.sealed.columns import MAX_KNOTS, form_fault

FORMAT = 1
GRAPHS = ("encoder", "decoder", "prior", "likelihood", "columns")
DATA_KINDS = {"image": 3, "vector": 1, "sequence": 2, "table": 1}
MIXED_LIKELIHOODS = ("mixed", "mixed_autoregressive")
"""Likelihoods of tables."""
LIKELIHOODS = (
    "bernoulli", "continuous_bernoulli", "gaussian", "discretized_logistic", "categorical", *MIXED_LIKELIHOODS,
)  # fmt: skip
MIXTURE_PRIORS = ("vamp", "gaussian_mixture")
PRIORS = ("standard_normal", "conditional_gaussian", *MIXTURE_PRIORS)

RESERVED = frozenset({"x", "z", "component", "seed", "start", "scheme"})
"""Names that conditions must not have, because they have other meanings in graphs and in .npz files."""

COLUMN_TYPES = ("integer", "number", "category", "boolean", "datetime")
"""Types of the columns of a table, which decide how they are written."""

DELIMITERS = (",", ";", "\t", "|", " ", ", ", "; ", "\t ", "| ")
"""Delimiters of written CSV files. The blank of `, ` precedes each cell of a row but the first."""
THOUSANDS = (",", ".", "'", "’", " ", "\u00a0", "\u202f")
MAX_COLUMN_TEXT = 200
MAX_DECIMALS = 15
MAX_DIGITS = 20
MAX_QUANTILES = 1001
MAX_COMBINATIONS = 1000
"""Combinations of the values of all conditions whose numbers of rows are stored."""
JOINT_BINS = 10
"""Intervals of a continuous condition in these combinations."""
MAX_WIDTH = 40
MAX_AFFIX = 10
MAX_DEPTH = 16
MAX_LATENT_DIM = 65_536
MAX_RANK = 4096
MAX_VALUES = 2**24
MAX_CLASSES = 100_000
MAX_GOLDEN = 64
MAX_GOLDEN_INPUTS = 2**25
"""Largest number of values in the golden inputs of a graph. A small file must not make a reader draw gigabytes."""

MAX_SCORE_SAMPLES = 1000
"""Most draws of z per example for which a manifest stores quantiles."""

MAX_FLOAT = 2.0**126
"""Largest magnitude of a number in data units: float32 can store it, and the distance between two of them."""

MAX_INTEGER = 2**64

# Line ends, escape sequences, marks that change the direction of text, and characters without width. The joiners
# U+200C and U+200D are allowed, because Persian and emoji need them.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb]"
)

_QUANTILE = re.compile(r"[01](\.[0-9]{1,20})?|[0-9](\.[0-9]{1,20})?e-[0-9]{1,3}")

Range = tuple[float, float]


@dataclass(frozen=True)
class Condition:
    """Named attribute of a conditional model, with `classes` if categorical and `range` if continuous.

    `shares` are the shares of the classes in the training data, and `quantiles` equally spaced quantiles of a number
    from its minimum to its maximum; either may be empty. `joint` are the combinations of all conditions in the training
    data, see `Manifest.joint`; only the last of several conditions has them. `column` describes the column of a table
    that the condition was, like `Data.columns`; it is empty for other data.
    """

    name: str
    kind: str
    classes: tuple[str, ...] = ()
    range: Range | None = None
    shares: tuple[float, ...] = ()
    quantiles: tuple[float, ...] = ()
    column: Mapping[str, Any] = field(default_factory=dict, hash=False)
    joint: tuple[tuple[int, ...], ...] = ()

    @property
    def categorical(self) -> bool:
        """True if the values are class indices."""
        return self.kind == "categorical"


@dataclass(frozen=True)
class Data:
    """Description of x: `shape` without the batch axis, and `range` in data units or None.

    If `bounded` is false, the range is only a scale, and values may lie outside. Of a table, `outside` are the columns
    that are not in x but in written rows, and `order` are the names of all columns of written rows, `delimiter` is
    that of a CSV, and `header` are the names as a CSV has them, or nothing.
    """

    kind: str
    shape: tuple[int, ...]
    range: Range | None
    columns: tuple[dict[str, Any], ...] = ()
    bounded: bool = True
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    outside: tuple[dict[str, Any], ...] = ()
    order: tuple[str, ...] = ()
    delimiter: str = ","
    header: tuple[str, ...] = ()

    @property
    def num_values(self) -> int:
        """Number of values per example."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Manifest:
    """Checked manifest. `raw` contains all of it as plain values, unknown keys included."""

    graph: str
    model_id: str
    name: str
    kind: str
    latent_dim: int
    data: Data
    conditions: tuple[Condition, ...]
    likelihood: dict[str, Any]
    prior: dict[str, Any]
    training: dict[str, Any] | None
    golden: dict[str, Any] | None
    raw: dict[str, Any]

    @classmethod
    def parse(cls, text: str, source: str) -> Manifest:
        """Parse JSON and check it.

        Args:
            text: The JSON document.
            source: Name of the file in messages.

        Raises:
            ModelFileError: If the JSON has duplicate keys, NaN or deep nesting, or violates docs/format.md.
        """
        return cls.from_dict(_load_json(text, source), source)

    @classmethod
    def from_dict(cls, raw: dict[str, Any], source: str = "The manifest") -> Manifest:
        """Check plain values.

        Raises:
            ModelFileError: If they violate docs/format.md.
        """
        return _Checker(source).manifest(raw)

    def to_dict(self) -> dict[str, Any]:
        """Return a deep copy of the plain values, unknown keys included."""
        return json.loads(json.dumps(self.raw))

    def condition(self, name: str) -> Condition | None:
        """Return the condition of that name, or None."""
        return next((each for each in self.conditions if each.name == name), None)

    @property
    def joint(self) -> tuple[tuple[int, ...], ...]:
        """Combinations of the conditions in the training data: number of rows, then an index for each condition.

        The index is a class, or of a number one of ten intervals between its quantiles. Empty if they are not stored.
        """
        return self.conditions[-1].joint if self.conditions else ()

    @property
    def num_components(self) -> int:
        """Number of components of a mixture prior; 1 for other priors."""
        return len(self.prior["log_weights"]) if self.prior["name"] in MIXTURE_PRIORS else 1


def _load_json(text: str, source: str) -> dict[str, Any]:
    try:
        value = strict_json.loads(text, MAX_DEPTH)
    except ValueError as error:
        raise ModelFileError(f"{source} has a manifest that is not valid JSON: {printable(error, 100)}.") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{source} has a manifest that is not a JSON object.")
    return value


def _is_calendar(days: Any) -> bool:
    return (
        isinstance(days, dict)
        and 0 < len(days) <= len(dates.CALENDAR)
        and all(
            isinstance(each, list)
            and each
            and all(is_integer(day) and day in dates.CALENDAR.get(key, ()) for day in each)
            for key, each in days.items()
        )
    )


def _is_float32(value: Any) -> bool:
    return is_number(value) and abs(value) <= MAX_FLOAT


class _Checker:
    """Reads and checks the values of a manifest. Every message starts with `source`."""

    def __init__(self, source: str) -> None:
        self.source = source

    def fail(self, key: str, value: object, expected: str) -> NoReturn:
        raise ModelFileError(
            f"{self.source} has a manifest with {key} {printable(repr(value), 60)}, expected {expected}."
        )

    def manifest(self, raw: dict[str, Any]) -> Manifest:
        self.numbers(raw)
        version = raw.get("format", 0)
        if not is_integer(version) or version < 1:
            self.fail("format", version, str(FORMAT))
        if version > FORMAT:
            raise ModelFileError(
                f"{self.source} has format {printable(version, 20)}; this version of kvae reads up to {FORMAT}. "
                "Update kvae: pip install -U kvae-onnx."
            )
        model_id = self.text(raw, "model_id", limit=64)
        if len(model_id) != 64 or set(model_id) - set("0123456789abcdef"):
            self.fail("model_id", model_id, "64 lower-case hex digits")
        conditions = tuple(self.condition(each) for each in self.list(raw, "conditions", limit=1000))
        names = [condition.name for condition in conditions]
        if len(set(names)) != len(names) or RESERVED & set(names):
            self.fail("conditions", names, f"different names and none of {', '.join(sorted(RESERVED))}")
        self.joint(conditions)
        data, latent_dim = self.data(self.object(raw, "data")), self.integer(raw, "latent_dim", MAX_LATENT_DIM)
        self.order(data, conditions)
        golden = self.golden(self.object(raw, "golden")) if raw.get("golden") is not None else None
        if raw.get("score") is not None:
            self.score(self.object(raw, "score"))
        if golden and golden["num"] * (latent_dim + data.num_values) > MAX_GOLDEN_INPUTS:
            self.fail("golden.num", golden["num"], f"at most {MAX_GOLDEN_INPUTS} numbers in all rows")
        return Manifest(
            graph=self.choice(raw, "graph", GRAPHS),
            model_id=model_id,
            name=self.text(raw, "name"),
            kind=self.text(raw, "kind"),
            latent_dim=latent_dim,
            data=data,
            conditions=conditions,
            likelihood=self.likelihood(self.object(raw, "likelihood"), data),
            prior=self.prior(self.object(raw, "prior")),
            training=self.object(raw, "training") if raw.get("training") is not None else None,
            golden=golden,
            raw=raw,
        )

    def data(self, raw: dict[str, Any]) -> Data:
        kind = self.choice(raw, "kind", tuple(DATA_KINDS))
        shape = self.list(raw, "shape", limit=3)
        if len(shape) != DATA_KINDS[kind] or not all(is_integer(size) and size > 0 for size in shape):
            self.fail("data.shape", shape, f"{DATA_KINDS[kind]} sizes of at least 1 for {kind} data")
        if math.prod(shape) > MAX_VALUES:
            self.fail("data.shape", shape, f"at most {MAX_VALUES} values")
        columns = self.list(raw, "columns", limit=MAX_CLASSES) if kind == "table" else []
        if kind == "table" and len(columns) != shape[0]:
            self.fail("data.columns of length", len(columns), str(shape[0]))
        for column in columns:
            if not isinstance(column, dict):
                self.fail("a column", column, "an object")
            self.text(column, "name")
            if self.choice(column, "kind", ("numeric", "categorical")) == "categorical":
                self.shares(column, self.classes(column))
            elif fault := form_fault(column):
                raise ModelFileError(f"{self.source} has a manifest with a column that has {fault}")
            elif "scale" in column:
                if not _is_float32(column["scale"]) or column["scale"] <= 0:
                    self.fail("a column's scale", column["scale"], "a float32 above 0")
                if not _is_float32(column.get("mean")):
                    self.fail("a column's mean", column.get("mean"), "a float32")
            if "atoms" in column:
                self.shares(column, column["atoms"])
            self.written_form(column)
        outside = self.outside(raw) if kind == "table" and "outside" in raw else ()
        order: list[str] = []
        if kind == "table" and "order" in raw:
            for name in self.list(raw, "order", limit=MAX_CLASSES):
                order.append(name if name == "" else self.text({"name": name}, "name"))
        if not isinstance(bounded := raw.get("bounded", True), bool):
            self.fail("data.bounded", bounded, "true or false")
        mean, scale = self.features(raw, shape[-1]) if "scale" in raw or "mean" in raw else ((), ())
        if (delimiter := raw.get("delimiter", ",")) not in DELIMITERS:
            self.fail("data.delimiter", delimiter, "a comma, semicolon, tab, vertical bar or blank")
        header = self.header(raw, order) if "header" in raw and kind == "table" else ()
        value_range = self.range(raw)
        return Data(
            kind, tuple(shape), value_range, tuple(columns), bounded, mean, scale, outside, tuple(order), delimiter,
            header,
        )  # fmt: skip

    def header(self, raw: dict[str, Any], order: list[str]) -> tuple[str, ...]:
        """Return the names of all columns with blanks at their ends."""
        header = self.list(raw, "header", limit=MAX_CLASSES)
        if len(header) != len(order):
            self.fail("data.header of length", len(header), str(len(order)))
        for text, name in zip(header, order, strict=True):
            key = "a name of data.header"
            if text != name and self.text({key: text}, key, 2 * MAX_COLUMN_TEXT).strip() != name:
                self.fail(key, text, f"{printable(name, 60)} and blanks")
        return tuple(header)

    def written_form(self, column: dict[str, Any]) -> None:
        """Check the keys that decide how the values of a column are written."""
        numeric = column["kind"] in ("numeric", "continuous")
        kind = self.choice(column, "type", COLUMN_TYPES) if "type" in column else None
        if kind in (("category", "boolean") if numeric else ("datetime",)):
            self.fail(f"type of a {column['kind']} column", kind, "another type")
        decimals = column.get("decimals", 0)
        if not is_integer(decimals) or not 0 <= decimals <= MAX_DECIMALS:
            self.fail("a column's decimals", decimals, f"an integer from 0 to {MAX_DECIMALS}")
        digits = column.get("digits", 1)
        if not is_integer(digits) or not 1 <= digits <= MAX_DIGITS:
            self.fail("a column's digits", digits, f"an integer from 1 to {MAX_DIGITS}")
        if "exponent" in column:
            self.choice(column, "exponent", ("e", "E"))
        width = column.get("width", 0)
        if not is_integer(width) or not 0 <= width <= MAX_WIDTH:
            self.fail("a column's width", width, f"an integer from 0 to {MAX_WIDTH}")
        for key in ("minimum", "maximum", "offset"):
            if not is_number(column.get(key, 0)):
                self.fail(f"a column's {key}", column[key], "a number")
        if column.get("minimum", -math.inf) > column.get("maximum", math.inf):
            self.fail("a column's minimum", column["minimum"], "at most its maximum")
        if "format" in column and (kind != "datetime" or not dates.is_format(column["format"])):
            self.fail("a column's format", column["format"], "a date format such as %Y-%m-%d, of a datetime")
        if kind == "datetime" and "format" not in column:
            self.fail("a column's format", None, "a date format such as %Y-%m-%d")
        exact = self.list(column, "exact", limit=MAX_KNOTS) if "exact" in column else [0]
        if not exact or not all(map(is_number, exact)) or not all(a < b for a, b in pairwise(exact)):
            self.fail("a column's exact", exact, f"1 to {MAX_KNOTS} increasing numbers")
        days = column.get("calendar", {})
        if "calendar" in column and ("format" not in column or not _is_calendar(days)):
            self.fail("a column's calendar", days, f"an object of lists with the keys {', '.join(dates.CALENDAR)}")
        step = column.get("step", 1)
        if not is_number(step) or step <= 0:
            self.fail("a column's step", step, "a number above 0")
        if column.get("decimal", ".") not in (".", ","):
            self.fail("a column's decimal", column["decimal"], "a point or a comma")
        if "thousands" in column:
            self.choice(column, "thousands", THOUSANDS)
        for key in ("prefix", "suffix"):
            if key in column:
                self.text(column, key, MAX_AFFIX)
        self.categories(column)
        for key in ("missing", "dtype"):
            if column.get(key) and self.text(column, key, MAX_COLUMN_TEXT):
                continue
            if column.get(key, "") != "":
                self.fail(f"a column's {key}", column[key], "a text")

    def categories(self, column: dict[str, Any]) -> None:
        """Check the categories of a column that was a categorical of pandas."""
        names = self.list(column, "categories", limit=MAX_CLASSES) if "categories" in column else []
        if not all(isinstance(name, str) and not _CONTROLS.search(name) for name in names):
            self.fail("a column's categories", names, "texts without control characters")
        if len(set(names)) != len(names) or ("categories" in column and not names):
            self.fail("a column's categories", names, "distinct texts, at least one")
        if not isinstance(column.get("ordered", False), bool):
            self.fail("a column's ordered", column["ordered"], "true or false")

    def outside(self, raw: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Return the columns of a table that are not in x: constants and identifiers."""
        columns = self.list(raw, "outside", limit=MAX_CLASSES)
        for column in columns:
            if not isinstance(column, dict):
                self.fail("a column outside", column, "an object")
            self.categories(column)
            if column.get("name") != "":  # A column of row numbers may have an empty name.
                self.text(column, "name")
            key = "value" if self.choice(column, "type", ("constant", "id")) == "constant" else "prefix"
            if column.get(key) != "":
                self.text(column, key, MAX_COLUMN_TEXT)
            if key == "value":
                continue
            for name, highest in (("start", 2**53), ("width", MAX_WIDTH)):
                if not is_integer(column.get(name)) or not 0 <= column[name] <= highest:
                    self.fail(f"an identifier's {name}", column.get(name), f"an integer from 0 to {highest}")
            for name in ("suffix", "missing"):
                if column.get(name, "") != "":
                    self.text(column, name, MAX_COLUMN_TEXT)
            share = column.get("missing_share", 0)
            if not is_number(share) or not 0 <= share <= 1:
                self.fail("an identifier's missing_share", share, "a number from 0 to 1")
        return tuple(columns)

    def order(self, data: Data, conditions: tuple[Condition, ...]) -> None:
        """Check that the order of written rows has each column once."""
        if not data.order:
            return
        names = [column["name"] for column in (*data.columns, *data.outside)]
        names += [each.column["name"] for each in conditions if each.column]
        if sorted(names) != sorted(data.order) or len(set(names)) != len(names):
            self.fail("data.order", list(data.order), "the name of each column once")

    def features(self, raw: dict[str, Any], num: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the mean and the scale of each feature of vectors and sequences without a range."""
        if raw["kind"] not in ("vector", "sequence") or raw.get("range") is not None:
            self.fail("data.scale of kind", raw["kind"], "a vector or a sequence with the range null")
        values = {}
        for key in ("mean", "scale"):
            values[key] = self.list(raw, key, limit=MAX_VALUES)
            if len(values[key]) != num or not all(map(_is_float32, values[key])):
                self.fail(f"data.{key} of length", len(values[key]), f"{num} numbers of float32")
        if min(values["scale"]) <= 0:
            self.fail("data.scale", min(values["scale"]), "numbers above 0")
        return tuple(map(float, values["mean"])), tuple(map(float, values["scale"]))

    def joint(self, conditions: tuple[Condition, ...]) -> None:
        sizes = [len(each.classes) or JOINT_BINS for each in conditions]
        for condition in conditions:
            for num, *index in condition.joint:
                if condition is not conditions[-1] or num < 1 or len(index) != len(sizes):
                    self.fail("a condition's joint", [num, *index], "a count, and an index for each condition")
                if any(not 0 <= each < size for each, size in zip(index, sizes, strict=True)):
                    self.fail("a condition's joint", [num, *index], "the indices of classes or intervals")

    def combinations(self, raw: dict[str, Any]) -> tuple[tuple[int, ...], ...]:
        rows = self.list(raw, "joint", limit=MAX_COMBINATIONS) if "joint" in raw else []
        for row in rows:
            if not isinstance(row, list) or len(row) < 2 or not all(map(is_integer, row)):
                self.fail("a condition's joint", row, "a list of integers")
        return tuple(map(tuple, rows))

    def condition(self, raw: Any) -> Condition:
        if not isinstance(raw, dict):
            self.fail("a condition", raw, "an object")
        name, column = self.text(raw, "name"), {}
        kind = self.choice(raw, "kind", ("categorical", "continuous"))
        if "column" in raw:
            column = {**self.object(raw, "column"), "kind": kind}
            self.text(column, "name")
            self.written_form(column)
        if kind == "continuous":
            quantiles = self.list(raw, "quantiles", limit=MAX_QUANTILES) if "quantiles" in raw else []
            if "quantiles" in raw and (
                len(quantiles) < 2 or not all(map(is_number, quantiles)) or sorted(quantiles) != quantiles
            ):
                self.fail("a condition's quantiles", quantiles, "at least 2 numbers in ascending order")
            return Condition(
                name, kind, range=self.range(raw), quantiles=tuple(quantiles), column=column,
                joint=self.combinations(raw),
            )  # fmt: skip
        classes = self.classes(raw)
        shares, joint = self.shares(raw, classes), self.combinations(raw)
        return Condition(name, kind, classes=classes, shares=shares, column=column, joint=joint)

    def shares(self, raw: dict[str, Any], classes: Sequence[Any]) -> tuple[float, ...]:
        """Return the share of each class of a condition or a column in the training data, or an empty tuple."""
        shares = self.list(raw, "shares", limit=MAX_CLASSES) if "shares" in raw else []
        if "shares" in raw and (
            len(shares) != len(classes)
            or not all(is_number(share) and 0 <= share <= 1 for share in shares)
            or not 0.99 < sum(shares) < 1.01
        ):
            self.fail("shares", shares, "a share of each class, 1 together")
        return tuple(shares)

    def likelihood(self, raw: dict[str, Any], data: Data) -> dict[str, Any]:
        if self.choice(raw, "name", LIKELIHOODS) == "mixed_autoregressive":
            if data.kind != "table":
                self.fail("data.kind", data.kind, "table under a mixed_autoregressive likelihood")
            width = self.integer(raw, "width", MAX_RANK)
            self.integer(raw, "components", MAX_RANK)
            # The reader holds all embeddings in memory.
            if width * features.num_features(data.columns) > MAX_VALUES:
                self.fail("likelihood.width", width, f"at most {MAX_VALUES} embeddings in all")
        return raw

    def prior(self, raw: dict[str, Any]) -> dict[str, Any]:
        if self.choice(raw, "name", PRIORS) in MIXTURE_PRIORS:
            weights = self.list(raw, "log_weights", limit=MAX_CLASSES)
            if not weights or not all(map(_is_float32, weights)):
                self.fail("prior.log_weights", weights, "a number for each component")
        return raw

    def golden(self, raw: dict[str, Any]) -> dict[str, Any]:
        self.seed(raw, "golden.seed")
        self.integer(raw, "num", 64)
        for name, output in self.object(raw, "outputs").items():
            self.text({"golden output": name}, "golden output")
            if not isinstance(output, dict):
                self.fail(f"golden.outputs.{name}", output, "an object")
            self.integer(output, "stride", 2**40)
            values = self.list(output, "values", limit=MAX_GOLDEN)
            if not values or not all(map(_is_float32, values)):
                self.fail(f"golden.outputs.{name}.values", values, f"1 to {MAX_GOLDEN} numbers")
            for key in ("atol", "rtol"):
                if not _is_float32(output.get(key)) or output[key] < 0:
                    self.fail(f"golden.outputs.{name}.{key}", output.get(key), "a float32 of at least 0")
        return raw

    def score(self, raw: dict[str, Any]) -> None:
        self.integer(raw, "num_samples", MAX_SCORE_SAMPLES)
        self.seed(raw, "score.seed")
        if "examples" in raw:
            self.integer(raw, "examples", MAX_INTEGER)
        for name in ("quantiles", *(["complexity_quantiles"] if "complexity_quantiles" in raw else [])):
            quantiles = self.object(raw, name)
            for key, value in quantiles.items():
                if not _QUANTILE.fullmatch(key) or not 0 <= float(key) <= 1 or not is_number(value):
                    self.fail(f"score.{name}", {key: value}, "a number for each quantile from 0 to 1")
            if not 0 < len(quantiles) <= MAX_SCORE_SAMPLES:
                self.fail(f"score.{name} of length", len(quantiles), f"1 to {MAX_SCORE_SAMPLES} quantiles")

    def numbers(self, raw: dict[str, Any]) -> None:
        """Check the size of every number, also in keys that are not used."""
        pending: list[Any] = [raw]
        while pending:
            node = pending.pop()
            if isinstance(node, (dict, list)):
                pending += node.values() if isinstance(node, dict) else node
            elif isinstance(node, int) and not -MAX_INTEGER <= node <= MAX_INTEGER:
                self.fail("an integer of", f"{node.bit_length()} bits", "at most 64")

    def seed(self, raw: dict[str, Any], name: str) -> None:
        if not is_integer(raw.get("seed")) or not 0 <= raw["seed"] < 2**64:
            self.fail(name, raw.get("seed"), "0 to 2**64 - 1")

    def classes(self, raw: dict[str, Any]) -> tuple[str, ...]:
        classes = self.list(raw, "classes", limit=MAX_CLASSES)
        if (
            not classes
            or not all(isinstance(name, str) for name in classes)
            or ("" in classes and raw.get("missing", raw.get("column", {}).get("missing")) != "")
            or len(set(classes)) != len(classes)
        ):
            self.fail("classes", classes, "distinct texts, at least one")
        if any(map(_CONTROLS.search, classes)):
            self.fail("classes", classes, "names without control characters")
        return tuple(classes)

    def range(self, raw: dict[str, Any]) -> Range | None:
        value = raw.get("range")
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != 2 or not all(map(_is_float32, value)) or value[0] >= value[1]:
            self.fail("range", value, "[lowest, highest] in float32, or null")
        return float(value[0]), float(value[1])

    def object(self, raw: dict[str, Any], key: str) -> dict[str, Any]:
        if not isinstance(raw.get(key), dict):
            self.fail(key, raw.get(key), "an object")
        return raw[key]

    def list(self, raw: dict[str, Any], key: str, limit: int) -> list[Any]:
        if not isinstance(raw.get(key), list) or len(raw[key]) > limit:
            self.fail(key, raw.get(key), f"a list of at most {limit}")
        return raw[key]

    def text(self, raw: dict[str, Any], key: str, limit: int = 200) -> str:
        if not isinstance(raw.get(key), str) or not 0 < len(raw[key]) <= limit:
            self.fail(key, raw.get(key), f"a text of 1 to {limit} characters")
        if _CONTROLS.search(raw[key]):
            self.fail(key, raw[key], "a text without control characters")
        return raw[key]

    def choice(self, raw: dict[str, Any], key: str, choices: tuple[str, ...]) -> str:
        if raw.get(key) not in choices:
            self.fail(key, raw.get(key), "one of " + ", ".join(choices))
        return raw[key]

    def integer(self, raw: dict[str, Any], key: str, highest: int) -> int:
        if not is_integer(raw.get(key)) or not 1 <= raw[key] <= highest:
            self.fail(key, raw.get(key), f"an integer from 1 to {highest}")
        return raw[key]
