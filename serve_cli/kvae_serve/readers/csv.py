"""Read tables from CSV files: numeric and categorical columns, some of which are conditions.

The first row contains the column names. A column of numbers is numeric, any other is categorical. Classes are in
alphabetical order, or in numerical order if all are numbers. Missing values are errors. Row 1 is the header.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from kvae_serve.csv_escape import NUMBER, unescape
from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers.dataset import Dataset, MissingSplitError, ReadOptions, Split
from kvae_serve.sealed.manifest import RESERVED, Condition

MAX_LINE = 2**22
MAX_COLUMNS = 10_000
MAX_CELLS = 50_000_000
MAX_CLASSES = 1000
"""Classes of one column. A column with more contains names or texts, which a model cannot learn."""
MAX_NAME = 200

_MISSING = {"", "?", "na", "n/a", "nan", "null"}


class Table(NamedTuple):
    """Cells of a file as texts, by column."""

    cells: dict[str, list[str]]
    source: str

    def where(self, name: str, row: int) -> str:
        """Return the position of a cell for a message, with the row number that a spreadsheet shows."""
        return f"{self.source}, row {row + 2}, column {printable(name, 60)}"


def read_csv(path: Path, options: ReadOptions, source: str) -> Dataset:
    """Read a table and infer its columns."""
    return infer(parse(path, source), options)


def read_folder(folder: Path, split: Split, options: ReadOptions, source: str) -> Dataset:
    """Read train.csv, or test.csv with the columns and classes of train.csv."""
    train = infer(parse(folder / "train.csv", f"{source}/train.csv"), options)
    if split == "train":
        return train
    if not (folder / "test.csv").is_file():
        raise MissingSplitError(
            f"{source} does not have a test split: test.csv is missing. Leave out --split, or add the file."
        )
    conditions = [
        Condition(name, "categorical", train.class_names[name])
        if name in train.class_names
        else Condition(name, "continuous")
        for name in train.conditions
    ]
    return apply(parse(folder / "test.csv", f"{source}/test.csv"), train.columns, conditions)


def parse(path: Path, source: str) -> Table:
    """Read all cells of a file.

    Raises:
        InputDataError: The file is not a CSV with a header and rows of equal length. The message has the row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse(file, source)
    except UnicodeDecodeError as error:
        raise InputDataError(f"{source} is not a text in UTF-8. Save it as CSV in UTF-8.") from error
    except OSError as error:
        raise InputDataError(f"{source} cannot be read: {error.strerror or 'it is damaged'}.") from error


def infer(table: Table, options: ReadOptions) -> Dataset:
    """Infer which columns are numeric or categorical, and separate conditions from data.

    Raises:
        InputDataError: An option has an unknown column, a value is missing, or a column is constant.
    """
    for option in ("condition_columns", "categorical_columns", "drop_columns"):
        for name in getattr(options, option):
            if name not in table.cells:
                raise _unknown_column(table, name)
    if both := set(options.condition_columns) & set(options.drop_columns):
        raise InputDataError(
            f"Column {printable(min(both), 60)} of {table.source} cannot be both a condition and dropped. Choose one."
        )
    conditions: dict[str, np.ndarray] = {}
    class_names: dict[str, tuple[str, ...]] = {}
    columns: list[dict[str, Any]] = []
    x: list[np.ndarray] = []
    for name, cells in table.cells.items():
        if name in options.drop_columns:
            continue
        is_condition = name in options.condition_columns
        # A label is always a class, even if the classes are numbers.
        is_label = is_condition and graph_name(name) == "label"
        classes = _classes(table, name, name in options.categorical_columns or is_label)
        values = _numbers(table, name) if classes is None else _indices(table, name, classes)
        if (values == values[0]).all():
            raise InputDataError(
                f"{table.source} has {printable(cells[0], 40)} in every row of column {printable(name, 60)}; expected "
                "different values. Leave it out with --drop-columns."
            )
        if not is_condition:
            x.append(values)
            columns.append({"name": name, "kind": "numeric"})
            if classes is not None:
                columns[-1] = {"name": name, "kind": "categorical", "classes": list(classes)}
            continue
        condition = graph_name(name)
        if condition in RESERVED or condition in conditions:
            raise InputDataError(
                f"Column {printable(name, 60)} of {table.source} cannot be a condition: the name {condition} "
                "is already taken. Rename it in the header."
            )
        conditions[condition] = values if classes is None else values.astype(np.int64)
        if classes is not None:
            class_names[condition] = classes
    if not x:
        raise InputDataError(
            f"All columns of {table.source} are conditions or dropped; expected at least one column of data."
        )
    return Dataset(np.stack(x, axis=1), conditions, class_names, table.source, None, tuple(columns))


