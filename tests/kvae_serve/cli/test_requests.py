"""Requests by line: every request is answered, and outputs stay in their folder."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kvae_serve.cli import requests
from kvae_serve.model import load
from kvae_serve.writers import dispatch
from support import make_tiny_models


def serve(tiny, lines, **rest):
    """Answers, and the error at the end or None."""
    out, failed = io.StringIO(), None
    data = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    try:
        requests.serve(load(tiny / "conditional"), io.BytesIO(data), out, **rest)
    except requests.FailedRequestsError as error:
        failed = error
    return [json.loads(line) for line in out.getvalue().splitlines()], failed


def test_answer_equals_the_samples_of_the_model(tiny, tmp_path):
    want = load(tiny / "conditional").sample(3, label="dog", seed=7, start=2)
    path = str(tmp_path / "a.npz")
    request = {"id": [1, "x"], "label": "dog", "n": 3, "seed": 7, "start": 2}
    (inline, file), failed = serve(tiny, [request, request | {"output": path}])
    assert failed is None
    assert np.array_equal(np.array(inline.pop("x"), np.float32), want.x)
    common = {"id": [1, "x"], "rows": 3, "n": 3, "conditions": {"label": ["dog"]}, "seed": 7, "start": 2}
    assert inline == {"line": 1} | common
    assert file == {"line": 2, "output": path} | common
    with np.load(path) as found:
        np.testing.assert_array_equal(found["x"], want.x)


def test_a_missing_cell_is_null():
    x = np.array([[1.5, np.nan], [0.1, 2]], np.float32)
    assert json.dumps(requests._inline(x, "float32")) == "[[1.5, null], [0.100000001, 2.0]]"


def test_decode_matches_the_decoder_formula(tiny):
    z = [[0.5, -1, 2], [0, 0, 0]]
    (answer,), failed = serve(tiny, [{"command": "decode", "z": z, "label": ["0", "cat"]}])
    assert failed is None
    want = make_tiny_models.decode(np.array(z), np.array([2, 0]))["x_mean"]
    np.testing.assert_allclose(answer["x"], want, atol=1e-3, rtol=1e-4)


def test_defaults_apply_to_missing_keys(tiny):
    defaults = {"label": ["dog"], "n": 2, "seed": 3, "temperature": 0.0, "dtype": "uint8"}
    (first, second), _ = serve(tiny, [{}, {"condition": {"label": "cat"}, "n": 1}], defaults=defaults)
    assert (first["rows"], first["conditions"], first["seed"]) == (2, {"label": ["dog"]}, 3)
    assert first["x"][0] == first["x"][1]
    assert isinstance(first["x"][0][0][0][0], int)
    assert (second["rows"], second["conditions"]) == (1, {"label": ["cat"]})


BAD = [
    (b"nonsense", 2),
    (b"[1]", 2),
    (b"3", 2),
    (b"\xff\xfe", 2),
    (b'{"n": 1, "n": 2}', 2),
    (b'{"seed": NaN}', 2),
    (b'{"temperature": 1e999}', 2),
    (b'{"seed": ' + b"9" * 5000 + b"}", 2),
    (b'{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 2),
    (b'{"id": ' + b"[" * 20 + b"]" * 20 + b"}", 2),
    (b'{"id": "\\ud800"}', 2),
    (b'{"id": "' + b"x" * 2**20 + b'"}', 2),
    ({"command": "train"}, 2),
    ({"command": ["sample"]}, 2),
    ({"lable": "dog"}, 2),
    ({"n": True}, 2),
    ({"n": 0}, 2),
    ({"n": 10**15}, 2),
    ({"n": "4"}, 2),
    ({"seed": -1}, 2),
    ({"seed": 2**64}, 2),
    ({"label": "cow"}, 2),
    ({"label": [["dog"]]}, 2),
    ({"label": True}, 2),
    ({"condition": {"hair": "red"}}, 2),
    ({"condition": {"label": {}}}, 2),
    ({"temperature": -1}, 2),
    ({"dtype": "float64"}, 2),
    ({"output": "-"}, 2),
    ({"output": ""}, 2),
    ({"output": "a.exe"}, 2),
    ({"output": "a\0.png"}, 2),
    ({"output": "../a.png"}, 2),
    ({"output": "sub/../../a.png"}, 2),
    ({"output": "/tmp/a.png"}, 2),
    ({"output": "away/a.png"}, 2),
    ({"output": "away.png", "force": True}, 2),
    ({"output": "old.png"}, 7),
    ({"output": "none/a.png"}, 7),
    ({"command": "decode"}, 2),
    ({"command": "decode", "z": [[1, 2]], "label": "dog"}, 4),
    ({"command": "decode", "z": [[1, 2, "x"]], "label": "dog"}, 4),
    ({"command": "decode", "z": [[1, 2], [3]], "label": "dog"}, 4),
    ({"command": "decode", "z": [[1e300, 0, 0]], "label": "dog"}, 4),
    ({"command": "decode", "z": [], "label": "dog"}, 4),
]


def test_bad_line_gets_an_error_and_the_next_is_answered(tiny, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old.png").write_bytes(b"old")
    (folder / "away").symlink_to(tmp_path)
    (folder / "away.png").symlink_to(tmp_path / "a.png")
    lines = [line for bad, _ in BAD for line in (bad, {"label": "dog", "n": 1, "seed": 0}, b"")]
    answers, failed = serve(tiny, lines, folder=str(folder))
    assert len(answers) == 2 * len(BAD)
    for (bad, code), answer, good in zip(BAD, answers[::2], answers[1::2], strict=True):
        assert answer["error"]["exit_code"] == code, (bad, answer)
        assert answer["error"]["message"].isprintable()
        assert len(answer["error"]["message"]) < 500
        assert "error" not in good
    assert [answer["line"] for answer in answers[:4]] == [1, 2, 4, 5]
    assert failed.exit_code == 2
    assert f"{len(BAD)} of {2 * len(BAD)} requests failed, the first in line 1" in str(failed)
    assert (folder / "old.png").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in folder.iterdir()) == ["away", "away.png", "old.png"]


def test_each_answer_is_flushed_before_the_next_line(tiny, tmp_path, command_environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "kvae", "sample", "-m", str(tiny / "conditional"), "--requests", "-"],
        cwd=tmp_path, env=command_environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    for line, key in ((b'{"label": "dog", "n": 1, "output": "a.png"}', "output"), (b"bad", "error"), (b"{}", "x")):
        process.stdin.write(line + b"\n")
        process.stdin.flush()
        assert key in json.loads(process.stdout.readline())
    rest, error = process.communicate(timeout=30)
    assert (process.returncode, rest) == (2, b"")
    assert error.startswith(b"Error: 1 of 3 requests failed, the first in line 2")
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--requests", "none.jsonl"], 4), (["--requests", "-", "-o", "none"], 7)]
)
def test_missing_request_file_or_folder_is_reported(kvae, tiny, arguments, code):
    done = kvae("sample", "-m", tiny / "conditional", *arguments)
    assert (done.returncode, done.stdout) == (code, "")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc here")
@pytest.mark.parametrize("name", ["sub/a.png", "sub/a.npz", "sub/images", "sub/images/", "a.png", "images"])
@pytest.mark.parametrize("force", [False, True])
def test_link_that_appears_during_a_request_is_not_followed(tiny, tmp_path, monkeypatch, name, force):
    """The folder, or the output itself, becomes a link to another place after the check and before the writing."""
    folder, outside = tmp_path / "out", tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "kept").write_bytes(b"old")
    write = dispatch.write

    def swapped(path, *arguments, **named):
        if name.startswith("sub"):
            (folder / "sub").rename(folder / "moved")
            (folder / "sub").symlink_to(outside)
        else:
            (folder / name).symlink_to(outside / "kept" if name.endswith(".png") else outside)
        write(path, *arguments, **named)

    monkeypatch.setattr(dispatch, "write", swapped)
    request = {"label": "dog", "n": 2, "output": name, "force": force}
    (answer,), failed = serve(tiny, [request], folder=str(folder))
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert (outside / "kept").read_bytes() == b"old"
    if name.startswith("sub"):
        assert failed is None
        assert answer["output"] == str(folder / name) + "/" * name.endswith("/")
        assert (folder / "moved" / Path(name).name).exists()
        assert len(list((folder / "moved").iterdir())) == 1
    elif force and name == "a.png":
        assert failed is None
        assert not (folder / name).is_symlink()
    else:
        assert answer["error"]["exit_code"] == 7
        assert (folder / name).is_symlink()


def test_outputs_in_sub_folders_of_the_folder_are_written(tiny, tmp_path):
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    names = ["sub/deep/a.png", "./sub/a.npz", "sub/../b.npy", "sub/deep/images/", "c.csv"]
    lines = [{"label": "dog", "n": 2, "output": name, "force": True} for name in names]
    answers, _ = serve(tiny, lines, folder=str(tmp_path))
    assert [answer.get("error", {}).get("exit_code", 0) for answer in answers] == [0, 0, 0, 0, 2]
    assert all((tmp_path / name).exists() for name in names[:4])
    highest = []
    for _ in range(2):
        serve(tiny, lines, folder=str(tmp_path))
        highest.append(os.dup(0))
        os.close(highest[-1])
    assert highest[0] == highest[1]  # No folder was left open.
