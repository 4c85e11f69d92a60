"""Dates as text: find the format of a column, read its cells as seconds since 1970, and write them back.

A format has the directives of `strftime` that `DIRECTIVES` lists; `%-d` is a day without a leading zero, and `%3f` a
fraction of a second with three digits. Months have English names. A time zone is literal text, so every value is in the
time zone of its column.

A calendar states the days that dates can have: `month_days` from 1 to 31, and -1 for the last; `months` from 1 to 12;
and `weekdays` from 0 (Monday) to 6. A key that is missing allows all of them.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

# numpy is imported when it is used, because shell completion checks formats too and shall start quickly.
if TYPE_CHECKING:
    import numpy as np

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_SHORT = [name[:3] for name in _MONTHS]
_EPOCH = datetime(1970, 1, 1)

#: Directives, and the expression that their text matches. A number may lack its leading zero when it is read.
DIRECTIVES = {
    "Y": r"\d{4}",
    "y": r"\d{2}",
    "m": r"\d{1,2}",
    "d": r"\d{1,2}",
    "b": "|".join(_SHORT),
    "B": "|".join(_MONTHS),
    "H": r"\d{1,2}",
    "I": r"\d{1,2}",
    "M": r"\d{2}",
    "S": r"\d{2}",
    "f": r"\d{1,6}",
    "p": "AM|PM|am|pm",
}
FIRST, LAST = -62_135_596_800.0, 253_402_300_799.0
"""Seconds of the first and the last moment that a date can have: the years 1 to 9999."""
MAX_FORMAT = 60
CALENDAR = {"month_days": (-1, *range(1, 32)), "months": tuple(range(1, 13)), "weekdays": tuple(range(7))}
"""Keys of a calendar, and the values of each."""

_DIRECTIVE = re.compile(r"%(-?|[1-6](?=f))([A-Za-z%])")
_UNPADDED = "mdHI"
_STEPS = (("S", 1.0), ("M", 60.0), ("HI", 3600.0))
_DIGITS = 6
_DAY = 86_400.0
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# Probability below which days are not the same by chance, and the most days of a month that are a calendar.
_CHANCE, _MOST_MONTH_DAYS = 1e-3, 4
_ZONE = r"(?P<zone>Z|[+-]\d\d:?\d\d)?"
_TIME = re.compile(
    rf"(?P<sep>[ T])?(?P<h>\d{{1,2}}):\d{{2}}(?P<s>:\d{{2}}(?P<f>\.\d{{1,6}})?)?(?P<ps> ?)(?P<p>[AaPp][Mm])?{_ZONE}",
    re.ASCII,
)
_DATES: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"\d{4}([-/.])\d{1,2}\1\d{1,2}", re.ASCII), ("%Y{0}%m{0}%d",)),
    (re.compile(r"\d{1,2}([-/.])\d{1,2}\1\d{4}", re.ASCII), ("%m{0}%d{0}%Y", "%d{0}%m{0}%Y")),
    (re.compile(r"\d{1,2}([-/.])\d{1,2}\1\d{2}", re.ASCII), ("%m{0}%d{0}%y", "%d{0}%m{0}%y")),
    (re.compile(r"\d{1,2}([- ])[A-Z][a-z]+\1\d{4}", re.ASCII), ("%d{0}%b{0}%Y", "%d{0}%B{0}%Y")),
    (re.compile(r"\d{1,2}([- ])[A-Z][a-z]+\1\d{2}", re.ASCII), ("%d{0}%b{0}%y", "%d{0}%B{0}%y")),
    (re.compile(r"[A-Z][a-z]+( )\d{1,2}, \d{4}", re.ASCII), ("%b %d, %Y", "%B %d, %Y")),
    (re.compile(r"[A-Z][a-z]+( )\d{1,2} \d{4}", re.ASCII), ("%b %d %Y", "%B %d %Y")),
)


def formats(cells: Iterable[str]) -> list[str]:
    """Return the formats that all cells have, the most usual first; more than one if day and month are ambiguous.

    Example:
        >>> formats(["31/01/2024", "01/02/2024"])
        ['%d/%m/%Y']
    """
    import numpy as np

    distinct = list(dict.fromkeys(cells))
    found = []
    for candidate in _candidates(distinct[0]) if distinct else ():
        matches = [_pattern(candidate).fullmatch(cell) for cell in distinct]
        if None in matches or np.isnan(parse(distinct, candidate)).any():
            continue
        written = candidate
        for name in _UNPADDED:
            if f"%{name}" in candidate and any(each is not None and len(each[name]) == 1 for each in matches):
                written = written.replace(f"%{name}", f"%-{name}")
        found.append(with_digits(distinct, written))
    return found


def with_digits(cells: Iterable[str], form: str) -> str:
    """Return a format in which a fraction of a second has as many digits as in the cells.

    Example:
        >>> with_digits(["12:30:59.274"], "%H:%M:%S.%f")
        '%H:%M:%S.%3f'
    """
    if ("", "f") not in _DIRECTIVE.findall(form):
        return form
    matches = [_pattern(form).fullmatch(cell) for cell in cells]
    most = max((len(each["f"]) for each in matches if each is not None), default=_DIGITS)
    fraction = "%f" if most == _DIGITS else f"%{most}f"
    return _DIRECTIVE.sub(lambda match: fraction if match[0] == "%f" else match[0], form)


def is_format(text: object) -> bool:
    """Return whether a text is a format with a known directive, and without others."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_FORMAT or not text.isprintable():
        return False
    names = _DIRECTIVE.findall(text)
    rest = _DIRECTIVE.sub("", text)
    used = [name for _, name in names if name != "%"]
    known = all(name == "%" or (name in DIRECTIVES and (flag != "-" or name in _UNPADDED)) for flag, name in names)
    return bool(used) and known and "%" not in rest and len(set(used)) == len(used)


