"""Random graphs of allowed operators: ONNX Runtime opens, refuses or runs each accepted graph and never crashes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from support import random_graphs, wire

CODE = """
import itertools, json
from support import random_graphs, targeted_graphs
kind, first, num = arguments[0], int(arguments[1]), int(arguments[2])
graphs = random_graphs.numbered(first, num) if kind == "random" else targeted_graphs.graphs()[first::num]
print(json.dumps(random_graphs.run(graphs)))
"""


def judged(forked, folder: Path, kind: str, first: int, num: int) -> Counter[str]:
    """Return outcomes of graphs that run in a process each, within their bound and with the inferred shapes."""
    done = forked.run([kind, str(first), str(num)], folder, code=CODE, seconds=600)
    assert done.code == 0, done.stderr.decode()
    ends, faults = json.loads(done.stdout)
    assert faults == []
    return Counter(ends)


def test_random_graphs_run_within_their_bound_and_do_not_crash_onnx_runtime(forked, tmp_path):
    ends = judged(forked, tmp_path, "random", 0, 250) + judged(forked, tmp_path, "random", 250, 250)
    assert sum(ends.values()) == 500
    assert ends["ran"] > 350


def test_one_twentieth_of_the_targeted_graphs_run_within_their_bound(forked, tmp_path):
    ends = judged(forked, tmp_path, "targeted", 0, 20)
    assert min(ends["ran"], ends["refused"]) > 40


@pytest.mark.long
def test_targeted_graphs_run_within_their_bound_and_do_not_crash_onnx_runtime(forked, tmp_path):
    ends = sum((judged(forked, tmp_path, "targeted", first, 20) for first in range(20)), Counter[str]())
    assert sum(ends.values()) > 3_000
    assert min(ends["ran"], ends["refused"]) > 1_000


@pytest.mark.slow
def test_twenty_thousand_random_graphs_do_not_crash_onnx_runtime(forked, tmp_path):
    for first in range(10_000, 30_000, 250):
        judged(forked, tmp_path, "random", first, 250)


def test_judge_distinguishes_refused_and_run_graphs():
    face = [wire.value("z", ["batch", 3])], [wire.value("x_mean", ["batch", 3])]

    def graph(op: str, inputs: list[str]) -> bytes:
        return wire.model(wire.graph([wire.node(op, inputs, ["x_mean"])], *face))

    assert random_graphs.judge(graph("Sigmoid", ["z"])) == "ran"
    assert random_graphs.judge(graph("Loop", ["z"])) == "refused"
    assert random_graphs.judge(graph("MatMul", ["z", "z"])) == "refused"
    assert random_graphs.judge(graph("And", ["z", "z"])) == "refused"


def test_random_graphs_are_reproducible_and_cover_every_operator():
    graphs = [random_graphs.make(index) for index in range(200)]
    assert graphs[7] == random_graphs.make(7)
    assert len(set(graphs)) > 190
    assert [op for op in random_graphs.OPS if op.encode() not in b"".join(graphs)] == []
