"""Tables in CSV files: numbers and classes by column, some of them conditions; nothing missing, nothing guessed.

The first row names the columns. A column of numbers alone is numeric, any other categorical, its classes in
alphabetical order (in that of the numbers where they are numbers). In messages the header is row 1.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers.csv_escape import NUMBER, unescape
from kvae_serve.readers.dataset import Dataset, ReadOptions, Split
from kvae_serve.sealed.manifest import RESERVED, Condition

MAX_LINE = 2**22
MAX_COLUMNS = 10_000
MAX_CELLS = 50_000_000
MAX_CLASSES = 1000
"""Of one column: more are names or texts, which no model of a column learns."""
MAX_NAME = 200

_MISSING = {"", "?", "na", "n/a", "nan", "null"}


class Table(NamedTuple):
    """A parsed file: its cells as texts, column by column."""

    cells: dict[str, list[str]]
    source: str

    def where(self, name: str, row: int) -> str:
        """Name a cell in a message, by the row that a spreadsheet shows."""
        return f"{self.source}, row {row + 2}, column {printable(name, 60)}"


def read_csv(path: Path, options: ReadOptions, source: str) -> Dataset:
    """Read a table and learn its columns."""
    return learn(parse(path, source), options)


def read_folder(folder: Path, split: Split, options: ReadOptions, source: str) -> Dataset:
    """Read train.csv, or test.csv with the columns and classes of train.csv."""
    train = learn(parse(folder / "train.csv", f"{source}/train.csv"), options)
    if split == "train":
        return train
    if not (folder / "test.csv").is_file():
        raise InputDataError(f"{source} has no test split: it holds no test.csv.")
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
        InputDataError: it is no CSV, has no header, or a row of another length; the line names file and row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse(file, source)
    except UnicodeDecodeError as error:
        raise InputDataError(f"{source} is no UTF-8 text. Save it as CSV in UTF-8.") from error
    except OSError as error:
        raise InputDataError(f"{source} cannot be read: {error.strerror or 'it is damaged'}.") from error


def learn(table: Table, options: ReadOptions) -> Dataset:
    """Tell numbers from classes, conditions from data."""
    for option in ("condition_columns", "categorical_columns", "drop_columns"):
        for name in getattr(options, option):
            if name not in table.cells:
                raise InputDataError(
                    f"{table.source} has no column {printable(name, 60)}; it has {_listed(table.cells)}."
                )
    if both := set(options.condition_columns) & set(options.drop_columns):
        raise InputDataError(f"{table.source}: column {printable(min(both), 60)} cannot be a condition and dropped.")
    conditions: dict[str, np.ndarray] = {}
    class_names: dict[str, tuple[str, ...]] = {}
    columns: list[dict[str, Any]] = []
    x: list[np.ndarray] = []
    for name, cells in table.cells.items():
        if name in options.drop_columns:
            continue
        given = name in options.condition_columns
        # A label is a class, also where classes are numbered.
        classes = _classes(table, name, name in options.categorical_columns or (given and graph_name(name) == "label"))
        values = _numbers(table, name) if classes is None else _indices(table, name, classes)
        if (values == values[0]).all():
            raise InputDataError(
                f"{table.source} holds {printable(cells[0], 40)} in every row of column {printable(name, 60)}, from "
                "which nothing is learned. Leave it out with --drop-columns."
            )
        if not given:
            x.append(values)
            columns.append({"name": name, "kind": "numeric"})
            if classes is not None:
                columns[-1] = {"name": name, "kind": "categorical", "classes": list(classes)}
            continue
        condition = graph_name(name)
        if condition in RESERVED or condition in conditions:
            raise InputDataError(
                f"{table.source}: column {printable(name, 60)} cannot be a condition under the name {condition}, "
                "which is taken. Rename it in the header."
            )
        conditions[condition] = values if classes is None else values.astype(np.int64)
        if classes is not None:
            class_names[condition] = classes
    if not x:
        raise InputDataError(f"{table.source} has no column left to model: all are conditions or dropped.")
    return Dataset(np.stack(x, axis=1), conditions, class_names, table.source, None, tuple(columns))


def apply(table: Table, columns: Sequence[dict[str, Any]], conditions: Sequence[Condition] = ()) -> Dataset:
    """Read a table by the columns, classes and conditions that a model has; its other columns are no matter.

    A condition whose column is missing is left out: the caller may know it otherwise.
    """
    x = [_known(table, column["name"], column.get("classes")) for column in columns]
    by_graph_name = {graph_name(name): name for name in table.cells}
    given: dict[str, np.ndarray] = {}
    for condition in conditions:
        if (name := by_graph_name.get(condition.name)) is not None:
            values = _known(table, name, condition.classes or None)
            given[condition.name] = values.astype(np.int64) if condition.categorical else values
    class_names = {each.name: each.classes for each in conditions if each.name in given and each.categorical}
    return Dataset(np.stack(x, axis=1), given, class_names, table.source, None, tuple(columns))


def graph_name(name: str) -> str:
    """Return a column's name as graphs and flags can hold it: lower-case letters, digits and _."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return f"_{plain}" if not plain or plain[0].isdigit() else plain


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
                raise InputDataError(f"{source}, row {blank} is empty. Take it out.")
            if number == 1:
                header = _header(row, source)
                columns = [[] for _ in header]
                continue
            if len(row) != len(header):
                raise InputDataError(f"{source}, row {number} has {len(row)} cells, the header has {len(header)}.")
            if number * len(header) > MAX_CELLS:
                raise InputDataError(f"{source} has more than the {MAX_CELLS} cells that are read. Save it as .npz.")
            for column, cell in zip(columns, row, strict=True):
                column.append(unescape(cell.strip()))
    except csv.Error as error:
        raise InputDataError(f"{source}, row {number + 1} is no CSV: {printable(error, 80)}.") from error
    if not header:
        raise InputDataError(f"{source} is empty. Its first row must name the columns.")
    if not columns[0]:
        raise InputDataError(f"{source} holds no rows below its header.")
    return Table(dict(zip(header, columns, strict=True)), source)


