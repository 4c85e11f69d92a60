"""Read tables from CSV files: numeric and categorical columns, some of which are conditions.

The first row contains the column names. `column_types` finds the type of each column. Row 1 is the header.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple

import numpy as np

from kvae_serve.csv_escape import NUMBER, unescape
from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers import csv_numbers
from kvae_serve.readers.column_types import ColumnError, class_indices, exact_numbers, known_values, sorted_classes
from kvae_serve.readers.column_types import infer as infer_column
from kvae_serve.readers.dataset import LISTED, Dataset, MissingSplitError, ReadOptions, Split, Table, check_file, listed
from kvae_serve.sealed.manifest import DELIMITERS, RESERVED, Condition

SUFFIXES = (".csv", ".tsv")
MAX_LINE = 2**22
MAX_COLUMNS = 10_000
MAX_CELLS = 50_000_000
MAX_NAME = 200

_DELIMITERS = (",", ";", "\t", "|")
_DELIMITER_NAMES = {"tab": "\t", "\\t": "\t", "space": " "}
# Characters that may separate columns, and that are rare in a name and at the same places of all of its cells.
_RARE_DELIMITERS = ":^/~!&*=@\\<>\xa6\xa7\xac\u3001\uff0c\uff1a\uff1b\uff5c"
# Share of the lines of a sample with as many of them as the header.
_MOST_LINES = 0.95
_SAMPLE_LINES = 50
_LABELS = ("label", "labels", "class", "target", "y")
_PIXEL = re.compile(r"(?:pixel|pix|px)[_ ]?(\d{1,6})|(\d{1,4})x(\d{1,4})", re.ASCII | re.IGNORECASE)


def read_csv(path: Path, options: ReadOptions, source: str) -> Dataset:
    """Read a table and infer its columns, or images if its columns are pixels."""
    return infer(parse(path, source, options), options)


def read_folder(folder: Path, split: Split, options: ReadOptions, source: str) -> Dataset:
    """Read train.csv, or test.csv with the columns and classes of train.csv."""
    train = infer(parse(folder / "train.csv", f"{source}/train.csv", options), options)
    if split == "train":
        return train
    if not (folder / "test.csv").is_file():
        raise MissingSplitError(
            f"{source} does not have a test split: test.csv is missing. Leave out --split, or add the file."
        )
    conditions = [
        Condition(name, "categorical", train.class_names[name])
        if name in train.class_names
        else Condition(name, "continuous", column=train.condition_columns.get(name, {}))
        for name in train.conditions
    ]
    test = parse(folder / "test.csv", f"{source}/test.csv", options)
    if train.columns:
        return apply(test, train.columns, conditions, options.missing_values)
    problems: list[_Problem] = []
    known = _known_conditions(test, conditions, problems)
    if problems:
        raise InputDataError(_described(test, problems))
    read = as_numbers(test, [each.name for each in conditions], options)
    return read._replace(conditions=known, class_names=train.class_names)


def parse(path: Path, source: str, options: ReadOptions | None = None, may_be_single: bool = False) -> Table:
    """Read all cells of a file.

    Args:
        path: The file.
        source: Name of the file in messages.
        options: `delimiter`, if it is known.
        may_be_single: Whether to accept a single column with a character that may separate columns, such as a colon.

    Raises:
        InputDataError: The file is not a CSV with a header and rows of equal length. The message has the row.
    """
    check_file(path, source)
    try:
        with path.open("rb") as raw:
            # Excel's "Unicode text" is UTF-16 with a byte order mark.
            wide = raw.read(2) in (b"\xff\xfe", b"\xfe\xff")
        with path.open(encoding="utf-16" if wide else "utf-8-sig", newline="") as file:
            return _parse(file, source, options or ReadOptions(), may_be_single)
    except UnicodeError as error:
        if wide or not (example := _latin_word(path)):
            raise InputDataError(f"{source} is not a text in UTF-8 or UTF-16. Save it as CSV in UTF-8.") from error
    except OSError as error:
        raise InputDataError(f"{source} cannot be read: {error.strerror or 'it is damaged'}.") from error
    with path.open(encoding="cp1252", newline="") as file:
        table = _parse(file, source, options or ReadOptions(), may_be_single)
    note = f"{source} is not in UTF-8, so it is read as Windows-1252 (Latin-1): {printable(example, 40)}. "
    return table._replace(notes=(f"{note}If this text is wrong, save the file in UTF-8.", *table.notes))


def _latin_word(path: Path) -> str:
    """Return the first word with an accent if a file is a text in Windows-1252, an extension of Latin-1; else nothing.

    Every byte is a character there, so files with control characters, or with valid UTF-8 as well, are excluded.
    """
    content = path.read_bytes()
    utf_8 = re.search(r"[^\x00-\x7f\udc80-\udcff]", content.decode("utf-8", "surrogateescape"))
    if utf_8 or re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", content):
        return ""
    try:
        word = re.search(r"\w*[^\x00-\x7f]\w*", content.decode("cp1252"))
    except UnicodeDecodeError:
        return ""
    return word[0] if word else ""


def infer(table: Table, options: ReadOptions) -> Dataset:
    """Infer which columns are numeric or categorical, and separate conditions from data.

    Raises:
        InputDataError: An option has an unknown column, or columns cannot be read. One message lists all of them.
    """
    for option in ("condition_columns", "categorical_columns", "drop_columns", "column_settings"):
        for name in getattr(options, option):
            if name not in table.cells:
                hint = ""
                if (option, name) == ("condition_columns", "label"):
                    hint = " Give --condition-columns with columns of it in place of --conditional."
                raise _unknown_columns(table, [name], hint)
    if both := set(options.condition_columns) & set(options.drop_columns):
        raise InputDataError(
            f"Column {printable(min(both), 60)} of {table.source} cannot be both a condition and dropped. Choose one."
        )
    ignored = {name for name, each in options.column_settings.items() if each.get("type") == "ignore"}
    ignored.update(options.drop_columns)
    table = table._replace(cells={name: each for name, each in table.cells.items() if name not in ignored})
    pixels = _pixel_columns(table)
    if not pixels and (options.image_size or options.channels):
        raise InputDataError(
            f"{table.source} is a table, so --image-size and --channels do not apply. Leave them out, or name the "
            "columns of pixels pixel0, pixel1, ..."
        )
    used = options.condition_columns
    if pixels and (label := _label_column(table)) is not None and label not in used:
        table = table._replace(cells={"label" if name == label else name: each for name, each in table.cells.items()})
        used = (*used, "label")
    if pixels and all(name in pixels or name in used for name in table.cells):
        read = _columns(table, used, options, set(pixels))
        x, value_range = _images(table, pixels, options)
        notes = (*table.notes, *read.notes)
        return Dataset(x, read.conditions, read.class_names, table.source, value_range, (), notes)
    read = _columns(table, options.condition_columns, options)
    if not read.columns:
        is_single = len(table.cells) == 1 and not options.delimiter
        hint = options.advice(" Set --delimiter if the file has more than one column.", "") if is_single else ""
        raise InputDataError(
            f"All columns of {table.source} are conditions, dropped, identifiers or constant; expected at least one "
            f"column of data.{hint}"
        )
    if table.first_number is not None:
        read.outside.insert(0, {"name": "", "type": "id", "prefix": "", "start": table.first_number, "width": 0})
        read.order.insert(0, "")
    return Dataset(
        np.stack(read.values, axis=1),
        read.conditions,
        read.class_names,
        table.source,
        None,
        tuple(read.columns),
        (*table.notes, *read.notes),
        outside=tuple(read.outside),
        order=tuple(read.order),
        delimiter=written_delimiter(table),
        header=tuple(table.header.get(name, name) for name in read.order) if table.header else (),
        condition_columns=read.condition_columns,
    )


@dataclass
class _Read:
    """Columns that were read."""

    conditions: dict[str, np.ndarray] = field(default_factory=dict)
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    condition_columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    columns: list[dict[str, Any]] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    outside: list[dict[str, Any]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _columns(
    table: Table, condition_columns: Sequence[str], options: ReadOptions, skipped: Iterable[str] = ()
) -> _Read:
    """Read all columns except the skipped ones."""
    read = _Read()
    problems: list[_Problem] = []
    decimal_comma = _decimal_comma(table)
    for name in table.cells:
        if name in skipped:
            continue
        is_condition = name in condition_columns
        chosen = {**table.settings.get(name, {}), **options.column_settings.get(name, {})}
        # A label is always a class, even if the classes are numbers.
        if name in options.categorical_columns or (is_condition and graph_name(name) == "label"):
            chosen.setdefault("type", "category")
        column = None
        with _collected(problems, name):
            column = infer_column(table, name, decimal_comma, options.missing_values, chosen, is_condition)
        if column is None:
            continue
        schema = column.schema
        if name in table.dtypes:
            schema |= {"dtype": table.dtypes[name], **table.categories.get(name, {})}
        if column.note:
            read.notes.append(column.note)
        if schema:
            read.order.append(name)
        if column.values is None:
            read.outside += [schema] if schema else []
            continue
        if not is_condition:
            read.columns.append(schema)
            read.values.append(column.values)
            continue
        condition, classes = graph_name(name), schema.get("classes")
        if condition in RESERVED or condition in read.conditions:
            raise InputDataError(
                f"Column {printable(name, 60)} of {table.source} cannot be a condition: the name {condition} "
                "is already taken. Rename it in the header."
            )
        read.conditions[condition] = column.values if classes is None else column.values.astype(np.int64)
        read.condition_columns[condition] = schema
        if classes is not None:
            read.class_names[condition] = tuple(classes)
    if problems:
        raise _unreadable(table, problems, options)
    return read


def apply(
    table: Table,
    columns: Sequence[dict[str, Any]],
    conditions: Sequence[Condition] = (),
    missing_values: Sequence[str] = (),
    ids: Sequence[str] = (),
) -> Dataset:
    """Read a table with the columns, classes and conditions of a model. Other columns are ignored.

    Columns whose names are in `ids` are kept as text if they exist. A missing number is NaN, and a class that the model
    does not have is `column_types.UNSEEN`. A condition without a column is left out, because the caller may have its
    value.

    Raises:
        InputDataError: A column is missing, or a value is not a number, or a class that a condition does not have.
    """
    decimal_comma = _decimal_comma(table)
    stacked, notes = [], list(table.notes)
    absent = [column["name"] for column in columns if column["name"] not in table.cells]
    problems: list[_Problem] = []
    for column in columns:
        if column["name"] in absent:
            continue
        with _collected(problems, column["name"]):
            values, note = known_values(table, column["name"], column, decimal_comma, missing_values)
            stacked.append(values)
            notes += [note] if note else []
    values_by_name = _known_conditions(table, conditions, problems, decimal_comma)
    if absent or problems:
        sentences = [str(_unknown_columns(table, absent))] if absent else []
        raise InputDataError(
            " ".join([*sentences, *([_described(table, problems, "Correct these cells.")] if problems else [])])
        )
    class_names = {each.name: each.classes for each in conditions if each.name in values_by_name and each.categorical}
    x = np.stack(stacked, axis=1)
    read = Dataset(x, values_by_name, class_names, table.source, None, tuple(columns), tuple(notes))
    return read._replace(ids={name: table.texts(name) for name in ids if name in table.cells})


def as_numbers(table: Table, condition_names: Sequence[str], options: ReadOptions) -> Dataset:
    """Read vectors or images: all columns are numbers, except the conditions with the given names.

    Raises:
        InputDataError: A value of another column is not a number.
    """
    pixels = _pixel_columns(table)
    columns = _condition_columns(table, condition_names)
    problems: list[_Problem] = []
    conditions: dict[str, np.ndarray] = {}
    class_names: dict[str, tuple[str, ...]] = {}
    for condition, name in columns.items():
        with _collected(problems, name):
            if condition == "label" or not all(NUMBER.fullmatch(cell) for cell in table.cells[name]):
                class_names[condition] = sorted_classes(set(table.cells[name]))
                conditions[condition] = _indices(table, name, class_names[condition]).astype(np.int64)
            else:
                conditions[condition] = _numbers(table, name)
    taken = set(columns.values())
    if pixels:
        x, value_range = _images(table, pixels, options, problems)
        return Dataset(x, conditions, class_names, table.source, value_range, (), table.notes)
    x = _stacked(table, [name for name in table.cells if name not in taken], problems, _decimal_comma(table))
    return Dataset(x, conditions, class_names, table.source, None, (), table.notes)


def graph_name(name: str) -> str:
    """Return a column name as an identifier for graphs and flags: lower-case letters, digits and _."""
    identifier = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return f"_{identifier}" if not identifier or identifier[0].isdigit() else identifier


def _condition_columns(table: Table, conditions: Iterable[str]) -> dict[str, str]:
    """Return the column of each condition that the table has. The label of images may have another name."""
    columns = {graph_name(name): name for name in table.cells}
    if (label := _label_column(table)) is not None and _pixel_columns(table):
        columns["label"] = label
    return {name: columns[name] for name in conditions if name in columns}


def _known_conditions(
    table: Table, conditions: Sequence[Condition], problems: list[_Problem], decimal_comma: bool = False
) -> dict[str, np.ndarray]:
    """Return the values of those conditions of a model that the table has, and append their problems."""
    columns = _condition_columns(table, [each.name for each in conditions])
    values = {}
    for condition in conditions:
        if (name := columns.get(condition.name)) is not None:
            with _collected(problems, name):
                if condition.categorical:
                    indices = _indices(table, name, condition.classes, condition.name)
                    values[condition.name] = indices.astype(np.int64)
                else:
                    values[condition.name] = _numbers(table, name, decimal_comma, condition.column)
    return values


def _parse(file: IO[str], source: str, options: ReadOptions, may_be_single: bool) -> Table:
    lines = _lines(file, source)
    sample = [line for _, line in zip(range(_SAMPLE_LINES), lines, strict=False)]
    complete = len(sample) < _SAMPLE_LINES
    delimiter = options.delimiter and _DELIMITER_NAMES.get(options.delimiter, options.delimiter)
    if delimiter and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise InputDataError(f"--delimiter is {printable(delimiter, 40)}; expected one character, tab or space.")
    skipped, notes = 0, []
    if sample and (declared := re.fullmatch(r'"?sep=(.)"?', sample[0].strip("\r\n"))):
        delimiter = delimiter or declared[1]
        del sample[0]  # Spreadsheets do not show this line, so it is not counted.
    while len(sample) > 1 and sample[0].startswith("#") and _is_comment(sample, delimiter, complete):
        notes.append(f"{printable(sample.pop(0).strip(), 60)} is read as a comment.")
        skipped += 1
    if not delimiter:
        delimiter = _detect(sample, complete)
        if not may_be_single:
            _check_single_column(sample, delimiter, source, options)
    kept: Iterable[str] = chain(sample, lines)
    if delimiter == " ":
        kept = (line.strip(" \r\n") + "\n" for line in kept)
    rows = csv.reader(kept, delimiter=delimiter, strict=True, skipinitialspace=delimiter == " ")
    header: list[str] = []
    columns: list[list[str]] = []
    number = skipped
    blank = 0
    problems = _RowProblems(source)
    try:
        for number, row in enumerate(rows, start=1 + skipped):
            if not row:
                blank = blank or number
                continue
            if blank:  # Empty rows at the end are ignored.
                several = f"rows {blank} to {number - 1} are empty"
                problems.add(blank, f"row {blank} is empty" if blank == number - 1 else several, "Remove empty rows.")
                blank = 0
            if number == 1 + skipped:
                header = row
                columns = [[] for _ in header]
                continue
            if len(row) != len(header):
                flag = f"Correct such rows, or set --delimiter if it is not {_delimiter_name(delimiter)}."
                advice = options.advice(flag, "Correct such rows.")
                problems.add(
                    number, f"row {number} has {len(row)} cells, expected {len(header)} as in the header", advice
                )
                continue
            if number * len(header) > MAX_CELLS:
                raise InputDataError(
                    f"{source} has more than {MAX_CELLS} cells, the most that are read. Save it as .npz."
                )
            for column, cell in zip(columns, row, strict=True):
                column.append(cell)
    except csv.Error as error:
        problems.add(number + 1, f"row {number + 1} is not valid CSV: {printable(error, 80)}", "Save it as CSV again.")
        problems.check()
    if not header:
        raise InputDataError(f"{source} is empty; expected a first row with column names.")
    trimmed = [[unescape(cell.strip()) for cell in column] for column in columns]
    names = _header(header, trimmed, source, notes, problems)
    problems.check()
    if not columns[0]:
        raise InputDataError(f"{source} does not contain any rows below its header.")
    cells = {name: column for name, column in zip(names, trimmed, strict=True) if name}
    if not cells:
        raise InputDataError(f"{source} does not contain a column with a name. The first row must contain the names.")
    first_number = int(columns[0][0]) if not names[0] and trimmed[0][0] else None
    spaced, untrimmed = _blanks(names, columns, delimiter)
    with_blanks = {name: text.replace(text.strip(), name) for name, text in zip(names, header, strict=True) if name}
    return Table(
        cells, source, skipped + 2, delimiter, tuple(notes), first_number=first_number, untrimmed=untrimmed,
        spaced=spaced,
        header={name: text for name, text in with_blanks.items() if text != name and text.isprintable()},
    )  # fmt: skip


def _blanks(
    names: Sequence[str], columns: Sequence[Sequence[str]], delimiter: str
) -> tuple[bool, dict[str, list[str]]]:
    """Return whether a blank follows each delimiter, and the cells of columns with blanks at the ends of cells."""
    later = [column for name, column in zip(names[1:], columns[1:], strict=True) if name]
    spaced = bool(later) and delimiter != " " and all(cell.startswith(" ") for column in later for cell in column)
    untrimmed = {}
    for index, (name, column) in enumerate(zip(names, columns, strict=True)):
        cells = [cell[1:] for cell in column] if spaced and index else column
        # White space of other kinds, such as line ends, cannot be part of a class.
        if name and any(cell != cell.strip() for cell in cells) and all(map(_has_only_blanks, set(cells))):
            untrimmed[name] = [unescape(cell) for cell in cells]
    return spaced, untrimmed


def _has_only_blanks(cell: str) -> bool:
    return cell.strip(" ") == cell.strip()


def written_delimiter(table: Table) -> str:
    """Return the delimiter of written rows."""
    if table.delimiter not in DELIMITERS:
        return ","
    return f"{table.delimiter} " if table.spaced else table.delimiter


def _detect(sample: Sequence[str], complete: bool) -> str:
    """Return the delimiter that splits all lines into the same number of cells, the most if there are several."""
    counts = {each: _num_cells(sample, each, complete) for each in (*_DELIMITERS, " ")}
    blank = counts.pop(" ")
    best = max(counts, key=lambda each: counts[each])
    if counts[best] > 1:
        return best
    first = re.sub(r'"[^"]*"', "", sample[0]) if sample else ""
    return next((each for each in _DELIMITERS if each in first), " " if blank > 1 else ",")


def _check_single_column(sample: Sequence[str], delimiter: str, source: str, options: ReadOptions) -> None:
    """Raise `InputDataError` if a single column has a character as often in the header as in nearly all lines."""
    text = re.sub(r'"[^"]*"', '""', "".join(sample).replace("\r", "\n"))
    header, *lines = [line for line in text.split("\n") if line.strip()] or [""]
    if not lines or delimiter in header:
        return
    for each in dict.fromkeys(header):
        num = header.count(each)
        if each in _RARE_DELIMITERS and sum(line.count(each) == num for line in lines) >= _MOST_LINES * len(lines):
            times = "once" if num == 1 else f"{num} times"
            flag = f"Set --delimiter {shlex.quote(each)} if it separates columns, and --delimiter , if there is one."
            raise InputDataError(
                f"{source} has a single column, with the character {each} {times} in nearly every line, also in the "
                f"header. {options.advice(flag, 'Separate the columns with commas.')}"
            )


def _num_cells(lines: Sequence[str], delimiter: str, complete: bool) -> int:
    """Return the number of cells per line; 0 if it differs between lines."""
    if delimiter == " ":
        lines = [line.strip(" \r\n") + "\n" for line in lines]
    rows = csv.reader(
        io.StringIO("".join(lines), newline=""), delimiter=delimiter, strict=True, skipinitialspace=delimiter == " "
    )
    counts = []
    try:
        for row in rows:
            counts.append(len(row))
    except csv.Error:
        if complete or not counts:  # The last line of a sample may end within quotes.
            return 0
    found = {count for count in counts if count}
    return found.pop() if len(found) == 1 else 0


def _is_comment(sample: Sequence[str], delimiter: str | None, complete: bool) -> bool:
    """Return whether the first line does not have the cells of the lines below it."""
    each = delimiter or _detect(sample[1:], complete)
    return _num_cells(sample[:2], each, True) == 0


def _delimiter_name(delimiter: str) -> str:
    return {"\t": "a tab", " ": "a space", ",": "a comma", ";": "a semicolon"}.get(delimiter, f"a {delimiter}")


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


class _RowProblems:
    """Problems of the rows of a file, which one error lists."""

    def __init__(self, source: str) -> None:
        self._source, self._num = source, 0
        self._problems: list[tuple[int, str]] = []
        self._advice: dict[str, None] = {}

    def add(self, row: int, problem: str, advice: str) -> None:
        self._num += 1
        self._advice[advice] = None
        self._problems = sorted([*self._problems, (row, problem)], key=lambda each: each[0])[:LISTED]

    def check(self) -> None:
        """Raise `InputDataError` if there are problems."""
        if not self._num:
            return
        several = f" has {self._num:,} problems: " if self._num > 1 else ", "
        shown = listed([problem for _, problem in self._problems], num=self._num)
        raise InputDataError(f"{self._source}{several}{shown}. {' '.join(self._advice)}")


def _header(
    row: list[str], columns: Sequence[list[str]], source: str, notes: list[str], problems: _RowProblems
) -> list[str]:
    """Return the column names. A column without a name must be empty or, as the first, number the rows."""
    names = [unescape(name.strip()) for name in row]
    if len(names) > MAX_COLUMNS:
        raise InputDataError(f"{source} has {len(names)} columns; the most is {MAX_COLUMNS}. Save it as .npz.")
    seen: set[str] = set()
    for index, name in enumerate(names):
        if not name and columns[index]:
            if not any(columns[index]):
                notes.append(f"Column {index + 1} is left out: it is empty.")
                continue
            if index == 0 and _numbers_rows(columns[index]):
                notes.append(
                    "Column 1, which does not have a name, is left out of the model: it numbers the rows. It is "
                    f"written as {columns[0][0]}, {int(columns[0][0]) + 1}, ..."
                )
                continue
        if not name or len(name) > MAX_NAME or not name.isprintable() or NUMBER.fullmatch(name):
            shown = printable(name or "nothing", 40)
            advice = "The first row must contain the column names."
            problems.add(1, f"row 1 has {shown} as the name of column {index + 1}", advice)
        elif name in seen:
            advice = "Rename columns, so that all names are different."
            problems.add(1, f"row 1 contains the column name {printable(name, 60)} twice", advice)
        seen.add(name)
    return names


def _numbers_rows(cells: Sequence[str]) -> bool:
    """Return whether cells are 0, 1, 2, ... or 1, 2, 3, ..."""
    return any(all(cell == str(row + first) for row, cell in enumerate(cells)) for first in (0, 1))


class _Problem(NamedTuple):
    """Problem of a column, and the advice."""

    name: str
    problem: str
    advice: str


@contextlib.contextmanager
def _collected(problems: list[_Problem], name: str) -> Iterator[None]:
    """Append a `ColumnError` to the problems."""
    try:
        yield
    except ColumnError as error:
        problems.append(_Problem(name, error.problem, error.advice))


def _described(table: Table, problems: Sequence[_Problem], advice: str = "") -> str:
    """Return the text of one error for all problems of a table. Several problems have a common advice as well."""
    if len(problems) == 1:
        [(_name, problem, own)] = problems
        joint = ", " if problem.startswith(("row ", "column ")) else " has "
        return f"{table.source}{joint}{problem}; {own}."
    shown = listed([f"{problem} ({own})" for _, problem, own in problems])
    return f"{table.source} has {len(problems)} columns that cannot be read: {shown}. {advice}"


def _unreadable(table: Table, problems: Sequence[_Problem], options: ReadOptions) -> InputDataError:
    """Return one error for all problems of a table, with the options that avoid them."""
    if len(problems) == 1:
        return InputDataError(f"{_described(table, problems)} Leave the column out with --drop-columns.")
    dropped = shlex.quote(",".join((*options.drop_columns, *(name for name, _, _ in problems))))
    return InputDataError(_described(table, problems, f"Leave them out with --drop-columns {printable(dropped, 400)}."))


def _decimal_comma(table: Table) -> bool:
    """Return whether a column shows that the numbers of the file have decimal commas."""
    return any(csv_numbers.shows_decimal_comma(cells) for cells in table.cells.values())


def _numbers(
    table: Table, name: str, decimal_comma: bool = False, column: Mapping[str, Any] = MappingProxyType({})
) -> np.ndarray:
    """Return the numbers of a known column as float32. `column` describes it, if it is that of a table."""
    cells = table.cells[name]
    with np.errstate(over="ignore"):
        small = exact_numbers(table, name, column, cells, decimal_comma).astype(np.float32)
    if not np.isfinite(small).all():
        row = int(np.flatnonzero(~np.isfinite(small))[0])
        problem = f"{table.where(name, row)} contains {printable(cells[row], 40)}"
        raise ColumnError(problem, "expected a number in the range of float32")
    return small


def _stacked(
    table: Table, names: Iterable[str], problems: Sequence[_Problem], decimal_comma: bool = False
) -> np.ndarray:
    """Return columns of numbers, float32 `[rows, names]`; raise `InputDataError` for their and earlier problems."""
    values, problems = [], list(problems)
    for name in names:
        with _collected(problems, name):
            values.append(_numbers(table, name, decimal_comma))
    if problems:
        raise InputDataError(_described(table, problems, "Correct these cells."))
    return np.stack(values, axis=1)


def _pixel_columns(table: Table) -> list[str]:
    """Return the columns of the pixels of a gray image in order, such as pixel0, pixel1, ... or 1x1, 1x2, ..."""
    pixels = {}
    for name in table.cells:
        if match := _PIXEL.fullmatch(name):
            pixels[tuple(int(each) for each in match.groups() if each is not None)] = name
    places = sorted(pixels)
    if len(places) < 16 or len({len(place) for place in places}) > 1:
        return []
    first = places[0]
    if len(first) == 1:
        expected: list[tuple[int, ...]] = [(first[0] + each,) for each in range(len(places))]
    else:
        rows, columns = (len({place[axis] for place in places}) for axis in (0, 1))
        expected = [(first[0] + row, first[1] + column) for row in range(rows) for column in range(columns)]
    return [pixels[place] for place in places] if places == expected else []


def _label_column(table: Table) -> str | None:
    names = [name for name in table.cells if graph_name(name) in _LABELS]
    return names[0] if len(names) == 1 else None


def _images(
    table: Table, pixels: Sequence[str], options: ReadOptions, problems: Sequence[_Problem] = ()
) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Return `[num, height, width, 1]` and its range: uint8 if all pixels are integers from 0 to 255."""
    match = _PIXEL.fullmatch(pixels[-1])
    assert match is not None
    height = width = round(len(pixels) ** 0.5)
    if match[2] is not None:
        height = len({name.lower().split("x")[0] for name in pixels})
        width = len(pixels) // height
    height, width = options.image_size or (height, width)
    if height * width != len(pixels) or options.channels == 3:
        raise InputDataError(
            f"{table.source} has {len(pixels)} columns of pixels, which are not gray images of {height}x{width}. "
            + options.advice("Set --image-size to HxW.", "Save the images as .npz.")
        )
    x = _stacked(table, pixels, problems).reshape(-1, height, width, 1)
    if (x == np.round(x)).all() and x.min() >= 0 and x.max() <= 255:
        return x.astype(np.uint8), (0.0, 255.0)
    return x, None


