"""Writers of files and folders, and faults that meet them: calls that fail, and kills.

Without pytest, so that a small process can fork hundreds of them.
"""

from __future__ import annotations

import ctypes  # noqa: F401 - imported once, not by every child
import os
import random
import shutil  # noqa: F401
import signal
import time
from pathlib import Path

from kvae_serve.errors import OutputError
from kvae_serve.writers import atomic, folders

OPEN_FILES = atomic._OPEN_FILES
OLD, NEW = b"old" * 1000, b"new!" * 30_000


class Faulty:
    """The module `os` (or one of its files), in which the n-th call that changes something fails or kills."""

    CALLS = frozenset(
        ["open", "link", "replace", "rename", "mkdir", "fsync", "fdopen", "fchmod", "write", "flush", "sync"]
    )

    def __init__(self, real, state) -> None:
        self._real, self._state = real, state

    def __getattr__(self, name):
        found = getattr(self._real, name)
        if name not in self.CALLS:
            return found

        def call(*arguments, **rest):
            self._state["calls"] += 1
            if self._state["calls"] == self._state["at"]:
                if self._state["kill"]:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(28, "No space left on device")
            value = found(*arguments, **rest)
            return Faulty(value, self._state) if name == "fdopen" else value

        return call

    def __enter__(self):
        self._real.__enter__()
        return self

    def __exit__(self, *error):
        return self._real.__exit__(*error)


def set_fault(at: int, kill: bool = False, unnamed: bool = True) -> dict:
    """Let the `at`-th call of the writers fail, or kill; returns the count of calls. `clear_fault` ends it."""
    state = {"calls": 0, "at": at, "kill": kill}
    for module in (atomic, folders):
        module.os = Faulty(os, state)  # type: ignore[attr-defined]
    atomic._OPEN_FILES = OPEN_FILES if unnamed else "/nowhere"
    return state


def clear_fault() -> None:
    for module in (atomic, folders):
        module.os = os  # type: ignore[attr-defined]
    atomic._OPEN_FILES = OPEN_FILES


def write_file(folder: Path, force: bool) -> None:
    # In pieces larger than the buffer, so that there are several writes.
    atomic.write_whole(
        folder / "a.bin", lambda file: [file.write(NEW[at : at + 20_000]) for at in range(0, 120_000, 20_000)], force
    )


def write_folder(folder: Path, force: bool) -> None:
    with atomic.new_folder(folder / "a", force) as aside:
        for name in ("x.png", "y.png"):
            (Path(aside) / name).write_bytes(NEW)


def before(folder: Path, kind: str, force: bool) -> None:
    if force and kind == "file":
        (folder / "a.bin").write_bytes(OLD)
    elif force:
        (folder / "a").mkdir()
        for name in ("x.png", "y.png"):
            (folder / "a" / name).write_bytes(OLD)


def found(folder: Path, kind: str) -> tuple[bytes, ...] | None:
    """What is at the target: the content of the file or of the two in the folder; None where there is nothing."""
    paths = [folder / "a.bin"] if kind == "file" else [folder / "a" / "x.png", folder / "a" / "y.png"]
    return tuple(path.read_bytes() for path in paths) if paths[0].exists() else None


def whole(kind: str, force: bool) -> list:
    size = 1 if kind == "file" else 2
    return [(OLD,) * size if force else None, (NEW,) * size]


WRITE = {"file": write_file, "folder": write_folder}


def two_folders(folder: Path) -> tuple[str, str]:
    for name in ("one", "other"):
        (folder / name).mkdir(exist_ok=True)
    return str(folder / "one"), str(folder / "other")


def has_unnamed_files(folder: Path) -> bool:
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR))
    except (AttributeError, OSError):
        return False
    return Path("/proc/self/fd").is_dir()


def kill_at_each_call(root: Path, kind: str, force: bool, unnamed: bool) -> tuple[int, int]:
    """Kill a writer at its first call, its second, ... until it comes through; return how many died, and strays."""
    strays = 0
    for at in range(1, 100):
        folder = root / str(at)
        folder.mkdir()
        before(folder, kind, force)
        child = os.fork()
        if child == 0:
            set_fault(at, kill=True, unnamed=unnamed)
            WRITE[kind](folder, force)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert found(folder, kind) in whole(kind, force), (kind, force, unnamed, at)
        strays += len([path for path in folder.iterdir() if path.name.endswith(".tmp")])
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return at - 1, strays
    raise AssertionError("it never came through")


def kills(folder: Path, num: int, seed: int) -> tuple[int, int]:
    """Kill that many writers of one file and one folder, each at a random time; return how many died, and strays."""
    chance = random.Random(seed)
    before(folder, "file", True)
    before(folder, "folder", True)
    died = 0
    for _ in range(num):
        child = os.fork()
        if child == 0:
            while True:
                write_file(folder, True)
                write_folder(folder, True)
        time.sleep(chance.uniform(0, 0.006))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        died += os.WIFSIGNALED(status)
        assert found(folder, "file") in whole("file", True)
        assert found(folder, "folder") in whole("folder", True)
    strays = len([path for path in folder.iterdir() if path.name.endswith(".tmp")])
    # A folder that a killed writer left unfinished is swept away by the next.
    write_folder(folder, True)
    assert [path for path in folder.iterdir() if path.name.endswith(".tmp") and path.is_dir()] == []
    return died, strays


def race(folder: Path, force: bool, times: int) -> list[int]:
    """Let eight processes write one file at once; return their exit codes, sorted."""
    target, contents = folder / "a.bin", [bytes([index]) * 200_000 for index in range(8)]
    children = []
    for content in contents:
        child = os.fork()
        if child == 0:
            try:
                for _ in range(times):
                    atomic.write_whole(target, content, force)
            except OutputError as error:
                os._exit(error.exit_code)
            os._exit(0)
        children.append(child)
    codes = []
    while len(codes) < len(children):
        child, status = os.waitpid(-1, os.WNOHANG)
        codes += [os.waitstatus_to_exitcode(status)] if child else []
        assert not target.exists() or target.read_bytes() in contents
    assert [path.name for path in folder.iterdir()] == ["a.bin"]
    return sorted(codes)
