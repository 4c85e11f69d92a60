"""The fuzz targets: every input that a search found worth keeping is run again, and by name the searches themselves."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "fuzz"
TARGETS = ("reader", "data")


def module(name: str):
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", FUZZ / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_of_the_corpus_is_refused_or_taken(name, monkeypatch):
    monkeypatch.setenv("KVAE_FUZZ_RUN", "1")
    inputs = module("corpus").read(name)
    assert len(inputs) >= 80
    target = module(name)
    for data in inputs.values():
        target.one_input(data)


def test_a_target_tells_a_broken_promise(monkeypatch):
    from kvae_serve.sealed import validate

    target, inputs = module("reader"), module("corpus").read("reader")
    monkeypatch.setattr(validate, "walk", lambda data: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        target.one_input(next(iter(inputs.values())))


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_search_of_a_minute_finds_nothing(name, tmp_path):
    pytest.importorskip("atheris")
    done = subprocess.run(
        [sys.executable, FUZZ / f"{name}.py", "-max_total_time=60"],
        cwd=tmp_path,
        env=os.environ | {"KVAE_FUZZ_RUN": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.glob("crash-*")) == []
