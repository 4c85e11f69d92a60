"""Rows of a table as columns of values: a pandas DataFrame if pandas is installed, else a dict; and Parquet files.

Columns have the order and the types of the training table. Integers that may be missing are floats, as in pandas, also
if none of the rows misses one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


_SEQUENCES: Mapping[str, Sequence[str]] = MappingProxyType({})


def to_frame(
    manifest: Manifest,
    x: np.ndarray,
    conditions: Mapping[str, np.ndarray],
    first: int = 0,
    ids: Mapping[str, Sequence[str]] = _SEQUENCES,
) -> Any:
    """Return rows as a DataFrame; a dict of arrays if pandas is not installed.

    Args:
        manifest: Manifest of a model of a table.
        x: `[rows, columns]` in data units.
        conditions: Conditions by name, `[rows]`; those that are missing do not have a column.
        first: Index of the first row, for identifiers.
        ids: Identifiers of rows that were read, by column. They are a sequence for other rows.
    """
    arrays = to_arrays(manifest, x, conditions, first, ids)
    try:
        import pandas
    except ImportError:
        return {name: values for name, (values, _) in arrays.items()}
    return pandas.DataFrame({name: _series(pandas, *each) for name, each in arrays.items()})


def to_arrays(
    manifest: Manifest,
    x: np.ndarray,
    conditions: Mapping[str, np.ndarray],
    first: int = 0,
    ids: Mapping[str, Sequence[str]] = _SEQUENCES,
) -> dict[str, tuple[np.ndarray, Mapping[str, Any]]]:
    """Return the values of each column `[rows]` and its description, in the order of written rows.

    Integers are int64, or float64 if they may be missing; numbers float64; dates datetime64; booleans bool; texts
    objects, None if missing.
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
        array = _arrow(pyarrow, values, column)
        table[name] = array.dictionary_encode() if str(column.get("dtype", "")).startswith("category") else array
    parquet.write_table(pyarrow.table(table), path)


def _arrow(pyarrow: Any, values: np.ndarray, column: Mapping[str, Any]) -> Any:
    """Return a column of Parquet, whose integers may be missing."""
    dtype = str(column.get("dtype", "")).lower()
    is_integer = dtype.startswith(("int", "uint")) or (not dtype and column.get("type") == "integer")
    if values.dtype.kind == "f" and is_integer and "classes" not in column:
        absent = np.isnan(values)
        return pyarrow.array(np.where(absent, 0, values).astype(dtype or np.int64), mask=absent)
    return pyarrow.array(_as_dtype(values, column), from_pandas=True)


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


def _parsed(texts: list[str], column: Mapping[str, Any]) -> np.ndarray:
    """Return classes, identifiers or constants as the type that their texts have."""
    missing = column.get("missing")
    dtype = str(column.get("dtype", ""))
    present = {text for text in texts if text != missing}
    is_text = dtype in ("object", "str", "string", "category[object]", "category[str]")
    if not is_text and present <= {"True", "False"} and missing is None:
        return np.array([text == "True" for text in texts])
    kind = {"integer": int, "number": float, "id": int}.get(column["type"]) if "type" in column else None
    if kind is None and any(name in dtype for name in ("int", "float")):
        kind = float if "float" in dtype else int
    if kind is not None and not is_text:
        try:
            values = [float("nan") if text == missing else kind(text) for text in texts]
            return np.array(values, np.int64 if kind is int and missing is None else np.float64)
        except ValueError:
            pass
    array = np.empty(len(texts), object)
    array[:] = [None if text == missing or (text == "" and missing is None) else text for text in texts]
    return array


def _as_dtype(values: np.ndarray, column: Mapping[str, Any]) -> np.ndarray:
    """Return values with a numeric type of the training table, if it can hold them."""
    dtype = str(column.get("dtype", "")).lower()
    try:
        target = np.dtype(dtype)
    except TypeError:
        return values
    if target.kind not in "iufb" or values.dtype.kind not in "iufb":
        return values
    if target.kind in "iub" and values.dtype.kind == "f" and not np.isfinite(values).all():
        return values
    return values.astype(target)


def _series(pandas: Any, values: np.ndarray, column: Mapping[str, Any]) -> Any:
    """Return a column as pandas has it, with the type of the training table."""
    dtype = str(column.get("dtype", ""))
    # pandas 3 makes texts of the type str, unless a type is given; in pandas 2 str would make texts of missing values.
    series = pandas.Series(values, dtype=object if dtype == "object" and values.dtype == object else None)
    if dtype.startswith("datetime64[") and "," in dtype:  # with a time zone
        zone = dtype[:-1].partition(", ")[2]
        return series.dt.tz_localize(zone, ambiguous=True, nonexistent="shift_forward").astype(dtype)
    if dtype.startswith("category["):
        if "classes" in column:
            known = [text for text in column["classes"] if text != column.get("missing")]
            categories = _parsed(known, {**column, "missing": None})
            return pandas.Series(pandas.Categorical(values, categories=pandas.Index(categories)))
        return series.astype("category")
    if dtype == "object" and column.get("type") == "datetime":
        return pandas.Series(cells.texts({**column, "offset": 0}, _seconds(values)), dtype=object)
    if dtype.startswith(("int", "uint")) and "missing" in column and values.dtype.kind == "f":
        return series  # pandas has a table of pyarrow with missing integers as floats
    try:
        return series.astype(dtype) if dtype not in ("", "str") else series
    except (TypeError, ValueError):
        return series


def _seconds(values: np.ndarray) -> np.ndarray:
    seconds = values.astype(np.int64) / 1e6
    seconds[np.isnat(values)] = np.nan
    return seconds
