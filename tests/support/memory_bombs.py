"""Graphs of allowed operators that need more memory than a machine has."""

from __future__ import annotations

from support import wire

GIB = 2**30


def int64s(name: str, *values: int) -> bytes:
    return wire.tensor(name, [len(values)], wire.int64s(*values), wire.INT64)


def scalar(name: str, value: int) -> bytes:
    return wire.tensor(name, [], wire.int64s(value), wire.INT64)


def text(name: str, value: str) -> bytes:
    return wire.field(1, name) + wire.field(4, value) + wire.field(20, 3)


def ints(name: str, *values: int) -> bytes:
    return wire.field(1, name) + b"".join(wire.field(8, value) for value in values) + wire.field(20, 7)


def bombs(gibibytes: int) -> dict[str, tuple[list[bytes], list[bytes]]]:
    """Return decoders (nodes and tensors) by name that allocate that many GiB with allowed operators."""
    num = gibibytes * GIB // 4
    end = [
        wire.node("ReduceMax", ["big"], ["top"], wire.int_attribute("keepdims", 0)),
        wire.node("Add", ["z", "top"], ["x_mean"]),
    ]
    side = int(num**0.5)
    ramp = [wire.tensor("column", [side, 1], bytes(4 * side)), wire.tensor("row", [1, side], bytes(4 * side))]
    flat = [wire.node("Reshape", ["z", "flat"], ["zero"]), wire.node("Slice", ["zero", "0", "1"], ["one"])]
    single = [int64s("flat", -1), int64s("0", 0), int64s("1", 1)]
    picture = [wire.node("Reshape", ["one", "image"], ["img"])]
    images = [*single, int64s("image", 1, 1, 1, 1)]
    kernel = wire.tensor("kernel", [1, 1, 1, 1], wire.floats(1))
    double = [
        wire.node("Concat", [f"d{i}" if i else "one"] * 2, [f"d{i + 1}"], wire.int_attribute("axis", 0))
        for i in range(64)
    ]
    half = wire.tensor("half", [side, 1], bytes(2 * side), 10), wire.tensor("scale", [1, side], bytes(4 * side))
    return {
        "ConstantOfShape": ([wire.node("ConstantOfShape", ["size"], ["big"]), *end], [int64s("size", num)]),
        "Expand": ([*flat, wire.node("Expand", ["one", "size"], ["big"]), *end], [*single, int64s("size", num)]),
        "Tile": ([*flat, wire.node("Tile", ["one", "size"], ["big"]), *end], [*single, int64s("size", num)]),
        "Range": (
            [
                wire.node("Range", ["a", "b", "c"], ["count"]),
                wire.node("Cast", ["count"], ["big"], wire.int_attribute("to", 1)),
                *end,
            ],
            [scalar("a", 0), scalar("b", num), scalar("c", 1)],
        ),
        "Pad": ([*flat, wire.node("Pad", ["one", "size"], ["big"]), *end], [*single, int64s("size", 0, num)]),
        "broadcast constants": ([wire.node("Add", ["column", "row"], ["big"]), *end], ramp),
        "outer product": ([wire.node("MatMul", ["column", "row"], ["big"]), *end], ramp),
        "Einsum": ([wire.node("Einsum", ["column", "row"], ["big"], text("equation", "ij,kl->ijkl")), *end], ramp),
        "OneHot": (
            [
                wire.node("Cast", ["z"], ["i"], wire.int_attribute("to", 7)),
                wire.node("OneHot", ["i", "size", "values"], ["big"]),
                *end,
            ],
            [int64s("size", num), wire.tensor("values", [2], wire.floats(0, 1))],
        ),
        "Resize": (
            [*flat, *picture, wire.node("Resize", ["img", "", "", "sizes"], ["big"]), *end],
            [*images, int64s("sizes", 1, 1, side, side)],
        ),
        "Resize linear": (
            [*flat, *picture, wire.node("Resize", ["img", "", "", "sizes"], ["big"], text("mode", "linear")), *end],
            [*images, int64s("sizes", 1, 1, 2, num // 2)],
        ),
        "padding of Conv": (
            [*flat, *picture, wire.node("Conv", ["img", "kernel"], ["big"], ints("pads", side, side, 0, 0)), *end],
            [*images, kernel],
        ),
        "strides of ConvTranspose": (
            [
                *flat,
                *picture,
                wire.node(
                    "ConvTranspose",
                    ["img", "kernel"],
                    ["big"],
                    ints("output_padding", side, side),
                    ints("strides", side + 1, side + 1),
                ),
                *end,
            ],
            [*images, kernel],
        ),
        "64 doublings": ([*flat, *double, wire.node("Identity", ["d64"], ["big"]), *end], single),
        "stored weights": (
            [
                wire.node("Cast", ["half"], ["full"], wire.int_attribute("to", 1)),
                wire.node("Mul", ["full", "scale"], ["big"]),
                *end,
            ],
            list(half),
        ),
        "a chain of casts": (
            [
                wire.node("Cast", ["half"], ["f0"], wire.int_attribute("to", 1)),
                *[
                    wire.node("Cast", [f"f{i}"], [f"f{i + 1}"], wire.int_attribute("to", 11 if i % 2 else 1))
                    for i in range(8)
                ],
                wire.node("Mul", ["f8", "scale64"], ["wide"]),
                wire.node("Cast", ["wide"], ["big"], wire.int_attribute("to", 1)),
                *end,
            ],
            [half[0], wire.tensor("scale64", [1, side], bytes(8 * side), 11)],
        ),
    }
