"""Written form of the values of a table column: numbers in bounds, class names, dates and missing cells."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from types import MappingProxyType
from typing import Any

import numpy as np

from kvae_serve import dates
from kvae_serve.errors import printable

_DIGITS = 9
_GOLDEN_RATIO = (1 + math.sqrt(5)) / 2
Column = Mapping[str, Any]
"""Entry of `data.columns` or `data.outside` of a manifest."""


def in_units(column: Column, values: np.ndarray) -> np.ndarray:
    """Return numbers as they are written, float64 `[rows]`: plus the offset, rounded, and in the training bounds.

    A value that is in float32 one of `exact` is that number with all of its digits.

    Args:
        column: A numeric column. Dates are in seconds since 1970.
        values: Values of the graph, `[rows]`; NaN stays NaN.

    Example:
        >>> column = {"name": "age", "kind": "numeric", "decimals": 0, "minimum": 17, "maximum": 90}
        >>> in_units(column, np.array([33.6, 200.0])).tolist()
        [34.0, 90.0]
    """
    numbers = np.asarray(values, np.float64) + column.get("offset", 0.0)
    if "format" in column or "step" in column:
        unit = column.get("step") or dates.step(column["format"])
        numbers = np.round(numbers / unit) * unit
    if "calendar" in column:
        bounds = (column.get("minimum", dates.FIRST), column.get("maximum", dates.LAST))
        numbers = dates.nearest(numbers, column["calendar"], *bounds)
    if "format" not in column and "decimals" in column:
        numbers = np.round(numbers, column["decimals"]) + 0.0  # Not -0.
    if "digits" in column:
        numbers = np.array([float(f"{value:.{column['digits'] - 1}e}") for value in numbers.tolist()], np.float64) + 0.0
    if "exact" in column:
        exact = np.array(column["exact"], np.float64)
        stored = (exact - column.get("offset", 0.0)).astype(np.float32)
        at = np.minimum(np.searchsorted(stored, np.asarray(values, np.float32)), len(stored) - 1)
        numbers = np.where(stored[at] == np.asarray(values, np.float32), exact[at], numbers)
    if "minimum" in column or "maximum" in column:
        numbers = np.clip(numbers, column.get("minimum", -np.inf), column.get("maximum", np.inf))
    return numbers


def texts(column: Column, values: np.ndarray) -> list[str]:
    """Return the values of a column as texts, without the escapes of a CSV.

    Args:
        column: The column.
        values: Values of the graph, `[rows]`: numbers or class indices. An index that is not a class is a missing cell.
    """
    missing = str(column.get("missing", ""))
    if "classes" in column:
        names = [*map(str, column["classes"]), missing]
        index = np.round(np.asarray(values, np.float64))
        known = (index >= 0) & (index < len(names) - 1)
        return [names[each] for each in np.where(known, index, -1).astype(np.int64).tolist()]
    numbers = in_units(column, values)
    absent = np.isnan(numbers)
    written = _numbers(column, numbers[~absent])
    if "decimal" in column or "thousands" in column:
        written = [_separated(text, column.get("decimal", "."), column.get("thousands", "")) for text in written]
    if "prefix" in column or "suffix" in column:
        written = [f"{column.get('prefix', '')}{text}{column.get('suffix', '')}" for text in written]
    if not absent.any():
        return written
    present = iter(written)
    return [missing if each else next(present) for each in absent.tolist()]


def bin_edges(column: Column, low: float, high: float, num: int) -> np.ndarray:
    """Return the edges of at most `num` bins, each of which contains as many of the values that a cell can have.

    Args:
        column: A numeric column.
        low: Lowest value, in units of the graph.
        high: Highest value, above `low`.
        num: Number of bins.

    Example:
        >>> bin_edges({"name": "children", "kind": "numeric", "decimals": 0}, 0.0, 3.0, 24).tolist()
        [-0.5, 0.5, 1.5, 2.5, 3.5]
    """
    unit, offset = 0.0, column.get("offset", 0.0)
    if "format" in column or "step" in column:
        unit = column.get("step") or dates.step(column["format"])
    elif "decimals" in column:
        unit = 10.0 ** -column["decimals"]
    if not unit or (high - low) / unit > 50 * num:  # the bins differ by too little to see
        return np.linspace(low, high, num + 1)
    first, last = round((low + offset) / unit), round((high + offset) / unit)
    values = math.ceil((last - first + 1) / num)
    bins = math.ceil((last - first + 1) / values)
    return (first + values * np.arange(bins + 1) - 0.5) * unit - offset


def describe(column: Column) -> str:
    """Return the type of a column, its classes or its range, and the text of its missing cells.

    Example:
        >>> describe({"name": "age", "kind": "numeric", "type": "integer", "decimals": 0, "minimum": 17, "maximum": 90})
        'integer from 17 to 90'
    """
    kind = str(column.get("type", column.get("kind")))
    if kind == "constant":
        return f"constant {printable(column['value'], 40) or 'empty cell'}, not modelled"
    if kind == "id":
        return f"identifier, not modelled, written as {sequence(column)}"
    if "classes" in column:
        names = [printable(each, 20) or "an empty cell" for each in column["classes"][:4]]
        kind += (
            f", {len(column['classes'])} classes ({', '.join(names)}{', ...' if len(column['classes']) > 4 else ''})"
        )
    elif "minimum" in column and "maximum" in column:
        offset = column.get("offset", 0.0)
        bounds = texts(column, np.array([column["minimum"], column["maximum"]], np.float64) - offset)
        decimals = column.get("decimals", 0)
        digits = f" with {decimals} decimal{'s' if decimals > 1 else ''}" if decimals else ""
        if "digits" in column:
            digits = f" with {column['digits']} significant digit{'s' if column['digits'] > 1 else ''}"
        kind += f"{digits} from {bounds[0]} to {bounds[1]}"
        kind += f", only {dates.describe_calendar(column['calendar'])}" if "calendar" in column else ""
        kind += _steps(column)
    if "missing" in column:
        kind += f", missing cells are {printable(column['missing'], 20) or 'empty'}"
    return kind


def _steps(column: Column) -> str:
    """Return a text about integers that are too large for the numbers of the graph, or nothing."""
    ends = np.array([column["minimum"], column["maximum"]], np.float64)
    stored = np.abs(ends - column.get("offset", 0.0)).max()
    step = max(float(np.spacing(np.float32(stored))), float(np.spacing(np.abs(ends).max())))
    if column.get("type") != "integer" or step <= column.get("step", 1):
        return ""
    return f", in steps of up to {step:,.0f} because of their size"


def identifiers(
    column: Column, first: int = 0, known: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> Iterator[str]:
    """Yield the texts of a column of identifiers: those of `known`, or a sequence from row `first` on.

    Row i of a sequence is a missing cell if the fraction of (i + 1) times the golden ratio is below `missing_share`. So
    any part of the rows has about that share of missing cells.

    Args:
        column: The column.
        first: Index of the first row.
        known: Identifiers of the rows by name of the column.
    """
    if column["name"] in known:
        return iter(known[column["name"]])
    prefix, width, suffix = column["prefix"], column["width"], column.get("suffix", "")
    missing, share = column.get("missing", ""), column.get("missing_share", 0.0)
    return (
        missing if (row + 1) * _GOLDEN_RATIO % 1 < share else f"{prefix}{column['start'] + row:0{width}}{suffix}"
        for row in count(first)
    )


def sequence(column: Column) -> str:
    """Return the first identifiers of a column, and its share of missing cells.

    Example:
        >>> sequence({"name": "id", "prefix": "user-", "start": 3, "width": 2, "missing_share": 0.25})
        'user-03, user-04, ..., missing in 25.0 % of rows'
    """
    first, second = islice(identifiers({**column, "missing_share": 0.0}), 2)
    share = column.get("missing_share", 0.0)
    missing = f", missing in {100 * share:.1f} % of rows" if share else ""
    return f"{printable(first, 40)}, {printable(second, 40)}, ...{missing}"


def outside(column: Column, rows: Iterator[str] | None, num: int) -> list[str]:
    """Return `num` cells of a column that is not in the graph: the next of `rows`, or the constant."""
    return [column["value"]] * num if rows is None else list(islice(rows, num))


def _separated(text: str, decimal: str, thousands: str) -> str:
    whole, point, rest = text.partition(".")
    if thousands:
        whole = re.sub(r"(?<=\d)(?=(?:\d{3})+$)", thousands, whole)
    return whole + (point and decimal) + rest


def _numbers(column: Column, numbers: np.ndarray) -> list[str]:
    if "format" in column:
        return dates.write(numbers, column["format"])
    if "exponent" in column:
        form = f".{column.get('digits', _DIGITS) - 1}{column['exponent']}"
        return [format(value, form) for value in numbers.tolist()]
    if "decimals" not in column:
        digits = column.get("digits", 15 if column.get("offset") else _DIGITS)
        low, high = (float(column.get(key, bound)) for key, bound in (("minimum", -np.inf), ("maximum", np.inf)))
        exact = {*column.get("exact", ())}
        shortened = [repr(value) if value in exact else f"{value:.{digits}g}" for value in numbers.tolist()]
        # A bound with fewer digits may lie outside of the bounds.
        return [text if low <= float(text) <= high else repr(min(max(float(text), low), high)) for text in shortened]
    if not column["decimals"] and np.abs(numbers).max(initial=0.0) < 2**53:
        return [str(value).zfill(column.get("width", 0)) for value in numbers.astype(np.int64).tolist()]
    return [f"{value:.{column['decimals']}f}" for value in numbers.tolist()]
