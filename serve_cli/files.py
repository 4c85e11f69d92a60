"""Files and folders that appear whole or not at all.

They are written aside in the same folder, flushed to the disk, then renamed, so that neither an interrupt
nor a full disk leaves half a file. What exists is kept unless `force` is given.
"""
# os rather than pathlib: importing pathlib would be felt in the start of `kvae sample`.
# ruff: noqa: PTH100, PTH102, PTH104, PTH105, PTH108, PTH112, PTH113, PTH114, PTH118, PTH120, PTH122, PTH208

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

from serve_cli.errors import OutputError, printable

StrPath = str | os.PathLike[str]


def write_whole(path: StrPath, data: bytes | Callable[[BinaryIO], object], force: bool = False) -> None:
    """Write a file so that it appears complete or not at all.

    Args:
        path: where it goes. A link is followed when `force` is given, so that what it points to is replaced.
        data: the bytes, or a function that writes them to the open file that it is given.
        force: replace an existing file.

    Raises:
        OutputError: the file exists, or it cannot be written.
    """
    target = os.fspath(path)
    refuse_existing(target, force)
    if force:
        target = os.path.realpath(target)
    if os.path.isdir(target):
        raise OutputError(f"{printable(target)} is a folder, so no file can be written there.")
    aside = _aside(target)
    try:
        with _new_file(aside) as file:
            if callable(data):
                data(file)
            else:
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _move_file(aside, target, force)
        _sync_folder(target)
    except OutputError:
        raise
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(aside)


@contextlib.contextmanager
def new_folder(path: StrPath, force: bool = False) -> Iterator[str]:
    """Give a temporary sibling folder that becomes `path` when the block ends well, and is removed otherwise.

    An empty folder at `path` is taken over. With `force` a folder with content is replaced as a whole, but only
    where each thing in it has its counterpart in the new one: an entry of that name or a file of that suffix.

    Raises:
        OutputError: the folder exists, or it cannot be made.
    """
    target = os.path.abspath(os.fspath(path))
    if not (os.path.isdir(target) and not os.listdir(target)):
        refuse_existing(target, force)
    if force:
        target = os.path.realpath(target)
    if os.path.lexists(target) and not os.path.isdir(target):
        raise OutputError(f"{printable(target)} is a file, so no folder can be made there.")
    aside = _aside(target)
    try:
        os.mkdir(aside)
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        yield aside
        _move_folder(aside, target)
        _sync_folder(target)
    except KeyboardInterrupt:
        raise
    except OutputError:
        raise
    except OSError as error:
        # An error about something inside the new folder, or about its move, is about the output.
        if error.filename is None or str(error.filename).startswith(aside):
            raise _cannot_write(target, error) from error
        raise
    finally:
        if os.path.isdir(aside):
            import shutil

            shutil.rmtree(aside, ignore_errors=True)


def refuse_existing(path: StrPath, force: bool) -> None:
    """Raise `OutputError` where `path` exists and `force` is not given: worth asking before long work."""
    if not force and os.path.lexists(path):
        raise OutputError(f"{printable(path)} exists already and was kept. Choose another name, or give --force.")


def _aside(target: str) -> str:
    folder, name = os.path.split(target.rstrip("/" + os.sep))
    return os.path.join(folder, f".{name[:100]}.{os.urandom(6).hex()}.tmp")


def _new_file(path: str) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "wb")


def _move_file(aside: str, target: str, force: bool) -> None:
    if not force:
        try:
            os.link(aside, target)  # Unlike a rename it fails where somebody made the target meanwhile.
            return
        except FileExistsError:
            refuse_existing(target, force)
        except OSError:
            refuse_existing(target, force)  # A file system without hard links.
    os.replace(aside, target)


def _move_folder(aside: str, target: str) -> None:
    if not os.path.lexists(target):
        os.rename(aside, target)
        return
    _refuse_to_lose(target, aside)
    old = _aside(target)
    os.rename(target, old)
    try:
        os.rename(aside, target)
    except OSError:
        os.rename(old, target)
        raise
    import shutil

    shutil.rmtree(old, ignore_errors=True)


def _refuse_to_lose(old: str, new: str) -> None:
    names = set(os.listdir(new))
    suffixes = {os.path.splitext(name)[1] for name in names if os.path.isfile(os.path.join(new, name))}
    for name in sorted(set(os.listdir(old)) - names):
        path = os.path.join(old, name)
        if os.path.splitext(name)[1] not in suffixes or os.path.islink(path) or not os.path.isfile(path):
            raise OutputError(
                f"{printable(old)} holds {printable(name)}, which would be lost, so the folder was kept. "
                "Choose another name, or remove it yourself."
            )


def _sync_folder(target: str) -> None:
    # A file system that cannot do this (or Windows) still has the file.
    with contextlib.suppress(OSError):
        folder = os.open(os.path.dirname(target) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _cannot_write(target: str, error: OSError) -> OutputError:
    reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error) or type(error).__name__)
    folder = os.path.dirname(target) or "."
    if not os.path.isdir(folder):
        reason = f"the folder {printable(folder)} does not exist; make it first"
    return OutputError(f"{printable(target)} cannot be written: {printable(reason)}.")
