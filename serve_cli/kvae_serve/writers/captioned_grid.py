"""Lay out images as one picture with captions: a title, names of rows and columns, or a name above each image.

Captions are in the font that Pillow contains, which has ASCII characters only. Texts may come from a stranger's file:
accents are dropped, and a name with other characters is replaced.
"""

from __future__ import annotations

import bisect
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvae_serve.errors import RequestError
from kvae_serve.writers.grid import MAX_PIXELS

MIN_CELL = 56
"""Least height and width of an image in pixels, by default."""

MAX_SCALE = 64

_FEW_CELL, _FEW = 112, 5  # A picture of few columns has larger images.
_LONGEST_SIDE = 448
_PAPER, _INK, _FAINT = 240, 30, 110
_MARGIN = 8
_MAX_NAME, _MAX_CELL_NAME, _MIN_TITLE = 180, 110, 330
_PART_GAP = 2


@dataclass(frozen=True)
class PictureStyle:
    """Look of pictures.

    Attributes:
        scale: Pixels of the picture per pixel of the model, in each direction. None chooses it so that each image has
            at least 56 x 56 pixels; with `plain` it is 1.
        plain: Only the images, without captions.
    """

    scale: int | None = None
    plain: bool = False

    def __post_init__(self) -> None:
        if self.scale is not None and not 1 <= self.scale <= MAX_SCALE:
            raise RequestError(f"scale is {self.scale}; expected an integer from 1 to {MAX_SCALE}.")


@dataclass(frozen=True)
class Captions:
    """Texts of a picture. Empty ones take no space.

    Attributes:
        title: Parts of the title, which are joined by commas and wrapped.
        key: Further lines below the title, each with its colour, such as `("temperature", "#0072b2")`.
        corner: Name of what `rows` are, above them.
        rows: Name of each row.
        columns: Name of each column.
        cells: Name above each image.
        parts: Names of the parts of an image, from top to bottom, in front of each row.
    """

    title: Sequence[str] = ()
    key: Sequence[tuple[str, str]] = ()
    corner: str = ""
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    cells: Sequence[str] = ()
    parts: Sequence[str] = field(default=())


