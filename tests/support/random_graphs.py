"""Random graphs of allowed operators, mostly in sensible forms, which must not end the process of ONNX Runtime.

Only accepted graphs are opened, each in a forked process and under the settings of a session. The memory that the
process gains is compared with the bound, and the shape and the elements of every value with what shape inference
computed. Graph i is always the same. To search on: `python tests/support/random_graphs.py FIRST NUM` prints the faults
and the number of graphs per outcome.
"""

from __future__ import annotations

import functools
import math
import os
import random
import resource
import struct
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from kvae_serve.errors import ModelFileError
from kvae_serve.runtime import memory, session
from kvae_serve.sealed import allowed_ops, dequantize, shapes, validate
from support import memory_use, wire

BATCH, CAP = 2, 2**28
Z = wire.value("z", ["batch", 3])
OPS = sorted(allowed_ops.ALLOWED_OPS)
FLOAT, INT32, INT64, BOOL, DOUBLE = 1, 6, 7, 9, 11
TYPES = {FLOAT: "f4", INT32: "i4", INT64: "i8", BOOL: "?", DOUBLE: "f8", 10: "f2", 2: "u1", 3: "i1",
         4: "u2", 5: "i2", 12: "u4", 13: "u8"}  # fmt: skip
NUMBERS = [0, 1, 2, 3, -1, -2, 5, 8, -8, 100, 2**20, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63), -(2**31)]
FRACTIONS = [0, 1, -1, 0.5, 2, 1e-30, 1e30, math.nan, math.inf, -math.inf]
EQUATIONS = [
    "ij,jk->ik",
    "ij->ji",
    "ii->i",
    "i,i->",
    "...i->...",
    "bij,bjk",
    "iii",
    "->",
    ",",
    "ij->ii",
    "ij,->ij",
    "...",
]
# Operators with an integer input, and the index of the first such input.
WHOLE = {
    "ConstantOfShape": 0, "CumSum": 1, "Expand": 1, "Gather": 1, "GatherElements": 1, "GatherND": 1, "Reshape": 1,
    "ReverseSequence": 1, "Slice": 1, "Split": 1, "Squeeze": 1, "Tile": 1, "TopK": 1, "Unsqueeze": 1,
} | {op: 1 for op in OPS if op.startswith("Reduce")}  # fmt: skip


