"""Search of images and texts in pictures."""

from __future__ import annotations

import numpy as np


def places(picture: np.ndarray, part: np.ndarray) -> list[tuple[int, int]]:
    """Return the top left corners of all copies of `part` in a picture, both `[height, width]` or with channels."""
    height, width = part.shape[:2]
    rows, columns = picture.shape[0] - height + 1, picture.shape[1] - width + 1
    if rows < 1 or columns < 1:
        return []
    alike = np.ones((rows, columns), bool)
    for y in np.linspace(0, height - 1, min(height, 7)).astype(int):  # Only few places pass these pixels.
        for x in np.linspace(0, width - 1, min(width, 7)).astype(int):
            same = picture[y : y + rows, x : x + columns] == part[y, x]
            alike &= same.all(axis=-1) if picture.ndim == 3 else same
    return [(y, x) for y, x in np.argwhere(alike).tolist() if (picture[y : y + height, x : x + width] == part).all()]


def text_places(picture: np.ndarray, words: str, ink: int = 30, size: int = 12) -> list[tuple[int, int]]:
    """Return the places of a caption in a gray picture."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size)
    _, top, right, bottom = map(int, font.getbbox(words))
    image = Image.new("L", (right + 2, bottom + 2), 240)
    ImageDraw.Draw(image).text((0, 0), words, fill=ink, font=font)
    return places(picture, np.asarray(image)[top:bottom, :right])
