"""Exported folders: contents, bytes, verification and refused requests."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

import keras
import onnx
import tensorflow as tf

import kvae_export
import kvae_export.convert
from kvae_export.graph import Graph
from kvae_export.tolerances import accumulated_error, default_tolerances, with_magnitude
from kvae_serve import model
from kvae_serve.errors import OutputError, RequestError, VerificationError
from kvae_serve.sealed import file as onnx_file
from kvae_serve.sealed import golden
from kvae_serve.sealed.manifest import Manifest

SHAPE, LATENT, CLASSES = (4, 4, 1), 2, ("zero", "one", "two")
MANIFEST = {
    "format": 1,
    "model_id": "ab" * 32,
    "name": "tiny",
    "kind": "conditional-vae",
    "latent_dim": LATENT,
    "data": {"kind": "image", "shape": SHAPE, "range": (0, 255)},
    "conditions": [{"name": "label", "kind": "categorical", "classes": CLASSES}],
    "likelihood": {"name": "bernoulli"},
    "prior": {"name": "standard_normal"},
    "training": {"dataset": "noise", "examples": 10, "validation": {"elbo": -12.345, "examples": 5}},
}


def tiny_graphs(seed=0):
    """Return the graphs of a model with a closed form, logits = [z, one_hot(label)] @ weights, and the weights."""
    rng = np.random.default_rng(seed)
    decoder_weights = rng.normal(size=(LATENT + 3, 16)).astype("f4")
    encoder_weights = rng.normal(size=(16 + 3, 2 * LATENT)).astype("f4")

    def logits(z, label):
        return tf.concat([z, tf.one_hot(label, 3)], 1) @ decoder_weights

    def encoder(x, label):
        both = tf.concat([tf.reshape(x, (-1, 16)) / 255, tf.one_hot(label, 3)], 1) @ encoder_weights
        return {"z_mean": both[:, :LATENT], "z_log_var": both[:, LATENT:]}

    def decoder(z, label):
        return {"x_mean": 255 * tf.sigmoid(tf.reshape(logits(z, label), (-1, *SHAPE)))}

    def likelihood(x, z, label):
        pixels, each = tf.reshape(x, (-1, 16)) / 255, logits(z, label)
        return {"log_likelihood": tf.reduce_sum(pixels * each - tf.nn.softplus(each), 1)}

    x, z, label = {"x": (SHAPE, "float32")}, {"z": ((LATENT,), "float32")}, {"label": ((), "int64")}
    graphs = [
        Graph("encoder", encoder, {**x, **label}, {"z_mean": (LATENT,), "z_log_var": (LATENT,)}),
        Graph("decoder", decoder, {**z, **label}, {"x_mean": SHAPE}),
        Graph("likelihood", likelihood, {**x, **z, **label}, {"log_likelihood": ()}),
    ]
    return graphs, decoder_weights


def parity_inputs(graph, batch):
    rng = np.random.default_rng(batch)
    every = {
        "x": rng.choice([0.0, 255.0], size=(batch, *SHAPE)),
        "z": rng.normal(size=(batch, LATENT)),
        "label": np.arange(batch) % 3,
    }
    wanted = {"encoder": ("x", "label"), "decoder": ("z", "label"), "likelihood": ("x", "z", "label")}[graph]
    return {name: every[name] for name in wanted}


def write(directory, graphs=None, **more):
    return kvae_export.write(graphs or tiny_graphs()[0], MANIFEST, directory, parity_inputs=parity_inputs, **more)


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("export") / "tiny"
    return directory, write(directory, preview=b"\x89PNG", extras={"config.toml": b"seed = 0\n"})


def test_folder_contains_graphs_card_preview_and_extras(written):
    directory, paths = written
    names = ["encoder.onnx", "decoder.onnx", "likelihood.onnx", "README.md", "preview.png", "config.toml"]
    assert paths == [directory / name for name in names]
    assert sorted(names) == listing(directory)
    assert listing(directory.parent) == ["tiny"]
    assert (directory / "config.toml").read_bytes() == b"seed = 0\n"
    card = (directory / "README.md").read_text()
    assert f"{(directory / 'decoder.onnx').stat().st_size:,}" in card
    assert "-12.35" in card or "-12.34" in card
    assert "preview.png" in card


def test_served_outputs_match_the_closed_form(written):
    directory, _ = written
    _, weights = tiny_graphs()
    loaded = model.load(directory)
    rng = np.random.default_rng(5)
    z, label = rng.normal(size=(7, LATENT)).astype("f4"), np.arange(7) % 3
    logits = np.concatenate([z, np.eye(3)[label]], 1) @ weights.astype("f8")
    np.testing.assert_allclose(
        loaded.decode(z, label=label).reshape(7, 16), 255 / (1 + np.exp(-logits)), atol=255e-6, rtol=1e-5
    )
    x = rng.choice([0.0, 255.0], size=(7, *SHAPE)).astype("f4")
    by_hand = np.where(x.reshape(7, 16) > 0, logits, 0) - np.log1p(np.exp(logits))
    np.testing.assert_allclose(loaded.log_likelihood(x, z, label=label), by_hand.sum(1), rtol=1e-5)


def test_manifest_has_the_shared_keys_the_graph_and_golden_values(written):
    directory, _ = written
    sealed = onnx_file.read(directory / "decoder.onnx")
    raw = json.loads(sealed.manifest_json)
    assert raw["graph"] == "decoder"
    assert {key: raw[key] for key in MANIFEST} == json.loads(json.dumps(MANIFEST))
    assert raw["golden"]["outputs"]["x_mean"]["atol"] == pytest.approx(0.0255)
    assert sealed.inputs["label"].dtype == "int64"
    manifest = Manifest.from_dict(raw)
    made = golden.golden_inputs(manifest, ["z", "label"])
    logits = np.concatenate([made["z"], np.eye(3)[made["label"]]], 1) @ tiny_graphs()[1].astype("f8")
    assert all(each.ok for each in golden.compare(manifest, {"x_mean": 255 / (1 + np.exp(-logits))}))
    assert all(check.ok for check in model.load(directory).verify())


def test_second_export_gives_identical_bytes(written, tmp_path):
    _, paths = written
    keras.layers.Dense(2)(np.zeros((1, 2), "f4"))
    again = write(tmp_path / "again", preview=b"\x89PNG", extras={"config.toml": b"seed = 0\n"})
    for one, other in zip(paths, again, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_existing_folder_is_kept_without_force(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "decoder.onnx").write_text("precious")
    with pytest.raises(OutputError):
        write(target)
    assert (target / "decoder.onnx").read_text() == "precious"
    write(target, force=True)
    assert model.load(target).has("decoder")


TWICE = """
import hashlib, sys
import keras, numpy as np
import kvae_export

