"""Conversion to ONNX: outputs, signatures, canonical form, and refused functions with their hints."""

import logging

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

import keras
import onnx
import onnxruntime
import tensorflow as tf

from kvae_export.convert import HINTS, convert
from kvae_export.graph import Graph
from kvae_export.passes.canonical import canonicalize
from kvae_export.trace import Traced
from kvae_serve.errors import RequestError
from kvae_serve.sealed.allowed_ops import ALLOWED_OPS

Z = {"z": ((3,), "float32")}
RNG = np.random.default_rng(0)


def run(model, feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def single(function, shape=(3,), out=(3,), name="decoder"):
    return Graph(name, lambda z: {"x_mean": function(z)}, {"z": (shape, "float32")}, {"x_mean": out})


def refusal(graph):
    with pytest.raises(RequestError) as caught:
        convert(graph)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_dense_network_matches_numpy():
    w1, b1, w2 = (RNG.normal(size=shape).astype("f4") for shape in ((3, 8), (8,), (8, 4)))
    net = keras.Sequential([keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(4, use_bias=False)])
    net.build((None, 3))
    net.set_weights([w1, b1, w2])
    model = convert(single(lambda z: tf.sigmoid(net(z)), out=(4,)))
    z = RNG.normal(size=(5, 3)).astype("f4")
    want = 1 / (1 + np.exp(-np.tanh(z @ w1 + b1) @ w2))
    np.testing.assert_allclose(run(model, {"z": z})["x_mean"], want, atol=1e-6)


def test_batch_normalisation_uses_moving_statistics():
    kernel = RNG.normal(size=(2, 2, 5, 3)).astype("f4")  # height, width, out, in
    gamma, beta, mean = (RNG.normal(size=5).astype("f4") for _ in range(3))
    variance = RNG.uniform(0.5, 2, 5).astype("f4")
    net = keras.Sequential(
        [keras.layers.Conv2DTranspose(5, 2, strides=2, use_bias=False), keras.layers.BatchNormalization(epsilon=1e-3)]
    )
    net.build((None, 2, 2, 3))
    net.set_weights([kernel, gamma, beta, mean, variance])
    model = convert(single(lambda z: net(z, training=False), (2, 2, 3), (4, 4, 5)))
    z = RNG.normal(size=(3, 2, 2, 3)).astype("f4")
    # Kernel and stride are equal, so each pixel becomes a separate 2 x 2 patch.
    patches = np.einsum("bijc,pqoc->bipjqo", z, kernel).reshape(3, 4, 4, 5)
    want = (patches - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(run(model, {"z": z})["x_mean"], want, atol=1e-5)


def test_label_selects_its_row_by_embedding_and_one_hot():
    table, weights = RNG.normal(size=(10, 3)).astype("f4"), RNG.normal(size=(10, 3)).astype("f4")
    embedding = keras.layers.Embedding(10, 3)
    embedding.build(())
    embedding.set_weights([table])

    def decoder(z, label):
        return {"x_mean": z + embedding(label) + tf.one_hot(label, 10) @ weights}

    model = convert(Graph("decoder", decoder, {**Z, "label": ((), "int64")}, {"x_mean": (3,)}))
    label = model.graph.input[1]
    assert (label.name, label.type.tensor_type.elem_type) == ("label", onnx.TensorProto.INT64)
    z, labels = RNG.normal(size=(10, 3)).astype("f4"), np.arange(10)[::-1].copy()
    got = run(model, {"z": z, "label": labels})["x_mean"]
    np.testing.assert_allclose(got, z + table[labels] + weights[labels], atol=1e-6)


@pytest.mark.parametrize("unroll", [False, True])
def test_lstm_and_unrolled_gru_match_keras(unroll):
    layer = keras.layers.GRU if unroll else keras.layers.LSTM
    net = keras.Sequential([keras.layers.RepeatVector(4), layer(5, return_sequences=True, unroll=unroll)])
    traced = Traced(single(net, out=(4, 5)))
    model = convert(traced)
    assert unroll or not {"Shape", "Expand"} & {node.op_type for node in model.graph.node}
    for batch in (1, 7):
        z = RNG.normal(size=(batch, 3)).astype("f4")
        np.testing.assert_allclose(run(model, {"z": z})["x_mean"], traced.run({"z": z})["x_mean"], atol=1e-5)


def test_inputs_and_outputs_have_names_order_and_shapes_of_the_graph():
    def function(z, label, scale):
        shared = z * scale[:, None]
        return {"a_last": shared, "first": shared, "copy": z, "norm": tf.reduce_sum(z, 1)}

    inputs = {"z": ((3,), "float32"), "label": ((), "int64"), "scale": ((), "float32")}
    outputs = {"norm": (), "first": (3,), "copy": (3,), "a_last": (3,)}
    model = convert(Graph("prior", function, inputs, outputs))

    def face(values):
        return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}

    faces = face(model.graph.input), face(model.graph.output)
    assert [list(names) for names in faces] == [["z", "label", "scale"], ["norm", "first", "copy", "a_last"]]
    assert faces[0] == {"z": ["batch", 3], "label": ["batch"], "scale": ["batch"]}
    assert faces[1] == {"norm": ["batch"], "first": ["batch", 3], "copy": ["batch", 3], "a_last": ["batch", 3]}
    feeds = {"z": np.ones((0, 3), "f4"), "label": np.zeros(0, "i8"), "scale": np.ones(0, "f4")}
    assert run(model, feeds)["first"].shape == (0, 3)


def test_model_has_opset_18_ir_8_and_no_other_metadata():
    model = convert(single(keras.layers.Dense(3)))
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert (model.ir_version, model.producer_name, model.producer_version) == (8, "kvae", "")
    assert not model.metadata_props
    assert not model.doc_string
    assert not model.graph.doc_string
    assert not model.graph.value_info
    assert {node.op_type for node in model.graph.node} <= ALLOWED_OPS
    assert model.graph.initializer[0].name == "MatMul_0.B"


class Inner(keras.Model):
    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer

    def call(self, z):
        return self.layer(z)


def test_refused_op_names_its_layer_and_an_alternative():
    layer = keras.layers.Dense(3, activation="gelu", name="smooth")
    net = keras.Sequential([keras.layers.Dense(3, name="first"), Inner(layer, name="inner")], name="decoder_net")
    net(np.zeros((1, 3), "f4"))
    line = refusal(single(net))
    assert "layer decoder_net/inner/smooth (Dense)" in line
    assert "Erfc" in line
    assert "approximate=True" in line
    assert "first" not in line


@pytest.mark.parametrize(
    ("call", "op", "hint"),
    [
        (lambda z: keras.ops.log1p(keras.ops.exp(z)), "Log1p", "softplus"),
        (lambda z: keras.ops.expm1(z), "Expm1", "exp(x) - 1"),
        (lambda z: keras.ops.celu(z), "Expm1", "use elu"),
        (lambda z: keras.ops.erfinv(z / 10), "Erfinv", "before they reach the model"),
        (lambda z: z + keras.ops.cast(keras.ops.digitize(z, np.array([0.0, 1.0])), "float32"), "Bucketize", "count"),
        (lambda z: z + keras.ops.cast(keras.ops.argmax(z, -1, keepdims=True), "float32"), "Bitcast", "top_k"),
        (lambda z: tf.math.lgamma(z), "Lgamma", "Stirling"),
    ],
)
def test_refused_op_has_a_hint(call, op, hint):
    line = refusal(single(keras.layers.Lambda(call, name="culprit")))
    assert f"layer culprit (Lambda): the op {op} " in line
    assert hint in line


def test_functions_that_hints_recommend_can_be_exported():
    replaced = [
        ("Erfc", lambda z: keras.ops.gelu(z, approximate=True)),
        ("Erfc", lambda z: 0.5 * z * (1 + keras.ops.erf(z / np.sqrt(2)))),
        ("Log1p", lambda z: keras.ops.log(1 + keras.ops.exp(z))),
        ("Log1p", lambda z: keras.ops.softplus(z) - z * z),
        ("Expm1", lambda z: keras.ops.exp(z) - 1),
        ("Bitcast", lambda z: z + keras.ops.cast(keras.ops.top_k(z, 1)[1], "float32")),
        ("If", lambda z: keras.ops.where(z > 0, z, 2 * z)),
        ("Expm1", keras.ops.elu),
        (
            "Bucketize",
            lambda z: (
                z
                + keras.ops.cast(
                    keras.ops.sum(keras.ops.cast(z[..., None] >= np.array([0.0, 1.0], "f4"), "int32"), -1), "float32"
                )
            ),
        ),
    ]
    for op, function in replaced:
        assert op in HINTS
        traced = Traced(single(function))
        z = RNG.normal(size=(4, 3)).astype("f4")
        np.testing.assert_allclose(run(convert(traced), {"z": z})["x_mean"], traced.run({"z": z})["x_mean"], atol=1e-5)


IMAGE, STEPS = (8, 8, 4), (6, 4)


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (lambda: keras.layers.SimpleRNN(3, name="culprit"), STEPS, ["Loop", "LSTM", "without a mask"]),
        (lambda: keras.layers.Bidirectional(keras.layers.GRU(3), name="culprit"), STEPS, ["Loop", "LSTM"]),
        (
            lambda: keras.layers.RNN([keras.layers.LSTMCell(3), keras.layers.LSTMCell(3)], name="culprit"),
            STEPS,
            ["Loop", "LSTM"],
        ),
        (
            lambda: keras.Sequential([keras.layers.Masking(), keras.layers.LSTM(3, name="culprit")]),
            STEPS,
            ["Loop", "without a mask"],
        ),
        (
            lambda: keras.layers.Conv3D(4, 2, groups=2, name="culprit"),
            (3, 3, 3, 4),
            ["Grouped Conv3D", "keras.ops.split"],
        ),
        (
            lambda: keras.layers.Resizing(4, 4, antialias=True, name="culprit"),
            IMAGE,
            ["ScaleAndTranslate", "without antialias"],
        ),
        (lambda: keras.layers.Resizing(9, 9, interpolation="lanczos3", name="culprit"), IMAGE, ["bilinearly"]),
        (lambda: keras.layers.Activation("gelu", name="culprit"), (3,), ["Erfc", "approximate=True"]),
        (
            lambda: keras.layers.Conv2DTranspose(3, 2, strides=3, name="culprit"),
            IMAGE,
            ["at least as large as its stride"],
        ),
    ],
)
def test_refused_layer_is_named_with_an_alternative(layer, shape, words):
    net = layer()
    out = tuple(net(np.zeros((1, *shape), "f4")).shape[1:])
    line = refusal(single(net, shape, out))
    assert "culprit" in line
    for each in words:
        assert each in line


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: keras.layers.Bidirectional(keras.layers.LSTM(3, use_cudnn=False)), STEPS),
        (lambda: keras.layers.RNN(keras.layers.LSTMCell(3)), STEPS),
        (lambda: keras.Sequential([keras.layers.LSTM(3, return_sequences=True), keras.layers.LSTM(3)]), STEPS),
        (lambda: keras.layers.SimpleRNN(3, unroll=True), STEPS),
        (lambda: keras.layers.SeparableConv2D(8, 3), IMAGE),
        (lambda: keras.layers.DepthwiseConv2D(3), IMAGE),
        (lambda: keras.layers.Resizing(12, 12, interpolation="bilinear"), IMAGE),
        (lambda: keras.layers.Conv2DTranspose(3, 3, strides=3), IMAGE),
        (lambda: keras.layers.GroupNormalization(2), IMAGE),
        (lambda: keras.layers.LayerNormalization(), IMAGE),
        (lambda: keras.layers.Normalization(mean=1.0, variance=2.0), IMAGE),
        (lambda: keras.layers.Lambda(lambda z: keras.ops.arctan(keras.ops.sinh(z)) + keras.ops.arcsinh(z)), (3,)),
    ],
)
def test_alternative_layers_match_keras(layer, shape):
    net = layer()
    out = tuple(net(np.zeros((1, *shape), "f4")).shape[1:])
    for weight in net.weights:
        if "float" in str(weight.dtype):
            weight.assign(RNG.uniform(0.3, 1, weight.shape))
    traced = Traced(single(net, shape, out))
    z = RNG.normal(size=(5, *shape)).astype("f4")
    np.testing.assert_allclose(run(convert(traced), {"z": z})["x_mean"], traced.run({"z": z})["x_mean"], atol=2e-5)


