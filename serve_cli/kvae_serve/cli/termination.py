"""SIGTERM, SIGHUP and SIGBREAK as exceptions, so that temporary files are removed as they are after Ctrl-C."""

from __future__ import annotations

import signal
import time

GRACE_SECONDS = 5.0
"""Time in which further signals are ignored. systemd sends SIGTERM and SIGHUP together."""

_last = float("-inf")
received = 0
"""Number of the last signal, 0 if there was none. A library may catch the exception and raise a different one."""


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM, SIGHUP or SIGBREAK. Code that handles Ctrl-C handles this too."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def install() -> None:
    """Raise `Terminated` at these signals. A signal that the caller ignores, as nohup does, stays ignored."""
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)  # Only Windows has SIGBREAK (a window is closed), and it has no SIGHUP.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise)


def _raise(number: int, frame: object) -> None:
    global _last, received
    received = number
    now = time.monotonic()
    if now - _last >= GRACE_SECONDS:
        _last = now
        raise Terminated(number)
