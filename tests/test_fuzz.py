"""Fuzz targets: all inputs of their corpora, and with `-m slow` a search of one minute each."""

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
def test_corpus_inputs_are_refused_or_accepted(name, monkeypatch):
    monkeypatch.setenv("KVAE_FUZZ_RUN", "1")
    inputs = module("corpus").read(name)
    assert len(inputs) >= 80
    target = module(name)
    for data in inputs.values():
        target.one_input(data)


def test_target_reports_a_violation(monkeypatch):
    from kvae_serve.sealed import validate

    target, inputs = module("reader"), module("corpus").read("reader")
    monkeypatch.setattr(validate, "walk", lambda data: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        target.one_input(next(iter(inputs.values())))


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_one_minute_of_fuzzing_finds_nothing(name, tmp_path):
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
