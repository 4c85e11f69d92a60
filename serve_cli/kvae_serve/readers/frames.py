"""Read tables from Parquet files, DataFrames, pyarrow tables and dicts of columns, like a CSV of the same values.

The type of each column is kept, so that rows of a model have the types of the table that it was trained on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvae_serve.errors import InputDataError, MissingExtraError, printable
from kvae_serve.readers.csv import MAX_CELLS, MAX_COLUMNS
from kvae_serve.readers.dataset import Table

SUFFIX = ".parquet"


def read_parquet(path: Path, source: str) -> Table:
    """Read all cells of a Parquet file.

    Raises:
        MissingExtraError: pyarrow is not installed.
        InputDataError: The file is damaged, or is not a table of numbers and texts.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingExtraError(
            f"{source} needs pyarrow, which is not installed. Install it with: pip install 'kvae-onnx[tables]'"
        ) from error
    try:
        return from_frame(parquet.read_table(path), source)
    except (ArrowException, OSError) as error:
        raise InputDataError(f"{source} is not a readable Parquet file: {printable(error, 80)}.") from error


def is_frame(value: Any) -> bool:
    """Return whether a value is a DataFrame, a table of pyarrow or a dict of columns, without importing them."""
    return isinstance(value, Mapping) or (
        hasattr(value, "columns") and hasattr(value, "shape") and hasattr(value, "__getitem__")
    )


def from_frame(frame: Any, source: str) -> Table:
    """Convert a DataFrame, a table of pyarrow or a dict of columns to the cells of a CSV."""
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
    for name in names:
        column = frame[name]
        values = _values(column)
        nested = next((value for value in values if isinstance(value, list | dict | tuple | set | bytes)), None)
        if nested is not None:
            raise InputDataError(
                f"{source} contains {printable(repr(nested), 40)} in the column {printable(name, 60)}; expected "
                "numbers and texts. Leave the column out."
            )
        dtype = _dtype(column)
        cells[str(name)] = _texts(values, dtype)
        if dtype:
            dtypes[str(name)] = dtype
        if dtype.startswith("category"):
            settings[str(name)] = {"type": "category"}
        elif any(isinstance(value, str) for value in values):
            settings[str(name)] = {"is_text": all(isinstance(value, str) or _is_missing(value) for value in values)}
    return Table(cells, source, first_row=0, dtypes=dtypes, settings=settings)


def _values(column: Any) -> list[Any]:
    if hasattr(column, "to_pylist"):
        return column.to_pylist()
    return column.tolist() if hasattr(column, "tolist") else list(column)


def _is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, or the NA or NaT of pandas."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value) in ("<NA>", "NaT")


def _texts(values: list[Any], dtype: str) -> list[str]:
    """Return values as cells of a CSV: dates of one format, float32 with its own digits."""
    if dtype == "float32":
        return ["" if _is_missing(value) else f"{float(f'{value:.9g}'):.7g}" for value in values]
    dates = [value for value in values if hasattr(value, "strftime") and not _is_missing(value)]
    if not dates:
        return ["" if _is_missing(value) else str(value).strip() for value in values]
    form = "%Y-%m-%d" + (" %H:%M:%S" if any(hasattr(value, "hour") for value in dates) else "")
    form += ".%f" if any(getattr(value, "microsecond", 0) for value in dates) else ""
    return [
        "" if _is_missing(value) else value.strftime(form) if hasattr(value, "strftime") else str(value)
        for value in values
    ]


def _dtype(column: Any) -> str:
    """Return the type of a column as pandas names it; of a category also the type of its values."""
    dtype = getattr(column, "dtype", None)
    if dtype is not None:
        categories = getattr(dtype, "categories", None)
        return str(dtype) if categories is None else f"category[{categories.dtype}]"
    arrow = getattr(column, "type", None)
    if arrow is None:
        return ""
    if hasattr(arrow, "value_type"):  # a dictionary
        return "category[object]"
    try:
        name = str(arrow.to_pandas_dtype())
    except NotImplementedError:
        return "object"
    return {"string": "object"}.get(str(arrow), name if name.startswith("datetime") else _numpy_name(arrow))


def _numpy_name(arrow: Any) -> str:
    import numpy as np

    return np.dtype(arrow.to_pandas_dtype()).name
