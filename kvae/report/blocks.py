"""Building blocks of the page, which `page.html.j2` turns into HTML. Every text is escaped there."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kvae_serve.sealed.manifest import Data
from kvae_serve.writers import grid, png

Block = dict[str, Any]
"""One block: its kind as the only key, such as `{"note": "..."}`."""


class SectionSkipped(Exception):  # noqa: N818 - not an error of the user
    """A section cannot be produced. The message is shown in its place."""


class Number(NamedTuple):
    """A number in a table: rounded for people by its standard error, exact for programs."""

    value: float
    error: float | None = None

    def __str__(self) -> str:
        """Return the rounded number with a minus sign."""
        if self.error:
            shown = f"{self.value:.{max(0, min(8, 1 - math.floor(math.log10(self.error))))}f}"
        else:
            shown = f"{self.value:.4g}" if abs(self.value) < 1e4 else f"{self.value:.6g}"
        return shown.replace("-", "−")


class Picture(NamedTuple):
    """An image: its `data:` address, its text for people who cannot see it, and its caption."""

    address: str
    about: str
    caption: str = ""
    width: int | None = None
    height: int | None = None


def note(text: str) -> Block:
    """Return a remark."""
    return {"note": text}


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> Block:
    """Return a table of texts and `Number`s; with a title it is folded."""
    return {"table": {"head": list(head), "rows": [list(row) for row in rows], "title": title}}


def pixels(images: np.ndarray, data: Data, about: str, caption: str = "", columns: int | None = None) -> Picture:
    """Return images as one PNG, row by row, with a transparent gap between them.

    Args:
        images: `[num, height, width, channels]` in data units. If it has neither 1 nor 3 channels, the first is shown.
        data: the manifest's description of the data, with their range.
        about: text for people who cannot see the picture.
        caption: text below it.
        columns: images per row; by default about as many as rows.
    """
    if images.shape[-1] not in (1, 3):
        images = images[..., :1]
    shown = grid.to_uint8(images, data.range)
    picture = grid.grid(np.concatenate([shown, np.full_like(shown[..., :1], 255)], axis=-1), columns)
    height, width = picture.shape[:2]
    return Picture(address(png.encode(picture), "image/png"), about, caption, width, height)


def address(content: bytes, kind: str) -> str:
    """Return content as a `data:` address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)
