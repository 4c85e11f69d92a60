"""Scalars get the rank of the tensor that they are combined with; results do not change."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from kvae_export.passes.broadcast_scalars import broadcast_scalars


def model(shape, constant, op="Mul", first=False):
    names = ["c", "x"] if first else ["x", "c"]
    face = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"])], "g", face[:1], face[1:], [numpy_helper.from_array(constant, "c")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def widened(made):
    broadcast_scalars(made.graph, onnx.shape_inference.infer_shapes(made, strict_mode=True).graph)
    onnx.checker.check_model(made, full_check=True)
    (constant,) = made.graph.initializer
    return list(constant.dims)


def run(made, x):
    return ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_scalar_gets_the_rank_of_a_one_channel_tensor(shape, first):
    x = np.random.default_rng(0).standard_normal((3, 4, 5, 1)).astype("f4")
    made = model((4, 5, 1), np.full(shape, 0.3, "f4"), "Sub", first)
    before = run(made, x)
    assert widened(made) == [1, 1, 1, 1]
    assert (run(made, x) == before).all()


def test_other_constants_are_unchanged():
    assert widened(model((4, 5, 3), np.array(2, "f4"))) == []
    assert widened(model((20,), np.array([2], "f4"))) == [1]
    assert widened(model((4, 5, 1), np.ones((5, 1), "f4"))) == [5, 1]
    assert widened(model((4, 5, 1), np.ones((1, 1, 1, 1), "f4"))) == [1, 1, 1, 1]
