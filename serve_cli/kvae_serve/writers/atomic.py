"""Files and folders that appear complete or not at all.

New content is written under a temporary name in the same folder, flushed to the disk, and renamed. After an error, an
interrupt, a kill or a power loss, the path holds the old content or the new content.

Replacing a folder that has content takes two renames: the old folder aside, then the new one into its place. A kill or
a power loss between the two leaves nothing at the path, and both folders next to it, complete, under temporary names.
The next `new_folder` for that path first restores the old folder.

Temporary names are `.NAME.XXXXXXXXXXXX.tmp` (new content) and `.NAME.XXXXXXXXXXXX.old` (a replaced folder). If a kill
leaves them behind, the next write to the same path removes them: a `.tmp` after an hour without changes.
"""
# os instead of pathlib: importing pathlib would slow down the start of `kvae sample`.
# ruff: noqa: PTH100, PTH102, PTH104, PTH105, PTH108, PTH112, PTH113, PTH114, PTH116, PTH118, PTH120, PTH122, PTH208

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, TextIO

from kvae_serve.errors import OutputError, printable

StrPath = str | os.PathLike[str]

MANY_FILES = 64
"""Number of files in a folder above which all file systems are flushed at once, not file by file."""

STALE_SECONDS = 3600.0
"""Seconds without a change after which a temporary file or folder counts as left behind by a killed process."""


def write_whole(path: StrPath, data: bytes | Callable[[BinaryIO], object], force: bool = False) -> None:
    """Write a file so that it appears complete or not at all.

    Args:
        path: Path of the file. With `force`, a symbolic link is followed and its target is replaced.
        data: The bytes, or a function that writes them to the open binary file that it receives.
        force: Replace an existing file. The new file keeps its permissions.

    Raises:
        OutputError: The file exists, is not a regular file, or cannot be written.
    """
    target = os.fspath(path)
    check_target(target, force)
    target = _resolve(target, force)
    try:
        permissions = _permissions(target)
        _clean_up(target)
        aside = _aside(target, "tmp")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
            with os.fdopen(os.open(aside, flags, 0o666), "wb") as file:
                if callable(data):
                    data(file)
                else:
                    file.write(data)
                file.flush()
                if permissions is not None and hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), permissions)
                _flush_disk(file.fileno())
            _name_file(aside, target, force)
        finally:
            _remove(aside)
        _sync(os.path.dirname(target) or ".")
    except OutputError:
        raise
    except OSError as error:
        raise _cannot_write(target, error) from error


def write_text(path: StrPath, write: Callable[[TextIO], object], force: bool = False) -> None:
    """Write a UTF-8 file like `write_whole`, with a function that writes to the open text file."""

    def write_bytes(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        write(text)
        text.detach()

    write_whole(path, write_bytes, force)


@contextlib.contextmanager
def new_folder(path: StrPath, force: bool = False) -> Iterator[str]:
    """Yield a temporary folder that becomes `path` when the block succeeds and is removed when it fails.

    An empty folder at `path` is replaced. With `force`, a folder with content is replaced as a whole, but only if the
    new folder replaces each of its entries: by an entry of the same name, or a file by files of the same suffix. The
    module docstring describes the result of a crash.

    Raises:
        OutputError: The folder exists, would lose an entry, or cannot be written.
    """
    target = path if isinstance(path, Confined) else _resolve(os.path.abspath(os.fspath(path)), force)
    _clean_up(target)
    _refuse_folder(target, force)
    aside = _aside(target, "tmp")
    try:
        os.mkdir(aside)
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        yield aside
        _sync_tree(aside)
        _name_folder(aside, target, force)
        _sync(os.path.dirname(target))
    except OutputError:
        raise
    except OSError as error:
        # Only an error about the new folder is an output error. The block may fail on other files.
        if error.filename is None or str(error.filename).startswith(aside):
            raise _cannot_write(target, error) from error
        raise
    finally:
        _remove(aside)


class Confined(str):
    """Path through an open folder, shown as the path that was given. A symbolic link at its end is not followed."""

    shown: str

    def __str__(self) -> str:
        return self.shown


@contextlib.contextmanager
def below(root: str, path: str) -> Iterator[str]:
    """Open the folder of a path below `root` without following symbolic links; yield the path to write to.

    Another process may replace a folder by a link at any time. The new content still goes into the folder that was
    opened. Systems without /proc/self/fd get the plain path.

    Raises:
        OutputError: A folder of the path does not exist, or is a link.
    """
    shown, (*folders, name) = os.path.join(root, path), os.path.normpath(path).split(os.sep)  # noqa: PTH206
    if not os.path.isdir("/proc/self/fd"):
        yield shown
        return
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            outer = descriptor
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=outer)
            os.close(outer)
        confined = Confined(f"/proc/self/fd/{descriptor}/{name}{'/' if path.endswith('/') else ''}")
        confined.shown = shown
        yield confined
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise _cannot_write(shown, error) from error
    finally:
        os.close(descriptor)


