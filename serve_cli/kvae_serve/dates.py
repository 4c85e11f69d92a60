"""Dates as text: find the format of a column, read its cells as seconds since 1970, and write them back.

A format has the directives of `strftime` that `DIRECTIVES` lists; `%-d` is a day without a leading zero. Months have
English names. A time zone is literal text, so every value is in the time zone of its column.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
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

_DIRECTIVE = re.compile(r"%(-?)([A-Za-z%])")
_UNPADDED = "mdHI"
_STEPS = (("f", 1e-6), ("S", 1.0), ("M", 60.0), ("HI", 3600.0))
_DAY = 86_400.0
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
        found.append(written)
    return found


def is_format(text: object) -> bool:
    """Return whether a text is a format with a known directive, and without others."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_FORMAT or not text.isprintable():
        return False
    names = _DIRECTIVE.findall(text)
    rest = _DIRECTIVE.sub("", text)
    used = [name for _, name in names if name != "%"]
    known = all(name == "%" or (name in DIRECTIVES and (not dash or name in _UNPADDED)) for dash, name in names)
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
        pieces.append("%" if match[2] == "%" else functools.partial(_part, match[2], bool(match[1])))
        last = match.end()
    pieces.append(form[last:])
    texts = {
        value: "".join(each if isinstance(each, str) else each(_EPOCH + timedelta(seconds=value)) for each in pieces)
        for value in np.unique(rounded).tolist()
    }
    return [texts[value] for value in rounded.tolist()]


def step(form: str) -> float:
    """Return the smallest unit of a format in seconds: 86,400 for a date without a time."""
    used = {name for _, name in _DIRECTIVE.findall(form)}
    return next((seconds for names, seconds in _STEPS if used & set(names)), _DAY)


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


def _part(name: str, unpadded: bool, moment: datetime) -> str:
    hour = moment.hour % 12 or 12
    numbers = {"m": moment.month, "d": moment.day, "H": moment.hour, "I": hour, "M": moment.minute, "S": moment.second}
    if name in numbers:
        return str(numbers[name]) if unpadded else f"{numbers[name]:02d}"
    return {
        "Y": f"{moment.year:04d}",
        "y": f"{moment.year % 100:02d}",
        "b": _SHORT[moment.month - 1],
        "B": _MONTHS[moment.month - 1],
        "f": f"{moment.microsecond:06d}",
        "p": "PM" if moment.hour >= 12 else "AM",
    }[name]
