"""Section "Measured" of a model card: metrics of the exported files, and the command that reproduces them."""

from __future__ import annotations

import datetime
import os
import platform
import re
from collections.abc import Sequence

from kvae_serve.errors import InputDataError, printable

_SECTION = re.compile(r"## Measured\n.*?(?=^## |\Z)", flags=re.DOTALL | re.MULTILINE)
_LIMITS = re.compile(r"^(?=## Limits)", flags=re.MULTILINE)


def read(path: str) -> str:
    """Return the text of a model card."""
    try:
        with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputDataError(f"{printable(path)} cannot be read: {reason}. Give a README.md.") from error


def code(text: str) -> str:
    """Return a text as inline code of Markdown, delimited by more backticks than it contains in a row.

    Reference: https://spec.commonmark.org/0.31.2/#code-spans
    """
    if "`" not in text:
        return f"`{text}`"
    fence = "`" * (1 + max(map(len, re.findall("`+", text))))
    return f"{fence} {text} {fence}"


def with_measured(card: str, command: str, lines: Sequence[str]) -> str:
    """Return a model card with these lines as its section "Measured", placed before "Limits" or at the end."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {datetime.date.today()}"
    text = "\n".join(lines).replace("```", "'''")
    section = f"## Measured\n\nOn the exported files, by {code(command)} ({machine}):\n\n```text\n{text}\n```\n\n"
    rest = _SECTION.sub("", card)
    if _LIMITS.search(rest):
        return _LIMITS.sub(lambda _: section, rest, count=1)
    return rest.rstrip("\n") + "\n\n" + section.rstrip("\n") + "\n"
