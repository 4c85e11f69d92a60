"""`kvae evaluate` and `kvae score`: output, files and errors."""

import csv
import json

import numpy as np
import pytest

from kvae_serve.cli import dataset_args
from kvae_serve.cli.commands import score
from kvae_serve.errors import ModelFileError, RequestError
from kvae_serve.evaluation import evaluate
from kvae_serve.inference import scoring
from kvae_serve.inference.thresholds import threshold
from kvae_serve.model import load
from kvae_serve.sealed import file as onnx_file
from kvae_serve.sealed.manifest import Manifest
from support import make_tiny_models

X = (np.random.default_rng(0).random((300, 8, 6, 1)) * 256).astype(np.uint8)
LABEL = np.arange(300) % 3


@pytest.fixture
def data(tmp_path):
    np.savez(tmp_path / "data.npz", x=X, label=LABEL)
    return tmp_path / "data.npz"


def test_evaluate_prints_and_writes_the_result_of_the_library(kvae, tiny, data, tmp_path):
    command = ["evaluate", "-m", tiny / "conditional", "--data", data, "--limit", 50, "--importance-samples", 20]
    done = kvae(*command, "--json", "-o", "figures.json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert json.loads((tmp_path / "figures.json").read_text()) == document
    expected = evaluate(load(tiny / "conditional"), X, {"label": LABEL}, limit=50, importance_samples=20)
    assert document["figures"] == expected["figures"]
    assert document["data"] == str(data)
    # For people: every figure has its line, with its error.
    lines = kvae(*command).stdout.splitlines()
    nll = expected["figures"]["nll"]
    (line,) = [line for line in lines if line.startswith("nll  ")]
    assert float(line.split()[1]) == pytest.approx(nll["mean"], abs=nll["standard_error"] / 9)
    assert float(line.split()[2]) == pytest.approx(nll["standard_error"], rel=0.06)
    assert line.split()[3] == "20"
    for name in expected["figures"]:
        assert any(line.startswith(name.replace("_", " ") + "  ") for line in lines), name


def test_threads_do_not_change_results(kvae, tiny, data):
    command = ["evaluate", "-m", tiny / "conditional", "--data", data, "--limit", 20, "--json"]
    assert kvae(*command).stdout == kvae(*command, "--threads", 2).stdout


def test_evaluate_uses_the_test_split_by_default(kvae, tiny, tmp_path):
    halves = {"x_train": X[:200], "y_train": LABEL[:200], "x_test": X[200:230], "y_test": LABEL[200:230]}
    np.savez(tmp_path / "halves.npz", **halves)
    command = ["evaluate", "-m", tiny / "conditional", "--data", "halves.npz", "--importance-samples", 1, "--json"]
    assert json.loads(kvae(*command).stdout)["n"] == 30
    assert json.loads(kvae(*command, "--split", "train").stdout)["n"] == 200


def test_gray_levels_without_binarisation_are_rejected(kvae, tiny, data):
    done = kvae("evaluate", "-m", tiny / "conditional", "--data", data, "--binarize", "none")
    assert (done.returncode, done.stdout) == (4, "")
    assert "a Bernoulli likelihood expects" in done.stderr


@pytest.mark.parametrize(
    ("command", "options", "code", "words"),
    [
        ("evaluate", ["-o", "figures.csv"], 2, "unknown suffix; expected .json"),
        ("evaluate", ["-o", "nowhere/figures.json"], 7, "folder nowhere does not exist"),
        ("evaluate", ["--importance-samples", "0"], 2, "x>=1"),
        ("evaluate", ["--seed", "-1"], 2, "seed is -1; expected an integer"),
        ("evaluate", ["--split", "test"], 4, "does not have a test split"),
        ("score", ["-o", "scores.txt"], 2, "unknown suffix; expected .csv or .jsonl or .png"),
        ("score", ["-o", "nowhere/scores.csv"], 7, "folder nowhere does not exist"),
        ("score", ["--threshold", "nan"], 2, "threshold is nan"),
        ("score", ["--threshold", "q0.01"], 2, "does not include quantiles of normal data"),
        ("score", ["--condition", "size=3"], 2, "does not have the condition size"),
    ],
)
def test_bad_request_fails_with_one_line_and_writes_nothing(kvae, tiny, data, tmp_path, command, options, code, words):
    given = ["--data", data] if command == "evaluate" else [data]
    done = kvae(command, "-m", tiny / "conditional", *given, *options)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)
    assert list(tmp_path.iterdir()) == [data]


