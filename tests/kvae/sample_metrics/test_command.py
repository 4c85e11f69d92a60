"""`kvae evaluate --sample-metrics`: figures on the terminal, in a file and in a model card."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from kvae.commands.evaluate import evaluate
from kvae.sample_metrics import network
from kvae_serve.model import load
from support import make_tiny_models as tiny_models

onnx = pytest.importorskip("onnx")
pytest.importorskip("tensorflow")

FEATURES = np.arange(48 * 5).reshape(48, 5).astype(np.float32) % 7 / 1000


@pytest.fixture(autouse=True)
def known_fit(monkeypatch):
    """Replace the trained classifier by the rule that the images follow, because training takes seconds."""
    monkeypatch.setattr(network, "fitter", lambda images: lambda x, label: lambda other: nearest(other))


def nearest(x):
    """Return the class whose image at z = 0 is nearest: the class that an image of a tiny model shows."""
    centres = tiny_models.decode(np.zeros((3, 3)), np.arange(3))["x_mean"].reshape(3, -1)
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    return (flat @ centres.T - 0.5 * (centres**2).sum(1)).argmax(1)


@pytest.fixture
def judge(tmp_path):
    """Write `nearest` as an ONNX file with logits x.c - |c|^2 / 2."""
    centres = tiny_models.decode(np.zeros((3, 3)), np.arange(3))["x_mean"].reshape(3, -1).astype(np.float32)
    helper = onnx.helper
    arrays = {"c": centres.T, "half": -0.5 * (centres**2).sum(1), "w": FEATURES}
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("Gemm", ["flat", "c", "half"], ["logits"]),
            helper.make_node("MatMul", ["flat", "w"], ["features"]),
        ],
        "nearest",
        [helper.make_tensor_value_info("x", 1, ["n", 8, 6, 1])],
        [helper.make_tensor_value_info(name, 1, ["n", size]) for name, size in (("logits", 3), ("features", 5))],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    path = tmp_path / "nearest.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    )
    return path


@pytest.fixture
def data(tmp_path):
    """Write images of the tiny conditional model as an .npz in the layout of Keras."""
    arrays = {}
    for split, num, seed in (("train", 90, 1), ("test", 60, 2)):
        rng = np.random.default_rng(seed)
        label = np.arange(num) % 3
        x = tiny_models.decode(rng.normal(size=(num, 3)), label)["x_mean"]
        arrays |= {f"x_{split}": np.round(x).astype(np.uint8), f"y_{split}": label.astype(np.uint8)}
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


def run(*arguments):
    return CliRunner().invoke(evaluate, [str(each) for each in arguments], standalone_mode=False)


def test_figures_are_written_to_terminal_file_and_card(tiny, tmp_path, data, judge):
    card = tmp_path / "README.md"
    card.write_text("# tiny\n\n## Limits\n\n- Few.\n")
    done = run(
        "-m", tiny / "conditional", "--data", data, "--sample-metrics", 60, "--classifier", judge, "--num-samples", 2,
        "--seed", 5, "-o", tmp_path / "figures.json", "--card", card,
    )  # fmt: skip
    assert done.exception is None, done.exception
    document = json.loads((tmp_path / "figures.json").read_text())
    found = document["samples"]
    # The same draws by hand: 20 of each class, each with noise of its own.
    drawn = [load(tiny / "conditional").sample(20, label=[k], seed=5, start=20 * k).x for k in range(3)]
    shares = [np.mean(nearest(x) == k) for k, x in enumerate(drawn)]
    assert found["label_consistency"]["value"] == pytest.approx(np.mean(shares))
    assert found["label_consistency_worst"]["value"] == pytest.approx(min(shares))
    with np.load(data) as arrays:
        right = np.mean(nearest(arrays["x_test"]) == arrays["y_test"])
        points = arrays["x_test"].reshape(60, -1) @ FEATURES.astype(np.float64)
    assert found["label_consistency"]["floor"] == pytest.approx(right)
    assert document["samples_measured"]["classifier"]["accuracy"] == pytest.approx(right)
    means = np.concatenate(drawn).reshape(60, -1).astype(np.float64) @ FEATURES
    assert found["frechet_distance"]["value"] >= ((means.mean(0) - points.mean(0)) ** 2).sum()
    text = card.read_text()
    assert (
        "`kvae evaluate -m conditional --data data.npz --num-samples 2 --sample-metrics 60 --classifier nearest.onnx"
        in text
    )
    assert str(tmp_path) not in text
    for name in ("label consistency", "coverage", "elbo"):
        assert name in text
        assert name in done.stdout
    assert text.endswith("## Limits\n\n- Few.\n")


def test_unconditional_model_names_skipped_figures(tiny, data, judge):
    done = run("-m", tiny / "unconditional", "--data", data, "--sample-metrics", 30, "--classifier", judge)
    assert done.exception is None, done.exception
    assert "skipped: label consistency, label consistency worst, classification accuracy score" in done.stdout
    assert "the model is unconditional" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--sample-metrics", 61, "--classifier", "judge"], "there are 60 test images. Ask for at most 60", 2),
        (["--sample-metrics", 61], "Ask for at most 60", 2),  # before a classifier is trained
        (["--sample-metrics", 30, "--seed", 2**64, "--classifier", "judge"], "The seed is 18446744073709551616", 2),
        (["--classifier", "judge"], "Give --sample-metrics N as well", 2),
        (["--sample-metrics", 30, "--label", "cat"], "Leave out --label and --condition", 2),
        (["--sample-metrics", 30, "--split", "train"], "Leave out --split train", 2),
        (["--sample-metrics", 30, "--classifier", "data"], "not a classifier that ONNX Runtime can open", 5),
        (["--sample-metrics", 30, "--card", "nowhere.md"], "nowhere.md cannot be read", 4),
        (["--sample-metrics", 30, "--train-data", "nowhere", "--classifier", "judge"], "nowhere does not exist", 4),
    ],
)
def test_invalid_request_is_one_line_and_writes_nothing(tiny, tmp_path, data, judge, arguments, message, code):
    names = {"judge": judge, "data": data}
    output = tmp_path / "figures.json"
    done = run("-m", tiny / "conditional", "--data", data, "-o", output, *(names.get(each, each) for each in arguments))
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
    assert done.exception.exit_code == code
    assert not output.exists()
