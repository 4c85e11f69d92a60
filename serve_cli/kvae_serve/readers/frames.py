"""Read tables from Parquet files, pandas DataFrames and pyarrow tables. They are read like a CSV of the same values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvae_serve.errors import InputDataError, MissingExtraError, printable
from kvae_serve.readers.csv import MAX_CELLS
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
    """Return whether a value is a DataFrame or a table of pyarrow, without importing them."""
    return hasattr(value, "columns") and hasattr(value, "shape") and hasattr(value, "__getitem__")


def from_frame(frame: Any, source: str) -> Table:
    """Convert a DataFrame, or a table of pyarrow, to the cells of a CSV."""
    names = list(getattr(frame, "column_names", frame.columns))
    num_rows, num_columns = frame.shape
    if not num_rows or not num_columns:
        raise InputDataError(f"{source} is empty: it has {num_rows} rows and {num_columns} columns. Use other data.")
    if num_rows * num_columns > MAX_CELLS:
        raise InputDataError(f"{source} has more than {MAX_CELLS} cells, the most that are read. Save it as .npz.")
    texts = [str(name) for name in names]
    if twice := [name for name in texts if texts.count(name) > 1]:
        raise InputDataError(f"{source} contains the column name {printable(twice[0], 60)} twice. Rename one.")
    cells: dict[str, list[str]] = {}
    for name in names:
        column = frame[name]
        values = column.to_pylist() if hasattr(column, "to_pylist") else column.tolist()
        nested = next((value for value in values if isinstance(value, list | dict | tuple | set | bytes)), None)
        if nested is not None:
            raise InputDataError(
                f"Column {printable(name, 60)} of {source} contains {printable(repr(nested), 40)}; expected numbers "
                "and texts. Leave the column out."
            )
        cells[str(name)] = ["" if value is None else str(value).strip() for value in values]
    return Table(cells, source)
