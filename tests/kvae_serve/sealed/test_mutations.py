"""Mutations of the shipped graphs: each is refused in one line or runs with finite outputs. None crashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvae_serve.errors import ModelFileError
from kvae_serve.runtime.locate import shipped
from support import mutations, wire
from support.forked import MIB

GRAPHS = sorted(Path(folder) / f for folder in shipped().values() for f in Path(folder).glob("*.onnx"))
NAMES = [f"{path.parent.name}-{path.stem}" for path in GRAPHS]


def check(forked, folder: Path, path: Path, seed: int, start: int, num: int) -> dict[str, int]:
    code = (
        "import json, mutations, sys; print(json.dumps(mutations.run(*arguments[:1], *map(int, arguments[1:4]), 'at')))"
    )
    done = forked.run([str(path), str(seed), str(start), str(num)], folder, code=code, seconds=num)
    reached = (folder / "at").read_text() if (folder / "at").exists() else "none"
    assert done.code == 0, f"at mutation {reached} of seed {seed} of {path}: {done.code} {done.stderr.decode()}"
    assert not done.hung
    assert done.peak < 400 * MIB  # The base process, several copies of a large file, and the memory cap of a session.
    return json.loads(done.stdout)


def test_mutations_of_a_shipped_graph_are_refused_or_run(forked, tmp_path):
    check_counts(forked, tmp_path, GRAPHS[NAMES.index("mnist-vae-decoder")], 100)


@pytest.mark.long
@pytest.mark.parametrize("path", GRAPHS, ids=NAMES)
def test_five_hundred_mutations_of_each_shipped_graph_are_refused_or_run(forked, tmp_path, path):
    check_counts(forked, tmp_path, path, 500)


def check_counts(forked, folder: Path, path: Path, num: int) -> None:
    counts = check(forked, folder, path, 0, 0, num)
    assert sum(counts.values()) == num
    assert counts["refused"] > num // 2
    assert counts["ran"] > num // 20  # Changed weights under a new seal cannot be detected.


@pytest.mark.slow
@pytest.mark.parametrize("path", GRAPHS, ids=NAMES)
def test_ten_thousand_mutations_of_each_shipped_graph_are_refused_or_run(forked, tmp_path, path):
    for start in range(0, 10_000, 1_000):
        check(forked, tmp_path, path, 1, start, 1_000)


def test_mutations_are_reproducible_and_differ_from_the_file(tiny):
    import random

    sealed = mutations.Sealed(tiny / "conditional" / "decoder.onnx")
    made = [mutations.mutate(sealed, random.Random(f"0 {index}"))[0] for index in range(200)]
    assert made[117] == mutations.mutate(sealed, random.Random("0 117"))[0]
    assert len(set(made)) > 190
    assert sum(data == sealed.whole for data in made) < 10


def test_judge_distinguishes_refused_accepted_and_wrongly_accepted_files(tiny):
    good = (tiny / "conditional" / "decoder.onnx").read_bytes()
    assert mutations.judge(good, True) == "ran"
    assert mutations.judge(good[:-1], False) == "refused"
    with pytest.raises(AssertionError, match="after it was sealed"):
        mutations.judge(good, False)
    sealed = mutations.Sealed(tiny / "conditional" / "decoder.onnx")
    assert mutations._bytes(sealed.tree) == sealed.bare
    assert mutations.judge(wire.seal(sealed.bare, sealed.text), True) == "ran"
    with pytest.raises(AssertionError):
        mutations._check_error(ModelFileError("refused"), 4)
