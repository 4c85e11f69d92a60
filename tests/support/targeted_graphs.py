"""Graphs of one operator at the limits of its form: ranks, axes, windows, sizes, types, attributes and large numbers.

`random_graphs.run` judges them. `python -m support.targeted_graphs` in `tests/` prints the faults and the number of
graphs per outcome.
"""

from __future__ import annotations

import itertools
import math
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kvae_serve.sealed import allowed_ops
from support import random_graphs, wire

LOWEST, HIGHEST = -(2**63), 2**63 - 1
HUGE = 2**31 - 1
Case = tuple[str, list[Any], dict[str, Any], int]


class Data(tuple):
    """Shape of a float32 value that is computed in the graph."""


def weight(*shape: int, fill: float = 0.5, dtype: str = "f4") -> np.ndarray:
    return np.full(shape, fill, dtype)


def ints(*numbers: int, dtype: str = "i8") -> np.ndarray:
    return np.array(numbers, dtype)


def scalar(number: float, dtype: str = "i8") -> np.ndarray:
    return np.array(number, dtype)


def attribute(name: str, value: Any) -> bytes:
    """Return an attribute of the type of its value, which may differ from the type that the operator expects."""
    if isinstance(value, list) and all(isinstance(each, int) for each in value):
        return wire.field(1, name) + b"".join(wire.field(8, each) for each in value) + wire.field(20, allowed_ops.INTS)
    if isinstance(value, list):
        return wire.field(1, name) + b"".join(wire.field(9, each) for each in value) + wire.field(20, 8)
    if isinstance(value, np.ndarray):
        return wire.tensor_attribute(name, tensor("", value))
    if isinstance(value, float):
        return wire.field(1, name) + b"\x15" + struct.pack("<f", value) + wire.field(20, allowed_ops.FLOAT)
    return (
        wire.field(1, name)
        + wire.field(3 if isinstance(value, int) else 4, value)
        + wire.field(20, allowed_ops.INT if isinstance(value, int) else allowed_ops.STRING)
    )


def tensor(name: str, value: np.ndarray) -> bytes:
    kind = next(code for code, dtype in random_graphs.TYPES.items() if np.dtype(dtype) == value.dtype)
    return wire.tensor(name, list(value.shape), value.tobytes(), kind)


def build(op: str, inputs: list[Any], attributes: dict[str, Any] | list[tuple[str, Any]], num: int = 1) -> bytes:
    """Return a graph of one node. Inputs are `Data`, arrays, "z" for the input of the graph, or "" for none.

    Attributes in a list may repeat. The outputs of the node are added to the output of the graph.
    """
    nodes, tensors, names = [], [], []
    for index, value in enumerate(inputs):
        name = value if isinstance(value, str) else f"i{index}"
        names.append(name)
        if isinstance(value, Data):
            tensors.append(tensor(f"{name}s", ints(*value)))
            tensors.append(tensor(f"{name}b", weight(1)))
            nodes.append(wire.node("Expand", [f"{name}b", f"{name}s"], [name]))
        elif isinstance(value, np.ndarray):
            tensors.append(tensor(name, value))
    outputs = [f"o{index}" for index in range(num)]
    pairs = attributes.items() if isinstance(attributes, dict) else attributes
    nodes.append(wire.node(op, names, outputs, *(attribute(*pair) for pair in pairs)))
    for name in outputs:
        nodes.append(wire.node("Cast", [name], [f"{name}f"], wire.int_attribute("to", 1)))
        nodes.append(wire.node("ReduceMax", [f"{name}f"], [f"{name}m"], wire.int_attribute("keepdims", 0)))
    nodes.append(wire.node("Sum", ["z", *(f"{name}m" for name in outputs)], ["x_mean"]))
    face = [random_graphs.Z], [wire.value("x_mean", ["batch", 3])]
    return wire.model(wire.graph(nodes, *face, tensors))


