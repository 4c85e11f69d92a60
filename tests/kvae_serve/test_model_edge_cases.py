"""Unusual arguments of models and commands: each works as expected, or is rejected with a helpful message."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kvae_serve.errors import InputDataError, ModelFileError, RequestError
from kvae_serve.model import load
from kvae_serve.runtime.conditions import combinations
from kvae_serve.writers import ascii
from support.tiny import assert_refused, binary_images, names, resealed

MIB = 2**20


@pytest.fixture(scope="module")
def model(tiny: Path):
    return load(tiny / "unconditional")


def test_stored_draws_do_not_count_towards_the_memory_limit(tiny):
    model = load(tiny / "unconditional", max_memory=2 * MIB)
    kept = [model.sample(256, seed=seed, batch_size=256) for seed in range(100)]
    assert sum(draws.x.nbytes for draws in kept) > 2 * 2 * MIB
    assert (kept[7].x == model.sample(256, seed=7).x).all()
    drawn = model.sample(20_000, seed=7, draw=True)
    assert drawn.x.nbytes > 3 * MIB
    assert (drawn.x[:256] == model.sample(256, seed=7, draw=True).x).all()


def test_log_likelihood_rejects_gray_levels_under_a_bernoulli(model):
    x, z = binary_images(2), np.zeros((2, 3))
    assert np.isfinite(model.log_likelihood(x, z)).all()
    gray = x.copy()
    gray[1, 2, 3] = 100
    with pytest.raises(InputDataError, match=r"gray values such as 100; a Bernoulli likelihood expects 0 or 255"):
        model.log_likelihood(gray, z)
    model.encode(gray)  # They are valid input of an encoder.


def test_pixels_divided_by_255_are_rejected(model):
    x = binary_images(2) / 255
    for refused in (model.encode, lambda x: model.log_likelihood(x, np.zeros((2, 3)))):
        with pytest.raises(InputDataError, match="Use pixels from 0 to 255"):
            refused(x)
        refused(x * 255)
    model.encode(x * 0)
    with pytest.raises(InputDataError, match="Use pixels from 0 to 255"):
        model.encode(x.astype(np.uint8))
    model.encode((x * 12).astype(np.uint8))  # 8-bit images can be dark.


@pytest.mark.parametrize("name", ["num", "start", "seed", "batch_size"])
def test_integer_arguments_accept_integers_of_any_type_only(model, name):
    for good in (2, np.int64(2), np.uint8(2), np.array(2), 2.0):
        assert len(model.sample(**({"num": 2} | {name: good}))) == 2
    for bad in (True, np.True_, 1.5, np.float64(1.5), "2", b"2", float("nan"), float("inf"), [2], -1, np.int64(-1)):
        with pytest.raises(RequestError, match=f"^{name} is .* expected an integer"):
            model.sample(**({"num": 2} | {name: bad}))


def test_temperature_accepts_finite_numbers_only(model):
    for good in (1, 0.5, np.float32(0.5), np.int64(1)):
        model.sample(1, temperature=good)
    for bad in (True, "1", None, [1], 1j, float("nan"), 10**400, -0.1):
        with pytest.raises(RequestError, match="temperature"):
            model.sample(1, temperature=bad)


@pytest.mark.parametrize("what", [None, 3, 1.5, ["mnist"], object()])
def test_load_rejects_values_that_are_not_paths(what):
    with pytest.raises(RequestError, match="expected a path or a name"):
        load(what)


def test_pickle_and_deepcopy_keep_path_and_options(tiny):
    for path in (tiny / "conditional", tiny / "conditional" / "decoder.onnx"):
        model = load(path, threads=2, max_bytes=50 * MIB, max_memory=100 * MIB)
        expected = model.sample(2, label="cat", seed=1).x
        for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            assert other.graphs == model.graphs
            assert (other.sample(2, label="cat", seed=1).x == expected).all()
            assert other.session("decoder").max_memory == 100 * MIB
            assert (other._threads, other._max_bytes) == (2, 50 * MIB)


def test_repr_of_draws_is_one_line(tiny):
    draws = load(tiny / "conditional").sample(4, label="cat", seed=3)
    assert repr(draws) == "<4 draws of conditional: x [4, 8, 6, 1], seed 3, start 0>"


@pytest.mark.parametrize(
    ("label", "shown"), [("", "Unknown label ''"), (" 1", "Unknown label ' 1'"), ("01", "'01'"), ("00", "'00'")]
)
def test_unknown_label_is_quoted_in_the_error(kvae, tiny, label, shown):
    assert_refused(kvae("sample", "-m", tiny / "conditional", "--label", label), 2, shown)


def test_model_without_decoder_cannot_sample(kvae, tiny, tmp_path):
    done = kvae("sample", "-m", tiny / "conditional" / "encoder.onnx")
    assert_refused(done, 5, "does not include decoder.onnx", "give the folder")
    (tmp_path / "encoder.onnx").write_bytes((tiny / "conditional" / "encoder.onnx").read_bytes())
    with pytest.raises(ModelFileError, match=r"does not include decoder\.onnx"):
        load(tmp_path).sample(1)


@pytest.mark.parametrize("path", ["", ".png", ".NPZ", "folder/.csv"])
def test_output_without_a_name_is_rejected(kvae, tiny, tmp_path, path):
    assert_refused(kvae("sample", "-m", tiny / "unconditional", "-o", path), 2, "name", "digits.png")
    assert names(tmp_path) == []


@pytest.mark.parametrize("verb", ["sample", "verify"])
def test_number_of_threads_is_limited(kvae, tiny, verb):
    assert_refused(kvae(verb, "-m", tiny / "unconditional", "--threads", 257), 2, "1<=x<=256")
    with pytest.raises(RequestError, match="threads is 1000000; expected 1 to 256"):
        load(tiny / "unconditional", threads=10**6).sample(1)


@pytest.mark.parametrize(
    ("output", "unbuffered"), [("a.npy", ""), ("a.npz", "1"), ("a.png", ""), ("-", ""), ("-", "1")]
)
def test_file_size_limit_is_reported_and_leaves_no_file(tiny, tmp_path, command_environment, output, unbuffered):
    pytest.importorskip("resource")
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
from kvae.__main__ import main
main()
"""
    arguments = ["sample", "-m", str(tiny / "unconditional"), "-n", "900", "--draw", "-o", output]
    with (tmp_path / "stdout").open("wb") as stdout:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=command_environment | {"PYTHONUNBUFFERED": unbuffered},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 7
    assert done.stderr.startswith("Error: ")
    assert "File too large" in done.stderr
    assert names(tmp_path) == ["stdout"]