def test_gru_is_refused_and_lstm_recommended():
    net = keras.Sequential([keras.layers.RepeatVector(4), keras.layers.GRU(3, return_sequences=True, name="steps")])
    line = refusal(single(net, out=(4, 3)))
    assert "/steps (GRU)" in line
    assert "Loop" in line
    assert "LSTM" in line


def test_kernel_smaller_than_its_stride_is_refused():
    line = refusal(single(keras.layers.Conv2DTranspose(1, 2, strides=3, name="up"), (4, 4, 1), (12, 12, 1)))
    assert "layer up (Conv2DTranspose)" in line
    assert "at least as large as its stride" in line


def test_noise_is_refused():
    line = refusal(single(lambda z: z + keras.random.normal((3,), seed=1)))
    assert "draws noise" in line
    line = refusal(single(keras.layers.Lambda(lambda z: z + keras.random.normal((3,)), name="sampling")))
    assert "layer sampling (Lambda) draws noise" in line
    line = refusal(
        single(lambda z: tf.while_loop(lambda i, _: i < 2, lambda i, a: (i + 1, a + tf.random.normal((3,))), (0, z))[1])
    )
    assert "draws noise" in line


def test_unused_noise_is_ignored():
    seeds = keras.random.SeedGenerator(0)

    def encoder(z):
        z_mean = 2 * z
        _ = z_mean + keras.random.normal((3,), seed=seeds)
        return {"z_mean": z_mean}

    model = convert(Graph("encoder", encoder, Z, {"z_mean": (3,)}))
    assert [node.op_type for node in model.graph.node] == ["Mul"]