def axes() -> Iterator[Case]:
    """Axes inside and outside of the rank."""
    ranks = {Data((2, 3, 1, 2)): (-5, -4, 3, 4, 2**31, LOWEST), Data((3,)): (-2, -1, 0, 1), Data(()): (-1, 0, 1)}
    for data, numbers in ranks.items():
        for axis in numbers:
            for op in ("ArgMax", "ArgMin", "Flatten", "LogSoftmax", "Softmax"):
                yield op, [data], {"axis": axis}, 1
            for op in ("Squeeze", "Unsqueeze", "ReduceSum", "ReduceMax", "ReduceMean", "ReduceL2", "ReduceProd"):
                yield op, [data, ints(axis)], {}, 1
            yield "ReduceMin", [data, ints(axis, axis)], {"keepdims": 0}, 1
            yield "CumSum", [data, scalar(axis)], {}, 1
            yield "Concat", [data, data], {"axis": axis}, 1
            yield "Gather", [data, ints(0)], {"axis": axis}, 1
            yield "GatherElements", [data, np.zeros(data, "i8")], {"axis": axis}, 1
            yield "OneHot", [np.zeros(data, "i8"), scalar(3), weight(2)], {"axis": axis}, 1
            yield "Split", [data], {"axis": axis, "num_outputs": 1}, 1
            yield "TopK", [data, ints(1)], {"axis": axis}, 2
            yield "Shape", [data], {"start": axis}, 1
            yield "Shape", [data], {"end": axis}, 1
    for op in ("ReduceSum", "ReduceMax", "Squeeze", "Unsqueeze"):
        for numbers in ((), (0, 0), (0, -4), (0, 1, 2, 3), tuple(range(9))):
            for more in ({}, {"keepdims": 0}, {"noop_with_empty_axes": 1}):
                yield op, [Data((1, 1, 1, 2)), ints(*numbers)], more if op.startswith("Reduce") else {}, 1


def windows() -> Iterator[Case]:
    """Kernels smaller and larger than their input, in every mode of padding."""
    modes = [{}, {"pads": 1}, {"auto_pad": "VALID"}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}]
    for kernel, size, mode, stride in itertools.product((1, 2, 5), (1, 3, 4), modes, (1, 3)):
        more = {"pads": [kernel - mode["pads"]] * 4} if "pads" in mode else mode
        for op, channels in (("Conv", 16), ("ConvTranspose", 1), ("AveragePool", 16), ("MaxPool", 1)):
            inputs: list[Any] = [Data((1, channels, size, size))]
            if "Conv" in op:
                inputs.append(weight(channels, channels, kernel, kernel))
            yield op, inputs, {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, **more}, 1
    image, kernel = Data((1, 4, 3, 3)), weight(4, 4, 2, 2)
    faulty: list[dict[str, Any]] = [
        {"group": 0}, {"group": 3}, {"group": 4}, {"group": 2**20}, {"group": -1}, {"strides": [0, 1]},
        {"strides": [1]}, {"strides": [1, 1, 1]}, {"strides": []}, {"strides": [2**20, 2**20]}, {"dilations": [0, 0]},
        {"dilations": [2**20] * 2}, {"dilations": [3, 3]}, {"pads": [-1, 0, 0, 0]}, {"pads": [1, 1]}, {"pads": []},
        {"pads": [2**20] * 4}, {"pads": [1, 0, 0, 0], "auto_pad": "SAME_UPPER"}, {"auto_pad": "same"},
        {"kernel_shape": [2]}, {"kernel_shape": [3, 3]}, {"kernel_shape": []}, {"output_padding": [1, 1]},
        {"output_padding": [5, 5], "strides": [6, 6]}, {"output_shape": [9, 9]}, {"ceil_mode": 1}, {"storage_order": 1},
        {"count_include_pad": 1, "pads": [1] * 4}, {"count_include_pad": 2},
    ]  # fmt: skip
    for op, more in itertools.product(("Conv", "ConvTranspose", "AveragePool", "MaxPool"), faulty):
        yield op, [image] if "Pool" in op else [image, kernel], {"kernel_shape": [2, 2], **more}, 1
    for op in ("Conv", "ConvTranspose"):
        for shapes in (
            ((1, 3, 3, 3), (4, 4, 2, 2)), ((4, 3, 3), (4, 4, 2, 2)), ((1, 4, 3, 3), (4, 4, 2)), ((1, 4), (4, 4)),
            ((1, 4, 3), (4, 4, 2)), ((1, 4, 3, 3, 3), (4, 4, 2, 2, 2)), ((1, 4, 2, 2, 2, 2), (4, 4, 1, 1, 1, 1)),
            ((1, 4, 3, 3), (1, 4, 2, 2)), ((1, 16, 3, 3), (1, 16, 3, 3)), ((1, 1, 3, 3), (33, 1, 3, 3)),
        ):  # fmt: skip
            yield op, [Data(shapes[0]), weight(*shapes[1])], {}, 1
            yield op, [Data(shapes[0]), weight(*shapes[1]), weight(3)], {}, 1
            yield op, [Data(shapes[0]), Data(shapes[1])], {}, 1
    for op, rank in itertools.product(("AveragePool", "MaxPool"), range(7)):
        yield op, [Data((2,) * rank)], {"kernel_shape": [2] * max(1, rank - 2)}, 1
    for op, rank in itertools.product(("GlobalAveragePool", "GlobalMaxPool"), range(7)):
        yield op, [Data((2,) * rank)], {}, 1


