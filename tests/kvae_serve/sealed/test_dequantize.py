"""Weights stored in 8 or 16 bits are restored to float32 bit for bit. Other patterns are left unchanged."""

import tracemalloc

import numpy as np
import onnxruntime
import pytest

from kvae_serve.sealed import validate
from kvae_serve.sealed.dequantize import restore
from support import wire

RNG = np.random.default_rng(0)
KINDS = {"int8": (3, np.int8), "float16": (10, np.float16)}
Z, X = wire.value("z", ["batch", 5]), wire.value("x_mean", ["batch", 7])


def parts(kind="int8", numbers=None, scale=None):
    """Return nodes and tensors of x_mean = z @ (cast(numbers) * scale), the numbers and the scale."""
    code, dtype = KINDS[kind]
    numbers = (100 * RNG.normal(size=(5, 7))).clip(-127, 127).astype(dtype) if numbers is None else numbers
    scale = RNG.uniform(0.1, 2, (1, 7)).astype("<f4") if scale is None else scale
    nodes = [
        wire.node("Cast", ["q"], ["c"], wire.int_attribute("to", 1)),
        wire.node("Mul", ["c", "s"], ["w"]),
        wire.node("MatMul", ["z", "w"], ["x_mean"]),
    ]
    tensors = [
        wire.tensor("q", list(numbers.shape), numbers.tobytes(), code),
        wire.tensor("s", list(scale.shape), scale.astype("<f4").tobytes()),
    ]
    return nodes, tensors, numbers, scale


def whole(nodes, tensors, inputs=(Z,), outputs=(X,)):
    return wire.model(wire.graph(list(nodes), list(inputs), list(outputs), list(tensors)))


def run(data, folded=True):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    off = [] if folded else ["ConstantFolding"]
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"], disabled_optimizers=off)
    z = np.random.default_rng(1).normal(size=(4, 5)).astype("f4")
    return session.run(None, {"z": z})[0], z


@pytest.mark.parametrize("kind", KINDS)
def test_restored_weights_equal_those_of_onnx_runtime(kind):
    nodes, tensors, numbers, scale = parts(kind)
    data = whole(nodes, tensors)
    restored = restore(data)
    assert validate.walk(restored).num_nodes == 1
    got, z = run(restored, folded=False)
    np.testing.assert_array_equal(got, run(data)[0])
    np.testing.assert_allclose(got, z @ (numbers.astype("f8") * scale), rtol=1e-4, atol=1e-3)


def test_scale_may_be_the_first_factor_shared_and_one_number():
    nodes, tensors, *_ = parts(scale=np.full((1, 1), 0.5, "f4"))
    nodes[1] = wire.node("Mul", ["s", "c"], ["w"])
    nodes[2:] = [
        wire.node("Cast", ["q2"], ["c2"], wire.int_attribute("to", 1)),
        wire.node("Mul", ["c2", "s"], ["w2"]),
        wire.node("MatMul", ["z", "w"], ["a"]),
        wire.node("Mul", ["a", "w2"], ["x_mean"]),
    ]
    tensors.append(wire.tensor("q2", [1, 7], bytes(range(7)), 3))
    data = whole(nodes, tensors)
    assert validate.walk(restore(data)).num_nodes == 2
    np.testing.assert_array_equal(run(restore(data), folded=False)[0], run(data)[0])


def test_float32_model_is_unchanged():
    data = whole([wire.node("MatMul", ["z", "w"], ["x_mean"])], [wire.tensor("w", [5, 7], bytes(4 * 35))])
    assert restore(data) is data


def changed(index, node):
    def change(nodes, tensors):
        nodes[index] = node

    return change


def more_use_of(name):
    def change(nodes, tensors):
        nodes.append(wire.node("Cast", [name], ["other"], wire.int_attribute("to", 1)))

    return change


def tensor_in_its_place(index, tensor):
    def change(nodes, tensors):
        tensors[index] = tensor

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed(0, wire.node("Cast", ["q"], ["c"], wire.int_attribute("to", 11))),
        changed(0, wire.node("Identity", ["q"], ["c"])),
        changed(1, wire.node("Add", ["c", "s"], ["w"])),
        changed(1, wire.node("Mul", ["c", "c"], ["w"])),
        changed(1, wire.node("Mul", ["c", "z"], ["w"])),
        changed(1, wire.node("Mul", ["c", "s"], ["x_mean"])),
        more_use_of("q"),
        more_use_of("c"),
        # A product larger than the stored tensor: 5 bytes and a scale of 2**24 would give 2**26 numbers.
        tensor_in_its_place(1, wire.tensor("s", [4, 5, 7], bytes(4 * 140))),
        tensor_in_its_place(1, wire.tensor("s", [7], bytes(28))),
        tensor_in_its_place(0, wire.tensor("q", [1, 7], bytes(7), 3)),
        tensor_in_its_place(0, wire.tensor("q", [5, 7], b"", 3, more=wire.field(5, bytes(35)))),
    ],
)
def test_other_patterns_are_unchanged(change):
    nodes, tensors, *_ = parts(scale=np.ones((5, 7), "f4"))
    change(nodes, tensors)
    data = whole(nodes, tensors)
    assert restore(data) == data


def test_stored_tensor_that_is_an_input_is_unchanged():
    nodes, tensors, *_ = parts()
    data = whole(nodes, tensors, inputs=(Z, wire.value("q", [5, 7], 3)))
    assert restore(data) == data


def test_size_of_restored_weights_is_bounded_by_the_file():
    # One tensor used 1,000 times: its copies would take 4 GB.
    num, size = 1_000, 1_000_000
    nodes = [wire.node("Cast", ["q"], [f"c{i}"], wire.int_attribute("to", 1)) for i in range(num)]
    nodes += [wire.node("Mul", [f"c{i}", "s"], [f"w{i}"]) for i in range(num)]
    data = whole(nodes, [wire.tensor("q", [size], bytes(size), 3), wire.tensor("s", [1], wire.floats(1))])
    tracemalloc.start()
    assert restore(data) == data
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80 * 2**20