@pytest.mark.parametrize(
    ("environment", "colours"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, 2**24),
        ({"TERM": "tmux-256color", "COLORTERM": "24bit"}, 2**24),
        ({"TERM": "xterm-kitty"}, 2**24),
        ({"TERM": "xterm-direct"}, 2**24),
        ({"TERM": "screen-256color"}, 256),
        ({"TERM": "xterm"}, 0),
        ({"TERM": "linux"}, 0),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, 0),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, 0),
        ({"TERM": ""}, 0),
        ({}, 2**24 if os.name == "nt" else 0),
    ],
)
def test_colours_are_those_that_the_terminal_states(monkeypatch, environment, colours):
    class Terminal:
        encoding = "utf-8"

        def __init__(self, is_terminal: bool) -> None:
            self.isatty = lambda: is_terminal

    for name in ("TERM", "NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ascii.terminal(Terminal(True))[1] == colours
    assert ascii.terminal(Terminal(False))[1] == 0


def test_info_aligns_values_and_names_missing_ones(kvae, tiny, tmp_path):
    training = {"validation": None, "dataset": None, "a_rather_long_name": 3, "bad\x1b[31m": 1}
    (tmp_path / "decoder.onnx").write_bytes(
        resealed(tiny / "conditional" / "decoder.onnx", lambda manifest: manifest.update(training=training))
    )
    lines = kvae("info", "-m", "decoder.onnx").stdout.splitlines()
    width = len("a_rather_long_name") + 2
    assert "validation".ljust(width) + "no validation data" in lines
    assert "dataset".ljust(width) + "none" in lines
    assert "a_rather_long_name  3" in lines
    assert all(line.isprintable() and line[width - 1] == " " and line[width] != " " for line in lines)
    document = json.loads(kvae("info", "-m", "decoder.onnx", "--json").stdout)
    assert document["manifest"]["training"] == training


def test_too_many_combinations_of_conditions_are_refused_before_they_are_made(tiny):
    manifest = load(tiny / "linear_several").manifest
    tilt = manifest.condition("tilt")
    conditions = (tilt, dataclasses.replace(tilt, name="other"))
    manifest = dataclasses.replace(manifest, conditions=conditions)
    values = np.linspace(-1, 1, 2049).tolist()
    assert len(combinations(manifest, {"tilt": values[1:], "other": values[1:]})) == 2**22
    with pytest.raises(RequestError, match="have 4196352 combinations of values; expected at most 4194304"):
        combinations(manifest, {"tilt": values, "other": values[1:]})


def test_repeated_values_of_a_condition_count_once(tiny):
    manifest = load(tiny / "conditional").manifest
    assert combinations(manifest, {"label": ["dog", "all", "dog", *["all"] * 1000]}) == [(1,), (0,), (2,)]
