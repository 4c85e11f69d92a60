"""Show images as text.

On a terminal with true colour, or 256 colours, each character cell shows two pixels, one above the other. Elsewhere one
ASCII character stands for the mean of the two.
"""

from __future__ import annotations

import os
from typing import TextIO

import numpy as np

from kvae_serve.sealed.manifest import Range
from kvae_serve.writers.grid import to_uint8

PLAIN_WIDTH = 80
GAP = 2
"""Columns between two images, in characters."""

TRUE_COLOUR = 2**24
"""Colours of a terminal that shows any RGB colour."""

# Terminals with true colour that do not all set COLORTERM, for example over SSH.
_TRUE_COLOUR_TERMS = ("-direct", "kitty", "alacritty", "ghostty", "wezterm", "foot")

_RAMP = np.array(list(" .:-=+*#%@"))
_MIN_SIDE = 12
_MAX_LINES = 44


def write(stream: TextIO, images: np.ndarray, value_range: Range | None, per_row: int | None = None) -> None:
    """Write images to a stream, in the width and colour that it shows. See `render`."""
    width, colours = terminal(stream)
    stream.write(render(images, value_range, width, colours, per_row))


def render(images: np.ndarray, value_range: Range | None, width: int, colours: int, per_row: int | None = None) -> str:
    """Return images as lines of text.

    Many images are shrunk by an integer factor as long as they stay readable.

    Args:
        images: `[num, height, width, channels]` in data units, 1 or 3 channels.
        value_range: Data values that become black and white. None uses the lowest and highest value of `images`.
        width: Most columns to fill, in characters.
        colours: Colours of the terminal: 0 for ASCII, else half-block characters in 256 or in `TRUE_COLOUR` colours.
        per_row: Images per row, if they fit.
    """
    pixels = to_uint8(images, value_range)
    num, height, image_width, _ = pixels.shape
    for factor in range(1, max(height, image_width) + 1):
        columns = max(1, (width + GAP) // (-(-image_width // factor) + GAP))
        columns = min(columns, num, per_row if per_row and per_row <= columns else num)
        lines = -(-num // columns) * (-(-height // factor) // 2 + 1)
        fits = -(-image_width // factor) <= width
        too_small_next = min(height, image_width) // (factor + 1) < _MIN_SIDE
        if fits and (lines <= _MAX_LINES or too_small_next):
            break
    if not per_row:
        columns = -(-num // -(-num // columns))  # as many in the last row as in the others, where possible
    pixels = _shrink(pixels, factor)
    rows = [pixels[start : start + columns] for start in range(0, num, columns)]
    return "\n\n".join("\n".join(_lines(row, colours)) for row in rows) + "\n"


def terminal(stream: TextIO) -> tuple[int, int]:
    """Return the number of columns that a stream shows, and of its colours: 0, 256 or `TRUE_COLOUR`."""
    if not stream.isatty():
        return PLAIN_WIDTH, 0
    import shutil

    width = shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns
    utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
    # Windows does not set TERM. Elsewhere a terminal without it may not support colour.
    kind = os.environ.get("TERM", "windows" if os.name == "nt" else "")
    if not utf8 or os.environ.get("NO_COLOR") or kind in ("", "dumb"):
        return width, 0
    if (
        os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit")
        or kind == "windows"
        or any(name in kind for name in _TRUE_COLOUR_TERMS)
    ):
        return width, TRUE_COLOUR
    return width, 256 if "256color" in kind else 0


def _shrink(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Average squares of `factor` pixels. The last pixels are repeated to fill squares at the edges."""
    if factor == 1:
        return pixels
    _, height, width, _ = pixels.shape
    pad = ((0, 0), (0, -height % factor), (0, -width % factor), (0, 0))
    padded = np.pad(pixels.astype(np.float64), pad, mode="edge")
    num, height, width, channels = padded.shape
    squares = padded.reshape(num, height // factor, factor, width // factor, factor, channels)
    return np.rint(squares.mean((2, 4))).astype(np.uint8)


def _lines(row: np.ndarray, colours: int) -> list[str]:
    """Return the lines of images side by side, uint8 `[num, height, width, channels]`."""
    if row.shape[1] % 2:
        row = np.pad(row, ((0, 0), (0, 1), (0, 0), (0, 0)))
    if not colours:
        cells = row.astype(np.float64).reshape(row.shape[0], row.shape[1] // 2, 2, row.shape[2], -1).mean((2, 4))
        characters = _RAMP[np.rint(cells / 255 * (len(_RAMP) - 1)).astype(int)]
        return [
            (" " * GAP).join("".join(image[y]) for image in characters).rstrip() for y in range(characters.shape[1])
        ]
    rgb = np.broadcast_to(row, (*row.shape[:3], 3))
    codes = rgb.tolist() if colours == TRUE_COLOUR else _palette_index(rgb).tolist()
    return [
        (" " * GAP).join(_half_blocks(image[y], image[y + 1]) for image in codes) for y in range(0, row.shape[1], 2)
    ]


def _palette_index(rgb: np.ndarray) -> np.ndarray:
    """Return the nearest of the 24 grays, or of the 6 x 6 x 6 colours, in the palette of 256 colours `[..., 1]`.

    Reference: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html (the file 256colres.h of xterm).
    """
    values = rgb.astype(np.int64)
    levels = np.array([0, 95, 135, 175, 215, 255])
    steps = np.abs(values[..., None] - levels).argmin(axis=-1)
    middle = (values.min(axis=-1) + values.max(axis=-1)) / 2
    gray = np.clip(np.rint((middle - 8) / 10), 0, 23).astype(np.int64)
    errors = [np.abs(values - each).max(axis=-1) for each in (levels[steps], 8 + 10 * gray[..., None])]
    return np.where(errors[1] < errors[0], 232 + gray, 16 + steps @ np.array([36, 6, 1]))[..., None]


def _half_blocks(upper: list[list[int]], lower: list[list[int]]) -> str:
    """Return cells with the upper pixel as foreground and the lower as background, without repeated colour codes.

    A pixel is its red, green and blue, or its index in the palette of 256 colours.
    """
    parts, last = [], None
    for top, bottom in zip(upper, lower, strict=True):
        if (top, bottom) != last:
            kind = 2 if len(top) == 3 else 5
            parts.append(f"\x1b[38;{kind};{';'.join(map(str, top))};48;{kind};{';'.join(map(str, bottom))}m")
            last = (top, bottom)
        parts.append("▀")
    return "".join(parts) + "\x1b[0m"
