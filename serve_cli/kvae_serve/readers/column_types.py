"""Types of table columns: infer them from cells, and read cells of a known column as the values of a graph.

| type | cells | in the graph |
|---|---|---|
| `integer`, `number` | numbers; `decimals` digits after the point | numeric; categorical if there are only two values |
| `datetime` | dates or times of one format | numeric: seconds since 1970 minus `offset` |
| `category`, `boolean` | texts; true and false | categorical |
| `constant` | one value | outside of the graph, written back |
| `id` | a different text or integer in nearly every row | outside of the graph, written as a sequence |

A missing number or date is NaN. Missing cells of a category are one more class. Missing identifiers keep their share.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kvae_serve import cells as written
from kvae_serve import dates
from kvae_serve.csv_escape import NUMBER
from kvae_serve.errors import printable
from kvae_serve.readers import csv_numbers
from kvae_serve.readers.dataset import Table
from kvae_serve.sealed.columns import MAX_KNOTS
from kvae_serve.sealed.manifest import COLUMN_TYPES, MAX_AFFIX, MAX_COLUMN_TEXT, MAX_DIGITS

MAX_CLASSES = 1000
"""Classes of one column. A column with more contains names or texts, which a model cannot learn."""
TYPES = (*COLUMN_TYPES, "constant", "id", "ignore")
"""Types that a user may choose for a column; `ignore` leaves it out of the written rows as well."""
MISSING = frozenset({"", "?", "na", "n/a", "#n/a", "nan", "nat", "null", "<na>"})
"""Cells without a value, in lower case."""
UNSEEN = -1.0
"""Value of a class that the model does not have."""

# Missing among numbers and dates, classes among texts.
_MAYBE_MISSING = frozenset({"none", "-", "--", ".", "missing", "unknown"})
_ID_NAME = re.compile(
    r"(.*[_ .-])?(id|ids|uuid|guid|index|idx|rownames|row|rownum|no|nr|num|number|key|record|serial|account|barcode)"
    r"|Unnamed: \d+|#|n°",
    re.IGNORECASE,
)
_ID_CAMEL = re.compile(r".*[a-z](Id|ID)")
_TIME_NAME = re.compile(r"year|month|week|day|date|time|hour|minute|second|step|age", re.IGNORECASE)
# Share of the integers from the first to the last identifier that occur.
_MIN_DENSITY = 0.2
MAX_DECIMALS = 9
_MIN_IDS = 20
# Digits of a number of which the column is not known to have fewer.
_FLOAT_DIGITS = 9
_DAY = 86_400
_MAX_SAFE = 2**53


class ColumnError(Exception):
    """A column cannot be read: the problem, and the advice."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(problem)
        self.problem, self.advice = problem, advice


class Column(NamedTuple):
    """A column that was read.

    Attributes:
        schema: Its entry in `data.columns` or `data.outside` of a manifest.
        values: float32 `[rows]`: numbers minus the offset, or class indices. None outside of the graph.
        note: Sentence about how it was read, or nothing.
    """

    schema: dict[str, Any]
    values: np.ndarray | None
    note: str = ""


def infer(
    table: Table,
    name: str,
    decimal_comma: bool,
    missing_values: Iterable[str] = (),
    chosen: Mapping[str, Any] | None = None,
    is_condition: bool = False,
) -> Column:
    """Read a column and find its type.

    Args:
        table: The cells.
        name: The column.
        decimal_comma: Whether a column of the table shows decimal commas.
        missing_values: Further texts that stand for a missing value.
        chosen: Settings of the user for this column: `type`, `format`, `decimals` and `missing`. `is_text` states that
            its cells are not numbers.
        is_condition: Whether the column must be modelled, so that it cannot be an identifier or a constant.

    Raises:
        ColumnError: The column cannot be read.
    """
    options = (decimal_comma, missing_values, chosen or {}, is_condition)
    column = _Inference(table, name, table.cells[name], *options).column()
    if name not in table.untrimmed:
        return column
    texts, kind = table.untrimmed[name], column.schema.get("type")
    is_text = not all(cell.casefold() in MISSING or NUMBER.fullmatch(cell) for cell in set(table.cells[name]))
    if kind in ("category", "boolean", "constant") and (is_text or len(set(texts)) == 1):
        # Blanks at the ends of texts are part of them. Numbers and dates are read without them.
        return _Inference(table, name, texts, *options).column()
    if kind == "datetime":
        note = f"Column {printable(name, 60)} is written without blanks at the ends of dates."
        return column._replace(note=f"{column.note} {note}".strip())
    return column


