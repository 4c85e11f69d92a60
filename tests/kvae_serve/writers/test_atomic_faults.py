"""Writing with faults: each call fails once, a kill at each call and at random times, several writers at once.

After each fault the path holds the old or the new content, complete. A fault that the process survives leaves no
temporary files.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
import time
from pathlib import Path

import pytest

from kvae_serve.errors import OutputError
from kvae_serve.writers import atomic
from support import faults


@pytest.fixture
def quick(tmp_path):
    """Return a folder in memory if possible: disks are slow to flush, and these tests do not cut the power."""
    if not (Path("/dev/shm").is_dir() and os.access("/dev/shm", os.W_OK)):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


CASES = [(kind, force) for kind in ("file", "folder") for force in (False, True)]


@pytest.mark.parametrize(("kind", "force"), CASES)
def test_any_failing_call_leaves_old_or_new_content_and_no_temporary_files(quick, kind, force):
    errors = []
    for at in range(1, 100):
        folder = quick / str(at)
        folder.mkdir()
        faults.before(folder, kind, force)
        state = faults.set_fault(at)
        try:
            faults.WRITE[kind](folder, force)
        except OutputError as error:
            errors.append(str(error))
        finally:
            faults.clear_fault()
        assert faults.content(folder, kind) in faults.allowed(kind, force)
        assert len(list(folder.iterdir())) == (faults.content(folder, kind) is not None)
        if state["calls"] < at:
            assert faults.content(folder, kind) == faults.allowed(kind, force)[1]
            break
    else:
        raise AssertionError("the writer never succeeded")
    assert len(errors) >= 3
    assert all("No space left" in error for error in errors)


def in_small_process(forked, folder: Path, call: str):
    """Call a function of `faults` in a process that forks quickly. Return its result."""
    done = forked.run([], folder, code=f"import faults, json, pathlib; print(json.dumps(faults.{call}))", seconds=60)
    assert done.code == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.mark.parametrize(("kind", "force"), CASES)
def test_kill_at_any_call_leaves_old_or_new_content(forked, quick, kind, force):
    killed, recovered = in_small_process(forked, quick, f"kill_at_each_call(pathlib.Path(), {kind!r}, {force})")
    assert killed >= 4
    # Only the replacement of a whole folder has a gap, between two renames. The next run puts the old folder back.
    assert recovered == (kind == "folder" and force)


def test_200_kills_at_random_times_leave_old_or_new_content(forked, quick):
    assert in_small_process(forked, quick, "kills(pathlib.Path(), 200, 0)") == 200


@pytest.mark.parametrize(("force", "codes"), [(True, [0] * 8), (False, [0] + [7] * 7)])
def test_concurrent_writers_leave_the_complete_file_of_one(forked, quick, force, codes):
    assert in_small_process(forked, quick, f"race(pathlib.Path(), {force}, {20 if force else 1})") == codes


def test_pipes_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.bin").symlink_to("pipe")
    for name in ("pipe", "link.bin"):
        with pytest.raises(OutputError, match="not a regular file"):
            atomic.write_whole(tmp_path / name, b"new", force=True)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.bin", "pipe"]


def test_devices_are_not_replaced_even_by_root(tmp_path):
    device = tmp_path / "full"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 7))  # A copy of /dev/full.
    except OSError:
        return  # Only root can create devices, and only root could replace one.
    (tmp_path / "link.npy").symlink_to(device)
    for name in ("full", "link.npy"):
        with pytest.raises(OutputError, match="not a regular file"):
            atomic.write_whole(tmp_path / name, b"new", force=True)
    assert stat.S_ISCHR(device.stat().st_mode)


def test_replaced_file_keeps_its_permissions(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"old")
    (tmp_path / "a.bin").chmod(0o600)
    atomic.write_whole(tmp_path / "a.bin", b"new", force=True)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o600


def test_unfinished_folder_of_a_running_writer_is_not_removed(tmp_path):
    with atomic.new_folder(tmp_path / "a", force=True) as first:
        (Path(first) / "x.png").write_bytes(b"first")
        with atomic.new_folder(tmp_path / "a", force=True) as second:
            (Path(second) / "x.png").write_bytes(b"second")
        assert Path(first).is_dir()
    assert (tmp_path / "a" / "x.png").read_bytes() == b"first"


def test_only_temporary_names_of_the_same_path_are_removed(tmp_path):
    hour_ago = time.time() - 3601
    names = [f".a.{'0' * 12}.tmp", f".b.{'0' * 12}.tmp", f".a.{'0' * 11}.tmp", f".a.{'0' * 12}.bak", ".a.tmp"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (hour_ago, hour_ago))
    atomic.write_whole(tmp_path / "a", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[1:], "a"])


def test_folder_with_many_files_is_flushed_at_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(atomic.os, "sync", lambda: calls.append("all"))
    with atomic.new_folder(tmp_path / "a") as aside:
        for index in range(100):
            (Path(aside) / f"{index}.png").write_bytes(b"x")
    assert calls == ["all"]