def sizes() -> Iterator[Case]:
    """Sizes, repeats, pads, slices and scales at their limits."""
    data = Data((2, 3, 4))
    for numbers in (
        (), (24,), (-1,), (-1, -1), (0, 0, 0), (0, 0, 0, 0), (0, -1), (-1, 0), (2, -1, 5), (25,), (-2, 12), (1,) * 8,
        (1,) * 9, (24, 1, 1, 1, 1, 1, 1, 1), (LOWEST,), (HIGHEST,), (2**32, 2**32), (2**62, 4, -1), (0,),
    ):  # fmt: skip
        yield "Reshape", [data, ints(*numbers)], {}, 1
        yield "Reshape", [data, ints(*numbers)], {"allowzero": 1}, 1
        yield "Expand", [data, ints(*numbers)], {}, 1
        yield "Tile", [data, ints(*numbers)], {}, 1
        yield "ConstantOfShape", [ints(*numbers)], {}, 1
    for numbers in ((1, 2, 0), (3, 1, 4), (2**20, 1, 1), (2**31, 1, 1), (2**62, 2, 2), (2, 2, 2), (-1, 1, 1)):
        yield "Tile", [data, ints(*numbers)], {}, 1
        yield "Expand", [Data((1, 1, 1)), ints(*numbers)], {}, 1
        yield "ConstantOfShape", [ints(*numbers)], {"value": ints(7)}, 1
    pads = [(0,) * 6, (1,) * 6, (-1, 0, 0, 0, 0, 0), (0, 0, 4, 0, 0, 4), (2, 2, 2, 2, 2, 2), (HUGE,) + (0,) * 5,
            (HIGHEST,) * 6, (LOWEST,) * 6, (1,), (), (2**20,) + (0,) * 5, (1, 2, 3, 1, 2, 3),
            (0, 0, 3, 0, 0, 3)]  # fmt: skip
    for mode, numbers in itertools.product(("constant", "edge", "reflect", "wrap"), pads):
        yield "Pad", [data, ints(*numbers)], {"mode": mode}, 1
    yield "Pad", [data, ints(1, 1), scalar(1, "f4"), ints(-1)], {}, 1
    yield "Pad", [data, ints(1, 1), scalar(1, "f4"), ints(3)], {}, 1
    yield "Pad", [data, ints(1, 1, 1, 1), scalar(1, "f4"), ints(0, 0)], {}, 1
    yield "Pad", [data, ints(*[1] * 6), ints(1)], {}, 1
    edges = (0, 1, -1, 4, 5, HIGHEST, LOWEST, HUGE)
    for start, end, step in itertools.product(edges, (0, 4, -5, HIGHEST, LOWEST), (1, -1, HIGHEST)):
        yield "Slice", [data, ints(start), ints(end), ints(2), ints(step)], {}, 1
    for rest in (
        (ints(0), ints(1), ints(3)), (ints(0), ints(1), ints(-4)), (ints(0, 0), ints(1)),
        (ints(0), ints(1), ints(2, 2)),
        (ints(0, 0), ints(1, 1), ints(2, 2)), (ints(0), ints(1), ints(0), ints(0)), (ints(), ints()), (data, data),
        (ints(0, 0, 0, 0), ints(1, 1, 1, 1)), (ints(0), ints(1), "", ints(1)), (ints(0), ints(1), "", ints(LOWEST)),
        (ints(0, dtype="i4"), ints(1, dtype="i4")), (ints(0), ints(1, dtype="i4")),
    ):  # fmt: skip
        yield "Slice", [data, *rest], {}, 1
    image = Data((1, 2, 3, 3))
    targets = [(1, 2, 6, 6), (1, 2, 1, 1), (1, 2, 3, 3), (1, 2, 0, 3), (1, 4, 3, 3), (2, 2, 6, 6), (1, 2, 70000, 1),
               (1, 2, 2, 300000), (1, 2, HUGE, 1), (1, 2, HIGHEST, 3), (1, 2, -1, 3), (6, 6), (),
               (1, 2, 7, 5)]  # fmt: skip
    for mode, target in itertools.product(("nearest", "linear", "cubic"), targets):
        yield "Resize", [image, "", "", ints(*target)], {"mode": mode}, 1
    transforms = allowed_ops.ATTRIBUTES["coordinate_transformation_mode"].texts
    for mode, transform in itertools.product(("nearest", "linear", "cubic"), (*transforms, "tf_crop_and_resize")):
        for target in ((1, 2, 5, 1), (1, 2, 1, 7)):
            more = {"mode": mode, "coordinate_transformation_mode": transform}
            yield "Resize", [image, "", "", ints(*target)], more, 1
    for numbers in ((1, 1, 2, 2), (1, 1, 0.1, 1), (1, 1, 1e6, 1), (1, 1, 3e9, 1), (1, 1, math.nan, 1), (1, 1, 0, 1),
                    (1, 1, -2, 1), (1, 1, 1e-7, 1), (1, 1, 0.34, 0.34), (1, 1, 1.9999999, 1), (2, 2), (),
                    (2, 1, 1, 1)):  # fmt: skip
        for mode in ("nearest", "linear"):
            yield "Resize", [image, "", np.array(numbers, "f4")], {"mode": mode}, 1
    for rank in (1, 2, 3, 5, 6):
        for mode in ("nearest", "linear", "cubic"):
            yield "Resize", [Data((2,) * rank), "", "", ints(*[2] * (rank - 1), 4)], {"mode": mode}, 1
    yield "Resize", [image, weight(8), "", ints(1, 2, 6, 6)], {}, 1
    yield "Resize", [image, "", weight(4), ints(1, 2, 6, 6)], {}, 1
    yield "Resize", [image, "", "", ints(1, 2, 6, 6)], {"mode": "cubic", "cubic_coeff_a": math.nan}, 1
    yield "Resize", [image, "", "", ints(1, 2, 6, 6)], {"mode": "cubic", "exclude_outside": 1}, 1
    for limits in ((0, 5, 1), (0, 0, 1), (5, 0, -1), (0, 5, 0), (0, 5, -1), (0, HIGHEST, 1), (LOWEST, HIGHEST, 1),
                   (0, HIGHEST, HIGHEST), (0, 2**24, 1), (0, 2**31, 1), (3, 4, HIGHEST)):  # fmt: skip
        yield "Range", [scalar(number) for number in limits], {}, 1
        yield "Range", [scalar(max(-9, min(number, 9)), "f4") for number in limits], {}, 1
    for num in (0, 1, 3, 4, 5, -1, 2**62):
        yield "TopK", [data, ints(num)], {}, 2
        yield "OneHot", [ints(0, 5, -1), scalar(num), weight(2)], {}, 1
    for numbers in ((2, 2), (4,), (0, 4), (5, -1), (1, 1, 2), (2, 1), (), (HIGHEST, 3)):
        yield "Split", [data, ints(*numbers)], {"axis": 2}, max(1, len(numbers))
    for num, outputs in ((0, 1), (2, 2), (3, 3), (5, 5), (2, 3), (2**20, 1), (4, 4)):
        yield "Split", [data], {"axis": 2, "num_outputs": num}, outputs
    for block, mode in itertools.product((0, 1, 2, 3, 2**20, -1), ("DCR", "CRD", "nearest")):
        yield "DepthToSpace", [Data((1, 4, 2, 2))], {"blocksize": block, "mode": mode}, 1
        yield "SpaceToDepth", [Data((1, 4, 2, 2))], {"blocksize": block}, 1
    for rank in (0, 1, 3, 5):
        yield "DepthToSpace", [Data((4,) * rank)], {"blocksize": 2}, 1
    for order in ([], [0], [0, 1, 2], [2, 1, 0], [0, 0, 1], [0, 1, 3], [-1, 0, 1], [0, 1, 2, 3]):
        yield "Transpose", [data], {"perm": order}, 1


