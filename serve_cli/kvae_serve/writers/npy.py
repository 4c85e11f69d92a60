"""Stream rows into an .npy file. The header comes first, because the number of rows is known from the start.

Reference: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np

from kvae_serve.row_stream import Array, RowStream


def header(array: Array, num_rows: int) -> bytes:
    """Return the header of an array, as `np.save` writes it."""
    return _header(array.dtype, (num_rows, *array.shape))


def array_bytes(value: np.ndarray) -> bytes:
    """Return a small array as the bytes of an .npy file."""
    value = np.asarray(value)
    return _header(value.dtype, value.shape) + value.tobytes()


def write(file: BinaryIO, rows: RowStream) -> None:
    """Write the first main array of a stream."""
    name = rows.main[0]
    write_all(file, header(rows.arrays[name], rows.num_rows))
    for chunk in rows.chunks:
        write_all(file, raw(chunk[name]))


def raw(values: np.ndarray) -> memoryview:
    """Return the bytes of an array without a copy."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all bytes. One call to an unbuffered file (PYTHONUNBUFFERED) may write only some of them."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()
