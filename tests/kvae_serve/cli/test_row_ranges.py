"""Ranges of rows by --start and -n: concatenated, they equal the whole bit for bit."""

import io
import json

import numpy as np
import pytest

from kvae_serve.errors import RequestError
from kvae_serve.inference import scoring
from kvae_serve.model import load

X = (np.random.default_rng(3).random((40, 8, 6, 1)) * 256).astype(np.uint8)
LABEL = np.arange(40) % 3
CUTS = [(0, 13), (13, 1), (14, 26)]  # First row and number of rows, not multiples of a batch.


@pytest.fixture
def data(tmp_path):
    np.savez(tmp_path / "data.npz", x=X, label=LABEL)
    return "data.npz"


def arrays(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name not in ("seed", "start", "scheme")}


@pytest.mark.parametrize(
    "request_",
    [
        ("encode", "data.npz"),
        ("encode", "data.npz", "--draw", "--seed", 5),
        ("reconstruct", "data.npz", "--batch-size", 5),
        ("sample", "--label", "dog", "--seed", 5, "--draw"),
    ],
    ids=str,
)
def test_ranges_concatenate_to_the_whole(kvae, tiny, data, tmp_path, request_):
    name, *rest = request_
    command = [name, "-m", tiny / "conditional", *rest, "-q"]
    assert kvae(*command, "-n", 40, "-o", "whole.npz").returncode == 0
    parts = []
    for start, num in CUTS:
        assert kvae(*command, "--start", start, "-n", num, "-o", f"{start}.npz").returncode == 0
        parts.append(arrays(tmp_path / f"{start}.npz"))
    for name, values in arrays(tmp_path / "whole.npz").items():
        assert np.concatenate([part[name] for part in parts]).tobytes() == values.tobytes(), name


def test_range_applies_to_each_label(kvae, tiny, tmp_path):
    """-n counts per label, so a part holds its stretch of each."""
    command = ["sample", "-m", tiny / "conditional", "--label", "all", "--seed", 8, "-q"]
    kvae(*command, "-n", 9, "-o", "whole.npz")
    kvae(*command, "-n", 4, "--start", 5, "-o", "part.npz")
    whole, part = arrays(tmp_path / "whole.npz"), arrays(tmp_path / "part.npz")
    assert part["label"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert (part["x"] == np.concatenate([whole["x"][first : first + 4] for first in (5, 14, 23)])).all()


@pytest.mark.parametrize("threshold", [(), ("--threshold", "-30")], ids=["scores", "anomalies"])
def test_scores_of_ranges_concatenate_to_the_whole(kvae, tiny, data, tmp_path, threshold):
    command = ["score", "-m", tiny / "conditional", data, *threshold]
    whole = kvae(*command, "-o", "whole.jsonl")
    assert whole.returncode == 0, whole.stderr
    for start, num in CUTS:
        assert kvae(*command, "--start", start, "-n", num, "-o", f"{start}.jsonl").returncode == 0
    together = "".join((tmp_path / f"{start}.jsonl").read_text() for start, _ in CUTS)
    assert together == (tmp_path / "whole.jsonl").read_text()
    assert [json.loads(line)["index"] for line in together.splitlines()] == list(range(40))


def test_scores_of_a_range_report_its_start(kvae, tiny, data):
    document = json.loads(kvae("score", "-m", tiny / "conditional", data, "--start", 35, "-n", 100, "--json").stdout)
    expected = scoring.score(load(tiny / "conditional"), X, {"label": LABEL})
    assert (document["start"], document["n"]) == (35, 5)  # fewer than requested, because the data ends
    assert [row["elbo"] for row in document["scores"]] == expected.elbo[35:].tolist()
    assert document["mean"]["kl"] == pytest.approx(expected.kl[35:].mean())
    table = kvae("score", "-m", tiny / "conditional", data, "--start", 38, "-q").stdout
    assert np.loadtxt(io.StringIO(table), delimiter=",", skiprows=1)[:, 0].tolist() == [38, 39]


def test_start_beyond_the_data_is_rejected(kvae, tiny, data, tmp_path):
    done = kvae("score", "-m", tiny / "conditional", data, "--start", 40, "-o", "scores.csv")
    assert done.returncode == 2
    assert "no row 40" in done.stderr
    assert not (tmp_path / "scores.csv").exists()


def test_unit_range_data_is_rejected_from_its_first_rows(tiny):
    """The first rows decide, even if they are outside of the range."""
    model, x = load(tiny / "conditional"), (X / 255).astype(np.float32)
    for first in (0, 39):
        with pytest.raises(ValueError, match="divided by 255"):
            list(scoring.stream(model, x, {"label": LABEL}, first=first))
    # If the first rows are valid, a nearly black row is scored as in the whole.
    x = X.astype(np.float32)
    x[39] = 0
    x[39, 0] = 1
    (whole,) = scoring.stream(model, x, {"label": LABEL})
    (part,) = scoring.stream(model, x, {"label": LABEL}, first=39)
    assert (part.elbo == whole.elbo[39:]).all()


@pytest.mark.parametrize("draw", [False, True])
@pytest.mark.parametrize("folder", ["conditional", "mixture_prior", "unconditional"])
def test_plan_gives_any_rows_in_any_order(tiny, folder, draw):
    model = load(tiny / folder)
    whole = model.sample(20, seed=4, start=3, draw=draw, label="all" if model.manifest.conditions else None)
    plan = model.plan(20, seed=4, start=3, draw=draw, label="all" if model.manifest.conditions else None)
    assert plan.rows == len(whole)
    order = np.random.default_rng(0).permutation(len(whole))
    for rows in (order, order[:1], np.arange(7, 19), np.array([5, 5, 4])):
        for name, values in plan.at(rows).items():
            assert values.tobytes() == whole.arrays()[name][rows].tobytes(), name


def test_rows_outside_of_a_plan_are_rejected(tiny):
    plan = load(tiny / "unconditional").plan(4, seed=0)
    for rows, message in (
        ([4], "Rows 4 to 4 do not all exist; expected 0 to 3"),
        ([-1, 2], "Rows -1 to 2 do not all exist"),
        ([0.5], "expected a list of at least one integer"),
        ([], "float64 of shape"),
    ):
        with pytest.raises(RequestError, match=message):
            plan.at(np.array(rows))
