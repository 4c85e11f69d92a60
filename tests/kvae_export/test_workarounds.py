"""Workarounds for Keras and tf2onnx: each test fails if the workaround breaks or is no longer needed."""

import logging

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

import keras
import tf2onnx

from kvae_export import convert
from kvae_export.graph import Graph
from kvae_export.trace import Traced


def traced(function):
    return Traced(Graph("decoder", lambda z: {"x_mean": function(z)}, {"z": ((3,), "float32")}, {"x_mean": (3,)}))


def test_op_names_lack_the_path_of_a_layer_so_calls_are_recorded():
    inner = keras.Sequential([keras.layers.Dense(3, name="smooth")], name="inner")
    net = keras.Sequential([inner], name="net")
    net(np.zeros((1, 3), "f4"))
    trace = traced(net)
    (op,) = [op for op in trace.concrete.graph.get_operations() if op.type == "MatMul"]
    assert trace.layers.find(op.name) == "net/inner/smooth (Dense)"
    assert not op.name.startswith("net/inner/smooth/")


def test_tf2onnx_makes_inputs_of_captured_tensors():
    layer = keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 2.0, 3.0])
    layer.build((None, 3))
    assert [value.name for value in convert.convert(traced(layer)).graph.input] == ["z"]
    trace = traced(layer)
    model, _ = tf2onnx.convert.from_function(trace.function, input_signature=trace.specs, opset=convert.OPSET)
    assert len(model.graph.input) > 1


def test_tf2onnx_returns_a_model_with_unsupported_ops():
    trace = traced(keras.layers.Activation("gelu"))
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    try:
        model, _ = tf2onnx.convert.from_function(trace.function, input_signature=trace.specs, opset=convert.OPSET)
    finally:
        logging.getLogger("tf2onnx").setLevel(logging.NOTSET)
    assert "Erfc" in {node.op_type for node in model.graph.node}


def test_keras_compiles_grouped_convolutions_so_functions_for_xla_are_traced_without_it():
    layer = keras.layers.Conv1D(3, 1, groups=3)
    trace = traced(lambda z: keras.ops.reshape(layer(keras.ops.reshape(z, (-1, 1, 3))), (-1, 3)))
    assert "StatefulPartitionedCall" in {op.type for op in trace.concrete.graph.get_operations()}
    (node,) = [node for node in convert.convert(trace).graph.node if node.op_type == "Conv"]
    assert {each.name: each.i for each in node.attribute}["group"] == 3
