"""Points as every figure takes them, and the distances between two sets of them, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kvae_serve.errors import InputDataError

#: Bytes of a matrix of all pairs that are held at a time.
BLOCK_BYTES = 2**26


def points(x: Any, name: str, min_rows: int = 2) -> np.ndarray:
    """Return numbers `[num, ...]` as float64 `[num, dim]`.

    Raises:
        InputDataError: they are no numbers, too few, empty, or not finite.
    """
    x = np.asarray(x)
    if x.ndim < 1 or x.dtype.kind not in "fiub" or not x.size:
        raise InputDataError(f"{name} must be numbers [num, dim], got {x.dtype} {list(x.shape)}.")
    if len(x) < min_rows:
        raise InputDataError(f"{name} has {len(x)} rows, expected at least {min_rows}. Give more examples.")
    x = x.reshape(len(x), -1).astype(np.float64)
    if not np.isfinite(x).all():
        bad = int(x.size - np.isfinite(x).sum())
        raise InputDataError(f"{name} has {bad} values that are NaN or infinite. Leave those examples out.")
    return x


def same_space(first: Any, second: Any, names: tuple[str, str], min_rows: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets as `points` does, of one dimension, moved so that the mean of the first is zero.

    No figure here changes when both sets are moved alike, and sums of squares lose fewer digits near zero.
    """
    one, two = points(first, names[0], min_rows), points(second, names[1], min_rows)
    if one.shape[1] != two.shape[1]:
        raise InputDataError(f"{names[0]} has {one.shape[1]} dimensions, {names[1]} {two.shape[1]}. Give the same.")
    centre = one.mean(axis=0)
    return one - centre, two - centre


def blocks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Rows of a matrix `[num_rows, num_columns]` of float64, as many at a time as `BLOCK_BYTES` hold."""
    size = max(1, BLOCK_BYTES // (8 * max(1, num_columns)))
    return (slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size))


def squared_distances(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield `(rows, block)`: squared Euclidean distances of some rows of `first` to all of `second`.

    Args:
        first: float64 `[num, dim]`.
        second: float64 `[other, dim]`; the very same array makes each point zero from itself.
    """
    norms = np.square(second).sum(axis=1)
    for rows in blocks(len(first), len(second)):
        some = first[rows]
        block = np.maximum(np.square(some).sum(axis=1)[:, None] + norms - 2.0 * (some @ second.T), 0.0)
        if first is second:  # rounding must not make a point its own distant neighbour
            block[np.arange(len(some)), np.arange(rows.start, rows.stop)] = 0.0
        yield rows, block
