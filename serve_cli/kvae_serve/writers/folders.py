"""What a folder that appears whole needs beyond renaming: locks on what is unfinished, flushing, and swapping two."""
# os rather than pathlib: importing pathlib would be felt in the start of `kvae sample`.
# ruff: noqa: PTH118, PTH208

from __future__ import annotations

import contextlib
import os

_MANY = 64
"""Files beyond which everything on the machine is flushed at once rather than each file by itself."""

_AT_FDCWD, _LINUX_EXCHANGE, _MACOS_SWAP = -100, 2, 2


def hold(folder: str) -> int | None:
    """Lock a folder until the descriptor is closed or the process ends, however it ends.

    Returns:
        The descriptor; None where another holds the folder, or nothing here can be locked.
    """
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def sweep(target: str, own: str) -> None:
    """Remove temporary folders of the same target, but for our own, whose writers are gone: nobody holds them."""
    parent, name = os.path.split(target)
    start = f".{name[:100]}."
    with contextlib.suppress(OSError):
        for entry in os.listdir(parent or "."):
            middle = entry[len(start) : -4]
            path = os.path.join(parent, entry)
            if (
                path != own
                and entry.startswith(start)
                and entry.endswith(".tmp")
                and len(middle) == 12
                and middle.isalnum()
            ):
                lock = hold(path) if os.path.isdir(path) and not os.path.islink(path) else None  # noqa: PTH112, PTH114
                if lock is not None:
                    import shutil

                    shutil.rmtree(path, ignore_errors=True)
                    os.close(lock)


def sync(folder: str) -> None:
    """Flush all that a folder holds to the disk."""
    places = [(path, names) for path, _, names in os.walk(folder)]
    if sum(len(names) for _, names in places) > _MANY and hasattr(os, "sync"):
        os.sync()
        return
    for path, names in places:
        for each in [*(os.path.join(path, name) for name in names), path]:
            _sync(each, needed=each != path)


def exchange(one: str, other: str) -> bool:
    """Swap two folders in one step; False where the system cannot, and nothing was done."""
    import ctypes
    import sys

    try:
        library = ctypes.CDLL(None, use_errno=True)
        names = os.fsencode(one), os.fsencode(other)
        if sys.platform == "linux":
            return library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _LINUX_EXCHANGE) == 0
        if sys.platform == "darwin":
            return library.renamex_np(*names, _MACOS_SWAP) == 0
    except (AttributeError, OSError, TypeError):
        pass
    return False


def _sync(path: str, needed: bool) -> None:
    """Flush one file, or a folder, which some file systems cannot."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError:
        if needed and os.name == "posix":
            raise
        return
    try:
        os.fsync(descriptor)
    except OSError:
        if needed and os.name == "posix":
            raise
    finally:
        os.close(descriptor)
