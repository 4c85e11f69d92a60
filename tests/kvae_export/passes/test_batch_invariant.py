"""Rewritten activations: equal bits for a row in every batch, and the values of Keras."""

import functools
import itertools

import numpy as np
import onnx
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

import keras
import onnx.reference
import onnxruntime

from kvae_export.convert import convert
from kvae_export.graph import Graph
from kvae_export.passes.batch_invariant import make_batch_invariant
from kvae_serve.runtime.session import _DISABLED

ROWS = 130


def rows_of(model, z):
    """Yield the outputs of all rows for several threads, optimisation levels and batch sizes."""
    levels = onnxruntime.GraphOptimizationLevel
    for threads, level in itertools.product((1, 3), (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_ALL)):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.graph_optimization_level, options.log_severity_level = threads, level, 4
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, ["CPUExecutionProvider"], disabled_optimizers=_DISABLED
        )
        for size in (1, 2, 7, 64, ROWS):
            yield np.concatenate([session.run(None, {"z": z[at : at + size]})[0] for at in range(0, ROWS, size)])


def erf_gelu(z):
    return 0.5 * z * (1 + keras.ops.erf(z / np.float32(np.sqrt(2))))


@pytest.mark.parametrize("shape", [(5,), (50,), (9, 9, 1)])
@pytest.mark.parametrize("name", ["elu", "selu", "softplus", "mish", "gelu", "erf_gelu", "silu"])
def test_activation_gives_equal_bits_in_every_batch(name, shape):
    function = erf_gelu if name == "erf_gelu" else keras.activations.get(name)
    if name == "gelu":
        function = functools.partial(function, approximate=True)
    model = convert(
        Graph("decoder", lambda z: {"x_mean": function(z) * 3.0}, {"z": (shape, "float32")}, {"x_mean": shape})
    )
    z = np.random.default_rng(0).normal(size=(ROWS, *shape)).astype("f4")
    z *= np.random.default_rng(1).choice(np.array([0.01, 1, 40], "f4"), z.shape)
    found = list(rows_of(model, z))
    assert len({each.tobytes() for each in found}) == 1
    np.testing.assert_allclose(found[0], np.asarray(function(z)) * 3.0, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "values"),
    [
        ("Elu", {}),
        ("Elu", {"alpha": 0.3}),
        ("Selu", {}),
        ("Selu", {"alpha": 2.0, "gamma": 0.5}),
    ],
)
def test_alpha_and_gamma_match_the_onnx_reference(op, values):
    x = np.linspace(-40, 40, 801, dtype="f4")
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node(op, ["x"], ["y"], **values)],
            "decoder",
            [onnx.helper.make_tensor_value_info("x", 1, [None])],
            [onnx.helper.make_tensor_value_info("y", 1, [None])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=8,
    )
    want = onnx.reference.ReferenceEvaluator(made).run(None, {"x": x})[0]
    other = make_batch_invariant(made)
    onnx.checker.check_model(other, full_check=True)
    assert op not in {node.op_type for node in other.graph.node}
    np.testing.assert_allclose(onnx.reference.ReferenceEvaluator(other).run(None, {"x": x})[0], want, atol=3e-7)


def test_likelihood_is_not_rewritten():
    z = {"z": ((5,), "float32")}
    graph = Graph("likelihood", lambda z: {"log_likelihood": keras.ops.softplus(z)[:, 0]}, z, {"log_likelihood": ()})
    assert "Softplus" in {node.op_type for node in convert(graph).graph.node}
