"""Read tables from Parquet files, DataFrames, pyarrow tables and dicts of columns, like a CSV of the same values.

The type of each column is kept, so that rows of a model have the types of the table that it was trained on.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
import zoneinfo
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kvae_serve import dates
from kvae_serve.csv_escape import NUMBER
from kvae_serve.errors import InputDataError, MissingExtraError, printable
from kvae_serve.readers.column_types import MAX_CLASSES, sorted_classes
from kvae_serve.readers.csv import MAX_CELLS, MAX_COLUMNS
from kvae_serve.readers.dataset import Table, check_file
from kvae_serve.sealed.manifest import Manifest

SUFFIX = ".parquet"

_EPOCH = datetime.datetime(1970, 1, 1)
_ELEMENTS = {
    bool: "bool", int: "int", float: "float", decimal.Decimal: "decimal", str: "str", datetime.datetime: "datetime",
    datetime.date: "date", datetime.time: "time", datetime.timedelta: "timedelta",
}  # fmt: skip
"""Types of values and their names; a subclass is before its base class."""


def read_parquet(path: Path, source: str, columns: Sequence[Mapping[str, Any]] = ()) -> Table:
    """Read all cells of a Parquet file.

    Args:
        path: The file.
        source: Its name in messages.
        columns: As of `from_frame`.

    Raises:
        MissingExtraError: pyarrow is not installed.
        InputDataError: The file does not exist, is damaged, or is not a table of numbers and texts.
    """
    check_file(path, source)
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingExtraError(
            f"{source} needs pyarrow, which is not installed. Install it with: pip install 'kvae-onnx[tables]'"
        ) from error
    try:
        return from_frame(parquet.read_table(path), source, columns)
    except (ArrowException, OSError) as error:
        raise InputDataError(f"{source} is not a readable Parquet file: {printable(error, 80)}.") from error


def is_frame(value: Any) -> bool:
    """Return whether a value is a DataFrame, a table of pyarrow or a dict of columns, without importing them."""
    return isinstance(value, Mapping) or (
        hasattr(value, "columns") and hasattr(value, "shape") and hasattr(value, "__getitem__")
    )


def from_frame(frame: Any, source: str, columns: Sequence[Mapping[str, Any]] = ()) -> Table:
    """Convert a DataFrame, a table of pyarrow or a dict of columns to the cells of a CSV.

    Args:
        frame: The rows.
        source: Their name in messages.
        columns: Columns of a model, of data and of conditions. Their dates get the format of the model, and numbers and
            booleans that are classes get the text of the class. Columns of other names are for training.
    """
    if isinstance(frame, Mapping):
        names = list(frame)
        lengths = {len(column) for column in frame.values()}
        if len(lengths) > 1:
            raise InputDataError(f"{source} has columns of {min(lengths)} to {max(lengths)} rows; expected equal ones.")
        num_rows, num_columns = max(lengths, default=0), len(names)
    else:
        names = list(getattr(frame, "column_names", frame.columns))
        num_rows, num_columns = frame.shape
    if not num_rows or not num_columns:
        raise InputDataError(f"{source} is empty: it has {num_rows} rows and {num_columns} columns. Use other data.")
    if num_columns > MAX_COLUMNS:
        raise InputDataError(f"{source} has {num_columns} columns; the most is {MAX_COLUMNS}. Save it as .npz.")
    if num_rows * num_columns > MAX_CELLS:
        raise InputDataError(f"{source} has more than {MAX_CELLS} cells, the most that are read. Save it as .npz.")
    twice = next((name for name, count in Counter(map(str, names)).items() if count > 1), None)
    if twice is not None:
        raise InputDataError(f"{source} contains the column name {printable(twice, 60)} twice. Rename one.")
    cells: dict[str, list[str]] = {}
    dtypes: dict[str, str] = {}
    settings: dict[str, dict[str, Any]] = {}
    categories: dict[str, dict[str, Any]] = {}
    known = {str(column["name"]): column for column in columns}
    for name in names:
        column = frame[name]
        values = column_values(column)
        nested = next((value for value in values if isinstance(value, list | dict | tuple | set | bytes)), None)
        if nested is not None:
            raise InputDataError(
                f"{source} contains {printable(repr(nested), 40)} in the column {printable(name, 60)}; expected "
                "numbers and texts. Leave the column out."
            )
        dtype = _dtype(column)
        elements = _elements(values)
        if not columns and (not dtype.startswith("category[") or dtype == "category[object]"):
            _check_elements(elements, source, str(name))
        if dtype in ("object", ""):
            dtype = _object_type(values, elements, dtype)
        cells[str(name)] = _texts(values, dtype, known.get(str(name), {}))
        if dtype:
            dtypes[str(name)] = dtype
        if dtype.startswith("category"):
            settings[str(name)] = {"type": "category"}
            if described := _categories(column, set(cells[str(name)])):
                categories[str(name)] = described
        elif "str" in elements:
            settings[str(name)] = {"is_text": True}
    return Table(cells, source, first_row=0, dtypes=dtypes, categories=categories, settings=settings)


def model_columns(manifest: Manifest) -> list[Mapping[str, Any]]:
    """Return the columns of the table of a model, of data and of conditions."""
    conditions = [
        {"name": each.name, **each.column, **({"classes": each.classes} if each.categorical else {})}
        for each in manifest.conditions
    ]
    return [*manifest.data.columns, *conditions]


def column_values(column: Any) -> list[Any]:
    """Return the values of a column of a DataFrame, of pyarrow or of a dict as a list."""
    if hasattr(column, "to_pylist"):
        return column.to_pylist()
    if isinstance(column, np.ndarray) and column.dtype.kind in "Mm":
        column = column.astype(f"{column.dtype.kind}8[us]")  # A list of nanoseconds would contain integers.
    return column.tolist() if hasattr(column, "tolist") else list(column)


def _is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, or the NA or NaT of pandas."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value) in ("<NA>", "NaT")


def _elements(values: list[Any]) -> dict[str, Any]:
    """Return the name in `_ELEMENTS` of each type that occurs, with a value of it; other types have an empty name."""
    examples = {type(value): value for value in values if not _is_missing(value)}
    elements: dict[str, Any] = {}
    for value in examples.values():
        plain = value.item() if isinstance(value, np.generic) else value
        elements.setdefault(next((name for kind, name in _ELEMENTS.items() if isinstance(plain, kind)), ""), value)
    if set(elements) == {"int", "float"}:
        del elements["int"]
    return elements


def _check_elements(elements: Mapping[str, Any], source: str, name: str) -> None:
    """Raise `InputDataError` unless all values of a column are of one type that can be written back."""
    if "" not in elements and len(elements) <= 1:
        return
    examples = [elements[""]] if "" in elements else list(elements.values())[:2]
    shown = " and ".join(f"{printable(repr(each), 40)} ({type(each).__name__})" for each in examples)
    expected = "numbers, texts or dates" if "" in elements else "values of one type"
    raise InputDataError(
        f"{source} contains {shown} in the column {printable(name, 60)}; expected {expected}. Convert the column, "
        "such as by astype(str), or leave it out."
    )


def _object_type(values: list[Any], elements: Mapping[str, Any], dtype: str) -> str:
    """Return the type of a column of objects, or of a list, by the type that all its values have."""
    present = [value for value in values if not _is_missing(value)]
    element = next(iter(elements)) if len(elements) == 1 and "str" not in elements else ""
    if element == "datetime" and None not in (zones := {each.tzinfo for each in present}):
        return f"datetime64[us, {zones.pop()}]" if len(zones) == 1 else dtype
    # pandas has a type for lists of numbers, booleans and moments, but not for dates.
    return f"object[{element}]" if element and (dtype or element == "date") else dtype


def _categories(column: Any, present: set[str]) -> dict[str, Any]:
    """Return the categories of a column as texts, and whether they are ordered; nothing if the cells show them all."""
    dtype = getattr(column, "dtype", None)
    if dtype is not None:
        ordered = bool(getattr(dtype, "ordered", False))
        texts = _texts(column_values(dtype.categories), str(dtype.categories.dtype), {})
    else:
        array = column.unify_dictionaries().chunks[0] if hasattr(column, "chunks") else column
        ordered, texts = bool(column.type.ordered), _texts(array.dictionary.to_pylist(), "", {})
    if len(texts) > MAX_CLASSES or len(set(texts)) < len(texts) or not all(text.isprintable() for text in texts):
        return {}
    if not ordered and tuple(texts) == sorted_classes(present & set(texts)):
        return {}
    return {"categories": texts} | ({"ordered": True} if ordered else {})


def _texts(values: list[Any], dtype: str, column: Mapping[str, Any]) -> list[str]:
    """Return values as cells of a CSV, as a column of a model writes them; those of an unknown column by their type.

    Dates of an unknown column have one format. Durations are in seconds. float32 has its own digits.
    """
    present = [value for value in values if not _is_missing(value)]
    moments = [value for value in present if isinstance(value, datetime.date | datetime.time)]
    texts = iter(_date_texts(moments, column) if moments else ())
    classes = _classes_by_value(column)
    cells = []
    for value in values:
        if _is_missing(value):
            cells.append("")
        elif isinstance(value, datetime.date | datetime.time):
            cells.append(next(texts))
        elif isinstance(value, str):
            cells.append(value.strip())
        else:
            if isinstance(value, datetime.timedelta):
                text = f"{value.total_seconds():.6f}".rstrip("0").rstrip(".")
            elif isinstance(value, decimal.Decimal):
                text = f"{value:f}"
            elif dtype == "float32":
                text = f"{float(f'{value:.9g}'):.7g}"
            else:
                text = str(value).strip()
            cells.append(classes.get(float(text) if NUMBER.fullmatch(text) else text.casefold(), text))
    return cells


def _classes_by_value(column: Mapping[str, Any]) -> dict[float | str, str]:
    """Return the classes of a column that are numbers or booleans, by value: 1 and 1.0 are one class, as in pandas."""
    found: dict[float | str, str] = {}
    for name in column.get("classes", ()):
        if NUMBER.fullmatch(name):
            found.setdefault(float(name), name)
        elif name.casefold() in ("true", "false"):
            found.setdefault(name.casefold(), name)
    return found


def _date_texts(moments: Sequence[Any], column: Mapping[str, Any]) -> list[str]:
    """Return dates and times in the format of a column, or of its classes; by default in an ISO format.

    A smaller unit than that of the format is dropped.
    """
    form = column.get("format") or next(
        iter(dates.formats([each for each in column.get("classes", ()) if each != column.get("missing")])), None
    )
    if form is None:
        parts = (("%Y-%m-%d", "year"), ("%H:%M:%S", "hour"))
        form = " ".join(text for text, part in parts if any(hasattr(each, part) for each in moments))
        form += ".%f" if any(getattr(each, "microsecond", 0) for each in moments) else ""
    zone = _zone(str(column.get("dtype", "")), form)
    seconds = np.array([_seconds(each, zone) for each in moments], np.float64)
    unit = dates.step(form)
    return dates.write(np.floor(seconds / unit) * unit if unit >= 1 else seconds, form)


def _seconds(moment: Any, zone: datetime.tzinfo | None) -> float:
    """Return the seconds since 1970 of a date or a time in its time zone, or in the given one."""
    if zone is not None and getattr(moment, "tzinfo", None) is not None and hasattr(moment, "astimezone"):
        moment = moment.astimezone(zone)
    year, month, day = (getattr(moment, part, first) for part, first in (("year", 1970), ("month", 1), ("day", 1)))
    hour, minute, second, micro = (getattr(moment, part, 0) for part in ("hour", "minute", "second", "microsecond"))
    return (datetime.datetime(year, month, day, hour, minute, second, micro) - _EPOCH).total_seconds()


def _zone(dtype: str, form: str) -> datetime.tzinfo | None:
    """Return the time zone of a column: that of its type, or the text at the end of its format."""
    name = dtype[:-1].partition(", ")[2] if dtype.startswith("datetime64[") else ""
    offset = re.search(r"([+-])(\d\d):?(\d\d)$", name or form, re.ASCII)
    if offset:
        shift = datetime.timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return datetime.timezone(-shift if offset[1] == "-" else shift)
    if name == "UTC" or (not name and form.endswith("Z")):
        return datetime.UTC
    try:
        return zoneinfo.ZoneInfo(name) if name else None
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return None


def _dtype(column: Any) -> str:
    """Return the type of a column as pandas names it; of a category also the type of its values."""
    dtype = getattr(column, "dtype", None)
    if dtype is not None:
        categories = getattr(dtype, "categories", None)
        return str(dtype) if categories is None else f"category[{categories.dtype}]"
    arrow = getattr(column, "type", None)
    if arrow is None:
        return ""
    value_type = getattr(arrow, "value_type", None)  # of a dictionary
    return _arrow_name(arrow) if value_type is None else f"category[{_arrow_name(value_type)}]"


def _arrow_name(arrow: Any) -> str:
    if str(arrow).startswith(("date", "time32", "time64")):
        return f"object[{str(arrow)[:4]}]"
    try:
        name = str(arrow.to_pandas_dtype())
    except NotImplementedError:
        return "object"
    if str(arrow) in ("string", "large_string"):
        return "object"
    return name if name.startswith(("datetime", "timedelta")) else np.dtype(arrow.to_pandas_dtype()).name
