"""Killed exports: the folder is absent, old or complete, and the next export succeeds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kvae
from kvae_serve.model import load
from kvae_serve.writers import atomic
from support.faults import Faulty
from support.runs import train


class Watched(Faulty):
    """Stand-in for `os` that calls a function before each call that changes the disk: a kill would leave that state."""

    def __getattr__(self, name):
        found = getattr(self._real, name)
        if name not in self.CALLS:
            return found

        def call(*arguments, **rest):
            self._state()
            value = found(*arguments, **rest)
            return Watched(value, self._state) if name == "fdopen" else value

        return call


@pytest.fixture(scope="module")
def model():
    return kvae.VAE.dense((4, 4, 1), latent_dim=2, hidden=(5,))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_kill_at_any_write_leaves_the_old_or_the_new_folder(model, tmp_path, monkeypatch):
    model.export(tmp_path / "new", format="onnx", name="new")
    model.export(tmp_path / "a", format="onnx", name="old")
    old, new = content(tmp_path / "a"), content(tmp_path / "new")
    assert old != new
    states = []

    def look():
        """Note the content at the path, or, between the two renames, that of the old folder next to it."""
        aside = [path for path in tmp_path.iterdir() if path.name.startswith(".a.") and path.suffix == ".old"]
        found = tmp_path / "a" if (tmp_path / "a").exists() else aside[0]
        states.append((found.name == "a", content(found)))

    monkeypatch.setattr(atomic, "os", Watched(os, look))
    model.export(tmp_path / "a", format="onnx", name="new", force=True)
    monkeypatch.undo()
    assert len(states) > 20
    assert all(state in (old, new) for _, state in states)
    assert sum(not in_place for in_place, _ in states) == 1
    assert content(tmp_path / "a") == new
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "new"]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_command_leaves_no_folder_and_the_next_one_writes_it(tmp_path, number):
    run = train(tmp_path / "run", validation=0, epochs=1).directory
    before = sorted(path.name for path in run.rglob("*"))
    command = [sys.executable, "-m", "kvae", "export", str(run), "-o", str(tmp_path / "out"), "-q"]
    end = time.monotonic() + 240
    while not (tmp_path / "out").exists():
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        while process.poll() is None and not list(tmp_path.glob(".out.*.tmp/*.onnx")):
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(number)  # the first graph is written, others follow
        process.communicate(timeout=60)
        if process.returncode:
            break
        shutil.rmtree(tmp_path / "out")  # a busy machine sent the signal too late
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert not (tmp_path / "out").exists()
    assert bool(list(tmp_path.glob(".out.*"))) == (number == signal.SIGKILL)
    assert sorted(path.name for path in run.rglob("*")) == before
    subprocess.run(command, check=True, timeout=120)
    assert all(check.ok for check in load(tmp_path / "out").verify())