class _Inference:
    """Steps of `infer`."""

    def __init__(
        self,
        table: Table,
        name: str,
        cells: list[str],
        decimal_comma: bool,
        missing_values: Iterable[str],
        chosen: Mapping[str, Any],
        is_condition: bool,
    ) -> None:
        self.table, self.name, self.decimal_comma, self.is_condition = table, name, decimal_comma, is_condition
        self.cells, self.chosen, self.type = cells, chosen, chosen.get("type")
        self.has_blanks = name in table.untrimmed
        self.shown = printable(name, 60)
        self.counts = Counter(self.cells)
        own = chosen.get("missing", ())
        self.exact = {*missing_values, *([own] if isinstance(own, str) else own)}
        #: Whether the usual texts stand for missing values. An empty list of the user turns them off.
        self.usual = own != []
        self.missing = {cell for cell in self.counts if self._is_missing(cell)}

    def _is_missing(self, cell: str) -> bool:
        if self.has_blanks and cell not in self.exact:
            cell = cell.strip()
        return cell in self.exact or (self.usual and cell.casefold() in MISSING)

    @property
    def present(self) -> list[str]:
        """The different cells that are not missing, in the order of the file."""
        return [cell for cell in self.counts if cell not in self.missing]

    def column(self) -> Column:
        """Return the column."""
        if self.is_condition and self.type in ("constant", "id", "datetime"):
            raise ColumnError(f"the condition {self.shown} of type {self.type}", "a condition is a number or a class")
        if self.type == "id":
            return self._id("")
        is_free = self.type in (None, "constant") and not self.is_condition
        if is_free and (len(self.counts) == 1 or not self.present):
            return self._constant()
        if self.type == "constant":
            raise ColumnError(f"{len(self.counts)} different values in column {self.shown}", "a constant has one")
        if not self.present or (self.is_condition and len(self.counts) == 1):
            only = printable(self.cells[0], 40) or "nothing"
            raise ColumnError(f"{only} in every row of column {self.shown}", "expected different values")
        if self.type in ("category", "boolean"):
            return self._categorical(self.type)
        return self._numeric() or self._datetime() or self._texts()

    def _constant(self) -> Column:
        value = self.cells[0]
        shown = printable(value, 40) or "nothing"
        note = f"Column {self.shown} is left out of the model: it is {shown} in every row"
        if len(value) > MAX_COLUMN_TEXT or not value.isprintable():
            return Column({}, None, f"{note}, which is too long to be written back.")
        return Column({"name": self.name, "type": "constant", "value": value}, None, f"{note}.")

    def _id(self, reason: str) -> Column:
        """Return an identifier, which is written as a sequence."""
        present = self.present
        prefix, start, width, suffix = f"{self.name}-", 1, 0, ""
        # pandas writes integers as 1.0 if some are missing.
        matches = [re.fullmatch(r"(.*?)(\d{1,15})(\.0)?", cell, re.ASCII) for cell in present]
        affixes = {(match[1], match[3] or "") if match else None for match in matches}
        if len(affixes) == 1 and (affix := affixes.pop()) is not None:
            digits = [match[2] for match in matches if match]
            (prefix, suffix), start = affix, min(map(int, digits))
            zeros = any(each.startswith("0") and len(each) > 1 for each in digits)
            width = max(map(len, digits)) if zeros else 0
        if len(prefix) > MAX_COLUMN_TEXT or not prefix.isprintable():
            prefix = ""
        schema: dict[str, Any] = {"name": self.name, "type": "id", "prefix": prefix, "start": start, "width": width}
        schema |= {"suffix": suffix} if suffix else {}
        if num := sum(self.counts[cell] for cell in self.missing):
            schema |= {"missing": self._missing_text(), "missing_share": num / len(self.cells)}
        note = (
            f"Column {self.shown} is left out of the model: {reason or 'it is an identifier'}. It is written as "
            f"{written.sequence(schema)}"
        )
        return Column(schema, None, note)

    def _numeric(self) -> Column | None:
        """Return numbers; None if the cells are not numbers."""
        if self.type not in (None, "integer", "number") or (self.type is None and self.chosen.get("is_text")):
            return None
        texts = [cell for cell in self.present if not NUMBER.fullmatch(cell)]
        maybe = {cell for cell in texts if self.usual and cell.casefold() in _MAYBE_MISSING}
        plain = self._plain(set(texts) - maybe, maybe)
        if plain is None:
            num_texts = sum(self.counts[cell] for cell in texts)
            if self.type is None and 2 * num_texts >= len(self.cells) - sum(self.counts[cell] for cell in self.missing):
                return None
            row = next(row for row, cell in enumerate(self.cells) if cell in texts)
            expected = "expected numbers" if self.type else "but most others are numbers"
            raise ColumnError(
                f"{self.table.where(self.name, row)} contains {printable(self.cells[row], 40)}, {expected}",
                f"correct it, add it with --missing-values, or {self._as_classes()}",
            )
        self.missing |= maybe
        numbers, note = plain
        numbers = {cell: _without_noise(text) for cell, text in numbers.items()}
        note = note or _leading_zeros(self.present, self.shown)
        values = {cell: float(text) for cell, text in numbers.items()}
        is_integer = all(re.fullmatch(r"[+-]?\d+", text) for text in numbers.values())
        if self.type == "integer":
            wrong = next((cell for cell, value in values.items() if not value.is_integer()), None)
            if wrong is not None:
                raise ColumnError(
                    f"{self.table.where(self.name, self.cells.index(wrong))} contains {printable(wrong, 40)}",
                    "expected integers",
                )
        kind = self.type or ("integer" if is_integer else "number")
        distinct = set(values.values())
        if len(distinct) == 1 and not self.missing:
            if not self.is_condition:
                return self._constant()
            raise ColumnError(
                f"{printable(self.cells[0], 40)} in every row of column {self.shown}", "expected different values"
            )
        whole = is_integer or (self.missing and all(value.is_integer() for value in distinct))
        if self.type is None and not self.is_condition and whole and self._is_id(values):
            return self._id(f"it has {len(distinct):,} different integers, one per row")
        few = len(distinct) + bool(self.missing) <= 2 and len(self.cells) >= 10 * len(distinct)
        if not self.is_condition and (few or len(distinct) == 1):
            return self._categorical(kind)
        if self.is_condition and self.missing:
            row = next(row for row, cell in enumerate(self.cells) if cell in self.missing)
            raise ColumnError(
                f"{self.table.where(self.name, row)}: a number of the condition is missing",
                f"fill it in, or {self._as_classes()}",
            )
        exponents = [_decimals(text) for text in numbers.values()]
        decimals = self.chosen.get("decimals", 0 if kind == "integer" else max(exponents))
        schema = {"name": self.name, "kind": "numeric", "type": kind}
        if scientific := not note and "decimals" not in self.chosen and _scientific(numbers):
            schema |= scientific
        elif decimals <= MAX_DECIMALS:
            schema["decimals"] = decimals
        elif (digits := max(map(_significant, numbers.values()))) < _FLOAT_DIGITS:
            schema["digits"] = digits
        if kind == "number" and not scientific and all(value.is_integer() for value in distinct):
            schema["step"] = 1
        if note:
            schema |= self._form(schema, numbers, np.array(list(values.values())))
        widths = {len(cell) for cell in numbers}
        if kind == "integer" and len(widths) == 1 and any(re.fullmatch(r"0\d+", cell) for cell in numbers):
            schema["width"] = widths.pop()
        column = self._scaled(schema, values, 0.5 * 10.0 ** -min(decimals, MAX_DECIMALS))
        return column._replace(note=note and f"Column {self.shown}: {note}.")

    def _plain(self, texts: set[str], maybe: set[str]) -> tuple[dict[str, str], str] | None:
        """Return the plain number of each cell, and a note about their form; None if some are not numbers."""
        cells = [cell for cell in self.present if cell not in maybe]
        if not cells:
            return None
        try:
            if not texts:
                if self.decimal_comma:
                    csv_numbers.check_points(cells)
                return dict(zip(cells, cells, strict=True)), ""
            found = csv_numbers.recognise(cells, self.table.delimiter, self.decimal_comma)
        except csv_numbers.AmbiguousError as error:
            first = str(error).split(" ", 1)[0]
            row = next(row for row, cell in enumerate(self.cells) if first in cell)
            raise ColumnError(
                f"{self.table.where(self.name, row)}: {error}",
                "write the numbers with a decimal point and without separators",
            ) from None
        return None if found is None else (dict(zip(cells, found.cells, strict=True)), found.note)

    def _form(self, schema: dict[str, Any], numbers: Mapping[str, str], values: np.ndarray) -> dict[str, str]:
        """Return the marks and the affixes with which numbers are written, if they are read as the same numbers.

        The sign is written between the prefix and the digits, as in $-5. Affixes, then marks, are left out if the
        written texts do not have the values of the column.
        """
        decimal, thousands = csv_numbers.separators(numbers)
        marks = ({"decimal": decimal} if decimal != "." else {}) | ({"thousands": thousands} if thousands else {})
        plain = np.array(written.texts(schema, values), np.float64)
        before, after = csv_numbers.affixes(numbers)
        affixes = {"prefix": before, "suffix": after} if len(before + after) <= MAX_AFFIX else {}
        for form in ({key: text for key, text in affixes.items() if text} | marks, marks):
            texts = written.texts(schema | form, values)
            if all(NUMBER.fullmatch(text) for text in texts):
                return form
            try:
                read = csv_numbers.recognise(texts, self.table.delimiter, self.decimal_comma)
            except csv_numbers.AmbiguousError:
                continue
            if read is not None and np.array_equal(np.array(read.cells, np.float64), plain):
                return form
        return {}

    def _is_id(self, values: Mapping[str, float]) -> bool:
        """Return whether integers identify the rows: all differ, and they count the rows or have such a name."""
        numbers = np.array([values[cell] for cell in self.cells if cell in values])
        if len(set(values.values())) < len(numbers):
            return False
        steps = np.diff(numbers)
        counts = bool((steps == 1).all())
        if re.fullmatch(r"Unnamed: \d+", self.name) and counts:
            return True
        named = _ID_NAME.fullmatch(self.name) or _ID_CAMEL.fullmatch(self.name)
        # Row numbers of which some are left out, such as 1, 2, 5, 9. Equal steps are a grid of measurements.
        has_gaps = (
            self.name == next(iter(self.table.cells))
            and not _TIME_NAME.search(self.name)
            and bool((steps > 0).all() and numbers[0] >= 0 and len(set(steps.tolist())) > 1)
            and len(numbers) >= _MIN_DENSITY * (numbers[-1] - numbers[0] + 1)
        )
        is_id = counts or has_gaps or bool(named)
        return len(numbers) >= _MIN_IDS and is_id and bool(np.abs(numbers).max() < _MAX_SAFE)

    def _datetime(self) -> Column | None:
        """Return dates; None if the cells are not dates."""
        if self.type not in (None, "datetime"):
            return None
        present = [cell for cell in self.present if not self.usual or cell.casefold() not in _MAYBE_MISSING]
        if (form := self.chosen.get("format")) is not None:
            seconds = dates.parse(present, form)
            if np.isnan(seconds).any():
                wrong = present[int(np.flatnonzero(np.isnan(seconds))[0])]
                raise ColumnError(
                    f"{self.table.where(self.name, self.cells.index(wrong))} contains {printable(wrong, 40)}",
                    f"expected the format {form}",
                )
            forms = [dates.with_digits(present, form)]
        else:
            forms = dates.formats(present)
        if not forms:
            if self.type is None:
                return None
            raise ColumnError(
                f"texts such as {printable(self.present[0], 40)} in column {self.shown}",
                "expected dates of one format; set format, such as %Y-%m-%d",
            )
        if self.is_condition:
            raise ColumnError(
                f"dates in the condition {self.shown}", f"a condition is a number or a class; {self._as_classes()}"
            )
        self.missing |= set(self.present) - set(present)
        if len(present) == 1:
            return self._categorical("category")
        self._check_order(present, forms)
        values = dict(zip(present, dates.parse(present, forms[0]).tolist(), strict=True))
        schema: dict[str, Any] = {"name": self.name, "kind": "numeric", "type": "datetime", "format": forms[0]}
        micros = [round(value * 1e6) for value in values.values()]
        for step in (_DAY, *(3600 * each for each in (12, 6, 1, 0.5, 0.25)), 600, 300, 60, 1, 0.001):
            if step > dates.step(forms[0]) and all(each % round(step * 1e6) == 0 for each in micros):
                schema["step"] = step
                break
        if days := dates.calendar(np.array(list(values.values()))):
            schema["calendar"] = days
        return self._scaled(schema, values, 0.0)

    def _check_order(self, present: Sequence[str], forms: Sequence[str]) -> None:
        """Raise `ColumnError` if the formats of dates have day, month and year in different orders."""
        orders = [re.findall(r"%-?([mdYy])", form) for form in forms]
        other = next((form for form, order in zip(forms, orders, strict=True) if order != orders[0]), None)
        if other is None:
            return
        readings = [dates.write(dates.parse(present, form), "%Y-%m-%d") for form in (forms[0], other)]
        differ = (place for place, (first, second) in enumerate(zip(*readings, strict=True)) if first != second)
        place = next(differ, 0)
        cell, key = present[place], self.name
        if not re.fullmatch(r"[A-Za-z0-9_-]+", key):
            key = json.dumps(key, ensure_ascii=False)
        raise ColumnError(
            f"{self.table.where(self.name, self.cells.index(cell))} has two readings: {printable(cell, 40)} is "
            f"{readings[0][place]} in the format {forms[0]}, and {readings[1][place]} in {other}",
            f'give --columns columns.toml, a file with the line {printable(key, 250)}.format = "{other}" or the other '
            "format, or write dates such as 2024-12-31",
        )

    def _texts(self) -> Column:
        """Return classes, or an identifier if there are too many."""
        num, filled = len(self.present), len(self.cells) - sum(self.counts[cell] for cell in self.missing)
        if num > MAX_CLASSES or num > max(_MIN_IDS, filled / 2):
            example = printable(self.present[0], 40)
            if self.is_condition:
                raise ColumnError(
                    f"{num} different texts in column {self.shown}, such as {example}",
                    f"a column may have {MAX_CLASSES} classes",
                )
            advice = "" if num > MAX_CLASSES else f"; {self._as_classes()}"
            if units := self._units():
                return self._id(f"it has {units}{advice}")
            return self._id(f"it has {num:,} different texts, such as {example}, like names or ids{advice}")
        is_boolean = {cell.casefold() for cell in self.present} == {"true", "false"} and num == 2
        column = self._categorical("boolean" if is_boolean else "category")
        note = _odd_classes(self.counts)
        if units := self._units():
            note = f"classes are {units}"
        return column._replace(note=note and f"Column {self.shown}: {note}.") if note else column

    def _units(self) -> str:
        """Return a description of numbers with different units; an empty text for other cells."""
        units = [printable(cell, 40) for cell in csv_numbers.examples_of_units(self.present)]
        if not units:
            return ""
        return f"numbers with different units, such as {' and '.join(units)}; write one unit, to read them as numbers"

    def _categorical(self, kind: str) -> Column:
        """Return classes in alphabetical order, or in numerical order if all are numbers, then the missing cells."""
        classes = sorted_classes(self.present)
        schema: dict[str, Any] = {"name": self.name, "kind": "categorical", "type": kind}
        if self.missing:
            # Other texts of missing cells are classes as well, so that they are written as often as they occur.
            text = "" if "" in self.missing else self._missing_text()
            classes = (*classes, *sorted(self.missing - {text}), text)
            schema["missing"] = text
        if len(classes) > MAX_CLASSES:
            raise ColumnError(
                f"{len(classes)} different texts in column {self.shown}", f"a column may have {MAX_CLASSES} classes"
            )
        schema["classes"] = list(classes)
        index = {each: float(number) for number, each in enumerate(classes)}
        values = np.array([index.get(cell, len(classes) - 1.0) for cell in self.cells], np.float32)
        return Column(schema, values)

    def _scaled(self, schema: dict[str, Any], values: Mapping[str, float], tolerance: float) -> Column:
        """Return numbers minus an offset that keeps their digits in float32, if they need one."""
        low, high = min(values.values()), max(values.values())
        most = max(abs(low), abs(high))
        schema |= {"minimum": _short(low), "maximum": _short(high)}
        offset = 0.0
        with np.errstate(over="ignore"):
            loses = float(np.spacing(np.float32(most))) / 2 > tolerance
        if loses and high - low <= most / 2 and not self.is_condition:
            offset = low
            schema["offset"] = _short(offset)
        if high - offset > float(np.finfo(np.float32).max) or low - offset < float(np.finfo(np.float32).min):
            row = next(row for row, cell in enumerate(self.cells) if abs(values.get(cell, 0.0)) == most)
            raise ColumnError(
                f"{self.table.where(self.name, row)} contains {printable(self.cells[row], 40)}",
                "expected a number in the range of float32",
            )
        if self.missing:
            schema["missing"] = self._missing_text()
        nan = float("nan")
        full = np.array([values.get(cell, nan) for cell in self.cells], np.float64)
        if not self.is_condition and (exact := _lost(schema, full[~np.isnan(full)], offset)):
            schema["exact"] = exact
        return Column(schema, (full - offset).astype(np.float32))

    def _missing_text(self) -> str:
        """Return the most frequent text of a missing cell."""
        return max(sorted(self.missing), key=lambda cell: self.counts[cell])

    def _as_classes(self) -> str:
        return f"give --categorical-columns {self.shown} to read its values as classes"


