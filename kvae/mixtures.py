"""Mixtures of diagonal Gaussians, fitted to points by expectation maximisation."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Mixture(NamedTuple):
    """Gaussians of one or several groups of points, which share their weights.

    Attributes:
        mean: float64 `[groups, num_components, dim]`.
        log_var: Log variances, same shape.
        log_weights: float64 `[num_components]`.
    """

    mean: np.ndarray
    log_var: np.ndarray
    log_weights: np.ndarray


def fit(groups: Sequence[Any], num_components: int, seed: int = 0, num_iterations: int = 40) -> Mixture:
    """Fit a mixture to each group of points by expectation maximisation. All mixtures have the same weights.

    Args:
        groups: Points of each group, `[num, dim]`, at least one per component.
        num_components: Number of Gaussians per group.
        seed: Seed of the initial means.
        num_iterations: Number of iterations.

    Raises:
        ValueError: A group has fewer points than components.

    Example:
        >>> import numpy as np
        >>> mixture = fit([np.repeat([[-3.0], [5.0]], 50, axis=0)], num_components=2)
        >>> sorted(mixture.mean[0, :, 0].round(3).tolist())
        [-3.0, 5.0]
    """
    points = [np.asarray(group, "float64") for group in groups]
    for each in points:
        if len(each) < num_components:
            raise ValueError(f"z has {len(each)} points; expected at least {num_components}, one per component.")
    dim = points[0].shape[1]
    squares = [np.square(each) for each in points]
    spread = [each.var(axis=0) + 1e-6 for each in points]
    mean = np.array([_spread_points(each, num_components, seed) for each in points])
    variance = np.array([np.tile(each / num_components ** (2.0 / dim), (num_components, 1)) for each in spread])
    log_weights = np.full(num_components, -math.log(num_components))
    for _ in range(num_iterations):
        total = np.zeros(num_components)
        for group, z in enumerate(points):
            # log N(z; mean, variance) as products of matrices.
            precision = 1.0 / variance[group]
            terms = np.log(variance[group]) + np.square(mean[group]) * precision
            share = log_weights - 0.5 * terms.sum(axis=1)
            share = share + z @ (mean[group] * precision).T - 0.5 * squares[group] @ precision.T
            share = np.exp(share - share.max(axis=1, keepdims=True))
            share /= share.sum(axis=1, keepdims=True)
            mass = share.sum(axis=0) + 1e-9
            mean[group] = share.T @ z / mass[:, None]
            around = share.T @ squares[group] / mass[:, None] - np.square(mean[group])
            variance[group] = np.maximum(around, 1e-3 * spread[group])
            total += mass
        log_weights = np.log(total / total.sum())
    return Mixture(mean, np.log(variance), log_weights)


def _spread_points(points: np.ndarray, num: int, seed: int) -> np.ndarray:
    """Choose points that are far from each other (k-means++, Arthur and Vassilvitskii 2007)."""
    random = np.random.default_rng(seed)
    chosen = [points[random.integers(len(points))]]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < num:
        nearest = np.minimum(nearest, np.square(points - chosen[-1]).sum(axis=1))
        total = nearest.sum()
        shares = nearest / total if total else None  # All points are chosen already.
        chosen.append(points[random.choice(len(points), p=shares)])
    return np.array(chosen)
