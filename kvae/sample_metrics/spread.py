"""How much the examples of one class differ from each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.sample_metrics.distances import points, squared_distances
from kvae_serve.errors import InputDataError


def within_class_spread(x: Any, label: Any) -> float:
    """Mean Euclidean distance between two different examples of one class, averaged over the classes.

    On pixels it notices a model that draws one good image for each class even where a classifier does not. The mean
    of p(x given z) is smoother than data, so a little less than that of real images is no fault.

    Args:
        x: numbers `[num, ...]`.
        label: int `[num]`, at least two examples of each class.

    Returns:
        A distance in the units of `x`; 0 where every class is one image.
    """
    x, label = points(x, "x"), np.asarray(label)
    if label.shape != (len(x),):
        raise InputDataError(f"label must be [{len(x)}], one for each example, got {list(label.shape)}.")
    means = []
    for one in np.unique(label):
        members = x[label == one]
        num = len(members)
        if num < 2:
            raise InputDataError(f"A spread needs two examples of each class, class {one} has {num}.")
        members -= members.mean(axis=0)
        total = sum(float(np.sqrt(block).sum()) for _, block in squared_distances(members, members))
        means.append(total / (num * (num - 1)))
    return float(np.mean(means))
