"""Rows of a table as columns of values: a pandas DataFrame if pandas is installed, else a dict; and Parquet files.

Columns have the order and the types of the training table. Integers that may be missing are floats, as in pandas, also
if none of the rows misses one.
"""

from __future__ import annotations

import datetime
import decimal
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any

import numpy as np

from kvae_serve import cells
from kvae_serve.errors import MissingExtraError
from kvae_serve.row_stream import RowStream
from kvae_serve.sealed.manifest import Manifest

_NAMELESS = "Unnamed: 0"
"""Name that pandas gives to a first column without one."""


def to_frame(arrays: Mapping[str, tuple[np.ndarray, Mapping[str, Any]]], like: Any = None) -> Any:
    """Return columns as a DataFrame; a dict of arrays if pandas is not installed.

    Args:
        arrays: The result of `to_arrays`.
        like: Table that the rows belong to. The result has its index, if it is a DataFrame.
    """
    try:
        import pandas
    except ImportError:
        return {name: _typed(*each) for name, each in arrays.items()}
    frame = pandas.DataFrame({name: _series(pandas, *each) for name, each in arrays.items()})
    if isinstance(like, pandas.DataFrame):
        frame.index = like.index
    return frame


def to_arrays(
    manifest: Manifest,
    x: np.ndarray,
    conditions: Mapping[str, np.ndarray],
    first: int = 0,
    ids: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> dict[str, tuple[np.ndarray, Mapping[str, Any]]]:
    """Return the values of each column `[rows]` and its description, in the order of written rows.

    Integers are int64, or float64 if they may be missing; numbers float64; dates datetime64; booleans bool, or objects
    if they may be missing; texts objects. Missing objects are None.

    Args:
        manifest: Manifest of a model of a table.
        x: `[rows, columns]` in data units.
        conditions: Conditions by name, `[rows]`; those that are missing do not have a column.
        first: Index of the first row, for identifiers.
        ids: Identifiers of rows that were read, by column. They are a sequence for other rows.
    """
    data = manifest.data
    arrays = {
        str(column["name"]): (_values(column, values), column) for column, values in zip(data.columns, x.T, strict=True)
    }
    for column in data.outside:
        rows = cells.identifiers(column, first, ids) if column["type"] == "id" else None
        texts = list(islice(rows, len(x))) if rows is not None else [column["value"]] * len(x)
        arrays[column["name"] or _NAMELESS] = (_parsed(texts, column), column)
    for condition in manifest.conditions:
        if condition.name in conditions:
            column = {**condition.column, **({"classes": condition.classes} if condition.categorical else {})}
            arrays[column.get("name", condition.name)] = (_values(column, conditions[condition.name]), column)
    order = [name for name in (each or _NAMELESS for each in data.order or arrays) if name in arrays]
    return {name: arrays[name] for name in order}


def write_parquet(path: Any, rows: RowStream) -> None:
    """Write the rows of a table to a Parquet file, a path or a binary file.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError(
            "A Parquet file needs pyarrow, which is not installed. Install it with: pip install 'kvae-onnx[tables]'"
        ) from error
    chunks = list(rows.chunks)
    joined = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in rows.arrays}
    arrays = to_arrays(rows.manifest, joined[rows.main[0]], joined, rows.start, rows.ids)
    table = {}
    for name, (values, column) in arrays.items():
        table[name] = _arrow(pyarrow, values, column)
    parquet.write_table(pyarrow.table(table), path)


def _arrow(pyarrow: Any, values: np.ndarray, column: Mapping[str, Any]) -> Any:
    """Return a column of Parquet, whose integers may be missing."""
    dtype = str(column.get("dtype", "")).lower()
    if dtype.startswith("category"):
        return _dictionary(pyarrow, values, column)
    is_integer = dtype.startswith(("int", "uint")) or (not dtype and column.get("type") == "integer")
    if values.dtype.kind == "f" and is_integer and "classes" not in column:
        absent = np.isnan(values)
        return pyarrow.array(np.where(absent, 0, values).astype(dtype or np.int64), mask=absent)
    array = pyarrow.array(_typed(values, column), from_pandas=True)
    if dtype.startswith("datetime64[") and "," in dtype:  # with a time zone
        from pyarrow import ArrowInvalid, compute

        zone = str(column["dtype"])[:-1].partition(", ")[2]
        try:
            return compute.assume_timezone(array, zone, ambiguous="latest", nonexistent="latest")
        except ArrowInvalid:  # This machine does not know the time zone.
            return array
    return array


def _dictionary(pyarrow: Any, values: np.ndarray, column: Mapping[str, Any]) -> Any:
    """Return a category of Parquet with all categories of the training table and their order."""
    from pyarrow import compute

    array = pyarrow.array(_typed(values, column), from_pandas=True)
    if "categories" not in column:
        return array.dictionary_encode()
    categories = pyarrow.array(_typed(_parsed(column["categories"], {**column, "missing": None}), column))
    indices = compute.index_in(array, categories)
    return pyarrow.DictionaryArray.from_arrays(indices, categories, ordered=column.get("ordered", False))


def _values(column: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    if "classes" in column:
        return _parsed(cells.texts(column, values), column)
    numbers = cells.in_units(column, values)
    if "format" in column:
        absent = np.isnan(numbers)
        micros = np.where(absent, 0, np.round(numbers * 1e6)).astype("datetime64[us]")
        micros[absent] = np.datetime64("NaT")
        return micros
    is_integer = column.get("type") == "integer" and "missing" not in column and not np.isnan(numbers).any()
    return numbers.astype(np.int64) if is_integer else numbers


def _inner(column: Mapping[str, Any]) -> str:
    """Return the type of the values of a column of objects, of a category, or of another column."""
    dtype = str(column.get("dtype", ""))
    return dtype.partition("[")[2][:-1] if dtype.startswith(("object[", "category[")) else dtype


def _parsed(texts: list[str], column: Mapping[str, Any]) -> np.ndarray:
    """Return classes, identifiers or constants as the type that their texts have."""
    missing, inner = column.get("missing"), _inner(column)
    present = {text for text in texts if text != missing}
    is_text = inner in ("object", "str") or inner.startswith("string")
    if not is_text and {text.casefold() for text in present} <= {"true", "false"}:
        booleans = [None if text == missing else text.casefold() == "true" for text in texts]
        return np.array(booleans, bool if missing is None else object)
    numbers = {"integer": int, "number": float, "id": int if missing is None else float}
    kind = numbers.get(column["type"]) if "type" in column else None
    if kind is None and any(name in inner for name in ("int", "float", "timedelta", "duration")):
        kind = int if "int" in inner else float
    if kind is not None and (not is_text or column["type"] in ("integer", "number")):
        try:
            values = [float("nan") if text == missing else kind(text) for text in texts]
            return np.array(values, np.int64 if kind is int and missing is None else np.float64)
        except ValueError:
            pass
    array = np.empty(len(texts), object)
    array[:] = [None if text == missing or (text == "" and missing is None) else text for text in texts]
    return array


def _typed(values: np.ndarray, column: Mapping[str, Any]) -> np.ndarray:
    """Return values with the type of the training table, if NumPy has it and it can hold them."""
    dtype, inner = str(column.get("dtype", "")).lower(), _inner(column)
    if inner.startswith(("timedelta", "duration[")) and values.dtype.kind in "iuf":
        values = (values * 1e6).round().astype("timedelta64[us]")  # NaN becomes NaT.
        return _objects(values, inner) if dtype.startswith("object[") else values
    if inner == "decimal" and values.dtype.kind in "iuf":
        form = f".{column['decimals']}f" if "decimals" in column else ""
        return _objects(values, inner, lambda value: decimal.Decimal(format(value, form)))
    if inner in ("date", "time", "datetime") or inner.startswith("datetime64"):
        values = _moments(values)
        return _objects(values, inner) if dtype.startswith("object[") and values.dtype.kind == "M" else values
    if dtype.startswith("object["):
        return _objects(values, inner)
    try:
        target = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):  # a type of pandas or of pyarrow
        return values
    if target.kind not in "iufb" or values.dtype.kind not in "iufb":
        return values
    if target.kind in "iub" and values.dtype.kind == "f" and ("missing" in column or not np.isfinite(values).all()):
        return values
    return values.astype(target)


def _moments(values: np.ndarray) -> np.ndarray:
    """Return ISO texts of dates and times as datetime64; other values unchanged."""
    if values.dtype != object:
        return values
    try:
        moments = [
            None if text is None else datetime.datetime.fromisoformat(text if "-" in text else f"1970-01-01 {text}")
            for text in values.tolist()
        ]
    except (TypeError, ValueError):
        return values
    return np.array(moments, "datetime64[us]")


def _objects(values: np.ndarray, inner: str, convert: Callable[[Any], Any] | None = None) -> np.ndarray:
    """Return values as objects of Python, None if missing."""
    if values.dtype.kind == "M":
        values = values.astype("datetime64[D]" if inner == "date" else "datetime64[us]")
    known: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "time": lambda value: value.time()}
    array = np.empty(len(values), object)
    element = convert or (known.get(inner, lambda value: value) if values.dtype != object else lambda value: value)
    array[:] = [None if value is None or value != value else element(value) for value in values.tolist()]
    return array


def _series(pandas: Any, values: np.ndarray, column: Mapping[str, Any]) -> Any:
    """Return a column as pandas has it, with the type of the training table."""
    dtype = str(column.get("dtype", ""))
    if dtype.startswith("datetime64[") and "," in dtype:  # with a time zone
        zone = dtype[:-1].partition(", ")[2]
        local = pandas.Series(_typed(values, column)).dt
        return local.tz_localize(zone, ambiguous=True, nonexistent="shift_forward").astype(dtype)
    if dtype.startswith("category["):
        return pandas.Series(_categories(pandas, values, column))
    if dtype == "object" and column.get("type") == "datetime":
        form = {key: each for key, each in column.items() if key not in ("offset", "exact")}
        return pandas.Series(cells.texts(form, _seconds(values)), dtype=object)
    values = _typed(values, column)
    # pandas 3 makes texts of the type str, unless a type is given; in pandas 2 str would make texts of missing values.
    is_object = dtype.startswith("object") and values.dtype == object
    series = pandas.Series(values, dtype=object if is_object else None)
    is_integer = dtype.startswith(("int", "uint")) and not dtype.endswith("[pyarrow]")
    if is_integer and "missing" in column and values.dtype.kind == "f":
        return series  # pandas has a table of pyarrow with missing integers as floats
    if dtype in ("", "str") or dtype.startswith("object[") or (dtype == "bool" and values.dtype == object):
        return series
    try:
        return series.astype(dtype)
    except (TypeError, ValueError):
        return series


def _categories(pandas: Any, values: np.ndarray, column: Mapping[str, Any]) -> Any:
    """Return a categorical with the categories of the training table and their order."""
    known = [text for text in column.get("classes", ()) if text != column.get("missing")]
    known = column.get("categories", known)
    categories = _typed(_parsed(known, {**column, "missing": None}), column) if known else None
    if categories is not None and len(set(categories.tolist())) < len(categories):
        categories = None
    intervals = None if categories is None else _intervals(pandas, list(categories), _inner(column))
    if intervals is None:
        return pandas.Categorical(_typed(values, column), categories=categories, ordered=column.get("ordered", False))
    numbers = {text: number for number, text in enumerate(known)}
    codes = [numbers.get(text, -1) for text in values.tolist()]
    return pandas.Categorical.from_codes(codes, categories=intervals, ordered=column.get("ordered", False))


def _intervals(pandas: Any, texts: list[Any], inner: str) -> Any:
    """Return texts such as `(0.5, 2.0]` as an IntervalIndex, which `pandas.cut` makes; None if they are others."""
    matches = [re.fullmatch(r"[(\[](\S+), (\S+)[)\]]", str(text)) for text in texts]
    kind = re.fullmatch(r"interval\[(int64|float64), (right|left|both|neither)\]", inner)
    if kind is None or None in matches:
        return None
    number = int if kind[1] == "int64" else float
    try:
        bounds = [(number(match[1]), number(match[2])) for match in matches if match]
        return pandas.IntervalIndex.from_tuples(bounds, closed=kind[2], dtype=inner)
    except ValueError:
        return None


def _seconds(values: np.ndarray) -> np.ndarray:
    seconds = values.astype(np.int64) / 1e6
    seconds[np.isnat(values)] = np.nan
    return seconds