def known_values(
    table: Table,
    name: str,
    schema: Mapping[str, Any],
    decimal_comma: bool = False,
    missing_values: Iterable[str] = (),
) -> tuple[np.ndarray, str]:
    """Return the values of a column of a model, float32 `[rows]`, and a note about values that it cannot represent.

    A missing number is NaN. It is the mean of the training data if the model was trained without missing numbers,
    because then it does not accept NaN. A missing class that the model does not have is NaN, and another unknown class
    is `UNSEEN`.

    Raises:
        ColumnError: A cell is not a number, or not a date of the column's format.
    """
    cells, shown = table.cells[name], printable(name, 60)
    tokens = {*missing_values, *([schema["missing"]] if "missing" in schema else [])}
    missing = {cell for cell in set(cells) if cell in tokens or cell.casefold() in MISSING}
    if schema["kind"] == "categorical":
        return _known_classes(table, name, schema, missing)
    missing |= {cell for cell in set(cells) if cell.casefold() in _MAYBE_MISSING}
    present = [cell for cell in dict.fromkeys(cells) if cell not in missing]
    expected = "expected a number"
    if "format" in schema:
        expected = f"expected a date such as {dates.write(np.array([schema.get('offset', 0.0)]), schema['format'])[0]}"
    numbers = exact_numbers(table, name, schema, present, decimal_comma)
    with np.errstate(over="ignore"):
        values = dict(zip(present, (numbers - schema.get("offset", 0.0)).astype(np.float32).tolist(), strict=True))
    for cell, value in values.items():
        if not np.isfinite(value):
            in_range = " in the range of float32" if NUMBER.fullmatch(cell) and "format" not in schema else ""
            problem = f"{table.where(name, cells.index(cell))} contains {printable(cell, 40)}"
            raise ColumnError(problem, f"{expected}{in_range}")
    absent, notes = float("nan"), []
    if "atoms" in schema and (note := _unseen_numbers(table, name, schema, values)):
        notes.append(note)
    num = sum(cell in missing for cell in cells)
    if num and "missing" not in schema and "mean" in schema:
        absent = schema["mean"]
        mean = written.texts(schema, np.array([absent]))[0]
        notes.append(
            f"{num:,} of {len(cells):,} values are missing; the model was trained without missing values, so the mean "
            f"({mean}) is used"
        )
    note = f"Column {shown}: {'; '.join(notes)}." if notes else ""
    return np.array([values.get(cell, absent) for cell in cells], np.float32), note