def check_target(path: StrPath, force: bool) -> None:
    """Raise `OutputError` if `path` exists and `force` is not set, or if its folder is missing.

    Call it before long work.
    """
    target = os.fspath(path).rstrip("/" + os.sep)
    folder = os.path.dirname(target) or "."
    if target and "\0" not in folder and not os.path.isdir(folder):
        raise _cannot_write(target, FileNotFoundError(folder))
    if not force and os.path.lexists(path):
        raise OutputError(f"{printable(path)} exists already and was kept. Choose another name, or give --force.")


def _resolve(path: str, force: bool) -> str:
    if "\0" in path:
        raise OutputError(f"{printable(path)} contains a NUL character, which no path can. Choose another name.")
    return os.path.realpath(path) if force and not isinstance(path, Confined) else path


def _refuse_folder(target: str, force: bool) -> None:
    if os.path.lexists(target) and not os.path.isdir(target) and force:
        raise OutputError(f"{printable(target)} is a file; expected a folder or a new name.")
    if not (os.path.isdir(target) and not os.listdir(target)):
        check_target(target, force)


def _aside(target: str, suffix: str) -> str:
    folder, name = os.path.split(target.rstrip("/" + os.sep))
    return os.path.join(folder, f".{name}.{os.urandom(6).hex()}.{suffix}")


def _permissions(target: str) -> int | None:
    """Return the permissions of the regular file at `target`, None if it does not exist. Refuse devices and folders."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise OutputError(f"{printable(target)} is a folder; expected the name of a file.")
    if not stat.S_ISREG(mode):
        raise OutputError(f"{printable(target)} is not a regular file and was not changed. Use another path, or -.")
    return stat.S_IMODE(mode)


def _name_file(aside: str, target: str, force: bool) -> None:
    if not force:
        try:
            os.link(aside, target)  # Unlike a rename, fails if another process has just created the target.
            return
        except OSError:  # The target exists, or the file system does not have hard links.
            check_target(target, force)
    os.replace(aside, target)


def _name_folder(aside: str, target: str, force: bool) -> None:
    _refuse_folder(target, force)
    if not os.path.isdir(target):
        os.rename(aside, target)
        return
    _refuse_loss(target, aside)
    old = _aside(target, "old")
    try:
        os.rename(target, old)
        os.rename(aside, target)
    except BaseException:
        if not os.path.lexists(target):
            os.rename(old, target)
        raise
    _remove(old)


def _refuse_loss(old: str, new: str) -> None:
    names = set(os.listdir(new))
    suffixes = {os.path.splitext(name)[1] for name in names if os.path.isfile(os.path.join(new, name))}
    for name in sorted(set(os.listdir(old)) - names):
        path = os.path.join(old, name)
        if os.path.splitext(name)[1] not in suffixes or os.path.islink(path) or not os.path.isfile(path):
            raise OutputError(
                f"{printable(old)} contains {printable(name)}, which would be lost. "
                "Choose another name, or remove it yourself."
            )


def _clean_up(target: str) -> None:
    """Put back a folder whose replacement was cut short, and remove what killed processes left of `target`."""
    parent, name = os.path.split(target.rstrip("/" + os.sep))
    pattern = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{12}}\.(tmp|old)")
    with contextlib.suppress(OSError):
        for entry in os.listdir(parent or "."):
            if (match := pattern.fullmatch(entry)) is None:
                continue
            path = os.path.join(parent, entry)
            if match[1] == "old" and not os.path.lexists(target):
                os.rename(path, target)
            elif match[1] == "old" or time.time() - os.lstat(path).st_mtime >= STALE_SECONDS:
                _remove(path)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        import shutil

        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _sync_tree(folder: str) -> None:
    """Flush the files and folders in a folder to the disk."""
    tree = [(path, names) for path, _, names in os.walk(folder)]
    if sum(len(names) for _, names in tree) > MANY_FILES and hasattr(os, "sync"):
        os.sync()
        return
    for path, names in tree:
        for name in names:
            _sync(os.path.join(path, name), required=os.name == "posix")
        _sync(path)


def _sync(path: str, required: bool = False) -> None:
    """Flush a file or folder to the disk. Some systems cannot flush folders, so that an error only counts for files."""
    with contextlib.nullcontext() if required else contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            _flush_disk(descriptor)
        finally:
            os.close(descriptor)


def _flush_disk(descriptor: int) -> None:
    """Flush a file to the disk. On macOS `fsync` leaves the data in the cache of the drive."""
    if sys.platform == "darwin":
        import fcntl

        with contextlib.suppress(OSError):  # a file system without it
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _cannot_write(target: str, error: OSError) -> OutputError:
    reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error) or type(error).__name__)
    folder = os.path.dirname(target) or "."
    if not os.path.isdir(folder):
        reason = f"the folder {printable(folder)} does not exist. Create it first"
    return OutputError(f"{printable(target)} cannot be written: {printable(reason)}.")
