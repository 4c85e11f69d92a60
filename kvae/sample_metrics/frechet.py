"""Frechet distance of the Gaussians fitted to two sets of points."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.sample_metrics.distances import same_space


def frechet_distance(first: Any, second: Any) -> float:
    """Compute the squared Frechet (2-Wasserstein) distance of the Gaussians fitted to two sets of points.

    |m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)), with covariances over n - 1 and the trace of the square root from
    the eigenvalues of the symmetric C1^(1/2) C2 C1^(1/2), which also exist for singular covariances. The estimate is
    biased upwards, more for fewer points: compare only sets of the same size in the same features.

    Args:
        first: numbers `[num, dim]`.
        second: `[other, dim]`.

    Returns:
        A number of at least 0, in squared units of the points.

    References: Dowson and Landau (1982), doi:10.1016/0047-259X(82)90077-X; Heusel et al. (2017),
    https://arxiv.org/abs/1706.08500, equation 6.

    Example:
        >>> points = np.random.default_rng(0).standard_normal((500, 3))
        >>> round(kvae.sample_metrics.frechet_distance(points, points + [2, 0, 0]), 6)
        4.0
    """
    first, second = same_space(first, second, ("The first set", "the second set"))
    difference = first.mean(axis=0) - second.mean(axis=0)
    cov_1, cov_2 = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (first, second))
    values, vectors = np.linalg.eigh(cov_1)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    inner = root @ cov_2 @ root
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh((inner + inner.T) / 2.0), 0.0)).sum()
    return max(0.0, float(difference @ difference + np.trace(cov_1) + np.trace(cov_2) - 2.0 * cross))
