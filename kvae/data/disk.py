"""Examples that stay on disk because they do not fit into memory: an .npy file, or a folder of images.

Rows are read by index and are equal to those of an array in memory. So the order of batches, and the trained model, do
not depend on where the examples are stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kvae.types import Shape
from kvae_serve.readers.images import ImagesOnDisk

CHUNK_ROWS = 2**16
_CHUNK_BYTES = 2**28


class OnDisk:
    """Array on disk whose rows are read on demand: `x[rows]` is an array, uint8 or float32.

    Args:
        source: `numpy.memmap` or `ImagesOnDisk`, `[num, *shape]`.
        rows: Indices of the rows, in order; all rows by default.
        flat: Whether to drop the last axis, which has one channel.

    Example:
        >>> import numpy as np
        >>> x = OnDisk(np.arange(6, dtype=np.uint8).reshape(3, 2), rows=[2, 0])
        >>> x[:1].tolist()
        [[4, 5]]
    """

    def __init__(self, source: Any, rows: Any = None, flat: bool = False) -> None:
        self.source = source
        self.rows = np.arange(len(source)) if rows is None else np.asarray(rows)
        self.flat = flat
        self.shape: Shape = (len(self.rows), *(source.shape[1:-1] if flat else source.shape[1:]))
        self.ndim = len(self.shape)
        self.dtype = np.dtype(np.uint8 if source.dtype == np.uint8 else np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        values = np.asarray(self.source[self.rows[rows]], self.dtype)
        return values[..., 0] if self.flat else values

    def take(self, rows: np.ndarray) -> OnDisk:
        """Return a subset of the rows, still on disk."""
        return OnDisk(self.source, self.rows[rows], self.flat)


def take(x: Any, rows: np.ndarray) -> Any:
    """Return rows of `x`, in memory or on disk as `x` is."""
    return x.take(rows) if isinstance(x, OnDisk) else x[rows]


def as_sequences(x: Any, features_first: bool = False) -> Any:
    """Return arrays `[num, a, b, 1]` as sequences `[num, steps, features]`: a steps, or b if the features are first.

    Vectors `[num, steps]` are sequences of one feature.
    """
    if x.ndim == 2:
        return OnDisk(x.source[..., None], x.rows) if isinstance(x, OnDisk) else x[..., None]
    source = x.source if isinstance(x, OnDisk) else x
    if features_first:
        source = np.swapaxes(source, 1, 2)
    return OnDisk(source, x.rows, flat=True) if isinstance(x, OnDisk) else source[..., 0]


def chunks(x: Any) -> Iterator[np.ndarray]:
    """Yield all rows of `x`, in memory or on disk, as arrays of limited size."""
    size = CHUNK_ROWS
    if isinstance(x, OnDisk):
        size = max(1, min(CHUNK_ROWS, _CHUNK_BYTES // max(1, 4 * int(np.prod(x.shape[1:])))))
    return (x[start : start + size] for start in range(0, len(x), size))


def subsample(x: Any, num: int) -> np.ndarray:
    """Return about `num` equally spaced rows of data on disk; return data in memory as a whole."""
    return x[:: max(1, len(x) // num)] if isinstance(x, OnDisk) else x


def value_range(x: Any) -> tuple[float, float]:
    """Return the lowest and the highest value; NaN if any value is NaN."""
    bounds = [(float(np.min(chunk)), float(np.max(chunk))) for chunk in chunks(x)]
    # numpy.min keeps a NaN at any position; the built-in min does not.
    return float(np.min([low for low, _ in bounds])), float(np.max([high for _, high in bounds]))


def fingerprint_chunks(x: Any) -> Iterator[bytes]:
    """Yield bytes that identify the examples: their values, or name, size and time of image files."""
    if isinstance(x, OnDisk) and isinstance(x.source, ImagesOnDisk):
        for row in x.rows:
            stat = x.source.paths[row].stat()
            yield f"{x.source.paths[row].name} {stat.st_size} {stat.st_mtime_ns}\n".encode()
        return
    for chunk in chunks(x):
        yield np.ascontiguousarray(chunk).tobytes()
