"""Writers of a file and a folder, with injected failures and kills.

This module does not import pytest, so that a small process can fork it hundreds of times.
"""

from __future__ import annotations

import os
import random
import shutil  # noqa: F401 - imported once, not by every child
import signal
import time
from pathlib import Path

from kvae_serve.errors import OutputError
from kvae_serve.writers import atomic

OLD, NEW = b"old" * 1000, b"new!" * 30_000


class Faulty:
    """Stand-in for the module `os`, or a file, whose n-th call that changes the disk fails or kills the process."""

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


def set_fault(at: int, kill: bool = False) -> dict:
    """Make the `at`-th call of the writers fail, or kill the process. Return a dict that counts the calls."""
    state = {"calls": 0, "at": at, "kill": kill}
    atomic.os = Faulty(os, state)  # type: ignore[attr-defined]
    return state


def clear_fault() -> None:
    """Let all calls succeed again."""
    atomic.os = os  # type: ignore[attr-defined]


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
    """Create the old content, if it is to be replaced."""
    if force and kind == "file":
        (folder / "a.bin").write_bytes(OLD)
    elif force:
        (folder / "a").mkdir()
        for name in ("x.png", "y.png"):
            (folder / "a" / name).write_bytes(OLD)


def content(folder: Path, kind: str) -> tuple[bytes, ...] | None:
    """Return the content of the file, or of the two files in the folder, or None if it does not exist."""
    paths = [folder / "a.bin"] if kind == "file" else [folder / "a" / "x.png", folder / "a" / "y.png"]
    return tuple(path.read_bytes() for path in paths) if paths[0].exists() else None


def allowed(kind: str, force: bool) -> list:
    """Return the old and the new content, the only allowed ones after a fault."""
    size = 1 if kind == "file" else 2
    return [(OLD,) * size if force else None, (NEW,) * size]


WRITE = {"file": write_file, "folder": write_folder}


def temporary(folder: Path) -> list[str]:
    """Return the temporary names in a folder."""
    return [path.name for path in folder.iterdir() if path.suffix in (".tmp", ".old")]


def check_after_kill(folder: Path, kind: str, force: bool) -> bool:
    """Assert that a killed writer left the old or the new content. Return whether the next run had to recover it."""
    between = kind == "folder" and force and content(folder, kind) is None
    if between:
        # Between the two renames. The next run puts the old folder back, and refuses to replace it without force.
        try:
            write_folder(folder, force=False)
        except OutputError:
            pass
        else:
            raise AssertionError("the old folder was not put back")
    assert content(folder, kind) in allowed(kind, force), (kind, force)
    return between


def kill_at_each_call(root: Path, kind: str, force: bool) -> tuple[int, int]:
    """Kill a writer at its first call, its second, ... until it succeeds. Return the kills, and those to recover from.

    A last run after each kill, an hour later, leaves the new content and no temporary names.
    """
    recovered = 0
    atomic.STALE_SECONDS = 0
    for at in range(1, 100):
        folder = root / str(at)
        folder.mkdir()
        before(folder, kind, force)
        child = os.fork()
        if child == 0:
            set_fault(at, kill=True)
            WRITE[kind](folder, force)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        recovered += check_after_kill(folder, kind, force)
        WRITE[kind](folder, force=True)
        assert content(folder, kind) == allowed(kind, force)[1]
        assert temporary(folder) == []
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return at - 1, recovered
    raise AssertionError("the writer never succeeded")


def kills(folder: Path, num: int, seed: int) -> int:
    """Kill `num` writers of one file and one folder, each at a random time. Return how many were killed."""
    rng = random.Random(seed)
    before(folder, "file", True)
    before(folder, "folder", True)
    killed = 0
    for _ in range(num):
        child = os.fork()
        if child == 0:
            while True:
                write_file(folder, True)
                write_folder(folder, True)
        time.sleep(rng.uniform(0, 0.006))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        check_after_kill(folder, "file", True)
        check_after_kill(folder, "folder", True)
    atomic.STALE_SECONDS = 0
    write_file(folder, True)
    write_folder(folder, True)
    assert temporary(folder) == []
    return killed


def race(folder: Path, force: bool, times: int) -> list[int]:
    """Let eight processes write one file at the same time. Return their exit codes, sorted."""
    target, candidates = folder / "a.bin", [bytes([index]) * 200_000 for index in range(8)]
    children = []
    for candidate in candidates:
        child = os.fork()
        if child == 0:
            try:
                for _ in range(times):
                    atomic.write_whole(target, candidate, force)
            except OutputError as error:
                os._exit(error.exit_code)
            os._exit(0)
        children.append(child)
    codes = []
    while len(codes) < len(children):
        child, status = os.waitpid(-1, os.WNOHANG)
        codes += [os.waitstatus_to_exitcode(status)] if child else []
        assert not target.exists() or target.read_bytes() in candidates
    assert [path.name for path in folder.iterdir()] == ["a.bin"]
    return sorted(codes)
