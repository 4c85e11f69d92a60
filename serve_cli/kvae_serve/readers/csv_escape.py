"""Texts in cells of CSV: a name such as `=1+2` is a formula to a spreadsheet, and names come from model files.

One that a spreadsheet might compute is written with an apostrophe before it, which spreadsheets take for "this is
text", and the readers here take off again. Numbers stay as they are.
"""

from __future__ import annotations

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def shielded(text: str) -> str:
    """Return a text as it goes into a cell."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def plain(cell: str) -> str:
    """Return the text that a cell holds: the inverse of `shielded`."""
    if cell.startswith("'") and _FORMULA.match(cell, 1) and not _NUMBER.fullmatch(cell, 1):
        return cell[1:]
    return cell
