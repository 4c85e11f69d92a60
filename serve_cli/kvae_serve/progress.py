"""A line of progress on standard error, where that is a terminal."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

_WAIT, _BETWEEN = 1.0, 0.2


class Progress:
    """Shows how far something is, once it takes more than a second; nothing where standard error is no terminal.

    Args:
        what: what is done, such as "Evaluating".
        quiet: never show anything.
    """

    def __init__(self, what: str, quiet: bool = False) -> None:
        self._what = what
        self._shows = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._began = time.monotonic()
        self._next = self._began + _WAIT
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        """Tell that `done` of `total` are done."""
        if not self._shows:
            return
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _BETWEEN
        self._shown = True
        left = (now - self._began) * (total - done) / max(1, done)
        print(
            f"\r{self._what} {100 * done // max(1, total):3d} %, {_spoken(left)} left \x1b[K", end="", file=sys.stderr
        )
        sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class Busy:
    """Shows that something of unknown length is under way, and since when, once it takes more than a second.

    Args:
        what: what is done, such as "Walking".
        quiet: never show anything; nor is anything shown where standard error is no terminal.
    """

    def __init__(self, what: str, quiet: bool = False) -> None:
        self._what = what
        self._ended = threading.Event()
        shows = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._teller = threading.Thread(target=self._tell, name="kvae-busy", daemon=True) if shows else None

    def _tell(self) -> None:
        began = time.monotonic()
        wait = _WAIT
        while not self._ended.wait(wait):
            wait = _BETWEEN
            print(
                f"\r{self._what}, {_spoken(time.monotonic() - began)} so far \x1b[K",
                end="",
                file=sys.stderr,
                flush=True,
            )
        if wait != _WAIT:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Busy:
        if self._teller is not None:
            self._teller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._teller is not None:
            self._teller.join()


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
