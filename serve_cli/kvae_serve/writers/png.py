"""Encode PNG files with zlib, so that pictures without captions do not import Pillow.

The files do not contain a date, so equal images give equal bytes.

Reference: https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def encode(image: np.ndarray, text: Mapping[str, str] | None = None) -> bytes:
    """Encode an image as the bytes of a PNG file.

    Args:
        image: uint8 `[height, width]` or `[height, width, channels]` with 1 channel (gray) or 3 (RGB), and
            one more for opacity.
        text: Latin-1 texts by keyword, stored in `tEXt` chunks.

    Raises:
        ValueError: The array is not an image.
    """
    if image.ndim == 2:
        image = image[:, :, None]
    if image.dtype != "uint8" or image.ndim != 3 or image.shape[2] not in _COLOUR_TYPES or 0 in image.shape:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}; expected uint8 [height, width, 1 to 4].")
    height, width, channels = image.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    # Filter type 0 (none) before each row gives the smallest files for flat pictures such as digits.
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    chunks = [_chunk(b"IHDR", header)]
    chunks += [_chunk(b"tEXt", f"{key}\0{value}".encode("latin-1", "replace")) for key, value in (text or {}).items()]
    chunks += [_chunk(b"IDAT", zlib.compress(rows, 6)), _chunk(b"IEND", b"")]
    return _SIGNATURE + b"".join(chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
