"""Examples that stay on disk because memory would not hold them: an .npy, or a folder of images.

What trains asks for rows by index and gets the arrays that it would get from memory, so the order of a run, and what
it learns, do not depend on where the examples lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kvae_serve.readers.images import ImagesOnDisk

CHUNK_ROWS = 2**16
_CHUNK_BYTES = 2**28


class OnDisk:
    """Rows of an array on disk, read when they are asked for: `x[rows]` is an array, uint8 or float32.

    Args:
        source: a `numpy.memmap` or an `ImagesOnDisk`, `[num, *shape]`.
        rows: which of its rows, in which order; all by default.
        flat: leave out the last axis, of one channel.
    """

    def __init__(self, source: Any, rows: np.ndarray | None = None, flat: bool = False) -> None:
        self.source = source
        self.rows = np.arange(len(source)) if rows is None else np.asarray(rows)
        self.flat = flat
        self.shape = (len(self.rows), *(source.shape[1:-1] if flat else source.shape[1:]))
        self.ndim = len(self.shape)
        self.dtype = np.dtype(np.uint8 if source.dtype == np.uint8 else np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        found = np.asarray(self.source[self.rows[rows]], self.dtype)
        return found[..., 0] if self.flat else found

    def take(self, rows: np.ndarray) -> OnDisk:
        """Some of the rows, still on disk."""
        return OnDisk(self.source, self.rows[rows], self.flat)


def take(x: Any, rows: np.ndarray) -> Any:
    """Rows of an array: read, where it is in memory; still on disk, where it is there."""
    return x.take(rows) if isinstance(x, OnDisk) else x[rows]


def as_sequences(x: Any) -> Any:
    """Images of one channel `[num, height, width, 1]` as sequences of their rows, `[num, steps, features]`."""
    return OnDisk(x.source, x.rows, flat=True) if isinstance(x, OnDisk) else x[..., 0]


def chunks(x: Any) -> Iterator[np.ndarray]:
    """All rows of `x`, which may lie on disk, some at a time."""
    size = CHUNK_ROWS
    if isinstance(x, OnDisk):
        size = max(1, min(CHUNK_ROWS, _CHUNK_BYTES // max(1, 4 * int(np.prod(x.shape[1:])))))
    return (x[start : start + size] for start in range(0, len(x), size))


def subsample(x: Any, num: int) -> np.ndarray:
    """About `num` rows of `x` at equal steps where it lies on disk; else all of it."""
    return x[:: max(1, len(x) // num)] if isinstance(x, OnDisk) else x


def value_range(x: Any) -> tuple[float, float]:
    """Lowest and highest value; NaN where any value is."""
    ends = [(float(np.min(piece)), float(np.max(piece))) for piece in chunks(x)]
    # Of arrays, for these keep a NaN wherever it stands.
    return float(np.min([low for low, _ in ends])), float(np.max([high for _, high in ends]))


def fingerprint_chunks(x: Any) -> Iterator[bytes]:
    """Bytes that are the same as long as the examples are: they themselves, or name, size and time of image files."""
    if isinstance(x, OnDisk) and isinstance(x.source, ImagesOnDisk):
        for row in x.rows:
            stat = x.source.paths[row].stat()
            yield f"{x.source.paths[row].name} {stat.st_size} {stat.st_mtime_ns}\n".encode()
        return
    for piece in chunks(x):
        yield np.ascontiguousarray(piece).tobytes()
