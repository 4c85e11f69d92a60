"""Progress of long commands on stderr.

On a terminal, a line that is updated and removed at the end. Elsewhere, such as in a log file, one line per minute.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

FIRST_SECONDS, UPDATE_SECONDS = 1.0, 0.2
"""Time before the first line on a terminal, and between updates."""

LOG_SECONDS = 60.0
"""Time before the first line elsewhere, and between lines."""


class _Line:
    """Status line on stderr, printed at most as often as its place allows."""

    def __init__(self, quiet: bool) -> None:
        self.enabled = not quiet and sys.stderr is not None
        self.terminal = self.enabled and sys.stderr.isatty()
        self.began = time.monotonic()
        self.wait = FIRST_SECONDS if self.terminal else LOG_SECONDS
        self._due = self.began + self.wait
        self._shown = False

    def due(self) -> bool:
        return self.enabled and time.monotonic() >= self._due

    def print(self, text: str) -> None:
        self.wait = UPDATE_SECONDS if self.terminal else LOG_SECONDS
        self._due = time.monotonic() + self.wait
        self._shown = True
        print(f"\r{text} \x1b[K" if self.terminal else text, end="" if self.terminal else "\n", file=sys.stderr)
        sys.stderr.flush()

    def clear(self) -> None:
        if self.terminal and self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class Progress:
    """Show the fraction done and the time left of a task with a known total.

    Args:
        task: Name of the task, such as "Evaluating".
        quiet: Show nothing.

    Example:
        >>> with Progress("Adding") as progress:
        ...     for done in range(1, 4):
        ...         progress(done, 3)
    """

    def __init__(self, task: str, quiet: bool = False) -> None:
        self._task = task
        self._line = _Line(quiet)

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` units are finished."""
        if self._line.due():
            left = (time.monotonic() - self._line.began) * (total - done) / max(1, done)
            self._line.print(f"{self._task} {100 * done // max(1, total):3d} %, {_duration(left)} left")

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.clear()


class Busy:
    """Show the elapsed time of a task without a known total, from a background thread.

    Args:
        task: Name of the task, such as "Writing".
        quiet: Show nothing.
    """

    def __init__(self, task: str, quiet: bool = False) -> None:
        self._task = task
        self._line = _Line(quiet)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kvae-busy", daemon=True)

    def _run(self) -> None:
        while not self._ended.wait(self._line.wait):
            self._line.print(f"{self._task}, {_duration(time.monotonic() - self._line.began)} so far")

    def __enter__(self) -> Busy:
        if self._line.enabled:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._line.enabled:
            self._thread.join()
        self._line.clear()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