def parse(cells: Sequence[str], form: str) -> np.ndarray:
    """Return the seconds since 1970 of each cell, float64 `[cells]`; NaN for a cell that does not have the format.

    Example:
        >>> parse(["1970-01-02", "later"], "%Y-%m-%d").tolist()
        [86400.0, nan]
    """
    import numpy as np

    pattern = _pattern(form)
    seconds: dict[str, float] = {}
    for cell in cells:
        if cell not in seconds:
            match = pattern.fullmatch(cell)
            seconds[cell] = float("nan") if match is None else _seconds(match.groupdict())
    return np.array([seconds[cell] for cell in cells], np.float64)


def write(values: np.ndarray, form: str) -> list[str]:
    """Return seconds since 1970 as texts. Values are rounded to the smallest unit of the format."""
    import numpy as np

    rounded = np.clip(step(form) * np.round(np.asarray(values, np.float64) / step(form)), FIRST, LAST)
    pieces: list[str | Callable[[datetime], str]] = []
    last = 0
    for match in _DIRECTIVE.finditer(form):
        pieces.append(form[last : match.start()])
        pieces.append("%" if match[2] == "%" else functools.partial(_part, match[2], match[1]))
        last = match.end()
    pieces.append(form[last:])
    micros = round(min(step(form), 1.0) * 1e6)
    texts = {}
    for value in np.unique(rounded).tolist():
        moment = _EPOCH + timedelta(microseconds=micros * round(value * 1e6 / micros))
        texts[value] = "".join(each if isinstance(each, str) else each(moment) for each in pieces)
    return [texts[value] for value in rounded.tolist()]


def step(form: str) -> float:
    """Return the smallest unit of a format in seconds: 86,400 for a date without a time."""
    used = {name: flag for flag, name in _DIRECTIVE.findall(form)}
    if "f" in used:
        return 10.0 ** -int(used["f"] or _DIGITS)
    return next((seconds for names, seconds in _STEPS if set(used) & set(names)), _DAY)


def calendar(values: np.ndarray) -> dict[str, list[int]]:
    """Return the calendar of dates, such as the last days of months; {} if they are on any days.

    Args:
        values: Seconds since 1970, `[dates]`.

    Example:
        >>> calendar(parse(["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"], "%Y-%m-%d"))
        {'month_days': [-1]}
    """
    import numpy as np

    dates = np.unique(np.floor(values / _DAY)).astype(np.int64)
    day, is_last, month, weekday = _parts(dates)

    def distinct(each: np.ndarray, num: int) -> list[int]:
        """Return the values that occur if that few of `num` are unlikely by chance; [] otherwise."""
        found = np.unique(each).tolist()
        chance = math.comb(num, len(found)) * (len(found) / num) ** len(dates)
        return found if len(found) < num and chance < _CHANCE else []

    month_days = min((np.where(is_last, -1, day), day), key=lambda each: len(np.unique(each)))
    if 0 < len(found := distinct(month_days, 31)) <= _MOST_MONTH_DAYS:
        months = distinct(month, 12)
        return {"month_days": found} | ({"months": months} if months else {})
    weekdays = distinct(weekday, 7)
    return {"weekdays": weekdays} if weekdays else {}


def nearest(values: np.ndarray, days: Mapping[str, Sequence[int]], low: float, high: float) -> np.ndarray:
    """Move dates to the nearest days of a calendar between two dates; the time of the day stays.

    Args:
        values: Seconds since 1970, float64 `[rows]`; NaN stays NaN.
        days: The calendar.
        low: Earliest date, in seconds.
        high: Latest date.

    Example:
        >>> moved = nearest(parse(["2024-02-16"], "%Y-%m-%d"), {"month_days": [-1]}, FIRST, LAST)
        >>> write(moved, "%Y-%m-%d")
        ['2024-02-29']
    """
    import numpy as np

    low, high = max(low, FIRST), min(high, LAST)
    values = np.clip(values, low, high)
    day = np.floor(values / _DAY)
    known = ~np.isnan(values)
    allowed = _days(math.floor(low / _DAY), math.floor(high / _DAY), *(tuple(days.get(key, ())) for key in CALENDAR))
    if len(allowed):
        after = np.clip(np.searchsorted(allowed, day[known]), 0, len(allowed) - 1)
        before, after = allowed[np.maximum(after - 1, 0)], allowed[after]
        moved = np.where(np.abs(before - day[known]) <= np.abs(after - day[known]), before, after)
        values[known] += (moved - day[known]) * _DAY
    return values