for _ in range(int(sys.argv[2])):  # Moves every counter that names are made from.
    keras.layers.Dense(2)(np.zeros((1, 2), "f4"))
rng = np.random.default_rng(0)
embedding = keras.layers.Embedding(5, 4)
net = keras.Sequential([
    keras.layers.Dense(128, activation="relu"), keras.layers.Reshape((4, 4, 8)),
    keras.layers.Conv2DTranspose(8, 3, strides=2, padding="same"), keras.layers.BatchNormalization(),
    keras.layers.LeakyReLU(), keras.layers.Conv2DTranspose(1, 3, strides=2, padding="same"), keras.layers.Flatten(),
    keras.layers.RepeatVector(3), keras.layers.LSTM(6, return_sequences=True), keras.layers.LayerNormalization(),
])
net(np.zeros((1, 7), "f4")), embedding(np.zeros(1, "i8"))
for layer in (net, embedding):
    layer.set_weights([rng.normal(size=w.shape).astype("f4") ** 2 for w in layer.get_weights()])

def decoder(z, label):
    x = net(keras.ops.concatenate([z, embedding(label)], 1), training=False)
    return {"x_mean": 255 * keras.ops.sigmoid(x), "x_log_scale": keras.ops.softplus(x)}

def inputs(graph, batch):
    return {"z": rng.normal(size=(batch, 3)), "label": np.arange(batch) % 5}

