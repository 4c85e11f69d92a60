"""Standard output as a destination: `-` on the command line."""

from __future__ import annotations

import sys
from typing import BinaryIO, TextIO

from kvae_serve.errors import OutputError, RequestError, printable

STDOUT = "-"


def text() -> TextIO:
    """Return standard output for text. Raise `OutputError` if it is closed."""
    if sys.stdout is None:
        raise OutputError("Standard output is closed. Use -o to write a file.")
    return sys.stdout


def table(stream: TextIO) -> TextIO:
    """Return a stream for CSV: on a terminal, control characters in names of files and classes become escapes."""
    return _Escaped(stream) if stream.isatty() else stream  # type: ignore[return-value]


class _Escaped:
    """Stream that writes characters that are not printable, except line ends, as escape sequences of Python."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write("\n".join(printable(line, len(line) * 10) for line in text.split("\n")))

    def flush(self) -> None:
        self._stream.flush()


def binary() -> BinaryIO:
    """Return standard output for bytes. Raise `OutputError` if it is closed, `RequestError` if it is a terminal."""
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None:
        raise OutputError("Standard output is closed. Use -o to write a file.")
    if stream.isatty():
        raise RequestError("A terminal cannot show the bytes of an .npy. Redirect standard output, or leave out -o.")
    return stream