def describe_calendar(days: Mapping[str, Sequence[int]]) -> str:
    """Return a calendar as text.

    Example:
        >>> describe_calendar({"month_days": [-1], "months": [6, 12]})
        'the last day of Jun, Dec'
    """
    parts = [", ".join(_WEEKDAYS[each] for each in days.get("weekdays", ()))]
    if "month_days" in days or "months" in days:
        of_month = ", ".join("the last day" if each < 0 else f"day {each}" for each in days.get("month_days", ()))
        months = ", ".join(_SHORT[each - 1] for each in days.get("months", ())) or "a month"
        parts.append(f"{of_month or 'any day'} of {months}")
    return "; ".join(filter(None, parts))


@functools.lru_cache(maxsize=8)
def _days(
    first: int, last: int, month_days: tuple[int, ...], months: tuple[int, ...], weekdays: tuple[int, ...]
) -> np.ndarray:
    """Return the days of a calendar from `first` to `last`, int64, in days since 1970."""
    import numpy as np

    dates = np.arange(first, last + 1)
    day, is_last, month, weekday = _parts(dates)
    allowed = np.ones(len(dates), bool)
    if month_days:
        allowed &= np.isin(day, month_days) | (is_last & (-1 in month_days))
    if months:
        allowed &= np.isin(month, months)
    if weekdays:
        allowed &= np.isin(weekday, weekdays)
    return dates[allowed]


def _parts(dates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the day of the month, whether it is the last, the month and the weekday of days since 1970."""
    moments = dates.astype("datetime64[D]")
    months = moments.astype("datetime64[M]")
    day = (moments - months).astype(int) + 1
    is_last = (moments + 1).astype("datetime64[M]") != months
    return day, is_last, months.astype(int) % 12 + 1, (dates + 3) % 7


def _candidates(cell: str) -> list[str]:
    found = []
    for pattern, forms in _DATES:
        match = pattern.match(cell)
        if match is None:
            continue
        rest = cell[match.end() :]
        time = _time_format(rest, True) if rest else ""
        if time is not None:
            each = [form.format(match[1]) + time for form in forms]
            # Day and month are in the usual order of their separator.
            found += each[::-1] if match[1] == "." else each
    if not found and (time := _time_format(cell, False)):
        found.append(time)
    return found


def _time_format(text: str, after_date: bool) -> str | None:
    match = _TIME.fullmatch(text)
    if match is None or bool(match["sep"]) != after_date:
        return None
    hour = "%I" if match["p"] else "%H"
    seconds = (":%S" if match["s"] else "") + (".%f" if match["f"] else "")
    half = f"{match['ps']}%p" if match["p"] else ""
    return f"{match['sep'] or ''}{hour}:%M{seconds}{half}{match['zone'] or ''}"


@functools.lru_cache(maxsize=256)
def _pattern(form: str) -> re.Pattern[str]:
    expression, last = "", 0
    for match in _DIRECTIVE.finditer(form):
        expression += re.escape(form[last : match.start()])
        expression += "%" if match[2] == "%" else f"(?P<{match[2]}>{DIRECTIVES[match[2]]})"
        last = match.end()
    return re.compile(expression + re.escape(form[last:]), re.ASCII)


def _seconds(parts: dict[str, str]) -> float:
    year = int(parts.get("Y", "1970"))
    if "y" in parts:
        year = int(parts["y"]) + (1900 if int(parts["y"]) >= 69 else 2000)
    month = int(parts.get("m", "1"))
    if "b" in parts or "B" in parts:
        month = 1 + (_SHORT.index(parts["b"]) if "b" in parts else _MONTHS.index(parts["B"]))
    hour = int(parts.get("H", "0"))
    if "I" in parts:
        hour = int(parts["I"])
        if not 1 <= hour <= 12:
            return float("nan")
        hour = hour % 12 + 12 * (parts.get("p", "AM").lower() == "pm")
    micro = int(parts["f"].ljust(6, "0")) if "f" in parts else 0
    try:
        moment = datetime(
            year, month, int(parts.get("d", "1")), hour, int(parts.get("M", "0")), int(parts.get("S", "0")), micro
        )
    except ValueError:
        return float("nan")
    return (moment - _EPOCH).total_seconds()


def _part(name: str, flag: str, moment: datetime) -> str:
    hour = moment.hour % 12 or 12
    numbers = {"m": moment.month, "d": moment.day, "H": moment.hour, "I": hour, "M": moment.minute, "S": moment.second}
    if name in numbers:
        return str(numbers[name]) if flag == "-" else f"{numbers[name]:02d}"
    return {
        "Y": f"{moment.year:04d}",
        "y": f"{moment.year % 100:02d}",
        "b": _SHORT[moment.month - 1],
        "B": _MONTHS[moment.month - 1],
        "f": f"{moment.microsecond:06d}"[: int(flag or _DIGITS)],
        "p": "PM" if moment.hour >= 12 else "AM",
    }[name]
