"""Heat maps beside images: where -log p(x|z) of an image comes from."""

from __future__ import annotations

import numpy as np

from kvae_serve.writers.grid import GAP

_STOPS = np.array(
    [(0, 0, 4), (50, 10, 94), (120, 28, 109), (188, 55, 84), (237, 105, 37), (251, 180, 26), (252, 255, 164)]
)
"""Colors at equal steps from cold to hot: the palette inferno of matplotlib."""

_HOTTEST = 0.995
_SMALLEST_SIDE = 84


def picture(images: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay out each example, its reconstruction and its heat map in one row.

    Args:
        images: uint8 `[rows, 2, height, width, channels]`: example and reconstruction.
        heat: float `[rows, height, width]`, in nats. All rows share one scale, up to the 99.5 % quantile. It starts at
            0, or at the 0.5 % quantile if that is negative, as -log of a density can be.

    Returns:
        uint8 `[picture_height, picture_width, 3]`. Small images are enlarged.
    """
    rows, _, height, width, _ = images.shape
    bottom, top = np.quantile(heat, (1 - _HOTTEST, _HOTTEST))
    bottom = min(bottom, 0.0)
    shares = (heat - bottom) / max(top - bottom, 1e-9)
    panels = [*np.moveaxis(np.broadcast_to(images, (rows, 2, height, width, 3)), 1, 0), colors(shares)]
    times = max(1, -(-_SMALLEST_SIDE // max(height, width)))
    tall, wide = height * times, width * times
    canvas = np.full((rows * (tall + GAP) - GAP, 3 * (wide + GAP) - GAP, 3), 255, np.uint8)
    for at, panel in enumerate(panels):
        enlarged = panel.repeat(times, 1).repeat(times, 2)
        for row in range(rows):
            y, x = row * (tall + GAP), at * (wide + GAP)
            canvas[y : y + tall, x : x + wide] = enlarged[row]
    return canvas


def colors(values: np.ndarray) -> np.ndarray:
    """Map numbers from 0 to 1 to colors, uint8 `[..., 3]`. Numbers outside are clipped."""
    at = np.clip(values, 0, 1) * (len(_STOPS) - 1)
    steps = np.arange(len(_STOPS))
    return np.stack([np.interp(at, steps, channel) for channel in _STOPS.T], -1).round().astype(np.uint8)