def exact_numbers(
    table: Table, name: str, schema: Mapping[str, Any], present: Sequence[str], decimal_comma: bool = False
) -> np.ndarray:
    """Return the numbers, or the seconds since 1970, of cells of a known column before an offset and float32.

    Args:
        table: The table, for messages.
        name: Name of the column.
        schema: The column.
        present: The cells.
        decimal_comma: Whether numbers of other columns have a decimal comma.

    Returns:
        float64 `[cells]`; NaN for a text that is not a date of the column's format.
    """
    if "format" in schema:
        return dates.parse(present, schema["format"])
    return _known_numbers(table, name, schema, present, decimal_comma or schema.get("decimal") == ",")


def _unseen_numbers(table: Table, name: str, schema: Mapping[str, Any], values: Mapping[str, float]) -> str:
    """Return a note about numbers that differ from all atoms of a column, or an empty text."""
    atoms = set(np.array(schema["atoms"], np.float32).tolist())
    unseen = {cell for cell, value in values.items() if value not in atoms}
    rows = [row for row, cell in enumerate(table.cells[name]) if cell in unseen] if unseen else []
    if not rows:
        return ""
    effect = "score as unlike the training data"
    if "unseen" in schema:
        effect = "are less likely the further they are from known values"
    first = f"{printable(table.cells[name][rows[0]], 40)} in row {rows[0] + table.first_row}"
    count = f"{len(rows):,} of {len(table.cells[name]):,}"
    return f"{count} values are not in the training data, such as {first}; they {effect}"


