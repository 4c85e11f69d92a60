"""Pieces of HTML. Every text from a file goes through `text`: names are not ours."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from kvae_serve.errors import printable


class LeftOut(Exception):  # noqa: N818 - no error of anybody
    """A part of the page cannot be made; says why, in words that follow "Left out: "."""


def text(value: object, limit: int = 80) -> str:
    """Return a text as HTML that shows it: one line, escaped, at most so many characters."""
    return html.escape(printable(value, limit), quote=True)


def number(value: float, error: float | None = None) -> str:
    """Return a number as HTML: rounded by its error for people, whole in `value` for programs."""
    if error:
        decimals = max(0, min(8, 1 - math.floor(math.log10(error))))
        shown = f"{value:.{decimals}f}"
    else:
        shown = f"{value:.4g}" if abs(value) < 1e4 else f"{value:.6g}"
    return f'<data value="{value!r}">{shown.replace("-", "−")}</data>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[int] = ()) -> str:
    """Return a table of cells that are HTML already; it scrolls by itself where it is too wide."""

    def line(cells: Sequence[str], tag: str) -> str:
        shown = (
            f"<{tag}{' class=n' if index in numeric else ''}{' scope=col' if tag == 'th' else ''}>{cell}</{tag}>"
            for index, cell in enumerate(cells)
        )
        return f"<tr>{''.join(shown)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<div class=wide tabindex=0><table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table></div>"


def note(words: str) -> str:
    """Return a remark; `words` is HTML."""
    return f"<p class=note>{words}</p>"


def charts(parts: Iterable[tuple[str, str]]) -> str:
    """Return charts side by side, each an SVG under its title; both are HTML."""
    shown = (f"<figure><figcaption>{title}</figcaption>{svg}</figure>" for title, svg in parts)
    return f"<div class=charts>{''.join(shown)}</div>"


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Return what colours stand for: (CSS colour, HTML) each."""
    return "<p class=legend>" + " ".join(f'<span><i style="background:{c}"></i>{t}</span>' for c, t in entries) + "</p>"


def words(name: str) -> str:
    """Return the name of a figure as HTML for people."""
    return text(name.replace("_", " "), 60)


def is_number(value: Any) -> bool:
    """Tell whether a value of JSON is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)