def apply(table: Table, columns: Sequence[dict[str, Any]], conditions: Sequence[Condition] = ()) -> Dataset:
    """Read a table with the columns, classes and conditions of a model. Other columns are ignored.

    A condition without a column is left out, because the caller may have its value.

    Raises:
        InputDataError: A column is missing, or a value is not a number or a class of its column.
    """
    x = [_known(table, column["name"], column.get("classes")) for column in columns]
    by_graph_name = {graph_name(name): name for name in table.cells}
    values_by_name: dict[str, np.ndarray] = {}
    for condition in conditions:
        if (name := by_graph_name.get(condition.name)) is not None:
            values = _known(table, name, condition.classes or None)
            values_by_name[condition.name] = values.astype(np.int64) if condition.categorical else values
    class_names = {each.name: each.classes for each in conditions if each.name in values_by_name and each.categorical}
    return Dataset(np.stack(x, axis=1), values_by_name, class_names, table.source, None, tuple(columns))


def graph_name(name: str) -> str:
    """Return a column name as an identifier for graphs and flags: lower-case letters, digits and _."""
    identifier = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return f"_{identifier}" if not identifier or identifier[0].isdigit() else identifier


def _parse(file: IO[str], source: str) -> Table:
    lines = _lines(file, source)
    first = next(lines, "")
    delimiter = "," if "," in first else next((each for each in ";\t" if each in first), ",")
    rows = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    header: list[str] = []
    columns: list[list[str]] = []
    number = 0
    blank = 0
    try:
        for number, row in enumerate(rows, start=1):
            if not row:
                blank = blank or number
                continue
            if blank:
                raise InputDataError(f"{source}, row {blank} is empty. Remove it.")
            if number == 1:
                header = _header(row, source)
                columns = [[] for _ in header]
                continue
            if len(row) != len(header):
                raise InputDataError(
                    f"{source}, row {number} has {len(row)} cells; expected {len(header)}, as in the header."
                )
            if number * len(header) > MAX_CELLS:
                raise InputDataError(
                    f"{source} has more than {MAX_CELLS} cells, the most that are read. Save it as .npz."
                )
            for column, cell in zip(columns, row, strict=True):
                column.append(unescape(cell.strip()))
    except csv.Error as error:
        raise InputDataError(f"{source}, row {number + 1} is not valid CSV: {printable(error, 80)}.") from error
    if not header:
        raise InputDataError(f"{source} is empty; expected a first row with column names.")
    if not columns[0]:
        raise InputDataError(f"{source} does not contain any rows below its header.")
    return Table(dict(zip(header, columns, strict=True)), source)


def _lines(file: IO[str], source: str) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise InputDataError(
                f"{source}, line {number} is longer than {MAX_LINE} characters; expected a table. Save it as CSV again."
            )
        if "\0" in line:
            raise InputDataError(f"{source}, line {number} contains a NUL byte; expected text. Save it as CSV again.")
        yield line