def _known_classes(table: Table, name: str, schema: Mapping[str, Any], missing: set[str]) -> tuple[np.ndarray, str]:
    cells, classes = table.texts(name), list(schema["classes"])
    index = class_indices(cells, classes)
    absent = float(classes.index(schema["missing"])) if schema.get("missing") in classes else float("nan")
    unknown = {
        cell: absent if cell.strip() in missing or cell in missing else UNSEEN for cell in set(cells) - set(index)
    }
    values = np.array([index.get(cell, unknown.get(cell)) for cell in cells], np.float32)
    unseen = values == UNSEEN
    notes = []
    if unseen.any():
        row = int(np.flatnonzero(unseen)[0])
        others = f", as in {int(unseen.sum()) - 1:,} more rows" if unseen.sum() > 1 else ""
        notes.append(
            f"{table.where(name, row)} contains {printable(cells[row], 40)}{others}, which is not a class of the model "
            "and scores as unlike the training data"
        )
    if num := int(np.isnan(values).sum()):
        notes.append(
            f"{num:,} of {len(cells):,} values are missing; the model was trained without missing values, so they are "
            "skipped"
        )
    return values, f"Column {printable(name, 60)}: {'; '.join(notes)}." if notes else ""


def _known_numbers(
    table: Table, name: str, schema: Mapping[str, Any], present: Sequence[str], decimal_comma: bool
) -> np.ndarray:
    texts = [cell for cell in present if not NUMBER.fullmatch(cell)]
    plain: Sequence[str] = present
    if texts:
        try:
            found = csv_numbers.recognise(present, table.delimiter, decimal_comma)
        except csv_numbers.AmbiguousError as error:
            problem = f"column {printable(name, 60)}: {error}"
            raise ColumnError(problem, "write it without separators of thousands") from None
        if found is None or not csv_numbers.fits(found.unit, schema):
            where, unit = table.where(name, table.cells[name].index(texts[0])), csv_numbers.unit_of(schema)
            expected = f"expected numbers that all have the unit {unit}, or all none" if unit else "expected a number"
            raise ColumnError(f"{where} contains {printable(texts[0], 40) or 'nothing'}", expected)
        plain = found.cells
    return np.array(plain, np.float64)


