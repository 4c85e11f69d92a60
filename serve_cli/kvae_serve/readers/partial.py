"""Rows of a table with missing cells, and values given by name, for imputation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError, RequestError, printable
from kvae_serve.readers import csv, frames
from kvae_serve.readers.column_types import UNSEEN
from kvae_serve.readers.dataset import ReadOptions, Table
from kvae_serve.sealed.manifest import Manifest


class Partial(NamedTuple):
    """Rows with missing cells.

    Attributes:
        table: Cells as texts, in the order of the file.
        x: float32 `[rows, columns]` in data units. Missing values are NaN.
        conditions: Conditions of the model that the file has, by name.
    """

    table: Table
    x: np.ndarray
    conditions: dict[str, np.ndarray]

    @property
    def observed(self) -> np.ndarray:
        """Mask of the values that are not missing, bool `[rows, columns]`."""
        return ~np.isnan(self.x)


def read_partial(path: str | Path, manifest: Manifest, options: ReadOptions | None = None) -> Partial:
    """Read a table of which cells or columns are missing.

    Args:
        path: A .csv or .parquet file.
        manifest: Manifest of a model of a table.
        options: `delimiter` and `missing_values` are used.

    Raises:
        InputDataError: The file is damaged, or lacks all columns of the model.
    """
    path, options = Path(path), options or ReadOptions()
    if path.suffix.lower() == frames.SUFFIX:
        table = frames.read_parquet(path, printable(path))
    elif path.suffix.lower() in csv.SUFFIXES:
        table = csv.parse(path, printable(path), options)
    else:
        raise InputDataError(f"{printable(path)} is not a table; expected a .csv or .parquet file.")
    return partial_rows(table, manifest, options.missing_values)


def partial_rows(table: Table, manifest: Manifest, missing_values: tuple[str, ...] = ()) -> Partial:
    """Return the values of cells; those that are missing, or whose column is, are NaN.

    Raises:
        InputDataError: The table lacks all columns of the model, or a cell is not a value of its column.
    """
    columns = manifest.data.columns
    present = [at for at, column in enumerate(columns) if column["name"] in table.cells]
    if not present:
        raise InputDataError(
            f"{table.source} lacks the columns of {printable(manifest.name, 60)}, such as "
            f"{printable(columns[0]['name'], 60)}. Use other data, or another model."
        )
    # Without a mean, the reader leaves missing numbers NaN.
    schemas = [{key: value for key, value in columns[at].items() if key != "mean"} for at in present]
    read = csv.apply(table, schemas, manifest.conditions, missing_values)
    x = np.full((len(read.x), len(columns)), np.nan, np.float32)
    x[:, present] = read.x
    for at, column in enumerate(columns):
        if (missing := missing_class(column)) is not None:
            x[x[:, at] == missing, at] = np.nan
    return Partial(table, x, read.conditions)


def missing_class(column: Mapping[str, Any]) -> int | None:
    """Return the index of the class that stands for missing cells; None without one."""
    classes = list(column.get("classes", ()))
    return classes.index(column["missing"]) if column.get("missing") in classes else None


def given_values(texts: Mapping[str, str], manifest: Manifest) -> np.ndarray:
    """Return values given by name as a row, float32 `shape` in data units, NaN for all others.

    Args:
        texts: Value of each column, as a CSV has it. Columns of vectors are x0, x1, ...
        manifest: Manifest of the model.

    Raises:
        RequestError: A column or a class does not exist, or a value is not a number.
    """
    data = manifest.data
    columns = data.columns or tuple({"name": f"x{at}", "kind": "numeric"} for at in range(data.num_values))
    names = [str(column["name"]) for column in columns]
    row = np.full(len(names), np.nan, np.float32)
    for name, text in texts.items():
        if manifest.condition(name) is not None:
            raise RequestError(f"{printable(name, 60)} is a condition of the model. Give it with --condition.")
        if name not in names:
            listed = ", ".join(printable(each, 40) for each in names[:12]) + (", ..." if len(names) > 12 else "")
            raise RequestError(f"Column {printable(name, 60)} does not exist. Use one of {listed}.")
        column = columns[names.index(name)]
        try:
            schema = {key: value for key, value in column.items() if key != "mean"}  # A missing number stays NaN.
            value = csv.apply(Table({name: [text]}, "The given row"), [schema]).x[0, 0]
        except InputDataError:
            value = np.float32(np.nan)
        if np.isnan(value) or ("classes" in column and value == UNSEEN):
            classes = column.get("classes")
            expected = "a number"
            if classes is not None:
                known = [repr(printable(each, 40)) if each else "an empty cell" for each in classes[:12]]
                expected = f"one of {', '.join(known)}"
            if "format" in column:
                expected = f"a date in the format {column['format']}"
            shown = printable(text, 40) or "an empty text"
            raise RequestError(f"{printable(name, 60)} is given as {shown}; expected {expected}.")
        row[names.index(name)] = value
    return row.reshape(data.shape)