class Draft:
    """A graph under construction. Each method adds nodes and tensors and returns names."""

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)
        self.nodes: list[bytes] = []
        self.tensors: list[bytes] = []
        self.values = ["z"]
        self.made = 0
        self.factor = self.chance.choice([1] * 8 + [16, 256, 4096, 65536])

    def name(self) -> str:
        self.made += 1
        return f"v{self.made}"

    def constant(self, dims: list[int] | None = None, kind: int | None = None, wild: float = 0.2) -> str:
        """Add a tensor of random numbers."""
        chance = self.chance
        kind = kind or chance.choice([FLOAT] * 6 + [INT64] * 2 + list(TYPES))
        if dims is None:
            dims = [chance.choice([0, 1, 2, 3, 5]) for _ in range(chance.choice([0, 1, 1, 2, 2, 3, 4, 6]))]
        size, dtype = math.prod(dims), np.dtype(TYPES[kind])
        if dtype.kind == "f":
            numbers = [chance.choice(FRACTIONS[: None if chance.random() < wild else 5]) for _ in range(size)]
        else:
            numbers = [chance.choice(NUMBERS[: None if chance.random() < wild else 5]) for _ in range(size)]
        with np.errstate(all="ignore"):
            whole = np.array(numbers, "f8" if dtype.kind == "f" else "i8").astype(dtype)
        self.tensors.append(wire.tensor(name := self.name(), dims, whole.tobytes(), kind))
        return name

    def whole(self, *numbers: int) -> str:
        self.tensors.append(wire.tensor(name := self.name(), [len(numbers)], wire.int64s(*numbers), INT64))
        return name

    def data(self, *shape: int) -> str:
        """Add a computed value of this shape, which may or may not be visible in the file. Large graphs stretch it."""
        if len(shape) > 2:
            shape = (*shape[:-1], shape[-1] * self.factor)
        sizes, name = self.whole(*shape), self.name()
        if self.chance.random() < 0.4:
            self.nodes.append(wire.node("Identity", [sizes], [sizes + "i"]))
            sizes += "i"
        self.tensors.append(wire.tensor(name + "b", [1], wire.floats(0.5)))
        self.nodes.append(wire.node("Expand", [name + "b", sizes], [name]))
        if self.chance.random() < 0.4:
            self.nodes.append(wire.node("Reshape", [name, sizes], [name + "r"]))
            name += "r"
        return name

    def near(self, number: int) -> int:
        """Return the number, or sometimes one near it."""
        return number if self.chance.random() < 0.9 else max(0, number + self.chance.choice([-1, 1, 2]))

    def attribute(self, name: str, length: int | None = None, value: int | str | None = None) -> bytes:
        """Return an attribute, mostly within its bounds. A list has the given length or a random one."""
        chance, bounds = self.chance, allowed_ops.ATTRIBUTES[name]

        def number() -> int:
            near = [each for each in (0, 1, 2, 3, -1) if bounds.least <= each <= bounds.highest]
            return chance.choice([bounds.least, bounds.highest, *NUMBERS] if chance.random() < 0.1 else near or [1])

        length = chance.choice([0, 1, 2, 3, 4, 8]) if length is None else length
        text = chance.choice(EQUATIONS if name == "equation" else bounds.texts or ("",))
        fields = {
            allowed_ops.FLOAT: lambda: b"\x15" + struct.pack("<f", chance.choice(FRACTIONS)),
            allowed_ops.INT: lambda: wire.field(3, number() if value is None else value),
            allowed_ops.STRING: lambda: wire.field(4, text if value is None else value),
            allowed_ops.TENSOR: lambda: wire.field(5, wire.tensor("", [1], wire.floats(chance.choice(FRACTIONS)))),
            allowed_ops.FLOATS: lambda: wire.field(7, struct.pack(f"<{length}f", *chance.choices(FRACTIONS, k=length))),
            allowed_ops.INTS: lambda: b"".join(wire.field(8, number()) for _ in range(length)),
            allowed_ops.STRINGS: lambda: b"".join(wire.field(9, chance.choice(bounds.texts)) for _ in range(length)),
        }
        return wire.field(1, name) + fields[bounds.kind]() + wire.field(20, bounds.kind)

    def some(self, names: tuple[str, ...], **lengths: int) -> list[bytes]:
        return [self.attribute(name, lengths.get(name)) for name in names if self.chance.random() < 0.4]

    def shaped(self, op: str) -> tuple[list[str], list[bytes]] | None:
        """Return inputs and attributes that nearly fit each other, or None if any inputs will do."""
        chance, form = self.chance, allowed_ops.FORMS[op]
        if op in ("AveragePool", "Conv", "ConvTranspose", "MaxPool"):
            axes, group, channels = chance.choice([1, 2, 2, 3]), chance.choice([1, 1, 2]), chance.choice([1, 2])
            kernel = [chance.choice([1, 2, 3]) for _ in range(axes)]
            sizes = [chance.choice([0, 1, 2, 3, 4]) for _ in range(axes + chance.choice([0] * 9 + [1]))]
            data = self.data(chance.choice([1, 2]), self.near(group * channels), *sizes)
            lengths = dict.fromkeys(("strides", "dilations", "output_padding", "output_shape"), self.near(axes))
            rest = tuple(name for name in form.attributes if name not in ("group", "kernel_shape"))
            given = self.some(rest, pads=self.near(2 * axes), **lengths)
            if "Pool" in op:
                return [data], [*given, self.attribute("kernel_shape", axes)]
            outer = (group * channels, 2) if op == "ConvTranspose" else (2 * group, channels)
            weights = self.constant([self.near(outer[0]), self.near(outer[1]), *kernel], FLOAT)
            bias = [self.constant([self.near(2 * group)], FLOAT)] if chance.random() < 0.4 else []
            return [data, weights, *bias], [*given, self.attribute("group", value=group)]
        if op == "LSTM":
            gates, units, sides = 4, chance.choice([1, 2, 3]), chance.choice([1, 1, 2])
            width, batch = chance.choice([1, 2]), chance.choice([0, 1, 2])
            self.factor = 1
            inputs = [self.data(chance.choice([0, 1, 2, 50]), batch, self.near(width))]
            for each in (width, units):
                inputs.append(self.constant([sides, self.near(gates * units), self.near(each)], FLOAT))
            state = [sides, self.near(batch), self.near(units)]
            optional = [[sides, self.near(2 * gates * units)], None, state, state, [sides, self.near(3 * units)]]
            for dims in optional[: chance.randrange(len(form.inputs) - 2)]:
                inputs.append(self.constant(dims, FLOAT) if dims and chance.random() < 0.7 else "")
            length = 3 * sides
            rest = tuple(name for name in form.attributes if name not in ("hidden_size", "direction"))
            direction = self.attribute("direction", value="bidirectional" if sides == 2 else "reverse")
            return inputs, [
                *self.some(rest, activations=self.near(length)),
                self.attribute("hidden_size", value=self.near(units)),
                direction,
            ]
        if op == "OneHot":
            where = self.constant(chance.choice([[], [2], [2, 3], [0]]), chance.choice([INT64, INT32, FLOAT]))
            inputs = [
                chance.choice([where, "z"]),
                self.whole(chance.choice([1, 2, 5, 2**40])),
                self.constant([2], FLOAT),
            ]
            return inputs, self.some(form.attributes)
        if op.endswith("Normalization"):
            channels = chance.choice([1, 2, 4])
            data = self.data(2, channels, *[2] * chance.choice([0, 1, 2, 3]))
            weights = [self.constant([self.near(channels)], FLOAT) for _ in form.inputs[1:]]
            return [data, *weights], self.some(form.attributes)
        if op in ("Pad", "Resize"):
            rank = chance.choice([1, 2, 3, 4, 5])
            data = self.data(*[chance.choice([1, 2, 3]) for _ in range(rank)])
            if op == "Resize" and chance.random() < 0.7:
                rank = chance.choice([4, 4, 3, 5])
                sizes = [chance.choice([1, 2, 3]) for _ in range(rank)]
                resized = [*sizes[:2], *(chance.choice([1, 2, 4, 7, 16]) for _ in sizes[2:])]
                mode = self.attribute("mode", value=chance.choice(["nearest", "linear", "cubic"]))
                rest = tuple(name for name in form.attributes if name != "mode")
                return [self.data(*sizes), "", "", self.whole(*resized)], [mode, *self.some(rest)]
            numbers = chance.choices(NUMBERS[:7], k=self.near(rank * 2 if op == "Pad" else rank))
            if op == "Pad":
                return [data, self.whole(*numbers)], self.some(form.attributes)
            scales = self.constant([self.near(rank)], FLOAT)
            inputs = [data, "", "", self.whole(*numbers)] if chance.random() < 0.5 else [data, "", scales]
            return inputs, self.some(form.attributes)
        if op in ("And", "Not", "Or", "Where"):
            dims = [[], [1], [3], [2, 3], [2, 1]]
            kinds = [BOOL, FLOAT, FLOAT] if op == "Where" else [BOOL] * len(form.inputs)
            return [self.constant(chance.choice(dims), kind) for kind in kinds], []
        if op == "Slice":
            rank = chance.choice([1, 2, 3])
            data = self.data(*[chance.choice([2, 3, 5]) for _ in range(rank)])
            axes = chance.sample(range(rank), chance.randint(1, rank))
            lists = [chance.choices(numbers, k=len(axes)) for numbers in ([0, 1, -1, -9], [1, 2, 9, -1], [1, 2, -1])]
            return [data, *(self.whole(*each) for each in (*lists[:2], axes, lists[2]))], []
        if op in ("DepthToSpace", "SpaceToDepth"):
            data = self.data(2, chance.choice([4, 8]), chance.choice([2, 4]), 2)
            modes = [self.attribute("mode", value=chance.choice(["CRD", "DCR"]))] if op == "DepthToSpace" else []
            return [data], [self.attribute("blocksize", value=2), *modes]
        if op == "Concat":
            shape = [chance.choice([1, 2, 3]) for _ in range(chance.choice([1, 2, 4]))]
            axis = self.attribute("axis", value=chance.randrange(len(shape)))
            return [self.data(*shape) for _ in range(chance.choice([1, 2, 3]))], [axis]
        if op.startswith("Global"):
            return [
                self.data(2, chance.choice([1, 3, 16]), *[chance.choice([1, 2, 3])] * chance.choice([0, 1, 2, 3]))
            ], []
        if op == "ReverseSequence":
            return [self.data(2, 2, 3), self.whole(*chance.choices([0, 1, 2, 2, 3], k=2))], self.some(form.attributes)
        if op == "Range":
            kind = chance.choice([FLOAT, INT32, INT64])
            return [self.constant([], kind) for _ in range(3)], []
        return None

    def add(self, op: str) -> None:
        """Add a node of the operator and its results."""
        chance, form = self.chance, allowed_ops.FORMS[op]
        fit = self.shaped(op) if chance.random() < 0.85 else None
        if fit is None:
            letters = form.inputs.replace("*", form.inputs[:1] * chance.randrange(3))
            inputs = []
            for index in range(chance.randint(letters.count("x"), len(letters))):
                dims = chance.choice([[], [1], [1], [2], [3], [4], [0], [2, 2], [2, 3]])
                if WHOLE.get(op, 9) <= index:
                    inputs.append(self.constant(dims, chance.choice([INT64, INT64, INT32])))
                elif letters[index] == "?" and chance.random() < 0.3:
                    inputs.append("")
                else:
                    inputs.append(chance.choice(self.values) if chance.random() < 0.6 else self.constant())
            fit = inputs, self.some(form.attributes) + [self.attribute("value_int")] * (op == "Constant")
            fit = (inputs, fit[1][:1]) if op == "Constant" else fit
            if op == "Cast":
                fit = inputs, [self.attribute("to", value=chance.choice(list(TYPES)))]
        num = (
            chance.randint(1, 4)
            if form.outputs.endswith("*")
            else chance.randint(form.outputs.count("x") or 1, len(form.outputs))
        )
        if op == "Split" and len(fit[0]) == 1:
            fit = fit[0], [self.attribute("num_outputs", value=self.near(num))]
        outputs = [self.name() for _ in range(num)]
        self.nodes.append(wire.node(op, fit[0], outputs, *fit[1]))
        self.values += outputs