def contractions() -> Iterator[Case]:
    """Products, equations, recurrent layers and normalisations of shapes that fit, nearly fit, or are of low rank."""
    some = [(), (1,), (3,), (2, 3), (3, 2), (1, 3, 2), (2, 3, 2), (4, 2, 3), (2, 1, 3, 3)]
    for a, b in itertools.product(some, some):
        yield "MatMul", [Data(a), Data(b)], {}, 1
    for more in ({}, {"transA": 1}, {"transB": 1}, {"transA": 1, "transB": 1}, {"transA": 2}, {"alpha": math.nan}):
        for bias in ((), (1,), (2,), (3,), (2, 2), (2, 1), (1, 2), (3, 1, 2)):
            yield "Gemm", [Data((2, 3)), Data((3, 2)), Data(bias)], more, 1
        yield "Gemm", [Data((3,)), Data((3, 2))], more, 1
    equations = ("ij,jk->ik", "ij,jk", "ii->i", "ii", "ij->", "ij->ji", "ij->ijj", "ij,ij->", "i,j->ij", "ij,kl->ijkl",
                 "...i,...j->...ij", "...", "...ij->...", "->", ",->", "ij,", "iJ,Jk->ik", "i j -> j i", "ij->k", "i1",
                 "ij,jk,kl->il", "", "i..j", "ij->ik", ",".join("ij" for _ in range(20)))  # fmt: skip
    for equation, shape in itertools.product(equations, ((2, 2), (), (1, 3))):
        yield "Einsum", [Data(shape)] * (equation.count(",") + 1), {"equation": equation}, 1
    x, w, r, b = Data((2, 1, 3)), weight(1, 8, 3), weight(1, 8, 2), weight(1, 16)
    state, peephole = weight(1, 1, 2), weight(1, 6)
    faulty: list[tuple[list[Any], dict[str, Any]]] = [
        ([x, w, r], {}), ([x, w, r, b], {}), ([x, w, r, b, "", state, state, peephole], {}),
        ([x, w, r, "", ints(2)], {}),
        ([x, w, r, "", ints(2, dtype="i4")], {}), ([x, w, r, weight(1, 8)], {}), ([x, w, r, weight(2, 16)], {}),
        ([x, weight(1, 8, 2), r], {}), ([x, w, weight(1, 8, 3)], {}), ([x, weight(2, 8, 3), weight(2, 8, 2)], {}),
        ([x, w, r], {"direction": "bidirectional"}), ([x, w, r], {"hidden_size": 3}), ([x, w, r], {"hidden_size": 0}),
        ([x, w, r], {"hidden_size": 2**20}), ([x, w, r], {"activations": []}), ([x, w, r], {"activations": ["Tanh"]}),
        ([x, w, r], {"activations": ["Sigmoid", "Tanh", "Tanh", "Tanh"]}), ([x, w, r], {"activations": ["Affine"] * 3}),
        ([x, w, r], {"activations": ["Relu"] * 3}), ([x, w, r], {"clip": 1.0}), ([x, w, r], {"layout": 1}),
        ([x, w, r], {"input_forget": 1}), ([x, w, r, "", "", weight(1, 2, 2)], {}), ([x, w, r, *[""] * 5], {}),
        ([Data((2, 3)), w, r], {}), ([x, w, r, "", "", state, "", peephole], {}), ([x, w], {}), ([x, "", r], {}),
    ]  # fmt: skip
    for inputs, more in faulty:
        yield "LSTM", inputs, {"hidden_size": 2, **more}, 3
        yield "LSTM", inputs, {"hidden_size": 2, "direction": "reverse", **more}, 1
    for op, num in (("BatchNormalization", 4), ("InstanceNormalization", 2)):
        for shape, size in itertools.product(((), (2,), (2, 2), (1, 2, 3), (1, 2, 3, 3), (1, 16, 1, 1)), (1, 2, 16)):
            yield op, [Data(shape), *[weight(size)] * num], {"epsilon": 0.0}, 1
        yield op, [Data((1, 2, 3)), *[weight(2, 1)] * num], {}, 1
        yield op, [Data((1, 2, 3)), *[weight(2)] * num], {"training_mode": 1}, 1


