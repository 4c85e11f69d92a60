"""The header of a .npy file, read and held against the bytes that follow before anything is reserved for them.

NumPy reserves what a header claims, and parses it as Python: one that was made to harm can claim any size, or make the
parser itself fail in ways of its own.
"""

from __future__ import annotations

from typing import IO, Any

import numpy as np

from kvae_serve.errors import InputDataError

MAX_HEADER = 10_000
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class DamagedError(ValueError):
    """It is no plain array of the size that it claims."""


def check_header(file: IO[bytes], num_bytes: int, source: str) -> None:
    """Read the header of an array, and check that just its elements follow.

    Args:
        file: at the start of the array; it is left behind the header.
        num_bytes: how many bytes the array has with its header.
        source: for messages.

    Raises:
        DamagedError: they do not, or it is no .npy.
        InputDataError: the elements are Python objects.
    """
    try:
        version: Any = np.lib.format.read_magic(file)
        shape, _, dtype = _READERS[version](file, max_header_size=MAX_HEADER)
    except (KeyboardInterrupt, OSError):
        raise
    except Exception as error:  # Whatever NumPy's parser of Python literals raises: TokenError and KeyError, too.
        raise DamagedError("its header cannot be read") from error
    if dtype.hasobject:
        raise InputDataError(f"{source} holds pickled objects, which are never loaded. Save plain numbers.")
    expected = dtype.itemsize
    for size in shape:
        if isinstance(size, bool) or size < 0:
            raise DamagedError("its shape is impossible")
        expected *= size  # Of Python's own numbers, which do not overflow.
    if len(shape) > 32 or file.tell() + expected != num_bytes:
        raise DamagedError("its header claims another size than it has")
