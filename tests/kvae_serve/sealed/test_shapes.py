"""Shape inference: refused graphs, computed integers, and shapes that ONNX's own inference confirms."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvae_serve.runtime import locate, memory
from kvae_serve.sealed import shapes
from kvae_serve.sealed.protobuf import WalkError
from kvae_serve.sealed.shapes import FLOAT32, INT64, Graph, Node, Value
from support import onnx_shapes


def graph(nodes: list[Node], constants: dict[str, Value] | None = None, shape=("batch", 4), out=("batch", 4)) -> Graph:
    return Graph({"x": (FLOAT32, shape)}, {"y": (FLOAT32, out)}, constants or {}, nodes)


def node(op: str, *inputs: str, out: str = "y", **attributes) -> Node:
    return Node(op, list(inputs), [out], attributes)


def ints(*numbers: int) -> Value:
    return Value(INT64, (len(numbers),), numbers)


@pytest.mark.parametrize(
    "equation", ["i.j", "ij->ik->il", "i1", "...i,...j->...ij", "é->", "i;j", "ij", "ii->i", "ij->k"]
)
def test_invalid_equation_is_refused(equation):
    inputs = ["x"] * (1 + equation.count(","))
    with pytest.raises(WalkError):
        shapes.infer(graph([node("Einsum", *inputs, equation=equation)]), 2)


def test_equation_of_attention_has_the_shape_of_its_letters():
    q, k = Value(FLOAT32, (2, 3, 4, 5)), Value(FLOAT32, (2, 6, 4, 5))
    found = shapes.SHAPES["Einsum"](node("Einsum", equation="bqhd,bkhd->bhqk"), [q, k])
    assert found.shape == (2, 4, 3, 6)


@pytest.mark.parametrize(
    ("kernel", "size", "attributes", "expected"),
    [
        (3, 8, {}, 6),
        (3, 8, {"strides": [2, 2]}, 3),
        (3, 8, {"dilations": [2, 2]}, 4),
        (3, 8, {"pads": [1, 1, 1, 1]}, 8),
        (3, 7, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, 4),
        (5, 4, {}, None),
        (2, 1, {"auto_pad": "VALID"}, None),
    ],
)
def test_convolution_output_follows_the_formula_of_the_specification(kernel, size, attributes, expected):
    inputs = [Value(FLOAT32, (1, 2, size, size)), Value(FLOAT32, (3, 2, kernel, kernel))]
    if expected is None:
        with pytest.raises(WalkError, match="has a kernel of"):
            shapes.SHAPES["Conv"](node("Conv", **attributes), inputs)
    else:
        assert shapes.SHAPES["Conv"](node("Conv", **attributes), inputs).shape == (1, 3, expected, expected)


def test_shape_arithmetic_of_a_reshape_is_computed():
    nodes = [
        node("Shape", "x", out="s"),
        node("Slice", "s", "0", "1", out="b"),
        node("Concat", "b", "two", "two", out="sizes", axis=0),
        node("Reshape", "x", "sizes", out="r"),
        node("Flatten", "r"),
    ]
    constants = {"0": ints(0), "1": ints(1), "two": ints(2)}
    values = shapes.infer(graph(nodes, constants), 7)
    assert values["sizes"].numbers == (7, 2, 2)
    assert values["r"].shape == (7, 2, 2)


def test_division_truncates_and_zero_and_minus_one_are_refused():
    nodes = [node("Div", "a", "b", out="q"), node("Identity", "x")]
    found = shapes.infer(graph(nodes, {"a": ints(-7, 7, 8), "b": ints(2, 2, -4)}), 1)
    assert found["q"].numbers == (-3, 3, -2)
    for divisor in (0, -1):
        with pytest.raises(WalkError, match="divides integers by 0 or -1"):
            shapes.infer(graph(nodes, {"a": ints(1), "b": ints(divisor)}), 1)


def test_axis_that_is_neither_constant_nor_proportional_is_refused():
    nodes = [node("Concat", "x", "w", out="c", axis=0), node("Identity", "x")]
    mixed = graph(nodes, {"w": Value(FLOAT32, (1, 4))})
    with pytest.raises(WalkError, match="proportional"):
        shapes.check_batch_axes(shapes.infer(mixed, 1), shapes.infer(mixed, 2))


def test_output_of_another_shape_than_declared_is_refused():
    with pytest.raises(WalkError, match="declared"):
        shapes.infer(graph([node("Identity", "x")], out=("batch", 5)), 1)


@pytest.mark.parametrize(("mode", "bytes_per_coordinate"), [("nearest", 8), ("linear", 16), ("cubic", 2048)])
def test_bound_includes_the_tables_of_resize(mode, bytes_per_coordinate):
    size = 100_000
    nodes = [node("Resize", "w", "", "", "s", out="r", mode=mode), node("Identity", "x")]
    tall = graph(nodes, {"w": Value(FLOAT32, (1, 1, 2, 2)), "s": ints(1, 1, size, 2)})
    bound = memory.bound(tall, shapes.infer(tall, 1), 100)
    assert bound.outside > size * bytes_per_coordinate
    assert bound.total > bound.outside + 4 * size * 2


def test_padding_of_one_channel_to_blocks_is_counted():
    weights = {"w": Value(FLOAT32, (1, 1, 1000, 1000))}
    assert memory.padding(graph([node("Conv", "x", "w")], weights)) == 255 * 4_000_000


def test_shapes_equal_those_of_onnx_on_shipped_models():
    pytest.importorskip("onnx")
    total = sum(
        onnx_shapes.compare(path.read_bytes(), batch)
        for folder in locate.shipped().values()
        for path in Path(folder).glob("*.onnx")
        for batch in (1, 5)
    )
    assert total > 300