def ascii_name(text: object, replacement: str = "?") -> str:
    """Return a text as printable ASCII: without accents, or the replacement if it has other characters.

    Example:
        >>> ascii_name("Käse"), ascii_name("犬", "class 3")
        ('Kase', 'class 3')
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", str(text)[:200]) if not unicodedata.combining(c))
    return plain if plain and plain.isascii() and plain.isprintable() else replacement


def scale_of(style: PictureStyle, shape: Sequence[int], columns: int, num: int) -> int:
    """Return the factor that enlarges images.

    Args:
        style: The style; its `scale` is returned if it has one.
        shape: Height and width of an image.
        columns: Images per row.
        num: Number of images. The picture stays below `MAX_PIXELS` if the factor can be lowered.
    """
    if style.scale is not None or style.plain:
        return style.scale or 1
    height, width = shape[:2]
    shorter, longer = min(height, width), max(height, width)
    scale = max(math.ceil(MIN_CELL / shorter), round(_FEW_CELL / shorter) if columns < _FEW else 1)
    scale = min(scale, max(1, _LONGEST_SIDE // longer), MAX_SCALE)
    while scale > 1 and num * (scale * height + 20) * (scale * width + 8) > MAX_PIXELS:
        scale -= 1
    return scale


def balanced_columns(num: int, aspect: float = 1.0) -> int:
    """Return a number of columns with few empty places, so that a picture is about square or wider.

    Args:
        num: Number of images.
        aspect: Height of an image divided by its width.

    Example:
        >>> balanced_columns(16), balanced_columns(10), balanced_columns(47), balanced_columns(8, aspect=0.1)
        (4, 5, 8, 1)
    """
    least = min(num, math.ceil(math.sqrt(num * aspect)))
    return min(range(least, min(num, least + (least + 1) // 2) + 1), key=lambda columns: (-num % columns, columns))


def enlarged(images: np.ndarray, scale: int) -> np.ndarray:
    """Return images `[..., height, width, channels]` with each pixel as a square of `scale` pixels."""
    return images if scale == 1 else images.repeat(scale, axis=-3).repeat(scale, axis=-2)


def draw(images: np.ndarray, rows: Sequence[range], captions: Captions) -> np.ndarray:
    """Return the picture.

    Args:
        images: uint8 `[num, parts, height, width, channels]` of the final size; the parts of an image are stacked.
        rows: Indices of the images of each row.
        captions: Texts.

    Returns:
        uint8 `[picture_height, picture_width, channels]`.
    """
    from PIL import Image, ImageDraw

    _, num_parts, height, width, channels = images.shape
    text = _Text(12 if min(height, width) < 96 else 14)
    line = text.size + 4
    gap = max(4, min(height, width) // 20)
    # Images that are lower than a line of text have more space between them.
    part_pitch = max(height + _PART_GAP, line if captions.parts else 0)
    cell_height = max((num_parts - 1) * part_pitch + height, line if captions.rows else 0)
    num_columns = max(map(len, rows))
    names = [*captions.cells, *captions.columns]
    pitch = max(width, min(_MAX_CELL_NAME, max(map(text.width, names), default=0) + 4)) + gap
    side = max(map(text.width, [*captions.rows, *captions.parts, captions.corner]))
    left = _MARGIN + (min(side, _MAX_NAME) + gap + 2 if side else 0)
    both = bool(captions.rows and captions.parts)  # The name of the row is then above it.
    title = text.wrapped(captions.title, max(_MIN_TITLE, num_columns * pitch - gap + left - _MARGIN))
    head = _MARGIN + (len(title) + len(captions.key)) * line + (gap if title else 0)
    top = head + (line if captions.columns or captions.corner else 0)
    above = line if captions.cells or both else 0
    row_pitch = above + cell_height + (2 * gap if num_parts > 1 else gap)
    total_width = max(left + num_columns * pitch - gap, _MARGIN + max(map(text.width, title), default=0)) + _MARGIN
    for words, _ in captions.key:
        total_width = max(total_width, 2 * _MARGIN + text.width(words))
    canvas = np.full((top + len(rows) * row_pitch - gap + _MARGIN, total_width, channels), _PAPER, np.uint8)
    inset = (pitch - gap - width) // 2
    for row, members in enumerate(rows):
        for column, index in enumerate(members):
            x, y = left + column * pitch + inset, top + row * row_pitch + above
            for part in images[index]:
                canvas[y : y + height, x : x + width] = part
                y += part_pitch
    picture = Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)
    pencil = text.on(ImageDraw.Draw(picture), channels)
    for number, words in enumerate(title):
        pencil(words, _MARGIN, _MARGIN + number * line)
    for number, (words, colour) in enumerate(captions.key):
        pencil(words, _MARGIN, _MARGIN + (len(title) + number) * line, colour=colour)
    pencil(captions.corner, left - gap - 2, head, "right", side, _FAINT)
    for column, name in enumerate(captions.columns):
        pencil(name, left + column * pitch + (pitch - gap) // 2, head, "centre", pitch, _FAINT)
    for row, members in enumerate(rows):
        y = top + row * row_pitch
        if captions.rows:
            place = y if both else y + above + (cell_height - line) // 2
            pencil(captions.rows[row], left - gap - 2, place, "right", _MAX_NAME)
        for part, name in enumerate(captions.parts):
            place = y + above + part * part_pitch + (height - line) // 2
            pencil(name, left - gap - 2, place, "right", _MAX_NAME, _FAINT)
        for column, index in enumerate(members):
            if captions.cells:
                pencil(captions.cells[index], left + column * pitch + (pitch - gap) // 2, y, "centre", pitch - 2)
    return np.asarray(picture).reshape(canvas.shape)


class _Text:
    """Font of one size, measured and drawn."""

    def __init__(self, size: int) -> None:
        from PIL import ImageFont, features

        self.size = size
        # A Pillow without FreeType has only a bitmap font of one size.
        self._font: Any = ImageFont.load_default(size) if features.check("freetype2") else ImageFont.load_default()

    def width(self, words: str) -> int:
        return math.ceil(self._font.getlength(ascii_name(words))) if words else 0

    def fitted(self, words: str, width: int) -> str:
        """Return the text, cut with two points at its end if it is wider."""
        words = ascii_name(words)
        if self.width(words) <= width:
            return words
        kept = bisect.bisect_right(range(len(words)), width, key=lambda num: self.width(f"{words[:num]}.."))
        return f"{words[: max(0, kept - 1)]}.."

    def wrapped(self, parts: Sequence[str], width: int) -> list[str]:
        """Return lines of the parts, joined by commas."""
        lines: list[str] = []
        for part in parts:
            if lines and self.width(f"{lines[-1]}, {part}") <= width:
                lines[-1] += f", {part}"
            else:
                lines.append(self.fitted(part, width))
        return lines

    def on(self, pencil: Any, channels: int) -> Any:
        """Return a function that writes a text at a place."""

        def write(
            words: str, x: int, y: int, align: str = "left", width: int = 10**6, colour: int | str = _INK
        ) -> None:
            if not words:
                return
            words = self.fitted(words, width)
            x -= {"left": 0, "centre": self.width(words) // 2, "right": self.width(words)}[align]
            if isinstance(colour, int):
                colour = colour if channels == 1 else f"#{colour:02x}{colour:02x}{colour:02x}"
            pencil.text((x, y), words, fill=colour, font=self._font)

        return write