def elements() -> Iterator[Case]:
    """Element types, indices, integer division and broadcasts."""
    numbers = {"f4": [0.5], "i8": [5], "i4": [5], "?": [True], "f8": [0.5], "f2": [0.5], "u1": [5], "i1": [-5]}
    for op, form in allowed_ops.FORMS.items():
        if form.inputs in ("x", "xx", "x*") and op not in ("AveragePool", "MaxPool", "Cast"):
            for dtype, value in numbers.items():
                yield op, [np.array(value, dtype)] * max(1, form.inputs.count("x")), {}, 1
    for to, dtype in itertools.product((0, 1, 2, 6, 7, 8, 9, 10, 11, 13, 14, 16, 17), ("f4", "i8", "?")):
        yield "Cast", [np.array([1], dtype)], {"to": to}, 1
    for value in (math.nan, math.inf, 1e30, -1.0):
        for to in (2, 7, 9, 10):
            yield "Cast", [np.array([value], "f4")], {"to": to}, 1
    for a, b in ((7, 2), (7, 0), (LOWEST, -1), (-7, 2), (LOWEST, 3), (HIGHEST, 2)):
        for op in ("Div", "Mod", "Add", "Sub", "Mul", "Pow"):
            yield op, [ints(a), ints(b)], {}, 1
        yield "Mod", [ints(a), ints(b)], {"fmod": 1}, 1
    for index in (0, 2, 3, -3, -4, HIGHEST, LOWEST):
        yield "Gather", [Data((3, 2)), ints(index)], {}, 1
        yield "Gather", [Data((3, 2)), scalar(index)], {}, 1
        yield "GatherElements", [Data((3, 2)), ints(index).reshape(1, 1)], {}, 1
        yield "GatherND", [Data((3, 2)), ints(index, 0)], {}, 1
    for shape, batch in itertools.product(((1,), (2,), (3,), (3, 1), (3, 2), (2, 1), (3, 2, 1)), (0, 1, 2)):
        yield "GatherND", [Data((3, 2)), np.zeros(shape, "i8")], {"batch_dims": batch}, 1
    for a, b in itertools.product(((), (1,), (2,), (3,), (2, 3), (3, 2)), ((), (1,), (3,), (1, 1, 3), (2, 1), (0,))):
        for op in ("Add", "Max", "PRelu", "Less"):
            yield op, [Data(a), Data(b)], {}, 1
        yield "Where", [np.ones(b, "?"), Data(a), Data(a)], {}, 1
    for low, high in itertools.product(("", scalar(0, "f4"), weight(1), scalar(0)), repeat=2):
        yield "Clip", [Data((2,)), low, high], {}, 1
    for lengths, more in itertools.product(
        (ints(1, 2), ints(0, 9), ints(1), ints(-1, 2)), ({}, {"batch_axis": 0, "time_axis": 1}, {"time_axis": 2})
    ):
        yield "ReverseSequence", [Data((2, 2, 2)), lengths], more, 1