def _lines(file: IO[str], source: str) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise InputDataError(f"{source}, line {number} is longer than {MAX_LINE} characters, so it is no table.")
        if "\0" in line:
            raise InputDataError(f"{source}, line {number} holds a NUL byte, so it is no text. Save it as CSV again.")
        yield line


def _header(row: list[str], source: str) -> list[str]:
    names = [unescape(name.strip()) for name in row]
    if len(names) > MAX_COLUMNS:
        raise InputDataError(f"{source} has {len(names)} columns, at most {MAX_COLUMNS} are read.")
    seen: set[str] = set()
    for index, name in enumerate(names, start=1):
        if not name or len(name) > MAX_NAME or not name.isprintable() or NUMBER.fullmatch(name):
            raise InputDataError(
                f"{source}, row 1 has {printable(name or 'nothing', 40)} as the name of column {index}. "
                "The first row must name the columns."
            )
        if name in seen:
            raise InputDataError(f"{source}, row 1 names column {printable(name, 60)} twice. Rename one.")
        seen.add(name)
    return names


def _classes(table: Table, name: str, forced: bool) -> tuple[str, ...] | None:
    """Return the classes of a categorical column in order, or None for a numeric one."""
    cells = table.cells[name]
    missing = next((row for row, cell in enumerate(cells) if cell.casefold() in _MISSING), None)
    if missing is not None:
        held = printable(cells[missing], 20) or "nothing"
        raise InputDataError(
            f"{table.where(name, missing)}: a value is missing (it holds {held}). "
            "Fill it in, take the row out, or leave the column out with --drop-columns."
        )
    distinct = set(cells)
    no_numbers = {cell for cell in distinct if not NUMBER.fullmatch(cell)}
    if not no_numbers and not forced:
        return None
    num_texts = sum(cell in no_numbers for cell in cells)
    if not forced and 2 * num_texts < len(cells):
        row = next(row for row, cell in enumerate(cells) if cell in no_numbers)
        raise InputDataError(
            f"{table.where(name, row)} holds {printable(cells[row], 40)}, most others numbers. "
            "Mend it, or name the column in --categorical-columns."
        )
    if len(distinct) > MAX_CLASSES:
        raise InputDataError(
            f"{table.source} has {len(distinct)} different texts in column {printable(name, 60)}, more than the "
            f"{MAX_CLASSES} classes that a column may have. Leave it out with --drop-columns."
        )
    order: Callable[[str], Any] = str if no_numbers else lambda cell: (float(cell), cell)
    return tuple(sorted(distinct, key=order))


def _numbers(table: Table, name: str) -> np.ndarray:
    cells = table.cells[name]
    values = np.empty(len(cells), np.float64)
    for row, cell in enumerate(cells):
        if not NUMBER.fullmatch(cell):
            held = printable(cell, 40) or "nothing"
            raise InputDataError(f"{table.where(name, row)} holds {held}, expected a number.")
        values[row] = float(cell)
    with np.errstate(over="ignore"):
        small = values.astype(np.float32)
    if not np.isfinite(small).all():
        row = int(np.flatnonzero(~np.isfinite(small))[0])
        raise InputDataError(f"{table.where(name, row)} holds {printable(cells[row], 40)}, too large a number.")
    return small


def _indices(table: Table, name: str, classes: Sequence[str]) -> np.ndarray:
    index = {each: number for number, each in enumerate(classes)}
    cells = table.cells[name]
    try:
        return np.array([index[cell] for cell in cells], np.float32)
    except KeyError:
        row = next(row for row, cell in enumerate(cells) if cell not in index)
        held = printable(cells[row], 40) or "nothing"
        raise InputDataError(
            f"{table.where(name, row)} holds {held}, which is none of its classes {_listed(classes)}."
        ) from None


def _known(table: Table, name: str, classes: Sequence[str] | None) -> np.ndarray:
    if name not in table.cells:
        raise InputDataError(f"{table.source} has no column {printable(name, 60)}; it has {_listed(table.cells)}.")
    return _numbers(table, name) if classes is None else _indices(table, name, classes)


def _listed(names: Any) -> str:
    names = [printable(name, 40) for name in names]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
