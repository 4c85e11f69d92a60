"""Escape CSV cells that a spreadsheet would compute as a formula, such as a class named `=1+2`.

An apostrophe before the text makes spreadsheets show it as text. The readers here remove it again. Numbers are not
changed, nor texts of digits and punctuation such as a phone number or a dash: they cannot call a function or refer to a
cell.

Reference: https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
# No text can be matched in two ways, so that the time is linear in its length.
_DIGITS = re.compile(r"[+-][-0-9 .,()/]*")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def escape(text: str) -> str:
    """Return the cell for a text."""
    harmless = _DIGITS.fullmatch(text) or NUMBER.fullmatch(text)
    return f"'{text}" if _FORMULA.match(text) and not harmless else text


def unescape(cell: str) -> str:
    """Return the text of a cell: the inverse of `escape`."""
    if cell.startswith("'") and _FORMULA.match(cell, 1) and not NUMBER.fullmatch(cell, 1):
        return cell[1:]
    return cell