def forms() -> Iterator[Case]:
    """Attributes of other opsets, of the wrong type, repeated or missing; inputs and outputs left out or added."""
    for op, form in allowed_ops.FORMS.items():
        yield op, ["z"] * 9, {}, 1
        yield op, [""] * max(1, form.inputs.count("x")), {}, 1
        yield op, ["z"] * form.inputs.count("x"), {}, 9
        for name in form.attributes:
            for value in (0, 1.0, "", [], [1, 1]):
                yield op, ["z"] * form.inputs.count("x"), {name: value}, 1
            pairs: Any = [(name, 1), (name, 0)]
            yield op, ["z"] * form.inputs.count("x"), pairs, 1
    for pair in itertools.combinations(
        {"value": weight(1), "value_int": 1, "value_float": 1.0, "value_ints": [1]}.items(), 2
    ):
        yield "Constant", [], dict(pair), 1
    for op in ("Squeeze", "Unsqueeze", "ReduceSum", "ReduceMax", "Slice"):
        yield op, ["z"], {"axes": [0]}, 1
    old: dict[str, dict[str, Any]] = {
        "Pad": {"pads": [0, 0, 0, 0]}, "Upsample": {"mode": "nearest"}, "Dropout": {"ratio": 0.5},
        "Reshape": {"shape": [6]},
        "TopK": {"k": 1}, "Clip": {"min": 0.0}, "BatchNormalization": {"spatial": 0}, "Gemm": {"broadcast": 1},
        "Split": {"split": [1, 2]}, "Tile": {"tiles": 2}, "Softmax": {"axis": 1},
        "Resize": {"keep_aspect_ratio_policy": "stretch"},
        "Cast": {"to": "FLOAT"}, "Loop": {}, "If": {}, "RandomNormal": {"shape": [2]}, "GRU": {"hidden_size": 1},
    }  # fmt: skip
    for op, more in old.items():
        yield op, ["z"], more, 1