def test_training_mode_is_refused():
    normalise, dropout = keras.layers.BatchNormalization(name="normalise"), keras.layers.Dropout(0.5, name="drop")
    normalise.build((None, 3))
    line = refusal(single(lambda z: normalise(z, training=True)))
    assert "layer normalise (BatchNormalization) changes a variable" in line
    assert "training=False" in line
    assert "layer drop (Dropout)" in refusal(single(lambda z: dropout(z, training=True)))
    convert(single(lambda z: dropout(normalise(z, training=False), training=False)))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda z: {"y": z}, "returned ['y']; expected a dict of ['x_mean']"),
        (lambda z: z, "expected a dict of ['x_mean']"),
        (lambda z: {"x_mean": tf.cast(z, tf.float64)}, "is float64; expected float32"),
        (lambda z: {"x_mean": z[:, :2]}, "has shape (None, 2); expected (None, 3)"),
        (lambda z: {"x_mean": tf.ones((1, 3))}, "with None for the batch"),
        (lambda z: {"x_mean": tf.reduce_sum(z)}, "has shape (); expected (None, 3)"),
    ],
)
def test_function_with_other_outputs_than_its_graph_is_refused(function, words):
    assert words in refusal(Graph("decoder", function, Z, {"x_mean": (3,)}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "../decoder"}, "lower-case letters"),
        ({"inputs": {"X": ((3,), "float32")}}, "lower-case letters"),
        ({"inputs": {"z": ((3,), "int32")}}, "is int32; expected float32 or int64"),
        ({"inputs": {"z": ((None,), "float32")}}, "fixed positive sizes"),
        ({"outputs": {"z": (3,)}}, "is an input and an output"),
        ({"outputs": {}}, "needs at least one of each"),
    ],
)
def test_invalid_graph_is_refused(change, words):
    whole = {"name": "decoder", "function": lambda z: {"x_mean": z}, "inputs": Z, "outputs": {"x_mean": (3,)}}
    with pytest.raises(RequestError, match=words):
        Graph(**{**whole, **change})


def test_conversion_prints_nothing_and_restores_logging_and_keras(capfd):
    logger = logging.getLogger("tf2onnx")
    before = logger.handlers, logger.propagate
    call = keras.layers.Layer.__call__
    convert(single(keras.layers.Dense(3)))
    refusal(single(keras.layers.Dense(3, activation="gelu")))
    assert (logger.handlers, logger.propagate) == before
    assert keras.layers.Layer.__call__ is call
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "not supported" not in printed.err
    assert "freezing" not in printed.err


def test_canonical_form_is_independent_of_order_and_doc_strings():
    whole = convert(single(keras.layers.Dense(3, activation="silu")))
    model = onnx.ModelProto.FromString(whole.SerializeToString())
    model.graph.node[0].doc_string = "made on Tuesday"
    model.graph.node.reverse()
    assert canonicalize(model, "decoder", 18, 8) == whole
