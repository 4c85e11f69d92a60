"""Line plots of sequences, drawn with Pillow: steps to the right, one line per feature."""

from __future__ import annotations

import numpy as np

SHAPE = (96, 160, 3)
"""Height, width and channels of a plot."""

_MARGIN, _OVERSAMPLING = 6, 3
# The palette of Okabe and Ito (2008), which colour-blind readers can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")


def limits(x: np.ndarray) -> np.ndarray:
    """Return the lowest and the highest value of each feature, float64 `[2, features]`, of x `[num, steps, features]`.

    A plot between these limits shows every value. A constant feature gets limits around its value.
    """
    bounds = np.stack([x.min(axis=(0, 1)), x.max(axis=(0, 1))]).astype(np.float64)
    return bounds + np.where(bounds[0] == bounds[1], 0.5, 0.0) * [[-1.0], [1.0]]


def draw(x: np.ndarray, bounds: np.ndarray, scale: int = 1) -> np.ndarray:
    """Draw each sequence as a picture with a white background.

    Args:
        x: `[num, steps, features]`.
        bounds: Values at the bottom and the top of the plot, `[2, features]`: each feature has its scale.
        scale: Factor of the height and the width.

    Returns:
        uint8 `[num, height, width, 3]`: `SHAPE` times the scale.
    """
    return np.stack([_plot(sequence, bounds, scale) for sequence in x])


def _plot(sequence: np.ndarray, bounds: np.ndarray, scale: int) -> np.ndarray:
    from PIL import Image, ImageDraw

    height, width = (scale * side for side in SHAPE[:2])
    image = Image.new("RGB", (width * _OVERSAMPLING, height * _OVERSAMPLING), "white")
    pencil = ImageDraw.Draw(image)
    horizontal = _MARGIN + np.linspace(0.0, 1.0, len(sequence)) * (width - 1 - 2 * _MARGIN)
    heights = (sequence - bounds[0]) / (bounds[1] - bounds[0])
    vertical = height - 1 - _MARGIN - np.clip(heights, 0.0, 1.0) * (height - 1 - 2 * _MARGIN)
    for feature in range(sequence.shape[1]):
        points = _OVERSAMPLING * (np.stack([horizontal, vertical[:, feature]], axis=1) + 0.5)
        colour = COLOURS[feature % len(COLOURS)]
        if len(points) == 1:  # A line needs two points.
            points = points + _OVERSAMPLING * np.array([[-_MARGIN, 0.0], [_MARGIN, 0.0]])
        pencil.line([tuple(point) for point in points.tolist()], fill=colour, width=_OVERSAMPLING + 1, joint="curve")
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))
