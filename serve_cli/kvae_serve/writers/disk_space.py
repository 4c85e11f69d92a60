"""Check the free disk space before writing."""
# ruff: noqa: PTH120

from __future__ import annotations

import os

from kvae_serve.errors import OutputError, printable


def check(path: str, num_bytes: int, force: bool = False) -> None:
    """Raise `OutputError` if a new file or folder does not fit on its disk.

    Args:
        path: Path of the new file or folder.
        num_bytes: Size that it needs at least.
        force: Skip the check, for example because the file system compresses.
    """
    free = None if force else free_bytes(os.path.dirname(path.rstrip("/" + os.sep)) or ".")
    if free is not None and num_bytes > free:
        raise OutputError(
            f"{printable(path)} would take {readable(num_bytes)}, but {readable(free)} are free there. "
            "Write it elsewhere or in parts, or use --force to try."
        )


def free_bytes(folder: str) -> int | None:
    """Return the bytes that a normal user may still write to a folder, None if they are not known."""
    try:
        if hasattr(os, "statvfs"):
            disk = os.statvfs(folder)
            return disk.f_bavail * disk.f_frsize
        import shutil

        return shutil.disk_usage(folder).free
    except OSError:
        return None  # Writing to the folder reports the error.


def readable(num_bytes: int) -> str:
    """Return a size with its unit, such as `3.1 GB`."""
    size = float(num_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
