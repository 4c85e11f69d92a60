"""Check the header of an .npy file against its size before memory is reserved.

NumPy reserves the size that a header claims, and parses the header as a Python literal. A malicious header can claim
any size, or make the parser itself fail with unexpected errors.
"""

from __future__ import annotations

from typing import IO, Any

import numpy as np

from kvae_serve.errors import InputDataError

MAX_HEADER = 10_000
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class DamagedError(ValueError):
    """The bytes are not a plain array of the size in the header."""


def check_header(file: IO[bytes], num_bytes: int, source: str) -> None:
    """Read the header of an array, and check that exactly its elements follow.

    Args:
        file: File at the start of the array. It is left after the header.
        num_bytes: Size of the array with its header.
        source: Name of the file in messages.

    Raises:
        DamagedError: It is not an .npy, or has another size.
        InputDataError: The elements are Python objects.
    """
    try:
        version: Any = np.lib.format.read_magic(file)
        shape, _, dtype = _READERS[version](file, max_header_size=MAX_HEADER)
    except (KeyboardInterrupt, OSError):
        raise
    except Exception as error:  # NumPy's parser of literals also raises TokenError, KeyError and others.
        raise DamagedError("the header cannot be read") from error
    if dtype.hasobject:
        raise InputDataError(
            f"{source} contains pickled objects, which are never loaded. Save numbers, and texts with astype(str)."
        )
    expected = dtype.itemsize
    for size in shape:
        if isinstance(size, bool) or size < 0:
            raise DamagedError("the shape is impossible")
        expected *= size  # Python integers do not overflow.
    if len(shape) > 32 or file.tell() + expected != num_bytes:
        raise DamagedError("the header claims another size")
