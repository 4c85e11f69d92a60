"""Files that kvae 0.1.0 wrote before its modules moved still open and give the same results.

`files/` holds one of each: a model saved by Keras with kvae's own Adam, the sealed export of that model, and a run that
was cut off after two of three epochs, in the form that split each batch in two. `expected.npz` has what 0.1.0 computed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from kvae_serve.model import load

FILES = Path(__file__).parent / "files"


@pytest.fixture(scope="module")
def expected():
    with np.load(FILES / "expected.npz") as arrays:
        return dict(arrays)


def graph_and_manifest(path: Path) -> tuple[bytes, dict]:
    """Return the bytes before the manifest entry of a sealed file, and the manifest (docs/format.md)."""
    data = path.read_bytes()
    key = data.index(b"\x0a\x04kvae\x12")
    start = data.index(b"{", key)
    return data[: data.rindex(b"\x72", 0, key)], json.JSONDecoder().raw_decode(data[start:].decode(errors="ignore"))[0]


def test_sealed_files_draw_the_same_images(expected):
    # This version does not write such nodes.
    assert b"ConstantOfShape" in (FILES / "sealed" / "decoder.onnx").read_bytes()
    draws = load(FILES / "sealed").sample(3, label=1, seed=7)
    np.testing.assert_allclose(draws.x, expected["sampled"], atol=1e-5)


def test_saved_model_predicts_the_same_and_continues_training(expected):
    keras = pytest.importorskip("keras")
    import kvae

    model = kvae.load_model(FILES / "model.keras")
    pair = expected["predicted_x"], expected["predicted_label"]
    np.testing.assert_allclose(model.predict(pair, verbose=0), expected["predicted"], atol=1e-5)
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert int(model.optimizer.iterations) == expected["iterations"]
    assert np.isfinite(model.fit(*pair, epochs=1, verbose=0).history["loss"]).all()


def test_saved_model_exports_to_the_same_bytes(expected, tmp_path):
    pytest.importorskip("keras")
    pytest.importorskip("tf2onnx")
    import kvae

    kvae.load_model(FILES / "model.keras").export(tmp_path / "sealed", name="before")
    graphs = sorted(path.name for path in (FILES / "sealed").iterdir())
    assert graphs == ["decoder.onnx", "encoder.onnx", "likelihood.onnx", "prior.onnx"]
    for name in graphs:
        (ours, manifest), (theirs, earlier) = (
            graph_and_manifest(root / name) for root in (tmp_path / "sealed", FILES / "sealed")
        )
        # The decoder repeats its scale without the shape of another value since.
        assert (ours == theirs) is (name != "decoder.onnx"), name
        # Golden values come from Keras on this machine, so only they may differ, in the last bits.
        golden, golden_earlier = manifest.pop("golden"), earlier.pop("golden")
        manifest["training"].pop("versions"), earlier["training"].pop("versions")
        assert manifest == earlier, name
        for output, values in golden_earlier["outputs"].items():
            np.testing.assert_allclose(golden["outputs"][output]["values"], values["values"], atol=1e-5)


def test_interrupted_run_resumes_to_the_same_weights(expected, tmp_path):
    pytest.importorskip("tensorflow")
    from kvae.training import train

    shutil.copytree(FILES / "run", tmp_path / "run")
    run = train.resume(tmp_path / "run", quiet=True)
    weights = run.model.get_weights()
    assert len(weights) == sum(name.startswith("weight_") for name in expected)
    for index, weight in enumerate(weights):
        np.testing.assert_allclose(weight, expected[f"weight_{index}"], atol=2e-4)
    history = (run.directory / "history.csv").read_text().splitlines()
    assert len(history) == 1 + 3
