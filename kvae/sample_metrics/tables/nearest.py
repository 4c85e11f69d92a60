"""Closeness of rows to training rows: distances to the nearest one, and exact copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kvae.sample_metrics.tables.columns import Columns, checked, is_number


def closest_distances(train: Any, x: Any, columns: Columns) -> np.ndarray:
    """Compute the distance of each row to its closest training row.

    The squared distance is a sum over columns: of squared differences in units of the training rows' standard deviation
    for numbers, and 1 for different classes. A missing number counts as the mean, and differs from present ones by 1.

    Args:
        train: Training rows, `[rows, columns]`.
        x: Rows, `[any, columns]`.
        columns: Description of the columns, see `kvae.sample_metrics.tables`.

    Returns:
        float64 `[any]`.

    Raises:
        ModuleNotFoundError: scikit-learn, part of the extra `evaluate`, is not installed.

    Example:
        >>> columns = [{"name": "age", "kind": "numeric"}]
        >>> kvae.sample_metrics.closest_distances([[20.0], [60.0]], [[30.0], [60.0]], columns).tolist()
        [0.5, 0.0]
    """
    from sklearn.metrics import pairwise_distances_argmin

    train, x = checked(train, columns, "train"), checked(x, columns, "x")
    points, others = _points(train, x, columns)
    nearest = pairwise_distances_argmin(others, points)
    # Differences, because the expanded square that finds the nearest row loses the digits of small distances.
    return np.sqrt(np.square(others - points[nearest]).sum(axis=1))


def exact_copies(train: Any, x: Any, columns: Columns) -> np.ndarray:
    """Find rows that equal a training row in all columns, bool `[any]`.

    A row whose cells are all missing is not a copy, because it does not describe anyone.

    Example:
        >>> columns = [{"name": "age", "kind": "numeric"}]
        >>> kvae.sample_metrics.exact_copies([[20.0], [60.0]], [[30.0], [60.0]], columns).tolist()
        [False, True]
    """
    train, x = (checked(each, columns, name) for each, name in ((train, "train"), (x, "x")))
    # float32 is the type in files and graphs. Adding 0 turns -0 into 0, and every NaN gets the same bits.
    train, x = (np.where(np.isnan(rows), np.nan, rows + 0.0).astype(np.float32) for rows in (train, x))
    known = {row.tobytes() for row in train}
    copies = np.array([row.tobytes() in known for row in x])
    missing = [
        np.isnan(values) | (values == _missing_index(column)) for values, column in zip(x.T, columns, strict=True)
    ]
    return copies & ~np.all(missing, axis=0)


def _missing_index(column: Mapping[str, Any]) -> int | None:
    """Return the index of the class that stands for missing cells, if there is one."""
    classes = list(column.get("classes", ()))
    return classes.index(column["missing"]) if column.get("missing") in classes else None


def _points(train: np.ndarray, x: np.ndarray, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Return both sets as points whose Euclidean distance is that of `closest_distances`."""
    parts = []
    for at, column in enumerate(columns):
        both = np.concatenate([train[:, at], x[:, at]])
        if is_number(column):
            known = train[:, at][~np.isnan(train[:, at])]
            centre, scale = (float(known.mean()), float(known.std()) or 1.0) if len(known) else (0.0, 1.0)
            missing = np.isnan(both)
            parts.append(np.where(missing, 0.0, (both - centre) / scale)[:, None])
            if missing.any():
                parts.append(missing[:, None].astype(np.float64))
        else:
            parts.append((both[:, None] == np.unique(both)) * np.sqrt(0.5))
    points = np.concatenate(parts, axis=1)
    return points[: len(train)], points[len(train) :]
