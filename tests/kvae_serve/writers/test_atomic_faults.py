"""Writing under every fault: a call that fails, a kill at any call and at any time, several writers at once.

After each of them there is the old file or the new one, whole; a fault that a program survives leaves no other file.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path

import pytest

from kvae_serve.errors import OutputError
from kvae_serve.writers import atomic, folders
from support import faults


@pytest.fixture
def quick(tmp_path):
    """A folder in memory, where there is one: nothing here cuts the power, and disks are slow to sync."""
    if not (Path("/dev/shm").is_dir() and os.access("/dev/shm", os.W_OK)):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


KINDS = [(kind, force, unnamed) for kind in ("file", "folder") for force in (False, True) for unnamed in (True, False)]


@pytest.mark.parametrize(("kind", "force", "unnamed"), KINDS)
def test_whichever_call_fails_the_old_or_the_new_is_there_and_nothing_else(quick, kind, force, unnamed):
    errors = []
    for at in range(1, 100):
        folder = quick / str(at)
        folder.mkdir()
        faults.before(folder, kind, force)
        state = faults.set_fault(at, unnamed=unnamed)
        try:
            faults.WRITE[kind](folder, force)
        except OutputError as error:
            errors.append(str(error))
        finally:
            faults.clear_fault()
        assert faults.found(folder, kind) in faults.whole(kind, force)
        assert len(list(folder.iterdir())) == (faults.found(folder, kind) is not None)
        if state["calls"] < at:
            assert faults.found(folder, kind) == faults.whole(kind, force)[1]
            break
    else:
        raise AssertionError("it never came through")
    assert len(errors) >= 3
    assert all("No space left" in error for error in errors)


def in_small_process(forked, folder: Path, call: str):
    """Call a function of `faults` where forking is cheap; return what it returned."""
    done = forked.run([], folder, code=f"import faults, json, pathlib; print(json.dumps(faults.{call}))", seconds=60)
    assert done.code == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.mark.parametrize(("kind", "force", "unnamed"), KINDS)
def test_a_kill_at_whichever_call_leaves_the_old_or_the_new(forked, quick, kind, force, unnamed):
    if kind == "folder" and force and not folders.exchange(*faults.two_folders(quick)):
        pytest.skip("this file system cannot swap two folders")
    died, strays = in_small_process(forked, quick, f"kill_at_each_call(pathlib.Path(), {kind!r}, {force}, {unnamed})")
    assert died >= 4
    if kind == "file" and unnamed and faults.has_unnamed_files(quick):
        assert strays <= force  # Between the name aside and that of the target there is one call.


def test_two_hundred_kills_at_any_time_leave_the_old_or_the_new(forked, quick):
    if not folders.exchange(*faults.two_folders(quick)):
        pytest.skip("this file system cannot swap two folders")
    died, strays = in_small_process(forked, quick, "kills(pathlib.Path(), 200, 0)")
    assert died == 200
    assert strays < 20


@pytest.mark.parametrize(("force", "codes"), [(True, [0] * 8), (False, [0] + [7] * 7)])
def test_many_writers_at_once_leave_one_whole_file_of_one_of_them(forked, quick, force, codes):
    assert in_small_process(forked, quick, f"race(pathlib.Path(), {force}, {20 if force else 1})") == codes


def test_what_is_no_regular_file_is_left_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.bin").symlink_to("pipe")
    for name in ("pipe", "link.bin"):
        with pytest.raises(OutputError, match="no regular file"):
            atomic.write_whole(tmp_path / name, b"new", force=True)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.bin", "pipe"]


def test_a_device_is_never_replaced_not_even_by_root(tmp_path):
    device = tmp_path / "full"
    try:
        os.mknod(
            device, stat.S_IFCHR | 0o666, os.makedev(1, 7)
        )  # What /dev/full is; a node of our own, lest it suffer.
    except OSError:
        return  # Only root may make one, and nobody else can replace one in /dev.
    (tmp_path / "link.npy").symlink_to(device)
    for name in ("full", "link.npy"):
        with pytest.raises(OutputError, match="no regular file"):
            atomic.write_whole(tmp_path / name, b"new", force=True)
    assert stat.S_ISCHR(device.stat().st_mode)


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"old")
    (tmp_path / "a.bin").chmod(0o600)
    atomic.write_whole(tmp_path / "a.bin", b"new", force=True)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o600


def test_the_unfinished_folder_of_a_writer_that_lives_is_no_stray(tmp_path):
    with atomic.new_folder(tmp_path / "a", force=True) as first:
        (Path(first) / "x.png").write_bytes(b"first")
        with atomic.new_folder(tmp_path / "a", force=True) as second:
            (Path(second) / "x.png").write_bytes(b"second")
        assert Path(first).is_dir()
    assert (tmp_path / "a" / "x.png").read_bytes() == b"first"


def test_a_folder_of_many_files_is_flushed_too(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(folders.os, "sync", lambda: done.append("all"))
    with atomic.new_folder(tmp_path / "a") as aside:
        for index in range(100):
            (Path(aside) / f"{index}.png").write_bytes(b"x")
    assert done == ["all"]
