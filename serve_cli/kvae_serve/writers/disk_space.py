"""Is there room on the disk for what is about to be written?"""
# ruff: noqa: PTH120

from __future__ import annotations

import os

from kvae_serve.errors import OutputError, printable


def check(path: str, num_bytes: int, force: bool = False) -> None:
    """Raise `OutputError` where `num_bytes` do not fit into the free space of the disk that `path` is to lie on.

    Args:
        path: of the file or folder to be.
        num_bytes: what it will take at least.
        force: do not ask; the file system may compress, or space may come free meanwhile.
    """
    free = None if force else free_bytes(os.path.dirname(path.rstrip("/" + os.sep)) or ".")
    if free is not None and num_bytes > free:
        raise OutputError(
            f"{printable(path)} would take {readable(num_bytes)}, but {readable(free)} are free there: "
            f"{readable(num_bytes - free)} are missing. Write it elsewhere or in parts, or give --force to try."
        )


def free_bytes(folder: str) -> int | None:
    """Return how many bytes an ordinary user may still write into a folder; None where that is not known."""
    try:
        if hasattr(os, "statvfs"):
            disk = os.statvfs(folder)
            return disk.f_bavail * disk.f_frsize
        import shutil

        return shutil.disk_usage(folder).free
    except OSError:
        return None  # Writing will say what is wrong with the folder.


def readable(num_bytes: int) -> str:
    """Return a size with a unit, such as `3.1 GB`."""
    size = float(num_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
