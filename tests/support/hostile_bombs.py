"""Part of the catalogue of hostile_files.py: files that need much time or memory, or crash ONNX Runtime."""

from __future__ import annotations

from support import wire
from support.hostile_files import INNER, SIGMOID, Case, X, Z, body, graph, holds, sealed, with_node, with_tensor
from support.memory_bombs import bombs, int64s


def _nested(depth: int) -> bytes:
    inner = INNER
    for _ in range(depth):
        inner = wire.graph(
            [wire.node("If", ["z"], ["x_mean"], wire.field(1, "then_branch") + wire.field(6, inner))], [Z], [X]
        )
    return wire.model(inner)


MANY = 100_000


def _long(number: int, piece: bytes, size: int) -> bytes:
    """Return a field of `size` repetitions of a piece without intermediate copies."""
    return wire.varint(number << 3 | 2) + wire.varint(size) + piece * size


def _whole(more: bytes) -> bytes:
    return wire.tensor("w", [1], kind=wire.INT64, more=more)


OF_STRUCTURE = {
    "a tensor of 2**40": sealed(with_tensor([2**40])),
    "a tensor whose size overflows": sealed(with_tensor([2**32, 2**32])),
    "a tensor of -1": sealed(with_tensor([-1])),
    "a tensor without its bytes": sealed(with_tensor([1000])),
    "a sparse tensor": sealed(body(more=wire.field(15, wire.field(3, 2**14) + wire.field(3, 2**14)))),
    "a sparse constant": sealed(
        with_node("Constant", wire.field(1, "sparse_value") + wire.field(22, wire.field(3, 2**28)))
    ),
    "a loop without an end": sealed(
        with_node("Loop", wire.field(1, "body") + wire.field(6, INNER) + wire.field(20, 5))
    ),
    "a scan": sealed(with_node("Scan", wire.field(1, "body") + wire.field(6, INNER) + wire.field(20, 5))),
    "200 branches in each other": sealed(_nested(200)),
    "3000 functions": sealed(lambda: body() + wire.field(25, wire.field(1, "f")) * 3000),
    "a description of 100 MB": sealed(lambda: body(more=_long(10, b"d", 100_000_000))),
    "a producer of 5 MB": sealed(lambda: body() + _long(2, b"p", 5_000_000)),
    "100,000 entries of metadata": sealed(lambda: body() + wire.field(14, wire.field(1, "a")) * 100_000),
    "a million nodes": sealed(lambda: body(more=wire.field(1, wire.node("Identity", ["z"], ["a"])) * 10 * MANY)),
    "100,000 tensors": sealed(lambda: body(more=wire.field(5, wire.tensor("w", [0])) * MANY)),
    "100,000 attributes": sealed(
        lambda: body([SIGMOID + wire.field(5, wire.int_attribute("axis", 1)) * MANY]),
    ),
    "100,000 outputs": sealed(lambda: body(more=wire.field(12, X) * MANY)),
    "100,000 axes": sealed(
        lambda: body(more=wire.field(13, wire.field(2, wire.field(1, wire.field(2, wire.field(1, b"") * MANY)))))
    ),
    "100,000 inputs of a node": sealed(lambda: body([wire.field(1, "z") * MANY + SIGMOID])),
    "numbers of an attribute, one by one": sealed(
        lambda: with_node("Softmax", wire.field(1, "axes") + wire.field(8, 1) * 20 * MANY + wire.field(20, 7))
    ),
    "elements of a tensor, one by one": sealed(
        lambda: with_tensor([5 * MANY], (bytes([4 << 3 | 5]) + bytes(4)) * 20 * MANY)
    ),
    "3 million empty fields": sealed(lambda: body() + wire.field(8, b"") * 30 * MANY),
    "5 MB of packed numbers": sealed(lambda: body(tensors=[_whole(_long(7, b"\x01", 5_000_000))])),
    "5 MB of numbers without an end": sealed(lambda: body(tensors=[_whole(_long(7, b"\x80", 5_000_000))])),
    "a shape of 5 MB": sealed(lambda: body(tensors=[_long(1, b"\x01", 5_000_000) + wire.field(2, 1)])),
    "an operator with a name of 5 MB": sealed(lambda: body([_long(4, b"N", 5_000_000)])),
    "division of the lowest number by -1": sealed(
        body(
            [
                wire.node("Div", ["low", "minus"], ["d"]),
                wire.node("Cast", ["d"], ["f"], wire.int_attribute("to", 1)),
                wire.node("Add", ["z", "f"], ["x_mean"]),
            ],
            [
                wire.tensor("low", [1], wire.int64s(-(2**63)), wire.INT64),
                wire.tensor("minus", [1], wire.int64s(-1), wire.INT64),
            ],
        )
    ),
}


