"""Images as text, so that the first run shows something at once.

On a terminal each character cell holds two pixels, one above the other, in true colour; elsewhere one plain
character stands for the mean of the two. Images are laid out label by label, as wide as the line allows.
"""

from __future__ import annotations

import os
from typing import TextIO

import numpy as np

from kvae_serve.sealed.manifest import Range
from kvae_serve.writers.grid import to_uint8

PLAIN_WIDTH = 80
GAP = 2
"""Columns between two images."""

_RAMP = np.array(list(" .:-=+*#%@"))
_SMALLEST = 12
_FEW_LINES = 44


def render(images: np.ndarray, value_range: Range | None, width: int, colour: bool, per_row: int | None = None) -> str:
    """Return images as lines of text.

    Where there are many, each is made smaller by a whole factor, as long as it stays readable.

    Args:
        images: `[num, height, width, channels]` in data units; 1 channel or 3.
        value_range: the data units that are black and white; None takes those of `images`.
        width: columns to fill at most.
        colour: half-block cells with escape sequences; otherwise plain ASCII.
        per_row: start a new row of images after so many, where they fit.
    """
    pixels = to_uint8(images, value_range)
    num, height, image_width, _ = pixels.shape
    for factor in range(1, max(height, image_width) + 1):
        columns = max(1, (width + GAP) // (-(-image_width // factor) + GAP))
        columns = min(columns, num, per_row if per_row and per_row <= columns else num)
        lines = -(-num // columns) * (-(-height // factor) // 2 + 1)
        fits = -(-image_width // factor) <= width
        smallest = min(height, image_width) // (factor + 1) < _SMALLEST
        if fits and (lines <= _FEW_LINES or smallest):
            break
    pixels = _shrink(pixels, factor)
    rows = [pixels[start : start + columns] for start in range(0, num, columns)]
    return "\n\n".join("\n".join(_lines(row, colour)) for row in rows) + "\n"


def terminal(stream: TextIO) -> tuple[int, bool]:
    """Return how many columns a stream shows, and whether it shows colour: a terminal that takes UTF-8."""
    if not stream.isatty():
        return PLAIN_WIDTH, False
    import shutil

    utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
    # Windows sets no TERM; elsewhere a terminal without one promises nothing.
    kind = os.environ.get("TERM", "windows" if os.name == "nt" else "")
    plain = not utf8 or os.environ.get("NO_COLOR") or kind in ("", "dumb")
    return shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns, not plain


def _shrink(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Average squares of `factor` pixels; what is missing at the edges repeats the last pixel."""
    if factor == 1:
        return pixels
    _, height, width, _ = pixels.shape
    pad = ((0, 0), (0, -height % factor), (0, -width % factor), (0, 0))
    padded = np.pad(pixels.astype(np.float64), pad, mode="edge")
    num, height, width, channels = padded.shape
    squares = padded.reshape(num, height // factor, factor, width // factor, factor, channels)
    return np.rint(squares.mean((2, 4))).astype(np.uint8)


def _lines(row: np.ndarray, colour: bool) -> list[str]:
    """Return the lines of images that stand side by side, uint8 `[num, height, width, channels]`."""
    if row.shape[1] % 2:
        row = np.pad(row, ((0, 0), (0, 1), (0, 0), (0, 0)))
    if not colour:
        cells = row.astype(np.float64).reshape(row.shape[0], row.shape[1] // 2, 2, row.shape[2], -1).mean((2, 4))
        characters = _RAMP[np.rint(cells / 255 * (len(_RAMP) - 1)).astype(int)]
        return [
            (" " * GAP).join("".join(image[y]) for image in characters).rstrip() for y in range(characters.shape[1])
        ]
    rgb = np.broadcast_to(row, (*row.shape[:3], 3)).tolist()
    return [(" " * GAP).join(_half_blocks(image[y], image[y + 1]) for image in rgb) for y in range(0, row.shape[1], 2)]


def _half_blocks(upper: list[list[int]], lower: list[list[int]]) -> str:
    """Return cells with the upper pixel in front and the lower behind; a colour that goes on is not said again."""
    parts, last = [], None
    for top, bottom in zip(upper, lower, strict=True):
        if (top, bottom) != last:
            parts.append("\x1b[38;2;{};{};{};48;2;{};{};{}m".format(*top, *bottom))
            last = (top, bottom)
        parts.append("▀")
    return "".join(parts) + "\x1b[0m"
