"""Maximum mean discrepancy: a distance of two distributions with an unbiased estimate."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.sample_metrics.distances import blocks, points
from kvae_serve.errors import InputDataError


def squared_mmd(first: Any, second: Any) -> float:
    """Compute the squared maximum mean discrepancy with the cubic kernel k(a, b) = (a.b / dim + 1)^3.

    The unbiased estimator (a U-statistic): the mean of k over pairs of two different points of the first set, plus
    that of the second, minus twice that over pairs of one point of each. Its mean is 0 for equal distributions, so it
    can be negative. The kernel compares means, covariances and third moments. For features of an Inception network it
    is known as the kernel inception distance.

    Args:
        first: numbers `[num, dim]`, at least 2.
        second: `[other, dim]`, at least 2.

    Returns:
        A number in units of the kernel, which depend on the scale of the points.

    References: Gretton et al. (2012), https://jmlr.org/papers/v13/gretton12a.html, equation 3; Binkowski et al.
    (2018), https://arxiv.org/abs/1801.01401, section 3.

    Example:
        >>> points = np.random.default_rng(0).standard_normal((200, 2))
        >>> kvae.sample_metrics.squared_mmd(points, points + 1) > 1
        True
    """
    first, second = points(first, "The first set"), points(second, "The second set")
    if first.shape[1] != second.shape[1]:
        raise InputDataError(
            f"The sets have {first.shape[1]} and {second.shape[1]} dimensions. Use the same features for both."
        )
    within = sum(
        (_kernel_sum(each, each) - _diagonal(each)) / (len(each) * (len(each) - 1)) for each in (first, second)
    )
    return float(within - 2.0 * _kernel_sum(first, second) / (len(first) * len(second)))


def _kernel_sum(first: np.ndarray, second: np.ndarray) -> float:
    total = 0.0
    for rows in blocks(len(first), len(second)):
        products = first[rows] @ second.T / first.shape[1] + 1.0
        total += float((products * products * products).sum())
    return total


def _diagonal(each: np.ndarray) -> float:
    return float(((np.square(each).sum(axis=1) / each.shape[1] + 1.0) ** 3).sum())
