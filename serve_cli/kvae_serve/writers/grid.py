"""Images laid out as one picture."""

from __future__ import annotations

import numpy as np

GAP = 2
"""Pixels between two images of a grid."""


def to_uint8(x: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """Map data units to 0 to 255, rounded to the nearest; what lies outside the range is cut off.

    Args:
        x: values in data units, any shape.
        value_range: what becomes 0 and 255; None takes the lowest and highest value of `x`.
    """
    if value_range is None:
        value_range = (float(x.min()), float(x.max())) if x.size else (0.0, 1.0)
    low, high = value_range
    if (low, high) == (0, 255):
        scaled = np.asarray(x)
    else:
        scaled = (np.asarray(x, np.float64) - low) * (255.0 / ((high - low) or 1.0))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def grid(
    images: np.ndarray, columns: int | None = None, value_range: tuple[float, float] | None = (0, 255)
) -> np.ndarray:
    """Tile images row by row into one picture, with a dark gap between them.

    Args:
        images: float `[num, height, width, channels]` in data units.
        columns: images in a row; None makes the grid about square.
        value_range: the data units that become black and white; None takes those of `images`.

    Returns:
        uint8 `[grid_height, grid_width, channels]`.
    """
    num, height, width, channels = images.shape
    if num < 1:
        raise ValueError("A grid needs at least one image.")
    columns = min(num, columns or int(np.ceil(np.sqrt(num))))
    rows = -(-num // columns)
    pixels = to_uint8(images, value_range)
    step_y, step_x = height + GAP, width + GAP
    picture = np.zeros((rows * step_y - GAP, columns * step_x - GAP, channels), np.uint8)
    for index in range(num):
        y, x = index // columns * step_y, index % columns * step_x
        picture[y : y + height, x : x + width] = pixels[index]
    return picture
