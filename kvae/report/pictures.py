"""Images as PNG in `data:` addresses."""

from __future__ import annotations

import base64

import numpy as np

from kvae.report.markup import text
from kvae_serve.sealed.manifest import Data
from kvae_serve.writers import grid, png


def tile(images: np.ndarray, data: Data, about: str, columns: int | None = None) -> str:
    """Return images, `[num, height, width, channels]` in data units, as one `<img>`; row by row.

    Of images that have neither one nor three channels, the first channel is shown.
    """
    if images.shape[-1] not in (1, 3):
        images = images[..., :1]
    return _image(grid.grid(images, columns, data.range), about)


def _image(pixels: np.ndarray, about: str) -> str:
    height, width = pixels.shape[:2]
    address = base64.b64encode(png.encode(pixels)).decode()
    return f'<img src="data:image/png;base64,{address}" width="{width}" height="{height}" alt="{text(about, 200)}">'
