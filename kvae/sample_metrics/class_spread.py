"""Diversity within a class: mean distance of two examples of a class."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.sample_metrics.distances import points, squared_distances
from kvae_serve.errors import InputDataError


def within_class_spread(x: Any, label: Any) -> float:
    """Compute the mean Euclidean distance of two different examples of a class, averaged over classes.

    On pixels it detects a model that draws a single good image per class, which a classifier cannot. The mean of
    p(x given z) is smoother than data, so a value slightly below that of real images is expected.

    Args:
        x: numbers `[num, ...]`.
        label: int `[num]`, at least two examples of each class.

    Returns:
        A distance in the units of `x`; 0 if all images of each class are equal.

    Example:
        >>> kvae.sample_metrics.within_class_spread([[0.0], [2.0], [5.0], [9.0]], [0, 0, 1, 1])
        3.0
    """
    x, label = points(x, "x"), np.asarray(label)
    if label.shape != (len(x),):
        raise InputDataError(f"label has the shape {list(label.shape)}, expected [{len(x)}]: one per example.")
    means = []
    for one in np.unique(label):
        members = x[label == one]
        num = len(members)
        if num < 2:
            raise InputDataError(f"Class {one} has {num} examples; a spread needs at least 2 of each class.")
        members -= members.mean(axis=0)
        total = sum(float(np.sqrt(block).sum()) for _, block in squared_distances(members, members))
        means.append(total / (num * (num - 1)))
    return float(np.mean(means))
