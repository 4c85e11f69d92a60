"""Files and folders that appear whole or not at all.

They are written aside in the same folder, flushed to the disk, then named, so that neither an interrupt nor a full
disk, neither a kill nor a loss of power leaves half a file. What exists is kept unless `force` is given.
"""
# os rather than pathlib: importing pathlib would be felt in the start of `kvae sample`.
# ruff: noqa: PTH100, PTH102, PTH104, PTH105, PTH108, PTH112, PTH113, PTH114, PTH118, PTH120, PTH122, PTH208

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO

from kvae_serve.errors import OutputError, printable
from kvae_serve.writers import folders

_OPEN_FILES = "/proc/self/fd"

StrPath = str | os.PathLike[str]


def write_whole(path: StrPath, data: bytes | Callable[[BinaryIO], object], force: bool = False) -> None:
    """Write a file so that it appears complete or not at all.

    Args:
        path: where it goes. A link is followed when `force` is given, so that what it points to is replaced.
        data: the bytes, or a function that writes them to the open file that it is given.
        force: replace an existing file; the new one keeps its permissions.

    Raises:
        OutputError: the file exists, or it cannot be written.
    """
    target = os.fspath(path)
    refuse_existing(target, force)
    if force:
        target = os.path.realpath(target)
    try:
        mode = _mode_of_file(target)
        with _new_file(target) as (file, aside):
            if callable(data):
                data(file)
            else:
                file.write(data)
            file.flush()
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            _name_file(file, aside, target, force)
        _sync_folder(target)
    except OutputError:
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and "\0" not in target:
            raise
        raise _cannot_write(target, error) from error


@contextlib.contextmanager
def new_folder(path: StrPath, force: bool = False) -> Iterator[str]:
    """Give a temporary sibling folder that becomes `path` when the block ends well, and is removed otherwise.

    Everything in it is flushed to the disk before it gets its name. What a process that was killed has left of an
    earlier try is removed.

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
    lock = None
    try:
        os.mkdir(aside)
    except (OSError, ValueError) as error:
        raise _cannot_write(target, error) from error
    try:
        lock = folders.hold(aside)
        folders.sweep(target, aside)
        yield aside
        folders.sync(aside)
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
        if lock is not None:
            os.close(lock)


def refuse_existing(path: StrPath, force: bool) -> None:
    """Raise `OutputError` where `path` exists and `force` is not given: worth asking before long work."""
    if not force and os.path.lexists(path):
        raise OutputError(f"{printable(path)} exists already and was kept. Choose another name, or give --force.")


def _aside(target: str) -> str:
    folder, name = os.path.split(target.rstrip("/" + os.sep))
    return os.path.join(folder, f".{name[:100]}.{os.urandom(6).hex()}.tmp")


def _mode_of_file(target: str) -> int | None:
    """Return the permissions of a regular file that is to be replaced; None where there is none.

    What is neither file nor folder is refused: a device would be replaced by a file of its name.
    """
    try:
        mode = os.stat(target).st_mode  # noqa: PTH116
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise OutputError(f"{printable(target)} is a folder, so no file can be written there.")
    if not stat.S_ISREG(mode):
        raise OutputError(f"{printable(target)} is no regular file, so it is left alone. Write elsewhere, or to -.")
    return stat.S_IMODE(mode)


@contextlib.contextmanager
def _new_file(target: str) -> Iterator[tuple[BinaryIO, str]]:
    """Open a new file in the folder of `target`; give it, and the name beside the target that it has or may take.

    Where the system can (Linux), it has no name at first, so that not even a killed process leaves anything behind.
    """
    aside = _aside(target)
    flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = -1
    if hasattr(os, "O_TMPFILE") and os.path.isdir(_OPEN_FILES):
        with contextlib.suppress(OSError):  # Not every file system can; the folder may be missing, too.
            descriptor = os.open(os.path.dirname(target) or ".", flags | os.O_TMPFILE, 0o666)
    if descriptor < 0:
        descriptor = os.open(aside, flags | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file, aside
    finally:
        with contextlib.suppress(OSError):
            os.unlink(aside)


def _name_file(file: BinaryIO, aside: str, target: str, force: bool) -> None:
    """Give a file that is written and synced its name."""
    unnamed = os.fstat(file.fileno()).st_nlink == 0
    if not unnamed:
        file.close()  # Windows renames no open file.
    if not force:
        try:
            # Unlike a rename, a link fails where somebody made the target meanwhile.
            if unnamed:
                _link_unnamed(file, target)
            else:
                os.link(aside, target)
            return
        except FileExistsError:
            refuse_existing(target, force)
        except OSError:
            refuse_existing(target, force)  # A file system without hard links.
    if unnamed:
        _link_unnamed(file, aside)
    os.replace(aside, target)


def _link_unnamed(file: BinaryIO, name: str) -> None:
    # Given a folder to start from, Python asks the system to follow the link that /proc has for an open file.
    open_files = os.open(_OPEN_FILES, os.O_RDONLY)
    try:
        os.link(str(file.fileno()), name, src_dir_fd=open_files, follow_symlinks=True)
    finally:
        os.close(open_files)


def _move_folder(aside: str, target: str) -> None:
    if not os.path.lexists(target):
        os.rename(aside, target)
        return
    _refuse_to_lose(target, aside)
    if not folders.exchange(aside, target):
        old = _aside(target)
        os.rename(target, old)
        try:
            os.rename(aside, target)
        except OSError:
            os.rename(old, target)
            raise
        aside = old
    import shutil

    shutil.rmtree(aside, ignore_errors=True)


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


def _cannot_write(target: str, error: OSError | ValueError) -> OutputError:
    number = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or (os.strerror(number) if number else str(error) or type(error).__name__)
    folder = os.path.dirname(target) or "."
    if "\0" not in folder and not os.path.isdir(folder):
        reason = f"the folder {printable(folder)} does not exist; make it first"
    return OutputError(f"{printable(target)} cannot be written: {printable(reason)}.")