def class_indices(cells: Iterable[str], classes: Sequence[str]) -> dict[str, int]:
    """Return the index of the class of each distinct cell that has one.

    A cell that is not a class may differ from one class by blanks at the ends.

    Example:
        >>> class_indices(["b", " a", "c"], ["a", "b "])
        {' a': 0, 'b': 1}
    """
    index = {each: number for number, each in enumerate(classes)}
    by_text: dict[str, list[int]] = {}
    for number, each in enumerate(classes):
        by_text.setdefault(each.strip(), []).append(number)
    found = {}
    for cell in sorted(set(cells)):
        similar = by_text.get(cell.strip(), [])
        if cell in index or len(similar) == 1:
            found[cell] = index.get(cell, similar[0])
    return found


def sorted_classes(distinct: Iterable[str]) -> tuple[str, ...]:
    """Return classes in alphabetical order, or in numerical order if all are numbers."""
    cells = list(distinct)
    numbers = all(NUMBER.fullmatch(cell) for cell in cells)
    order: Callable[[str], Any] = (lambda cell: (float(cell), cell)) if numbers else str
    return tuple(sorted(cells, key=order))


def _without_noise(text: str) -> str:
    """Return a plain number without the rounding noise of binary fractions: 0.3 for 0.30000000000000004.

    A number has noise if it has 15 or more significant digits, and 12 or fewer when rounded to 14.
    """
    if len(text) < 16 or "." not in text or text.endswith("0") or _significant(text) < 15:
        return text
    short = f"{float(text):.14g}"
    return short if _significant(short) <= 12 and "e" not in short else text


