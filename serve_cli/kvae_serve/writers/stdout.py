"""Standard output as a destination: `-` on the command line."""

from __future__ import annotations

import sys
from typing import BinaryIO, TextIO

from kvae_serve.errors import OutputError, RequestError

STDOUT = "-"


def text() -> TextIO:
    """Return standard output for text. Raise `OutputError` if it is closed."""
    if sys.stdout is None:
        raise OutputError("Standard output is closed. Use -o to write a file.")
    return sys.stdout


def binary() -> BinaryIO:
    """Return standard output for bytes. Raise `OutputError` if it is closed, `RequestError` if it is a terminal."""
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None:
        raise OutputError("Standard output is closed. Use -o to write a file.")
    if stream.isatty():
        raise RequestError("A terminal cannot show the bytes of an .npy. Redirect standard output, or leave out -o.")
    return stream
