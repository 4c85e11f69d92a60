"""Lay out images as one picture."""

from __future__ import annotations

import math

import numpy as np

GAP = 2
"""Pixels between two images of a plain grid."""

MAX_PIXELS = 2**26
"""Pixels of the largest picture that most programs, and the readers here, can open."""


class Grid:
    """Picture of `num` images in rows of `columns`, with a dark gap between them, filled from the top left.

    Attributes:
        pixels: uint8 `[grid_height, grid_width, channels]`.
    """

    def __init__(self, num: int, columns: int, image_shape: tuple[int, int, int]) -> None:
        height, width, channels = image_shape
        self._columns, self._image_shape, self._filled = columns, image_shape, 0
        rows = math.ceil(num / columns)
        size = (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels)
        self.pixels = np.zeros(size, np.uint8)

    def add(self, images: np.ndarray) -> None:
        """Add the next images, uint8 `[num, height, width, channels]`."""
        height, width, _ = self._image_shape
        for image in images:
            row, column = divmod(self._filled, self._columns)
            y, x = row * (height + GAP), column * (width + GAP)
            self.pixels[y : y + height, x : x + width] = image
            self._filled += 1


def grid(
    images: np.ndarray, columns: int | None = None, value_range: tuple[float, float] | None = (0, 255)
) -> np.ndarray:
    """Tile images row by row into one picture, with a dark gap between them.

    Args:
        images: float `[num, height, width, channels]` in data units.
        columns: Number of images per row. By default the grid is about square.
        value_range: Data values that become black and white. None uses the lowest and highest value of `images`.

    Returns:
        uint8 `[grid_height, grid_width, channels]`.
    """
    num = len(images)
    if num < 1:
        raise ValueError("A grid needs at least one image.")
    picture = Grid(num, min(num, columns or math.ceil(math.sqrt(num))), images.shape[1:])
    picture.add(to_uint8(images, value_range))
    return picture.pixels


def to_uint8(x: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """Map data values to integers from 0 to 255. Values outside the range are clipped.

    Args:
        x: Values in data units, any shape.
        value_range: Data values that become 0 and 255. None uses the lowest and highest value of `x`.
    """
    if value_range is None:
        value_range = (float(x.min()), float(x.max())) if x.size else (0.0, 1.0)
    low, high = value_range
    if (low, high) == (0, 255):
        scaled = np.asarray(x)
    else:
        scaled = (np.asarray(x, np.float64) - low) * (255.0 / ((high - low) or 1.0))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