def _header(row: list[str], source: str) -> list[str]:
    names = [unescape(name.strip()) for name in row]
    if len(names) > MAX_COLUMNS:
        raise InputDataError(f"{source} has {len(names)} columns; the most is {MAX_COLUMNS}. Save it as .npz.")
    seen: set[str] = set()
    for index, name in enumerate(names, start=1):
        if not name or len(name) > MAX_NAME or not name.isprintable() or NUMBER.fullmatch(name):
            raise InputDataError(
                f"{source}, row 1 has {printable(name or 'nothing', 40)} as the name of column {index}. "
                "The first row must contain the column names."
            )
        if name in seen:
            raise InputDataError(f"{source}, row 1 contains the column name {printable(name, 60)} twice. Rename one.")
        seen.add(name)
    return names


def _classes(table: Table, name: str, forced: bool) -> tuple[str, ...] | None:
    """Return the classes of a categorical column in order, or None for a numeric one."""
    cells = table.cells[name]
    missing = next((row for row, cell in enumerate(cells) if cell.casefold() in _MISSING), None)
    if missing is not None:
        cell = printable(cells[missing], 20) or "nothing"
        raise InputDataError(
            f"{table.where(name, missing)}: a value is missing (the cell contains {cell}). "
            "Fill it in, remove the row, or leave out the column with --drop-columns."
        )
    distinct = set(cells)
    texts = {cell for cell in distinct if not NUMBER.fullmatch(cell)}
    if not texts and not forced:
        return None
    num_texts = sum(cell in texts for cell in cells)
    if not forced and 2 * num_texts < len(cells):
        row = next(row for row, cell in enumerate(cells) if cell in texts)
        raise InputDataError(
            f"{table.where(name, row)} contains {printable(cells[row], 40)}, but most others are numbers. "
            "Correct it, or add the column to --categorical-columns."
        )
    if len(distinct) > MAX_CLASSES:
        raise InputDataError(
            f"{table.source} has {len(distinct)} different texts in column {printable(name, 60)}; a column may have "
            f"{MAX_CLASSES} classes. Leave it out with --drop-columns."
        )
    order: Callable[[str], Any] = str if texts else lambda cell: (float(cell), cell)
    return tuple(sorted(distinct, key=order))


def _numbers(table: Table, name: str) -> np.ndarray:
    cells = table.cells[name]
    values = np.empty(len(cells), np.float64)
    for row, cell in enumerate(cells):
        if not NUMBER.fullmatch(cell):
            raise InputDataError(
                f"{table.where(name, row)} contains {printable(cell, 40) or 'nothing'}; expected a number."
            )
        values[row] = float(cell)
    with np.errstate(over="ignore"):
        small = values.astype(np.float32)
    if not np.isfinite(small).all():
        row = int(np.flatnonzero(~np.isfinite(small))[0])
        raise InputDataError(
            f"{table.where(name, row)} contains {printable(cells[row], 40)}; expected a number in the range of float32."
        )
    return small


def _indices(table: Table, name: str, classes: Sequence[str]) -> np.ndarray:
    index = {each: number for number, each in enumerate(classes)}
    cells = table.cells[name]
    try:
        return np.array([index[cell] for cell in cells], np.float32)
    except KeyError:
        row = next(row for row, cell in enumerate(cells) if cell not in index)
        raise InputDataError(
            f"{table.where(name, row)} contains {printable(cells[row], 40) or 'nothing'}; expected one of the classes "
            f"{_listed(classes)}."
        ) from None


def _known(table: Table, name: str, classes: Sequence[str] | None) -> np.ndarray:
    if name not in table.cells:
        raise _unknown_column(table, name)
    return _numbers(table, name) if classes is None else _indices(table, name, classes)


def _unknown_column(table: Table, name: str) -> InputDataError:
    return InputDataError(
        f"{table.source} does not have a column {printable(name, 60)}. Its columns are {_listed(table.cells)}."
    )


def _listed(names: Any) -> str:
    names = [printable(name, 40) for name in names]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
