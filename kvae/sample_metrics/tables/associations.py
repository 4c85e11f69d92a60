"""Associations of pairs of columns: similarity between two sets of rows, and a matrix for one set."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.sample_metrics.tables.columns import Columns, checked, codes, is_number

MAX_PAIRS = 2000
"""Number of pairs above which a random subset is used."""


def pair_trends(real: Any, samples: Any, columns: Columns, seed: int = 0) -> dict[tuple[str, str], float]:
    """Compute the similarity of each pair of columns in two sets of rows.

    Two numbers have 1 - abs(r1 - r2) / 2 of their Spearman correlations, over rows in which both are present. Other
    pairs have 1 minus the total variation distance of their joint distribution, numbers in deciles of the real rows.
    These are CorrelationSimilarity and ContingencySimilarity of SDMetrics.

    Args:
        real: Real rows, `[rows, columns]`.
        samples: Other rows, `[any, columns]`.
        columns: Description of the columns, see `kvae.sample_metrics.tables`.
        seed: Seed of the 2,000 pairs that are used if there are more.

    Returns:
        A similarity from 0 to 1 by pair of names; 1 if the associations are equal.

    Raises:
        InputDataError: The rows do not fit the columns.

    Example:
        >>> columns = [{"name": "age", "kind": "numeric"}, {"name": "pay", "kind": "numeric"}]
        >>> found = kvae.sample_metrics.pair_trends([[1, 1], [2, 2]], [[1, 2], [2, 1]], columns)
        >>> {pair: round(value, 3) for pair, value in found.items()}
        {('age', 'pay'): 0.0}
    """
    real, samples = checked(real, columns, "real"), checked(samples, columns, "samples")
    coded, sizes = codes(real, [samples], columns)
    ranked = [_ranks(rows, columns) for rows in (real, samples)]
    similarity = {}
    for one, other in _pairs(len(columns), seed):
        if is_number(columns[one]) and is_number(columns[other]):
            first, second = (_correlation(rows, one, other) for rows in ranked)
            value = 1.0 - abs(first - second) / 2.0
        else:
            shares = [_joint(rows[:, one], rows[:, other], sizes[one], sizes[other]) for rows in coded]
            value = 1.0 - 0.5 * float(np.abs(shares[0] - shares[1]).sum())
        similarity[str(columns[one]["name"]), str(columns[other]["name"])] = value
    return similarity


def association_matrix(x: Any, columns: Columns, real: Any = None) -> np.ndarray:
    """Compute the association of all pairs of columns, float64 `[columns, columns]`.

    Two numbers have their Spearman correlation, -1 to 1. Other pairs have Cramer's V, 0 to 1, numbers in deciles.

    Args:
        x: Rows, `[rows, columns]`.
        columns: Description of the columns, see `kvae.sample_metrics.tables`.
        real: Rows that define the deciles; by default `x`.

    Example:
        >>> columns = [{"name": "age", "kind": "numeric"}, {"name": "pay", "kind": "numeric"}]
        >>> kvae.sample_metrics.association_matrix([[1, 2], [2, 1]], columns).round(3).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    x = checked(x, columns, "x")
    (_, coded), sizes = codes(x if real is None else checked(real, columns, "real"), [x], columns)
    ranked, matrix = _ranks(x, columns), np.eye(len(columns))
    for one in range(len(columns)):
        for other in range(one):
            if is_number(columns[one]) and is_number(columns[other]):
                value = _correlation(ranked, one, other)
            else:
                value = _cramers_v(_joint(coded[:, one], coded[:, other], sizes[one], sizes[other]))
            matrix[one, other] = matrix[other, one] = value
    return matrix


def _pairs(num: int, seed: int) -> list[tuple[int, int]]:
    first, second = np.triu_indices(num, 1)
    if len(first) > MAX_PAIRS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(first), MAX_PAIRS, replace=False))
        first, second = first[chosen], second[chosen]
    return list(zip(first.tolist(), second.tolist(), strict=True))


def _ranks(rows: np.ndarray, columns: Columns) -> np.ndarray:
    """Return the mean ranks of complete columns of numbers; other columns as they are."""
    ranked = rows.copy()
    for at, column in enumerate(columns):
        if is_number(column) and not np.isnan(rows[:, at]).any():
            ranked[:, at] = _mean_ranks(rows[:, at])
    return ranked


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, index, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2.0)[index]


def _correlation(ranked: np.ndarray, one: int, other: int) -> float:
    """Return the Spearman correlation of two columns of `_ranks`; 0 if one is constant."""
    pair = ranked[:, [one, other]]
    missing = np.isnan(pair).any(axis=1)
    if missing.any():
        pair = pair[~missing]
        pair = np.stack([_mean_ranks(values) for values in pair.T], axis=1)
    if len(pair) < 2 or (pair == pair[0]).all(axis=0).any():
        return 0.0
    return float(np.corrcoef(pair.T)[0, 1])


def _joint(one: np.ndarray, other: np.ndarray, size: int, other_size: int) -> np.ndarray:
    """Return the joint distribution of two columns of codes, `[size, other_size]`."""
    counts = np.bincount(one * other_size + other, minlength=size * other_size)
    return counts.reshape(size, other_size) / len(one)


def _cramers_v(joint: np.ndarray) -> float:
    """Return Cramer's V (1946) of a joint distribution; 0 if one of the columns is constant."""
    joint = joint[joint.sum(axis=1) > 0][:, joint.sum(axis=0) > 0]
    smaller = min(joint.shape) - 1
    expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    return float(np.sqrt((np.square(joint - expected) / expected).sum() / smaller)) if smaller else 0.0