def make(index: int) -> bytes:
    """Return graph `index`. Most of its nodes have known shapes, because a refused one is drawn again."""
    draft = Draft(f"graph {index}")
    if draft.chance.random() < 0.5:
        draft.values.append(
            draft.data(*draft.chance.choice([[1, 1, 2, 3], [2, 3, 1, 1], [6], [1, 3, 2, 1, 1], [2, 1, 3]]))
        )
    for op in [OPS[index % len(OPS)], *draft.chance.choices(OPS, k=draft.chance.choice([0, 0, 1, 2, 4]))]:
        careful = draft.chance.random() < 0.95
        for _ in range(40):
            sizes = len(draft.nodes), len(draft.tensors), len(draft.values)
            draft.add(op)
            if not careful or accepted(draft):
                break
            for items, size in zip((draft.nodes, draft.tensors, draft.values), sizes, strict=True):
                del items[size:]
    sums = []
    for value in draft.values:
        draft.nodes.append(wire.node("Cast", [value], [value + "f"], wire.int_attribute("to", FLOAT)))
        keep = wire.int_attribute("keepdims", 0)
        draft.nodes.append(wire.node("ReduceSum", [value + "f"], [value + "s"], keep))
        sums.append(value + "s")
    draft.nodes += [wire.node("Sum", sums, ["sum"]), wire.node("Add", ["z", "sum"], ["x_mean"])]
    return wire.model(wire.graph(draft.nodes, [Z], [wire.value("x_mean", ["batch", 3])], draft.tensors))