def _significant(text: str) -> int:
    """Return the number of digits of a plain number from the first that is not zero."""
    return len(text.lower().partition("e")[0].lstrip("+-").replace(".", "").lstrip("0"))


def _scientific(numbers: Iterable[str]) -> dict[str, Any]:
    """Return the digits and the exponent sign of numbers such as 1.790e+03, if all have the same number of digits."""
    matches = [re.fullmatch(r"[+-]?\d(?:\.(\d+))?([eE])[+-]\d{2,3}", text, re.ASCII) for text in numbers]
    forms = {(len(each[1] or ""), each[2]) if each else None for each in matches}
    form = forms.pop()
    return {} if forms or form is None or form[0] >= MAX_DIGITS else {"digits": form[0] + 1, "exponent": form[1]}


def _lost(column: Mapping[str, Any], numbers: np.ndarray, offset: float) -> list[float | int]:
    """Return the most frequent numbers of a column that it does not write back from float32, in increasing order.

    Numbers that are equal in float32 are represented by the most frequent of them.
    """
    distinct, counts = np.unique(numbers, return_counts=True)
    stored = (distinct - offset).astype(np.float32)
    order = np.argsort(-counts, kind="stable")
    _, first = np.unique(stored[order], return_index=True)
    kept = order[np.sort(first)[:MAX_KNOTS]]
    back = written.in_units(column, stored[kept])
    return sorted(
        _short(each) for each in distinct[kept[~np.isclose(back, distinct[kept], rtol=1e-15, atol=0.0)]].tolist()
    )


