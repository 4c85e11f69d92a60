"""Figures of quality and diversity of samples, on plain arrays with NumPy alone.

Features are float32 or float64 `[num, dim]`; images `[num, ...]` in any unit, flattened here. All sums are in float64.
"""

from typing import NamedTuple

import numpy as np

_ROWS = 512  # of a distance matrix at a time: 512 x 10,000 float64 is 40 MB


class Manifolds(NamedTuple):
    """Figures of `precision_recall_density_coverage`: each 0 to 1, but density may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def label_consistency(asked: np.ndarray, judged: np.ndarray) -> tuple[float, int, float]:
    """Share of samples that a classifier gives the label that was asked for.

    Args:
        asked: int `[num]`, the labels that samples were drawn for.
        judged: int `[num]`, what a classifier says of them.

    Returns:
        The share over all, the worst label, and the share of that label.
    """
    shares = {int(label): float(np.mean(judged[asked == label] == label)) for label in np.unique(asked)}
    worst = min(shares, key=lambda label: shares[label])
    return float(np.mean(asked == judged)), worst, shares[worst]


def within_class_spread(x: np.ndarray, label: np.ndarray, each: int | None = None) -> float:
    """Mean Euclidean distance between two different examples of one class, averaged over the classes.

    Args:
        x: `[num, ...]`.
        label: int `[num]`.
        each: examples of a class that count, the first ones; None for all.

    Returns:
        A distance in the units of `x`; 0 where every class is one image.
    """
    means = []
    for one in np.unique(label):
        members = _rows(x[label == one][:each])
        num = len(members)
        if num < 2:
            raise ValueError(f"A spread needs two examples of each class, class {one} has {num}.")
        total = sum(np.sqrt(block).sum() for _, block in _squared_distances(members, members))
        means.append(total / (num * (num - 1)))
    return float(np.mean(means))


def precision_recall_density_coverage(real: np.ndarray, generated: np.ndarray, k: int = 5) -> Manifolds:
    """How far two sets of points cover each other, by balls that reach to the k-th nearest neighbour.

    Args:
        real: `[num, dim]`.
        generated: `[num, dim]`, as many, for the figures depend on the number.
        k: which neighbour a ball reaches to; a point is not its own neighbour.

    Returns:
        `precision`: share of generated points in a ball of a real one; `recall`: share of real points in a ball of a
        generated one; `density`: mean number of real balls that a generated point lies in, over k; `coverage`: share
        of real points with a generated one in their own ball.

    References: Kynkaanniemi et al. (2019), https://arxiv.org/abs/1904.06991 (precision and recall); Naeem et al.
    (2020), https://arxiv.org/abs/2002.09797, equations 4 to 6 (density and coverage). A point on the edge of a ball
    lies outside, as in the authors' code.
    """
    real, generated = _rows(real), _rows(generated)
    if len(real) != len(generated):
        raise ValueError(f"The two sets must be of one size, got {len(real)} and {len(generated)}.")
    if not 0 < k < len(real):
        raise ValueError(f"k must be from 1 to {len(real) - 1}, one less than the points, got {k}.")
    real_radius, generated_radius = _kth_neighbour(real, k), _kth_neighbour(generated, k)
    precise, dense = np.zeros(len(generated), bool), 0
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for start, block in _squared_distances(real, generated):
        rows = slice(start, start + len(block))
        within_real = block < real_radius[rows, None]
        precise |= within_real.any(axis=0)
        dense += int(within_real.sum())
        recalled[rows] = (block < generated_radius).any(axis=1)
        covered[rows] = within_real.any(axis=1)
    density = dense / (k * len(generated))
    return Manifolds(float(precise.mean()), float(recalled.mean()), float(density), float(covered.mean()))


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared Frechet distance of the Gaussians fitted to two sets of points `[num, dim]`.

    |m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)), with the square root's trace from the eigenvalues of the symmetric
    C1^(1/2) C2 C1^(1/2).

    Reference: Dowson and Landau (1982); Heusel et al. (2017), https://arxiv.org/abs/1706.08500, equation 6.
    """
    first, second = _rows(first), _rows(second)
    mean_1, mean_2 = first.mean(axis=0), second.mean(axis=0)
    cov_1, cov_2 = (np.atleast_2d(np.cov(points, rowvar=False)) for points in (first, second))
    values, vectors = np.linalg.eigh(cov_1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_2 @ root), 0)).sum()
    return float(((mean_1 - mean_2) ** 2).sum() + np.trace(cov_1) + np.trace(cov_2) - 2 * cross)


def _rows(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float64).reshape(len(x), -1)


def _squared_distances(first: np.ndarray, second: np.ndarray):
    """Yield `(start, block)`: squared distances of rows from `start` on to all of `second`, `[up to 512, num]`."""
    norms = (second**2).sum(axis=1)
    same = first is second
    for start in range(0, len(first), _ROWS):
        rows = first[start : start + _ROWS]
        block = np.maximum((rows**2).sum(axis=1)[:, None] + norms - 2 * (rows @ second.T), 0)
        if same:  # rounding must not make a point its own distant neighbour
            block[np.arange(len(rows)), start + np.arange(len(rows))] = 0
        yield start, block


def _kth_neighbour(points: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each point to its k-th nearest other one, `[num]`."""
    # Column k, not k - 1: the nearest of all is the point itself.
    return np.concatenate([np.partition(block, k, axis=1)[:, k] for _, block in _squared_distances(points, points)])
