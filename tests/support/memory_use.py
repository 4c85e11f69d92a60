"""Peak memory that a call adds to this process, measured from Linux's counters."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


def gained(call: Callable[[], Result]) -> tuple[Result, int]:
    """Return the result of a call, and the bytes by which it raised the peak of resident memory; 0 outside of Linux.

    Pages of libraries that the call loads are not counted.
    """
    if sys.platform != "linux":
        return call(), 0
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 65536)  # M_MMAP_THRESHOLD: arrays return to the system when they are freed.
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status()
    result = call()
    after = _status()
    return result, after["VmHWM"] - before["VmRSS"] - (after["RssFile"] - before["RssFile"])


def _status() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[0].startswith(("Vm", "Rss"))}