def _indices(table: Table, name: str, classes: Sequence[str], condition: str = "") -> np.ndarray:
    """Return the class of each cell. `condition` is the condition of a model that has these classes, for advice."""
    cells = table.texts(name)
    index = class_indices(cells, classes)
    try:
        return np.array([index[cell] for cell in cells], np.float32)
    except KeyError:
        unknown = [row for row, cell in enumerate(cells) if cell not in index]
        row = unknown[0]
        shown, advice = printable(cells[row], 40) or "nothing", f"expected one of the classes {_listed(classes)}"
        if condition:
            advice += (
                f". {len(unknown):,} of {len(cells):,} rows have an unknown class or none, which a condition cannot be."
                f" Leave these rows out, or set one {printable(condition, 40)} for all rows; with --over-labels, leave "
                "the column out"
            )
        raise ColumnError(f"{table.where(name, row)} contains {shown}", advice) from None


def _unknown_columns(table: Table, names: Sequence[str], hint: str = "") -> InputDataError:
    shown = listed([printable(name, 60) for name in names], ", ")
    named = f"a column {shown}" if len(names) == 1 else f"the {len(names)} columns {shown}"
    return InputDataError(f"{table.source} does not have {named}. Its columns are {_listed(table.cells)}.{hint}")


def _listed(names: Any) -> str:
    names = [printable(name, 40) for name in names]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
