"""What is asked of an output before long work begins, so that nobody waits for what cannot be written."""

from __future__ import annotations

import os
from collections.abc import Collection

from kvae_serve.errors import OutputError, RequestError, printable


def check(path: str, suffixes: Collection[str], force: bool) -> str:
    """Return the suffix of a file to write.

    Raises:
        RequestError: it is none of `suffixes`.
        OutputError: the file exists and `force` is not given, it is a folder, or its own folder does not exist.
    """
    from kvae_serve.writers import atomic

    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122
    if suffix not in suffixes:
        raise RequestError(f"{printable(path)} has an unknown suffix; {' or '.join(suffixes)} is written here.")
    atomic.refuse_existing(path, force)
    folder = os.path.dirname(path)  # noqa: PTH120
    if folder and not os.path.isdir(folder):  # noqa: PTH112
        raise OutputError(f"{printable(path)} cannot be written: the folder {printable(folder)} does not exist.")
    if os.path.isdir(path):  # noqa: PTH112
        raise OutputError(f"{printable(path)} is a folder, so no file can be written there.")
    return suffix
