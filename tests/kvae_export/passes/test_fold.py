"""Factors and shifts per channel are folded into the node before them; others are kept."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

import keras
import onnxruntime

from kvae_export.convert import convert
from kvae_export.graph import Graph
from kvae_export.trace import Traced

L = keras.layers


def randomised(net, shape):
    rng = np.random.default_rng(0)
    net(np.zeros((1, *shape), "f4"))
    for weight in net.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) * (1 if "variance" in weight.path else rng.choice([-1, 1])))
    return net


def ops_of(function, shape, outputs=("x_mean",)):
    """Convert a function, compare the outputs with the function, and return the ops of the file."""
    z = np.random.default_rng(1).normal(size=(5, *shape)).astype("f4")
    found = function(z)
    graph = Graph(
        "decoder", function, {"z": (shape, "float32")}, {name: tuple(found[name].shape[1:]) for name in outputs}
    )
    traced = Traced(graph)
    model = convert(traced)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for got, want in zip(session.run(list(outputs), {"z": z}), traced.run({"z": z}).values(), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
    return [node.op_type for node in model.graph.node if node.op_type not in ("Transpose", "Reshape")]


@pytest.mark.parametrize(
    ("layers", "shape", "ops"),
    [
        ([L.Conv2DTranspose(5, 3, strides=2, padding="same"), L.BatchNormalization()], (4, 4, 3), ["ConvTranspose"]),
        (
            [L.Conv2DTranspose(5, 3, padding="same", use_bias=False), L.BatchNormalization(scale=False), L.ReLU()],
            (4, 4, 3),
            ["ConvTranspose", "Relu"],
        ),
        ([L.Conv2D(5, 3, strides=2, padding="same"), L.BatchNormalization(), L.ReLU()], (4, 4, 3), ["Conv", "Relu"]),
        ([L.DepthwiseConv2D(3, padding="same"), L.BatchNormalization()], (4, 4, 3), ["Conv"]),
        ([L.Dense(5), L.BatchNormalization(), L.Dense(2)], (4,), ["Gemm", "Gemm"]),
        ([L.Dense(5, use_bias=False), L.BatchNormalization()], (4,), ["Gemm"]),
        ([L.Conv2DTranspose(5, 3), L.BatchNormalization(), L.Rescaling(2.0, -1.0)], (4, 4, 3), ["ConvTranspose"]),
        # Not folded: factors before a kernel, and factors after an activation.
        ([L.BatchNormalization(), L.Dense(5)], (4,), ["Mul", "Add", "Gemm"]),
        ([L.Conv2D(5, 3), L.ReLU(), L.BatchNormalization()], (4, 4, 3), ["Conv", "Relu", "Mul", "Add"]),
    ],
)
def test_folded_network_matches_its_function(layers, shape, ops):
    net = randomised(keras.Sequential(layers), shape)
    assert ops_of(lambda z: {"x_mean": net(z, training=False)}, shape) == ops


def test_value_with_two_uses_is_kept():
    shape = (4, 4, 3)
    kernel = randomised(L.Conv2DTranspose(5, 3, padding="same"), shape)
    factor = np.arange(1, 6, dtype="f4")
    twice = ops_of(lambda z: {"x_mean": kernel(z) * factor + keras.ops.tanh(kernel(z))}, shape)
    assert "Mul" in twice
    both = ops_of(lambda z: {"x_mean": (y := kernel(z)) * factor, "x_log_var": y + 0.0}, shape, ("x_mean", "x_log_var"))
    assert "Mul" in both


def test_kernel_with_two_uses_is_kept():
    shape = (3,)
    weight = np.random.default_rng(0).normal(size=(3, 3)).astype("f4")
    factor = np.array([2.0, 3.0, 4.0], "f4")
    found = ops_of(lambda z: {"x_mean": keras.ops.tanh((z @ weight) * factor) @ weight}, shape)
    assert found == ["MatMul", "Mul", "Tanh", "MatMul"]


def test_matrix_product_and_bias_become_gemm():
    shape = (4,)
    one, two = randomised(L.Dense(5), shape), randomised(keras.Sequential([L.Dense(3), L.Dense(5)]), shape)
    assert ops_of(lambda z: {"x_mean": one(z) * two(z)}, shape) == ["Gemm", "Gemm", "Gemm", "Mul"]
    # A product that is also an output, a bias that is not constant, and a scalar bias.
    weight, bias = np.random.default_rng(0).normal(size=(4, 4)).astype("f4"), np.arange(4, dtype="f4")
    given = ops_of(lambda z: {"x_mean": (y := z @ weight), "x_log_var": y + bias}, shape, ("x_mean", "x_log_var"))
    assert given == ["MatMul", "Add"]
    assert ops_of(lambda z: {"x_mean": z @ weight + z}, shape) == ["MatMul", "Add"]
    assert ops_of(lambda z: {"x_mean": z @ weight + 2.0}, shape) == ["MatMul", "Add"]
    # Rows per step have three axes.
    steps = randomised(L.Dense(5), (3, 4))
    found = ops_of(lambda z: {"x_mean": steps(z)}, (3, 4))
    assert {"MatMul", "Add"} <= set(found)
    assert "Gemm" not in found


def test_factor_per_pixel_is_kept():
    shape = (3, 3, 3)
    kernel = randomised(L.Conv2D(3, 1), shape)
    along = np.arange(1, 4, dtype="f4")
    for axis in (0, 1):
        factor = along.reshape([3 if place == axis else 1 for place in range(3)])
        assert "Mul" in ops_of(lambda z, factor=factor: {"x_mean": kernel(z) * factor}, shape)


def test_bias_per_step_is_kept_with_the_factor_that_follows():
    weight, factor = np.ones((4, 5), "f4"), np.arange(1, 6, dtype="f4")
    steps = np.arange(15, dtype="f4").reshape(3, 5)
    assert ops_of(lambda z: {"x_mean": (z @ weight + steps) * factor}, (3, 4)) == ["MatMul", "Add", "Mul"]
