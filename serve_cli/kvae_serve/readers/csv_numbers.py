"""Recognise the numbers of a CSV column: decimal commas, thousands separators, percent signs, currencies and units."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kvae_serve.csv_escape import NUMBER

_MINUS = str.maketrans({"\u2212": "-", "\ufe63": "-", "\uff0d": "-"})
_CURRENCY = r"(?:[$€£¥₹₽₩₺฿]|USD|EUR|GBP|CHF|JPY|CAD|AUD|CNY|INR)"
# Units such as kg, m2, km/h, ° or sq ft.
_UNIT = r"[A-Za-z\u00b0-\uffef](?:[^\s\d.,;:]| (?=[^\s\d.,;:])){0,7}[23]?"
# Cells with more units are rather codes, such as 12A and 7C.
_MAX_UNITS = 5
_BLANK = r"[ \t\u00a0\u202f]?"
_CELL = re.compile(
    rf"(?P<sign>[+-]?)\s?(?P<before>(?:{_CURRENCY}{_BLANK})?)(?P<inner>[+-]?)(?P<digits>[\d.,'’ \u00a0\u202f]*\d[.,]?)"
    rf"(?P<exponent>(?:[eE][+-]?\d+)?)(?P<after>(?:{_BLANK}(?:%|{_CURRENCY}|{_UNIT}))?)",
    re.ASCII,
)
_SPACES = re.compile(r"\d{1,3}(?:([ \u00a0\u202f'’])\d{3})(?:\1\d{3})*(?:[.,]\d*)?", re.ASCII)
_POINT = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+", re.ASCII)
_COMMA = re.compile(r"\d{1,3}(?:\.\d{3})+(?:,\d*)?|\d+(?:,\d*)?|,\d+", re.ASCII)
_THOUSANDS = re.compile(r"(?<=\d)[,.'’ \u00a0\u202f](?=\d{3}(?!\d))", re.ASCII)
# Numbers such as 1,234, which are both 1234 and 1.234.
_BOTH = re.compile(r"[1-9]\d{0,2}[.,]\d{3}", re.ASCII)


class Numbers(NamedTuple):
    """Cells of a column as plain numbers, such as `-1234.5`, a note about their form, and their unit."""

    cells: list[str]
    note: str
    unit: str


class AmbiguousError(ValueError):
    """A column of numbers has two readings."""


def recognise(cells: Sequence[str], delimiter: str, decimal_comma: bool = False) -> Numbers | None:
    """Convert the cells of a column to plain numbers; None if they are not numbers of one unit.

    Args:
        cells: Texts, at least one of which is not a plain number.
        delimiter: Delimiter of the file. In a file with semicolons, 1,234 may be 1.234.
        decimal_comma: Whether another column of the file has decimal commas.

    Raises:
        AmbiguousError: The numbers can be read in two ways. The message has both.

    Example:
        >>> recognise(["$1,200.50", "$7"], ",").cells
        ['1200.50', '7']
        >>> recognise(["12,5", "3,75"], ";").cells
        ['12.5', '3.75']
    """
    matches = _matches(cells)
    units = set(map(_unit, matches))
    if len(matches) < len(cells) or len(units) > 1 or any(each["before"] and each["after"] for each in matches):
        return None
    if any(each["sign"] and each["inner"] for each in matches):
        return None
    digits = [each["digits"].strip() for each in matches]
    grouped = [re.sub(r"[ \u00a0\u202f'’]", "", each) if _SPACES.fullmatch(each) else each for each in digits]
    comma = _has_decimal_comma(grouped, delimiter, decimal_comma)
    if comma is None:
        return None
    group, decimal = (".", ",") if comma else (",", ".")
    plain = [
        (each["sign"] or each["inner"]) + text.replace(group, "").replace(decimal, ".") + each["exponent"]
        for each, text in zip(matches, grouped, strict=True)
    ]
    if not all(NUMBER.fullmatch(each) for each in plain):
        return None
    row = next(row for row, cell in enumerate(cells) if cell != plain[row])
    return Numbers(plain, f"{cells[row]} is read as {plain[row]}", units.pop())


def examples_of_units(cells: Iterable[str]) -> list[str]:
    """Return a cell of each unit if all cells are numbers with one of a few units or none; else an empty list.

    Example:
        >>> examples_of_units(["5.1k", "300", "2k", "1.5M"])
        ['5.1k', '300', '1.5M']
    """
    cells = list(cells)
    matches = _matches(cells)
    by_unit: dict[str, str] = {}
    for each in matches:
        by_unit.setdefault(_unit(each), each.string)
    is_number = len(matches) == len(cells) > len(by_unit) and len(by_unit) <= _MAX_UNITS
    return list(by_unit.values()) if is_number and len(by_unit) > 1 else []


def affixes(cells: Iterable[str]) -> tuple[str, str]:
    """Return the most frequent text before and after the numbers of cells, such as $ and %, without the sign."""
    pairs = Counter((each["before"], each["after"]) for each in _matches(cells))
    return pairs.most_common(1)[0][0] if pairs else ("", "")


def _matches(cells: Iterable[str]) -> list[re.Match[str]]:
    """Return the parts of those cells that are numbers, with or without a unit."""
    found = (_CELL.fullmatch(cell.translate(_MINUS)) for cell in cells)
    return [each for each in found if each is not None and _unit(each).isprintable()]


def fits(unit: str, column: Mapping[str, Any]) -> bool:
    """Return whether numbers with a unit or none are numbers of a known column.

    Numbers of a column without a unit may be percentages or amounts of money.
    """
    own = unit_of(column)
    return unit in ("", own) or (not own and re.fullmatch(f"%|{_CURRENCY}", unit) is not None)


def unit_of(column: Mapping[str, Any]) -> str:
    """Return the unit of a known column, or an empty text."""
    return f"{column.get('prefix', '')}{column.get('suffix', '')}".strip()


def _unit(match: re.Match[str]) -> str:
    return (match["before"] or match["after"]).strip()


def shows_decimal_comma(cells: Sequence[str]) -> bool:
    """Return whether numbers can only be read with a decimal comma."""
    if not any("," in cell for cell in cells[:1000]):
        return False
    try:
        found = recognise(cells, ",")
    except AmbiguousError:
        return False
    return found is not None and any(
        "," in cell and "." in text and text.partition(".")[2] == re.sub(r"[^\d]", "", cell.partition(",")[2])
        for cell, text in zip(cells, found.cells, strict=True)
    )


def separators(numbers: Mapping[str, str]) -> tuple[str, str]:
    """Return the decimal mark of a column, and its separator of thousands: an empty text if it is not always the same.

    Args:
        numbers: Plain number of each cell.

    Example:
        >>> separators({"$1,200.50": "1200.50", "$7.00": "7.00"})
        ('.', ',')
    """
    has_comma = any("." in text and cell.rfind(",") > cell.rfind(".") for cell, text in numbers.items())
    decimal = "," if has_comma else "."
    found = set()
    for cell, text in numbers.items():
        if len(text.lstrip("+-").partition(".")[0]) > 3:
            whole = cell.rpartition(decimal)[0] if "." in text else cell
            found.add("".join(sorted(set(_THOUSANDS.findall(whole)))))
    thousands = found.pop() if len(found) == 1 else ""
    return decimal, thousands if len(thousands) == 1 else ""


def check_points(cells: Sequence[str]) -> None:
    """Raise `AmbiguousError` if plain numbers, in a file with decimal commas, may have points between thousands."""
    with_point = [cell.lstrip("+-") for cell in cells if "." in cell]
    if with_point and all(_BOTH.fullmatch(cell) for cell in with_point):
        raise AmbiguousError(_two_readings(with_point[0]))


def _has_decimal_comma(texts: Sequence[str], delimiter: str, decimal_comma: bool) -> bool | None:
    """Return whether numbers have decimal commas; None if they are not numbers in one of the two forms."""
    point, comma = (all(form.fullmatch(each) for each in texts) for form in (_POINT, _COMMA))
    if not point or not comma or not any("," in each or "." in each for each in texts):
        return comma and not point if point or comma else None
    ambiguous = [each for each in texts if "," in each or "." in each]
    if "." in ambiguous[0]:
        return decimal_comma
    # Both forms fit: each number with a comma has three digits after it.
    if decimal_comma or any(not _BOTH.fullmatch(each) for each in ambiguous):
        return True
    if delimiter == ";" or any(len(each) > 3 and "," not in each for each in texts):
        raise AmbiguousError(_two_readings(ambiguous[0]))
    return False


def _two_readings(text: str) -> str:
    digits = text.replace(",", ".")
    return f"{text} is either {digits} or {digits.replace('.', '')}"
