"""NumPy's .npy: a header that tells the shape, known from the start, and then the rows as they come.

Reference: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from kvae_serve.row_stream import Array, RowStream


def header(array: Array, rows: int) -> bytes:
    """Return the header of `rows` rows: the bytes that `np.save` writes."""
    return _header(array.dtype, (rows, *array.shape))


def whole(value: np.ndarray) -> bytes:
    """Return all bytes of a small array."""
    value = np.asarray(value)
    return _header(value.dtype, value.shape) + value.tobytes()


def write(file: BinaryIO, rows: RowStream) -> None:
    """Write the first of the main arrays."""
    name = rows.main[0]
    put = whole_writes(file)
    put(header(rows.arrays[name], rows.num_rows))
    for chunk in rows.chunks:
        put(raw(chunk[name]))


def raw(values: np.ndarray) -> memoryview:
    """Return the bytes of rows without copying them."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def whole_writes(file: BinaryIO) -> Callable[[bytes | memoryview], None]:
    """Return a `write` that writes all: a file without a buffer (PYTHONUNBUFFERED) may take a part alone."""

    def write_all(data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]

    return write_all


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()