def _none_of(op: str, weights: list[bytes], *attributes: bytes) -> Case:
    """Return a case in which the input of an operator is an empty slice of z."""
    nodes = [
        wire.node("Slice", ["z", "0", "0"], ["none"]),
        wire.node("Unsqueeze", ["none", "0"], ["steps"]),
        wire.node(op, ["steps", *[f"w{index}" for index in range(len(weights))]], ["y"], *attributes),
        wire.node("ReduceSum", ["y"], ["sum"], wire.int_attribute("keepdims", 0)),
        wire.node("Add", ["z", "sum"], ["x_mean"]),
    ]
    return sealed(body(nodes, [wire.tensor("0", [1], wire.int64s(0), wire.INT64), *weights]))


def _equation(text: str, inputs: tuple[str, ...]) -> Case:
    return sealed(
        with_node("Einsum", wire.field(1, "equation") + wire.field(4, text) + wire.field(20, 3), inputs=inputs)
    )


# Each of these crashed the process or did not return with onnxruntime 1.26.0, some with 1.32.0 too.
CRASHES = {
    "a constant of two values": sealed(
        body(
            [
                wire.node(
                    "Constant",
                    [],
                    ["c"],
                    wire.field(1, "value_ints") + wire.field(8, 1) + wire.field(20, 7),
                    wire.field(1, "value_float") + b"\x15" + bytes(4) + wire.field(20, 1),
                ),
                SIGMOID,
            ]
        )
    ),
    "an empty list of floats": sealed(
        body([wire.node("Constant", [], ["c"], wire.field(1, "value_floats") + wire.field(20, 6)), SIGMOID])
    ),
    "pooling of an image that is smaller than its kernel": sealed(
        body(
            [
                wire.node(
                    "MaxPool",
                    ["image"],
                    ["y"],
                    wire.field(1, "kernel_shape") + wire.field(8, 2) + wire.field(8, 2) + wire.field(20, 7),
                ),
                wire.node("ReduceSum", ["y"], ["sum"], wire.int_attribute("keepdims", 0)),
                wire.node("Add", ["z", "sum"], ["x_mean"]),
            ],
            [wire.tensor("image", [1, 16, 1, 3], bytes(192))],
        )
    ),
    "the largest of no rows": sealed(
        body(
            [
                wire.node("Slice", ["rows", "3", "3"], ["none"]),
                wire.node("TopK", ["none", "1"], ["y", "i"]),
                wire.node("ReduceSum", ["y"], ["sum"], wire.int_attribute("keepdims", 0)),
                wire.node("Add", ["z", "sum"], ["x_mean"]),
            ],
            [
                wire.tensor("rows", [3, 3], bytes(36)),
                wire.tensor("3", [1], wire.int64s(3), wire.INT64),
                wire.tensor("1", [1], wire.int64s(1), wire.INT64),
            ],
        )
    ),
    "weights of other axes after a sum of all": sealed(
        body(
            [
                wire.node("ReduceSum", ["w0"], ["w"], wire.int_attribute("keepdims", 0)),
                wire.node("ConvTranspose", ["z", "w"], ["x_mean"]),
            ],
            [wire.tensor("w0", [2, 2, 2], bytes(32))],
        )
    ),
    "GRU of nothing": _none_of(
        "GRU",
        [wire.tensor("w0", [1, 6, 3], bytes(72)), wire.tensor("w1", [1, 6, 2], bytes(48))],
        wire.int_attribute("hidden_size", 2),
    ),
    "LSTM of nothing": _none_of(
        "LSTM",
        [wire.tensor("w0", [1, 8, 3], bytes(96)), wire.tensor("w1", [1, 8, 2], bytes(64))],
        wire.int_attribute("hidden_size", 2),
    ),
    "OneHot of nothing": _none_of(
        "OneHot", [wire.tensor("w0", [1], wire.int64s(3), wire.INT64), wire.tensor("w1", [2], wire.floats(0, 1))]
    ),
    "an equation with a lone point": _equation("i.j", ("z",)),
    "an equation of other inputs": _equation("...,...", ("z", "z", "z")),
    "a convolution of other axes": sealed(
        body([wire.node("ConvTranspose", ["z", "w"], ["x_mean"])], [wire.tensor("w", [2, 3, 2, 2], bytes(96))])
    ),
    "volumes without elements": sealed(
        body(
            [
                wire.node("Expand", ["one", "sizes"], ["x"]),
                wire.node("ConvTranspose", ["x", "w"], ["y"]),
                wire.node("ReduceSum", ["y"], ["sum"], wire.int_attribute("keepdims", 0)),
                wire.node("Add", ["z", "sum"], ["x_mean"]),
            ],
            [
                wire.tensor("one", [1], wire.floats(1)),
                wire.tensor("sizes", [5], wire.int64s(1, 1, 4, 0, 2), wire.INT64),
                wire.tensor("w", [1, 2, 1, 2, 3], bytes(48)),
            ],
        )
    ),
    "a diagonal at -2**63": sealed(
        body([wire.node("Trilu", ["z", "k"], ["x_mean"])], [wire.tensor("k", [1], wire.int64s(-(2**63)), wire.INT64)])
    ),
    "an axis that is no list": sealed(
        body(
            [
                wire.node("ReduceMin", ["w", "axis"], ["r"], wire.int_attribute("keepdims", 0)),
                wire.node("Size", ["r"], ["n"]),
                wire.node("Cast", ["n"], ["f"], wire.int_attribute("to", 1)),
                wire.node("Add", ["z", "f"], ["x_mean"]),
            ],
            [
                wire.tensor("w", [3, 0, 0, 3], kind=wire.INT64),
                wire.tensor("axis", [], wire.int64s(0), wire.INT64),
            ],
        )
    ),
    "float16 of nothing": sealed(
        body(
            [
                wire.node("ReduceLogSumExp", ["w"], ["h"], wire.int_attribute("keepdims", 0)),
                wire.node("Cast", ["h"], ["f"], wire.int_attribute("to", 1)),
                wire.node("Add", ["z", "f"], ["x_mean"]),
            ],
            [wire.tensor("w", [0, 3, 1], kind=10)],
        )
    ),
}


def _bomb(name: str) -> Case:
    def data() -> bytes:
        nodes, tensors = bombs(64)[name]
        return graph(nodes, tensors)

    return holds(data)


def _filled(mebibytes: int, code: int) -> Case:
    """Return a case with zeros of that many MiB. A size just below the cap fits once, but not twice."""
    nodes, tensors = bombs(1)["ConstantOfShape"]
    return holds(graph(nodes, [int64s("size", mebibytes * 2**18), *tensors[1:]]), code)


BOMBS = {
    "bomb of structure": OF_STRUCTURE,
    "what ends ONNX Runtime": CRASHES,
    "bomb of arithmetic": {f"64 GiB by {name}": _bomb(name) for name in bombs(1)}
    | {
        "100 MiB": _filled(100, 0),
        "223 MiB, and a copy": _filled(223, 5),
        "225 MiB": _filled(225, 5),
        "more than addresses": _filled(2**43, 5),
    },
}
