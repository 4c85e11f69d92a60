"""Escaped formulas in CSV: spreadsheets do not compute class names, and readers return them unchanged."""

from __future__ import annotations

import csv
import io
import sys

import numpy as np
import pytest

from kvae_serve.csv_escape import escape, unescape
from kvae_serve.model import load
from kvae_serve.readers import read_dataset
from support import hostile_files, wire

FORMULAS = [
    "=1+2",
    "+1+2",
    "-1+2",
    "@SUM(A1)",
    "=cmd|' /C calc'!A0",
    "\t=1",
    "\r=1",
    "'=1",
    "''=1",
    "=-1",
    "-x",
    "+A1",
    "'-",
]
HARMLESS = [
    "cat",
    "1",
    "-1",
    "+2.5e-3",
    "-.5",
    "1=2",
    "a-b",
    "'",
    "'cat",
    "'1",
    "x@y",
    "",
    "ä",
    "-",
    "--",
    "+41 79 123 45 67",
    "+1 (555) 010-99",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_formula_is_escaped_and_unescaped(text):
    assert escape(text) == "'" + text
    assert unescape(escape(text)) == text


def test_file_names_on_a_terminal_do_not_control_it(tiny, tmp_path, command_environment):
    from PIL import Image

    from support.terminal import Terminal

    (tmp_path / "d").mkdir()
    Image.new("L", (6, 8)).save(tmp_path / "d" / "a\x1b]0;owned\x07\u202eb.png")
    arguments = ["score", "-m", str(tiny / "unconditional"), "d", "-q"]
    terminal = Terminal([sys.executable, "-m", "kvae", *arguments], tmp_path, command_environment)
    output = terminal.read()
    terminal.close()
    assert "index,file,elbo" in output
    assert r"a\x1b]0;owned\x07\u202eb.png" in output
    assert output.replace("\r\n", "").isprintable()


@pytest.mark.parametrize("text", HARMLESS)
def test_numbers_and_other_texts_are_not_escaped(text):
    assert escape(text) == text
    assert unescape(text) == text


def test_formulas_in_class_names_are_escaped_in_csv_and_read_back(tmp_path, kvae):
    classes = ["=1+2", "-3", "@x"]
    columns = [{"name": "=A1", "kind": "numeric"}, {"name": "b", "kind": "categorical", "classes": classes}]
    columns += [{"name": "-3", "kind": "numeric"}]
    manifest = hostile_files.SMALL | {"data": {"kind": "table", "shape": [3], "range": None, "columns": columns}}
    # The class is the first latent number of each row: 2 at most, and cut off at 0.
    nodes = [wire.node("Clip", ["z", "low", "high"], ["x_mean"])]
    tensors = [wire.tensor("low", [], wire.floats(0)), wire.tensor("high", [], wire.floats(2))]
    (tmp_path / "m.onnx").write_bytes(hostile_files.graph(nodes, tensors, manifest))
    done = kvae("sample", "-m", "m.onnx", "-n", 64, "--seed", 0, "--mean", "-o", "out.csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.reader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert rows[0] == ["'=A1", "b", "-3"]
    drawn = np.rint(load(tmp_path / "m.onnx").sample(64, seed=0, draw=False).x[:, 1]).astype(int)
    assert set(drawn) == {0, 1, 2}
    assert [row[1] for row in rows[1:]] == [["'=1+2", "-3", "'@x"][index] for index in drawn]
    output = kvae("sample", "-m", "m.onnx", "-n", 64, "--seed", 0).stdout
    assert output.splitlines()[0] == "'=A1,b,-3"
    text = (tmp_path / "out.csv").read_text().replace(",-3\n", ",c\n", 1)  # No number names a column that is read.
    (tmp_path / "in.csv").write_text(text)
    again = read_dataset(tmp_path / "in.csv")
    assert [column["name"] for column in again.columns] == ["=A1", "b", "c"]
    assert set(again.columns[1]["classes"]) == set(classes)
