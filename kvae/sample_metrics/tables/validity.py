"""Validity of rows: values that the training rows could have, and classes that never occur."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.sample_metrics.tables.columns import Columns, checked, is_number

_MAX_DECIMALS = 6


def valid_cells(train: Any, x: Any, columns: Columns) -> np.ndarray:
    """Find values that agree with the training rows in type, bounds and classes.

    A number is valid from the lowest to the highest training value, with at most as many decimals. A missing value is
    valid if the column has missing training values. A class is valid if it occurs in the training rows.

    Args:
        train: Training rows, `[rows, columns]`.
        x: Rows to check, `[any, columns]`.
        columns: Description of the columns, see `kvae.sample_metrics.tables`.

    Returns:
        bool `[any, columns]`.

    Example:
        >>> columns = [{"name": "age", "kind": "numeric"}]
        >>> kvae.sample_metrics.valid_cells([[20], [60]], [[33], [33.5], [61]], columns).ravel().tolist()
        [True, False, False]
    """
    train, x = checked(train, columns, "train"), checked(x, columns, "x")
    valid = np.empty(x.shape, bool)
    for at, column in enumerate(columns):
        known, values = train[:, at], x[:, at]
        if not is_number(column):
            valid[:, at] = np.isin(values, known)
            continue
        present = known[~np.isnan(known)]
        if not len(present):
            valid[:, at] = np.isnan(values)
            continue
        low, high = present.min(), present.max()
        within = (values >= low - _rounding(low)) & (values <= high + _rounding(high))
        valid[:, at] = np.where(np.isnan(values), len(present) < len(known), within & _has_decimals(values, present))
    return valid


def lost_classes(train: Any, x: Any, columns: Columns) -> tuple[int, int]:
    """Count the classes of the training rows that do not occur in other rows.

    Returns:
        Number of lost classes, and number of classes in the training rows, over all columns of classes.

    Example:
        >>> columns = [{"name": "sex", "kind": "categorical", "classes": ["f", "m"]}]
        >>> kvae.sample_metrics.lost_classes([[0], [1]], [[1], [1]], columns)
        (1, 2)
    """
    train, x = checked(train, columns, "train"), checked(x, columns, "x")
    lost = total = 0
    for at, column in enumerate(columns):
        if not is_number(column):
            known = np.unique(train[:, at])
            total += len(known)
            lost += int(np.sum(~np.isin(known, x[:, at])))
    return lost, total


def _has_decimals(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return which values have at most as many decimals as all known values; all if those have many."""
    for decimals in range(_MAX_DECIMALS):
        if _is_rounded(known, decimals).all():
            return _is_rounded(values, decimals)
    return np.ones(len(values), bool)


def _is_rounded(values: np.ndarray, decimals: int) -> np.ndarray:
    return np.abs(values - np.round(values, decimals)) <= _rounding(values)


def _rounding(values: Any) -> Any:
    """Return the rounding error of float32, the type in files and graphs."""
    return 2.0**-23 * np.abs(values)