def overflows() -> Iterator[Case]:
    """Sizes whose product does not fit into 64 bits, and values of more than the cap."""
    big = Data((2**15, 2**15))
    yield "MatMul", [Data((2**15, 1)), Data((1, 2**15))], {}, 1
    yield "Einsum", [Data((2**10, 2**10)), Data((2**10, 2**10))], {"equation": "ij,kl->ijkl"}, 1
    yield "Concat", [big, big], {"axis": 0}, 1
    yield "Add", [Data((2**16, 1)), Data((1, 2**16))], {}, 1
    yield "Pad", [Data((1, 1)), ints(2**15, 2**15, 0, 0)], {}, 1
    yield "ConvTranspose", [Data((1, 1, 2, 2)), weight(1, 1, 1, 1)], {"strides": [2**15, 2**15]}, 1
    yield "Conv", [Data((1, 1, 2, 2)), weight(1, 1, 1, 1)], {"pads": [2**14] * 4}, 1
    yield "Conv", [Data((1, 1, 1024, 1024)), weight(1, 1, 64, 64)], {"pads": [32] * 4}, 1
    yield "Conv", [Data((1, 1, 512, 512)), weight(64, 1, 1, 1)], {}, 1
    yield "MaxPool", [Data((1, 1, 4096, 4096))], {"kernel_shape": [2, 2]}, 1
    yield "OneHot", [Data((2**12,)), scalar(2**15), weight(2)], {}, 1
    yield "TopK", [Data((2**22,)), ints(2**22)], {}, 2
    yield "Softmax", [Data((2**11, 2**11))], {"axis": 0}, 1
    yield "Transpose", [Data((2**11, 2**11))], {}, 1
    yield "CumSum", [Data((2**22,)), scalar(0)], {}, 1
    yield "LSTM", [Data((2**12, 1, 1)), weight(1, 256, 1), weight(1, 256, 64)], {"hidden_size": 64}, 3
    for op in ("ReduceMax", "ReduceMean", "ReduceL2", "ReduceProd", "ReduceSum"):
        yield op, [Data((2**7, 2**7, 2**7)), ints(0, 2)], {}, 1
    for mode in ("nearest", "linear", "cubic"):
        yield "Resize", [Data((1, 1, 2, 2)), "", "", ints(1, 1, 2**11, 2**11)], {"mode": mode}, 1
        yield "Resize", [Data((1, 1, 2, 2)), "", "", ints(1, 1, 2**18, 1)], {"mode": mode}, 1


def graphs() -> list[tuple[str, Callable[[], bytes]]]:
    """Return every targeted graph with its name, each once."""
    found: dict[bytes, str] = {}
    for group in (axes, windows, sizes, contractions, elements, forms, overflows):
        for index, (op, inputs, attributes, num) in enumerate(group()):
            found.setdefault(build(op, inputs, attributes, num), f"{group.__name__} {index} {op} {attributes}")
    return [(name, lambda data=data: data) for data, name in found.items()]


if __name__ == "__main__":
    print(len(graphs()))
    print(*random_graphs.run(graphs()), sep="\n", file=sys.stdout)
