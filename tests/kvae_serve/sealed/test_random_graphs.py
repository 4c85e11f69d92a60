"""Random graphs of allowed operators: ONNX Runtime opens, refuses or runs each accepted graph and never crashes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from support import random_graphs, wire
from support.forked import MIB

CODE = "import json, random_graphs; print(json.dumps(random_graphs.run(*map(int, arguments), 'at')))"


def judged(forked, folder: Path, first: int, num: int) -> Counter[str]:
    done = forked.run([str(first), str(num)], folder, code=CODE, seconds=num)
    reached = (folder / "at").read_text() if (folder / "at").exists() else "none"
    assert done.code == 0, f"at graph {reached}: {done.code} {done.stderr.decode()}"
    assert not done.hung
    assert done.peak < 600 * MIB  # Many sessions in sequence, each with a cap of 64 MiB.
    return Counter(json.loads(done.stdout))


def test_random_graphs_do_not_crash_onnx_runtime(forked, tmp_path):
    ends = judged(forked, tmp_path, 0, 400)
    assert sum(ends.values()) == 400
    assert ends["ran"] > 200


@pytest.mark.slow
def test_twenty_thousand_random_graphs_do_not_crash_onnx_runtime(forked, tmp_path):
    for first in range(10_000, 30_000, 500):
        judged(forked, tmp_path, first, 500)


def test_judge_distinguishes_refused_and_run_graphs():
    face = [wire.value("z", ["batch", 3])], [wire.value("x_mean", ["batch", 3])]

    def graph(op: str, inputs: list[str]) -> bytes:
        return wire.model(wire.graph([wire.node(op, inputs, ["x_mean"])], *face))

    assert random_graphs.judge(graph("Sigmoid", ["z"])) == "ran"
    assert random_graphs.judge(graph("Loop", ["z"])) == "refused"
    assert random_graphs.judge(graph("MatMul", ["z", "z"])) == "refused"
    assert random_graphs.judge(graph("And", ["z", "z"])) == "refused"


def test_random_graphs_are_reproducible_and_cover_every_operator():
    graphs = [random_graphs.make(index) for index in range(len(random_graphs.OPS))]
    assert graphs[7] == random_graphs.make(7)
    assert len(set(graphs)) == len(graphs)
    assert all(op.encode() in data for op, data in zip(random_graphs.OPS, graphs, strict=True))
