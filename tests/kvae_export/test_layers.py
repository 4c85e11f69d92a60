"""Keras layers and ops: each is exported with parity at several batch sizes, or refused with its layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")
if keras.backend.backend() != "tensorflow":
    pytest.skip("the export needs TensorFlow", allow_module_level=True)

import onnxruntime  # noqa: E402

from kvae.exporting.graphs import unrolled  # noqa: E402
from kvae_export import convert, graph, parity, trace  # noqa: E402
from kvae_serve.errors import RequestError, VerificationError  # noqa: E402
from support import layer_cases, onnx_shapes  # noqa: E402

EXPORTED = {**layer_cases.layer_cases(), **layer_cases.op_cases()}
REFUSED = layer_cases.refused_cases()
HINTS = {
    "local response normalization": "Use GroupNormalization",
    "ops.rfft": "cosines and sines",
    "ops.cumprod": "exp(cumsum(log(x)))",
    "ops.cumprod of the last axis": "exp(cumsum(log(x)))",
    "mixed float16": "dtype policy float32",
}
# One of each kind of shape arithmetic: upsampling, a normalisation, one axis, unrolled steps.
FAST = (
    "UpSampling2D bilinear, Conv2D",
    "GroupNormalization, Conv2D",
    "Conv1D",
    "SimpleRNN",
    "ops.roll",
    "ops.roll by 0",
    "ops.einsum of vectors",
    "Conv2D, groups",
)


def export(shape: tuple[int, ...], layer) -> bytes:
    """Convert a layer and compare it with Keras at batch sizes 1, 7 and 64."""
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    with unrolled(model):
        traced = trace.Traced(
            graph.Graph(
                "encoder",
                lambda x: {"y": model(x, training=False)},
                {"x": (shape, "float32")},
                {"y": tuple(model.output.shape[1:])},
            )
        )
        data = convert.convert(traced).SerializeToString()
    session = onnxruntime.InferenceSession(data)

    def feeds(_, batch):
        return {"x": np.random.default_rng(batch).random((batch, *shape), dtype=np.float32)}

    parity.check(
        traced.graph, traced.run, lambda x: {"y": session.run(None, x)[0]}, feeds, {"y": (1e-4, 1e-4)}, {"y": 1e-6}
    )
    return data


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.long) for n in EXPORTED])
def test_layer_is_exported_with_parity_and_the_shapes_of_onnx(name):
    data = export(*EXPORTED[name])
    for batch in (1, 3):
        onnx_shapes.compare(data, batch)


@pytest.mark.parametrize("name", ["mean over the batch", *(pytest.param(n, marks=pytest.mark.long) for n in REFUSED)])
def test_layer_without_an_onnx_form_is_refused_by_name(name):
    with pytest.raises((RequestError, VerificationError)) as error:
        export(*REFUSED[name])
    if isinstance(error.value, RequestError):
        assert "layer functional" in str(error.value) or name == "mixed float16"
    if name in HINTS:
        assert HINTS[name] in str(error.value)


def test_network_that_mixes_examples_across_the_batch_is_refused():
    with pytest.raises(VerificationError, match="row 0 of a batch of 64 beside the same row alone"):
        export(*REFUSED["flip of the batch"])


def test_running_sum_over_the_batch_is_refused_although_row_0_is_the_same():
    with pytest.raises(VerificationError, match="row 63 of a batch of 64 beside the same row alone"):
        export(*REFUSED["cumsum over the batch"])


class Symmetric(keras.layers.Layer):
    def call(self, x):
        return keras.ops.pad(x, ((0, 0), (1, 1), (0, 0)), "symmetric")


class Diagonal(keras.layers.Layer):
    def call(self, x):
        return keras.ops.diagonal(keras.ops.einsum("bti,btj->bij", x, x), axis1=1, axis2=2)


@pytest.mark.parametrize(
    ("layer", "hint"), [(Symmetric(), "use the mode reflect"), (Diagonal(), "multiply by an identity matrix")]
)
def test_layer_whose_name_the_converter_loses_is_still_named(layer, hint):
    with pytest.raises(RequestError, match=rf"layer functional\S*/{layer.name} .*{hint}"):
        export(layer_cases.STEPS, layer)


def test_page_of_layers_lists_the_tested_ones():
    assert Path(__file__).parents[2].joinpath("docs", "layers.md").read_text() == layer_cases.page()


# One of each kind of weight: a convolution with batch normalisation, a transposed one, attention, steps, and an LSTM.
KINDS = ("BatchNormalization", "Conv2DTranspose", "MultiHeadAttention", "GRU", "LSTM", "Dense")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in KINDS else pytest.mark.long) for n in EXPORTED])
def test_weights_kept_out_of_the_conversion_give_the_same_bytes(name):
    shape, layer = EXPORTED[name]
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    outputs = {"y": tuple(model.output.shape[1:])}
    with unrolled(model):
        traced = trace.Traced(
            graph.Graph("encoder", lambda x: {"y": model(x, training=False)}, {"x": (shape, "float32")}, outputs)
        )
        kept_out, constants = (convert.convert(traced, large).SerializeToString() for large in (1, 2**62))
    assert kept_out == constants
    is_kept_out = any(name.startswith("Weight") for name in traced.for_conversion(1).constants)
    assert is_kept_out == any(len(weight.shape) > 1 for weight in model.weights)
