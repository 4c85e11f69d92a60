"""Pairwise distances of two sets of points, computed in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kvae_serve.errors import InputDataError

#: Bytes of the distance matrix in memory at a time.
BLOCK_BYTES = 2**26


def points(x: Any, name: str, min_rows: int = 2) -> np.ndarray:
    """Return numbers `[num, ...]` as float64 `[num, dim]`.

    Raises:
        InputDataError: The values are not numbers, too few, empty, or not finite.
    """
    x = np.asarray(x)
    if x.ndim < 1 or x.dtype.kind not in "fiub" or not x.size:
        raise InputDataError(f"{name} is {x.dtype} {list(x.shape)}; expected numbers [num, dim].")
    if len(x) < min_rows:
        raise InputDataError(f"{name} has {len(x)} rows, expected at least {min_rows}. Give more examples.")
    x = x.reshape(len(x), -1).astype(np.float64)
    if not np.isfinite(x).all():
        bad = int(x.size - np.isfinite(x).sum())
        raise InputDataError(f"{name} has {bad} values that are NaN or infinite. Leave those examples out.")
    return x


def same_space(first: Any, second: Any, names: tuple[str, str], min_rows: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets of points of equal dimension, shifted so that the mean of the first is zero.

    A common shift changes no figure, and sums of squares lose fewer digits near zero.
    """
    one, two = points(first, names[0], min_rows), points(second, names[1], min_rows)
    if one.shape[1] != two.shape[1]:
        raise InputDataError(
            f"{names[0]} has {one.shape[1]} dimensions, {names[1]} has {two.shape[1]}. Use the same features for both."
        )
    centre = one.mean(axis=0)
    return one - centre, two - centre


def blocks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Return slices of rows of a float64 matrix `[num_rows, num_columns]`, each of at most `BLOCK_BYTES`."""
    size = max(1, BLOCK_BYTES // (8 * max(1, num_columns)))
    return (slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size))


def squared_distances(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield `(rows, block)`: squared Euclidean distances of a block of rows of `first` to all of `second`.

    Args:
        first: float64 `[num, dim]`.
        second: float64 `[other, dim]`. If it is the same array object, each point has distance 0 to itself.
    """
    norms = np.square(second).sum(axis=1)
    for rows in blocks(len(first), len(second)):
        part = first[rows]
        block = np.maximum(np.square(part).sum(axis=1)[:, None] + norms - 2.0 * (part @ second.T), 0.0)
        if first is second:  # rounding errors must not move a point away from itself
            block[np.arange(len(part)), np.arange(rows.start, rows.stop)] = 0.0
        yield rows, block