def accepted(draft: Draft) -> bool:
    """Return whether the reader accepts the nodes so far."""
    nodes = [*draft.nodes, wire.node("Identity", ["z"], ["x_mean"])]
    data = wire.model(wire.graph(nodes, [Z], [wire.value("x_mean", ["batch", 3])], draft.tensors))
    try:
        shapes.infer(validate.computation(data), BATCH)
    except validate.WalkError:
        return False
    return True


def judge(data: bytes) -> str:
    """Return whether a graph is refused, its bound is above `CAP`, ONNX Runtime refuses it, or it runs.

    "fragmented" means that the allocator could not place the values within the bound, which is an error for the user.

    Raises:
        AssertionError: A value differs from what shape inference computed, or the memory exceeds its bound.
    """
    try:
        graph = validate.walk(data).computation
        values = shapes.infer(graph, BATCH)
    except validate.WalkError:
        return "refused"
    bound = memory.bound(graph, values, len(data))
    if bound.total > CAP:
        return "too large"
    _open_first()
    names = [name for node in graph.nodes for name in node.outputs if name and name != "x_mean"]
    feeds = {"z": np.zeros((BATCH, 3), np.float32)}
    end, gained = memory_use.gained(lambda: _run(data, graph, bound, feeds))
    assert gained <= bound.total, f"{gained:,} bytes, bound {bound.total:,}: {[n.op for n in graph.nodes]}"
    if end != "ran":
        return end
    # Every value as an output. Protobuf merges the two parts of the graph.
    more = b"".join(wire.field(12, wire.value(name, list(values[name].shape), values[name].dtype)) for name in names)
    opened = session._open(data + wire.field(7, more), 1, 8 * CAP, "m.onnx", "cpu")
    outputs = opened.run(["x_mean", *names], feeds)
    for name, output in zip(["x_mean", *names], outputs, strict=True):
        value = values[name]
        assert (output.shape, output.dtype) == (value.shape, np.dtype(TYPES[value.dtype])), (name, value, output.shape)
        if value.numbers is not None and name in names:
            assert output.reshape(-1).tolist() == list(value.numbers), (name, value, output)
    return "ran"


