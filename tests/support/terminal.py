"""A pseudo-terminal for programs that behave differently on a terminal."""

from __future__ import annotations

import os
import pty
import select
import time
from collections.abc import Sequence
from pathlib import Path


class Terminal:
    """A program on a pseudo-terminal; leave it with `close`.

    Args:
        command: the program and its arguments.
        folder: its working folder.
        environment: all of its environment.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        self._child, self._terminal = pty.fork()
        if self._child == 0:
            os.chdir(folder)
            os.execvpe(command[0], list(command), environment)

    def write(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def read(self, until: str = "", seconds: float = 30.0) -> str:
        """Return the output up to and including a text; without one, or if it does not appear, up to the end."""
        output, end = b"", time.monotonic() + seconds
        while not until or until.encode() not in output:
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, end - time.monotonic()))
            try:
                piece = os.read(self._terminal, 65536) if ready else b""
            except OSError:  # Linux: the program has ended.
                piece = b""
            if not piece:
                break
            output += piece
        return output.decode(errors="replace")

    def close(self) -> None:
        os.close(self._terminal)
        try:
            os.kill(self._child, 9)
        finally:
            os.waitpid(self._child, 0)
