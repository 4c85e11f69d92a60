"""Heat maps of images."""

from __future__ import annotations

import numpy as np

from kvae_serve.writers import heat


def panel(values: np.ndarray) -> np.ndarray:
    """Return the heat map of one image of 84 x 84 pixels, uint8 `[84, 84, 3]`."""
    images = np.zeros((1, 2, 84, 84, 1), np.uint8)
    return heat.picture(images, values[None])[:, -84:].astype(int)


def test_negative_nats_of_a_density_have_different_colors():
    values = np.full((84, 84), -5.0)
    values[:, 42:] = -1.0
    left, right = panel(values)[0, 0], panel(values)[0, -1]
    assert left.sum() < 10  # the coldest color
    assert right.sum() > 600  # the hottest


def test_scale_of_positive_nats_starts_at_0():
    values = np.full((84, 84), 1.0)
    values[:, 42:] = 2.0
    expected = heat.colors(np.array([0.5, 1.0]))
    assert (panel(values)[0, [0, -1]] == expected).all()


def test_image_without_nats_is_cold():
    assert panel(np.zeros((84, 84))).max() < 10