def test_missing_likelihood_file_is_reported_with_the_remedy(kvae, tiny, data):
    done = kvae("evaluate", "-m", tiny / "conditional" / "encoder.onnx", "--data", data)
    assert done.returncode == 5
    assert "does not include likelihood.onnx" in done.stderr
    assert "kvae export" in done.stderr


def test_conditions_come_from_the_data_or_the_options(kvae, tiny, data, tmp_path):
    np.save(tmp_path / "x.npy", X[:4])
    without = kvae("score", "-m", tiny / "conditional", "x.npy")
    assert without.returncode == 4
    assert "does not hold label" in without.stderr
    as_dog = kvae("score", "-m", tiny / "conditional", "x.npy", "--label", "dog", "--json")
    expected = scoring.score(load(tiny / "conditional"), X[:4], {"label": 1})
    assert [row["elbo"] for row in json.loads(as_dog.stdout)["scores"]] == expected.elbo.tolist()


def test_scores_are_the_same_in_every_format(kvae, tiny, data, tmp_path):
    expected = scoring.score(load(tiny / "conditional"), X, {"label": LABEL})
    low = float(np.quantile(expected.elbo, 0.1))
    command = ["score", "-m", tiny / "conditional", data, "--threshold", low]
    done = kvae(*command)
    assert done.returncode == 0, done.stderr
    printed = list(csv.DictReader(done.stdout.splitlines()))
    assert "30 below" in done.stderr
    assert kvae(*command, "-o", "scores.csv").stdout == ""
    assert (tmp_path / "scores.csv").read_text() == done.stdout
    kvae(*command, "-o", "scores.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    for rows, tolerance in ((printed, 1e-6), (lines, 0)):
        assert [int(row["index"]) for row in rows] == list(range(300))
        for name in ("elbo", "reconstruction", "kl"):
            values = [float(row[name]) for row in rows]
            np.testing.assert_allclose(values, getattr(expected, name), atol=tolerance, rtol=0)
        assert [bool(int(row["anomaly"])) for row in rows] == (expected.elbo < low).tolist()
    refused = kvae(*command, "-o", "scores.csv")
    assert (refused.returncode, "exists already" in refused.stderr) == (7, True)


def with_quantiles(tiny, folder, record):
    """A copy of a tiny model whose manifest has the key `score`."""
    folder.mkdir()
    for path in (tiny / "conditional").glob("*.onnx"):
        data = path.read_bytes()
        manifest = json.loads(onnx_file.read(path).manifest_json)
        without_seal = data[: data.rindex(b"\x72", 0, data.index(b"\x0a\x04kvae\x12"))]
        (folder / path.name).write_bytes(onnx_file.seal(without_seal, manifest | {"score": record}))
    return folder


RECORD = {"num_samples": 4, "seed": 9, "examples": 300, "quantiles": {"0.5": -40.0, "0.01": -45.5}}


def manifest_with(record):
    plain = make_tiny_models.manifest("conditional", True, "standard_normal")
    return Manifest.from_dict(plain | {"graph": "encoder", "score": record})


def test_threshold_accepts_stored_quantiles_and_numbers():
    found = threshold("q0.01", manifest_with(RECORD), 4, 9)
    assert found == (-45.5, 0.01, 300, False)
    assert threshold("-12.5", manifest_with(None), 16, 0) == (-12.5, None, None, False)
    with pytest.raises(RequestError, match=r"stores quantiles of 300 rows from q0\.01 to q0\.5, got q0\.6\."):
        threshold("q0.6", manifest_with(RECORD), 4, 9)
    # Scores by other draws cannot be held against them.
    with pytest.raises(RequestError, match="apply to 4 draws and seed 9"):
        threshold("q0.01", manifest_with(RECORD), 16, 0)


@pytest.mark.parametrize(
    "record",
    [
        [],
        "x",
        {},
        {**RECORD, "quantiles": {}},
        {**RECORD, "quantiles": {"a": 1}},
        {**RECORD, "quantiles": {"0.1": [1]}},
        {**RECORD, "quantiles": {"2": 1.0}},
        {**RECORD, "quantiles": {"0.1": 10**400}},
        {**RECORD, "seed": 1.5},
        {**RECORD, "num_samples": 0},
        {**RECORD, "num_samples": 20_000_000},
        {**RECORD, "examples": -1},
    ],
)
def test_malformed_quantile_record_is_rejected(record):
    with pytest.raises(ModelFileError, match="manifest with"):
        manifest_with(record)


def test_score_uses_the_draws_and_seed_of_the_quantiles_by_default(kvae, tiny, data, tmp_path):
    folder = with_quantiles(tiny, tmp_path / "model", RECORD)
    document = json.loads(kvae("score", "-m", folder, data, "--threshold", "q0.01", "--json").stdout)
    assert (document["samples"], document["seed"]) == (4, 9)
    assert document["threshold"] == {"elbo": -45.5, "quantile": 0.01, "examples": 300, "held_out": False}
    expected = scoring.score(load(folder), X, {"label": LABEL}, num_samples=4, seed=9).elbo
    assert document["anomalies"] == int((expected < -45.5).sum())
    assert document["mean"]["elbo"] == pytest.approx(expected.mean(), rel=1e-12)


def test_model_methods_equal_the_module_functions(tiny):
    model = load(tiny / "conditional")
    one, other = model.score(X[:5], label="dog"), scoring.score(model, X[:5], {"label": 1})
    assert (one.elbo == other.elbo).all()
    found = model.evaluate(X[:5], {"label": LABEL[:5]}, importance_samples=3)
    assert found["figures"] == evaluate(model, X[:5], {"label": LABEL[:5]}, importance_samples=3)["figures"]


def test_parts_and_complexity_are_columns_of_the_scores(kvae, tmp_path):
    done = kvae("score", "-m", "mnist-vae", "mnist-sample", "-n", 3, "--parts", "--method", "complexity", "--seed", 1)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    for row in rows:
        parts = [float(value) for name, value in row.items() if name.startswith("reconstruction x")]
        assert len(parts) == 784
        assert sum(parts) == pytest.approx(float(row["reconstruction"]), abs=1e-3)
        kl = [float(value) for name, value in row.items() if name.startswith("kl z")]
        assert sum(kl) == pytest.approx(float(row["kl"]), abs=1e-3)
        assert float(row["score"]) == pytest.approx(float(row["elbo"]) + float(row["complexity"]), abs=1e-5)


@pytest.mark.parametrize("method", ["elbo", "complexity"])
@pytest.mark.parametrize("name", ["mnist", "mnist-vae"])
def test_threshold_of_a_shipped_model_flags_its_share_of_test_digits(name, method, kvae):
    # 200 test images, of which the quantile of 5 % flags 10 on average: 2 to 20 have the probability 0.999.
    threshold = ("--method", method, "--threshold", "q0.05", "--split", "test")
    done = kvae("score", "-m", name, "mnist-sample", *threshold, "--json", "-o", "scores.csv")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["threshold"]["held_out"] is True
    assert 2 <= document["anomalies"] <= 20


def test_identifier_named_like_a_score_is_kept(tiny):
    examples = dataset_args.Examples(np.zeros((2, 5), np.float32), {}, {"elbo": ["a", "b"], "name": ["c", "d"]})
    settings = {"num_samples": 2, "seed": 0, "batch_size": 64, "first": 1, "num": 1}
    source = score._Source(load(tiny / "linear"), examples, 1)
    (row,) = source.scores(score._Summary(None, "elbo"), "elbo", with_parts=False, settings=settings)
    assert list(row) == ["index", "elbo of the data", "name", "elbo", "reconstruction", "kl"]
    assert (row["elbo of the data"], row["name"], type(row["elbo"])) == ("b", "d", float)


def test_over_labels_finds_the_wrong_label(kvae, tmp_path):
    from kvae_serve.readers import read_dataset

    data = read_dataset("mnist-sample")
    label = np.array(data.conditions["label"][:20])
    label[7] = (label[7] + 1) % 10
    np.savez(tmp_path / "some.npz", x=data.x[:20], label=label)
    done = kvae("score", "-m", "mnist", "some.npz", "--over-labels", "uniform", "--json", "--num-samples", 2)
    document = json.loads(done.stdout)
    suspicious = [row["index"] for row in document["scores"] if row["probability"] < 0.01]
    assert suspicious == [7]
    assert document["likelier_labels"] == 1
    assert document["scores"][7]["likeliest"] == str((label[7] - 1) % 10)
    for given in (("--label", "zebra"), ("--condition", "label=3")):
        refused = kvae("score", "-m", "mnist", "some.npz", "--over-labels", "uniform", *given)
        assert (refused.returncode, "Leave out --label and --condition" in refused.stderr) == (2, True)
    np.save(tmp_path / "x.npy", data.x[:5])
    done = kvae("score", "-m", "mnist", "x.npy", "--over-labels", "uniform", "--method", "complexity")
    row = next(csv.DictReader(done.stdout.splitlines()))
    assert "probability" not in row
    assert row["likeliest"] == str(label[0])
    assert float(row["score"]) == pytest.approx(float(row["log_likelihood"]) + float(row["complexity"]), abs=1e-5)


def test_png_shows_example_reconstruction_and_heat(kvae, tmp_path):
    from PIL import Image

    done = kvae("score", "-m", "mnist-vae", "mnist-sample", "-n", 5, "-o", "map.png")
    assert done.returncode == 0, done.stderr
    picture = np.asarray(Image.open(tmp_path / "map.png"))
    assert picture.shape == (5 * 84 + 4 * 2, 3 * 84 + 2 * 2, 3)
    assert (picture[:84, :84, 0] == picture[:84, :84, 2]).all()
    done = kvae(
        "score", "-m", "mnist", "mnist-sample", "-n", 3, "--method", "complexity", "--threshold", 100, "-o", "c.png"
    )
    assert (done.returncode, "median score" in done.stdout + done.stderr) == (0, True), done.stderr
    refused = kvae("score", "-m", "mnist-vae", "mnist-sample", "-o", "all.png")
    assert (refused.returncode, "at most 100 examples" in refused.stderr) == (2, True)
    assert not (tmp_path / "all.png").exists()


def test_labels_of_anomalies_are_measured(kvae, tiny, data, tmp_path):
    stored = dict(np.load(data if str(data).endswith(".npz") else tmp_path / data))
    stored["anomaly"] = (np.arange(300) % 10 == 0).astype(int)
    np.savez(tmp_path / "marked.npz", **stored)
    command = ["evaluate", "-m", tiny / "conditional", "--data", "marked.npz", "--importance-samples", 1]
    document = json.loads(kvae(*command, "--labels", "anomaly", "--json").stdout)["anomalies"]
    assert (document["n"], document["anomalies"]) == (300, 30)
    expected = scoring.score(load(tiny / "conditional"), stored["x"], {"label": stored["label"]}).elbo
    below = (expected[stored["anomaly"] == 1][:, None] < expected[stored["anomaly"] == 0]).mean()
    found = document["methods"]["elbo"]["auroc"]
    assert found["value"] == pytest.approx(below)
    assert found["low"] < found["value"] < found["high"]
    np.savez(tmp_path / "gap.npz", **stored | {"gap": np.where(np.arange(300) == 9, "", "0")})
    refused = kvae("evaluate", "-m", tiny / "conditional", "--data", "gap.npz", "--labels", "gap")
    assert (refused.returncode, "gap in gap.npz contains an empty cell; expected 1" in refused.stderr) == (4, True)
    for column, message in (("label", "expected 1 for an anomaly"), ("none", "does not have none")):
        refused = kvae(*command, "--labels", column)
        assert (refused.returncode, message in refused.stderr) == (4, True)
