"""Similarity of single columns: Kolmogorov-Smirnov for numbers, total variation for classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.sample_metrics.tables.columns import Columns, checked, is_number


def column_shapes(real: Any, samples: Any, columns: Columns) -> dict[str, float]:
    """Compute the similarity of each column's distribution in two sets of rows.

    A number has 1 minus the Kolmogorov-Smirnov statistic, with missing values above all others. A class has 1 minus the
    total variation distance. Without missing values these are KSComplement and TVComplement of SDMetrics.

    Args:
        real: Real rows, `[rows, columns]`.
        samples: Other rows, `[any, columns]`.
        columns: Description of the columns, see `kvae.sample_metrics.tables`.

    Returns:
        A similarity from 0 to 1 by column name; 1 if the distributions are equal.

    Raises:
        InputDataError: The rows do not fit the columns.

    Example:
        >>> columns = [{"name": "age", "kind": "numeric"}, {"name": "sex", "kind": "categorical", "classes": "mf"}]
        >>> kvae.sample_metrics.column_shapes([[30, 0], [40, 1]], [[30, 0], [35, 0]], columns)
        {'age': 0.5, 'sex': 0.5}
    """
    real, samples = checked(real, columns, "real"), checked(samples, columns, "samples")
    similarity = {}
    for at, column in enumerate(columns):
        one, other = real[:, at], samples[:, at]
        distance = _kolmogorov_smirnov(one, other) if is_number(column) else _total_variation(one, other)
        similarity[str(column["name"])] = 1.0 - distance
    return similarity


def _kolmogorov_smirnov(one: np.ndarray, other: np.ndarray) -> float:
    places = np.unique(np.concatenate([one, other]))
    places = places[~np.isnan(places)]
    # NaN sorts last, so a difference in the share of missing values counts.
    below = [np.searchsorted(np.sort(each), places, side="right") / len(each) for each in (one, other)]
    return float(np.abs(below[0] - below[1]).max(initial=0.0))


def _total_variation(one: np.ndarray, other: np.ndarray) -> float:
    values, index = np.unique(np.concatenate([one, other]), return_inverse=True)
    counts = (np.bincount(part, minlength=len(values)) for part in (index[: len(one)], index[len(one) :]))
    shares = [count / count.sum() for count in counts]
    return float(0.5 * np.abs(shares[0] - shares[1]).sum())
