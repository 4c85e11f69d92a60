"""Rows of a table with missing cells, and values given by name, for imputation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import isclose
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvae_serve import cells
from kvae_serve.errors import InputDataError, RequestError, printable
from kvae_serve.readers import column_types, csv, frames
from kvae_serve.readers.column_types import UNSEEN
from kvae_serve.readers.dataset import ReadOptions, Table
from kvae_serve.sealed import unseen
from kvae_serve.sealed.columns import missing_class
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


def read_partial(
    path: str | Path, manifest: Manifest, options: ReadOptions | None = None, fixed: Collection[str] = ()
) -> Partial:
    """Read a table of which cells or columns are missing.

    Args:
        path: A .csv or .parquet file.
        manifest: Manifest of a model of a table.
        options: `delimiter` and `missing_values` are used.
        fixed: Names of conditions whose values are known. Those of the file are not read.

    Raises:
        InputDataError: The file is damaged, or lacks all columns of the model.
    """
    path, options = Path(path), options or ReadOptions()
    if path.suffix.lower() == frames.SUFFIX:
        table = frames.read_parquet(path, printable(path), frames.model_columns(manifest))
    elif path.suffix.lower() in csv.SUFFIXES:
        table = csv.parse(path, printable(path), options)
    else:
        raise InputDataError(f"{printable(path)} is not a table; expected a .csv or .parquet file.")
    return partial_rows(table, manifest, options.missing_values, fixed)


def partial_rows(
    table: Table, manifest: Manifest, missing_values: tuple[str, ...] = (), fixed: Collection[str] = ()
) -> Partial:
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
    conditions = [each for each in manifest.conditions if each.name not in fixed]
    # Without a mean, the reader leaves missing numbers NaN.
    schemas = [{key: value for key, value in columns[at].items() if key != "mean"} for at in present]
    read = csv.apply(table, schemas, conditions, missing_values)
    x = np.full((len(read.x), len(columns)), np.nan, np.float32)
    x[:, present] = read.x
    for at, column in enumerate(columns):
        if (missing := missing_class(column)) is not None:
            x[x[:, at] == missing, at] = np.nan
    return Partial(table, x, read.conditions)


class Given(NamedTuple):
    """Values of some columns, given by name.

    Attributes:
        x: One row, float32 `shape` in data units, NaN for the values that are not given.
        columns: Columns of the table that write x as the given values, also beyond the bounds of the training data.
    """

    x: np.ndarray
    columns: tuple[dict[str, Any], ...]


def given_values(texts: Mapping[str, str], manifest: Manifest) -> Given:
    """Read values given by name.

    Args:
        texts: Value of each column, as a CSV has it. Columns of vectors are x0, x1, ...
        manifest: Manifest of the model.

    Raises:
        RequestError: A column or a class does not exist, or a value is not a number that the column can have.
    """
    data = manifest.data
    columns = data.columns or tuple({"name": f"x{at}", "kind": "numeric"} for at in range(data.num_values))
    names = [str(column["name"]) for column in columns]
    row, written = np.full(len(names), np.nan, np.float32), list(data.columns)
    for name, text in texts.items():
        if manifest.condition(name) is not None:
            raise RequestError(f"{printable(name, 60)} is a condition of the model. Give it with --condition.")
        if name not in names:
            listed = ", ".join(printable(each, 40) for each in names[:12]) + (", ..." if len(names) > 12 else "")
            raise RequestError(f"Column {printable(name, 60)} does not exist. Use one of {listed}.")
        at = names.index(name)
        column = columns[at]
        table = Table({name: [text]}, "The given row")
        try:
            schema = {key: value for key, value in column.items() if key != "mean"}  # A missing number stays NaN.
            row[at] = csv.apply(table, [schema]).x[0, 0]
        except InputDataError:
            row[at] = np.nan
        if np.isnan(row[at]) or ("classes" in column and row[at] == UNSEEN):
            raise _unexpected(name, text, _expected(column))
        if data.columns and "classes" not in column:
            number = float(column_types.exact_numbers(table, name, column, [text])[0])
            _check_number(name, text, number, row[at], column)
            written[at] = _exactly(column, number, float(row[at]))
    return Given(row.reshape(data.shape), tuple(written))


def _unexpected(name: str, text: str, expected: str) -> RequestError:
    shown = printable(text, 40) or "an empty text"
    return RequestError(f"{printable(name, 60)} is given as {shown}; expected {expected}.")


def _expected(column: Mapping[str, Any]) -> str:
    if "format" in column:
        return f"a date in the format {column['format']}"
    if "classes" not in column:
        return "a number"
    known = [repr(printable(each, 40)) if each else "an empty cell" for each in column["classes"][:12]]
    return f"one of {', '.join(known)}"


def _check_number(name: str, text: str, number: float, value: np.float32, column: Mapping[str, Any]) -> None:
    """Raise `RequestError` if a number has more decimals than its column, or is impossible under the model."""
    decimals = None if "format" in column else column.get("decimals")
    if decimals is not None and not isclose(np.round(number, decimals), number, rel_tol=1e-15):
        most = f"a number with at most {decimals} decimal{'s' if decimals > 1 else ''}"
        raise _unexpected(name, text, (most if decimals else "an integer") + ", as in the training data")
    if "atoms" in column and not unseen.closeness(np.array([value]), column).any():
        known = ", ".join(cells.texts(column, np.array(column["atoms"][:12])))
        more = ", ..." if len(column["atoms"]) > 12 else ""
        raise _unexpected(name, text, f"a number that the model can make, such as {known}{more}")


def _exactly(column: Mapping[str, Any], number: float, value: float) -> dict[str, Any]:
    """Return a column that writes a value of the graph as a number of float64, without clipping it."""
    low, high = column.get("minimum", -np.inf), column.get("maximum", np.inf)
    # The type of the column in a DataFrame may be too small for other numbers.
    dropped = ("minimum", "maximum", "step", "calendar", "exact", *(() if low <= number <= high else ("dtype",)))
    kept = {key: each for key, each in column.items() if key not in dropped}
    return kept | {"offset": number - value}