faces = {"z": ((3,), "float32"), "label": ((), "int64")}, {"x_mean": (3, 6), "x_log_scale": (3, 6)}
manifest = {
    "format": 1, "model_id": "cd" * 32, "name": "twice", "kind": "conditional-vae", "latent_dim": 3,
    "data": {"kind": "sequence", "shape": [3, 6], "range": [0, 255]},
    "conditions": [{"name": "label", "kind": "categorical", "classes": list("abcde")}],
    "likelihood": {"name": "gaussian"}, "prior": {"name": "standard_normal"}, "training": None,
}
paths = kvae_export.write([kvae_export.Graph("decoder", decoder, *faces)], manifest, sys.argv[1], parity_inputs=inputs)
print(*(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths))
"""


@pytest.mark.long
def test_same_weights_give_the_same_bytes_in_other_processes(tmp_path):
    def start(name, hash_seed, layers):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(
            [sys.executable, "-c", TWICE, str(tmp_path / name), layers],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    processes = [start("one", "1", "0"), start("two", "2", "3")]
    (one, errors), (two, _) = (process.communicate(timeout=300) for process in processes)
    assert len(one.split()) == 2, errors[-2000:]  # The graph and the card.
    assert one == two


def break_one_weight(monkeypatch, graph, change):
    converted = kvae_export.convert.convert

    def broken(traced):
        proto = converted(traced)
        if traced.graph.name == graph:
            tensor = max(proto.graph.initializer, key=lambda each: len(each.raw_data))
            values = onnx.numpy_helper.to_array(tensor).copy()
            values.flat[3] = change(values.flat[3])
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return proto

    monkeypatch.setattr("kvae_export.convert.convert", broken)


@pytest.mark.parametrize(("graph", "output"), [("encoder", "z_"), ("decoder", "x_mean"), ("likelihood", "log_like")])
def test_wrong_weight_fails_verification_and_writes_nothing(monkeypatch, tmp_path, graph, output):
    break_one_weight(monkeypatch, graph, lambda weight: weight + 0.01)
    with pytest.raises(VerificationError) as caught:
        write(tmp_path / "model")
    line = str(caught.value)
    assert caught.value.exit_code == 6
    assert line.startswith(output)
    assert f" of {graph} at batch " in line
    assert "differs from its function by " in line
    assert " is allowed" in line
    assert listing(tmp_path) == []


def test_nan_weight_fails_verification_and_writes_nothing(monkeypatch, tmp_path):
    break_one_weight(monkeypatch, "decoder", lambda weight: np.nan)
    with pytest.raises(VerificationError, match="decoder"):
        write(tmp_path / "model")
    assert listing(tmp_path) == []


def test_function_that_returns_nan_is_refused(tmp_path):
    def decoder(z, label):
        return {"x_mean": tf.zeros_like(z[:, :1])[:, None, None] * tf.ones(SHAPE) + tf.math.log(-1.0)}

    graph = Graph("decoder", decoder, tiny_graphs()[0][1].inputs, {"x_mean": SHAPE})
    with pytest.raises(VerificationError, match="x_mean of decoder is not finite"):
        write(tmp_path / "model", [graph])
    assert listing(tmp_path) == []


def test_op_that_cannot_be_exported_leaves_no_folder(tmp_path):
    layer = keras.layers.Dense(16, activation="gelu", name="culprit")

    def decoder(z, label):
        return {"x_mean": tf.reshape(layer(z), (-1, *SHAPE))}

    graphs = tiny_graphs()[0]
    graphs[1] = Graph("decoder", decoder, graphs[1].inputs, {"x_mean": SHAPE})
    with pytest.raises(RequestError, match=r"layer culprit \(Dense\): the op Erfc"):
        write(tmp_path / "model", graphs)
    assert listing(tmp_path) == []


def test_location_of_photos_has_the_tolerance_of_a_mean():
    allowed = default_tolerances({"data": {"kind": "image", "shape": [32, 32, 3], "range": [0, 255]}}, ["x_location"])
    assert allowed["x_location"] == (pytest.approx(0.0255), 1e-4)


def test_accumulated_error_bounds_a_float32_product_and_grows_with_depth():
    rng = np.random.default_rng(0)
    for length in (64, 1024, 16384):
        x, weight = rng.normal(size=(64, length)).astype("f4"), rng.normal(size=(length, 8)).astype("f4")
        exact = x.astype("f8") @ weight.astype("f8")
        one_by_one = np.cumsum(x[:, :, None] * weight, 1, dtype="f4")[:, -1]  # the least accurate order
        error = accumulated_error([weight.shape, (8,)])
        assert np.abs(one_by_one - exact).max() < error * np.abs(exact).max()
        assert accumulated_error([weight.shape] * 3) == pytest.approx(3 * error)
    absolute, relative = with_magnitude((1e-4, 1e-4), 1e-5, np.array([3.0, -200.0, np.nan]))
    assert (absolute, relative) == (pytest.approx(1e-4 + 2e-3), 1e-4)


def test_tolerances_depend_on_the_data_and_can_be_given(tmp_path, monkeypatch):
    found = default_tolerances(MANIFEST, ["x_mean", "z_mean", "log_likelihood"])
    assert found["x_mean"] == (pytest.approx(0.0255), 0.0)
    assert found["z_mean"] == (1e-4, 1e-4)
    assert found["log_likelihood"] == (pytest.approx(1.6e-6), 1e-5)
    unbounded = {**MANIFEST, "data": {"kind": "vector", "shape": [4], "range": None}}
    assert default_tolerances(unbounded, ["x_mean"]) == {"x_mean": (1e-4, 1e-4)}
    break_one_weight(monkeypatch, "decoder", lambda weight: weight + 0.01)
    write(tmp_path / "loose", tolerance={"x_mean": (5.0, 0.0)})
    raw = json.loads(onnx_file.read(tmp_path / "loose" / "decoder.onnx").manifest_json)
    assert raw["golden"]["outputs"]["x_mean"]["atol"] == 5.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"graphs": []}, "expected at least one graph and different names"),
        ({"manifest": {**MANIFEST, "graph": "decoder"}}, "contains the key 'graph'"),
        ({"manifest": {**MANIFEST, "training": {"elbo": float("nan")}}}, "cannot be written as JSON"),
        ({"manifest": {**MANIFEST, "training": {"path": Path("x")}}}, "cannot be written as JSON"),
        ({"extras": {"../up.txt": b""}}, "expected a plain name"),
        ({"extras": {"other.onnx": b""}}, "expected a plain name"),
        ({"parity_inputs": lambda graph, batch: {}}, "expected ['x', 'label']"),
        ({"parity_inputs": lambda graph, batch: {"x": np.zeros(3), "label": np.zeros(batch)}}, "has shape (3,)"),
    ],
)
def test_invalid_arguments_write_nothing(tmp_path, change, words):
    whole = {"graphs": tiny_graphs()[0], "manifest": MANIFEST, "parity_inputs": parity_inputs, **change}
    with pytest.raises(RequestError) as caught:
        kvae_export.write(whole.pop("graphs"), whole.pop("manifest"), tmp_path / "model", **whole)
    assert words in str(caught.value)
    assert listing(tmp_path) == []


def test_import_does_not_load_tensorflow():
    code = (
        "import sys, kvae_export; kvae_export.Graph; kvae_export.write\n"
        "print({'tensorflow', 'tf2onnx', 'onnx'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