@functools.cache
def _open_first() -> None:
    """Open the first session of the process. It loads about 10 MB that are not of a graph."""
    nodes = [wire.node("Sigmoid", ["z"], ["x_mean"])]
    data = wire.model(wire.graph(nodes, [Z], [wire.value("x_mean", ["batch", 3])]))
    session._open(data, 1, CAP, "m.onnx", "cpu").run(None, {"z": np.zeros((BATCH, 3), np.float32)})


def _run(data: bytes, graph: shapes.Graph, bound: memory.Memory, feeds: dict[str, np.ndarray]) -> str:
    """Open a graph with its bound as the limit and run it three times."""
    limit = memory.allocated(bound.total - bound.outside)
    packed = memory.padding(graph) <= memory.MAX_PADDING
    try:
        opened = session._open(dequantize.restore(data), 1, limit, "m.onnx", "cpu", packed)
    except ModelFileError as error:
        return "fragmented" if "memory" in str(error) else "not opened"
    try:
        for _ in range(3):
            opened.run(["x_mean"], feeds)
    except Exception as error:  # Exceptions of ONNX Runtime do not share a base class.
        return "fragmented" if "Available memory of" in str(error) else "failed"
    return "ran"


def run(graphs: Iterable[tuple[str, Callable[[], bytes]]], seconds: int = 20) -> tuple[Counter[str], list[str]]:
    """Judge each graph in a forked process.

    Args:
        graphs: Names and functions that return the graph.
        seconds: Processor time per graph.

    Returns:
        The number of graphs per outcome, and one line per fault: a signal, a wrong shape, or too much memory.
    """
    _open_first()
    ends: Counter[str] = Counter()
    faults = []
    for name, graph in graphs:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
            try:
                end = judge(graph())
            except BaseException:
                end = "fault " + traceback.format_exc().splitlines()[-1][:500]
            os.write(write, end.encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            end = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code or end.startswith("fault"):
            faults.append(f"{name}: {end or f'signal {-code}'}")
            end = "fault"
        ends[end] += 1
    return ends, faults


def numbered(first: int, num: int) -> Iterable[tuple[str, Callable[[], bytes]]]:
    """Return random graphs for `run`."""
    return ((f"graph {index}", lambda index=index: make(index)) for index in range(first, first + num))


if __name__ == "__main__":
    print(*run(numbered(int(sys.argv[1]), int(sys.argv[2]))), sep="\n")