def _decimals(text: str) -> int:
    """Return the number of digits after the point of a plain number."""
    mantissa, _, exponent = text.lower().partition("e")
    return max(0, len(mantissa.partition(".")[2]) - int(exponent or 0))


def _short(value: float) -> float | int:
    """Return a number as an int if it is one, so that JSON has all of its digits."""
    return int(value) if float(value).is_integer() and abs(value) < _MAX_SAFE else float(value)


def _odd_classes(distinct: Iterable[str]) -> str:
    """Return a note about classes that differ only in case, or that may be missing values."""
    cells = sorted(distinct)
    odd = [cell for cell in cells if cell.casefold() in _MAYBE_MISSING]
    if odd and len(cells) > 2:
        return f"{printable(odd[0], 40)} is read as a class, not as a missing value"
    by_case: dict[str, str] = {}
    for cell in cells:
        if (other := by_case.setdefault(cell.strip().casefold(), cell)) != cell:
            quote = "" if cell.strip() == cell and other.strip() == other else '"'
            shown = " and ".join(f"{quote}{printable(each, 40)}{quote}" for each in (other, cell))
            return f"{shown} are different classes"
    return ""


def _leading_zeros(cells: Iterable[str], name: str) -> str:
    code = next((cell for cell in cells if re.fullmatch(r"0\d+", cell)), None)
    if code is None:
        return ""
    return f"{printable(code, 40)} is read as a number; with --categorical-columns {name} it is a class"
