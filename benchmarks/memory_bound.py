"""How does the memory that ONNX Runtime uses compare with the bound that kvae computes before it opens a file?

Each line is one operator on large data, or a whole network, in a forked process with the settings of a session:
MiB of the bound, MiB by which the peak of resident memory rises from before the file is opened until after its run,
and their ratio. The first session of a process, which adds about 10 MiB, is opened before. Linux only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np

from kvae_serve.runtime import memory, session
from kvae_serve.runtime.locate import shipped
from kvae_serve.sealed import dequantize, shapes, validate
from support import memory_use, wire
from support.targeted_graphs import attribute, ints, scalar, tensor, weight

MIB = 2**20
SIDE, LONG = 2**11, 2**22
ROWS, COLUMNS = (1, SIDE, SIDE), (1, LONG)
IMAGE = (1, 64, 256, 256)
LSTM = {"hidden_size": 64}


def scalars(*numbers: float) -> np.ndarray:
    return np.array(numbers, "f4")


def operators() -> Iterator[tuple[str, tuple[int, ...], list[np.ndarray | str], dict[str, Any]]]:
    """Return operator, shape of the first input without the batch, further inputs, and attributes."""
    for op in ("Relu", "Erf", "IsNaN", "Identity", "Softplus"):
        yield op, COLUMNS, [], {}
    yield "Cast", COLUMNS, [], {"to": 7}
    yield "Add", COLUMNS, [weight(1, LONG)], {}
    yield "Pow", COLUMNS, [weight(1)], {}
    yield "Clip", COLUMNS, [scalar(0, "f4")], {}
    yield "Expand", (1, 1), [ints(1, 64, LONG)], {}
    yield "Tile", COLUMNS, [ints(1, 4, 1)], {}
    yield "Transpose", ROWS, [], {"perm": [0, 1, 3, 2]}
    yield "Transpose", ROWS, [], {"perm": [3, 2, 1, 0]}
    yield "Reshape", ROWS, [ints(-1, 1, LONG)], {}
    yield "Slice", COLUMNS, [ints(1), ints(LONG), ints(2)], {}
    yield "Pad", COLUMNS, [ints(0, 0, 0, 0, 0, 1)], {}
    yield "Gather", COLUMNS, [np.zeros(2 * LONG, "i8")], {"axis": 2}
    yield "Split", COLUMNS, [], {"axis": 2, "num_outputs": 1}
    yield "CumSum", COLUMNS, [scalar(2)], {}
    yield "TopK", ROWS, [ints(SIDE)], {}
    yield "TopK", COLUMNS, [ints(LONG)], {}
    for axis in (1, 3):
        yield "Softmax", (SIDE, 1, SIDE), [], {"axis": axis}
        yield "LogSoftmax", (SIDE, 1, SIDE), [], {"axis": axis}
        yield "ArgMax", (SIDE, 1, SIDE), [], {"axis": axis}
    for axes in ((2,), (0, 2), (0, 1, 2)):
        for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceProd"):
            yield op, (SIDE, SIDE), [ints(*axes)], {}
    yield "Gemm", (), [weight(SIDE, SIDE), weight(SIDE)], {}
    yield "Gemm", (), [weight(SIDE + 1, SIDE), weight(SIDE + 1)], {"transB": 1}
    yield "MatMul", ROWS[1:], [weight(SIDE, SIDE)], {}
    yield "MatMul", (LONG,), [weight(LONG, 3)], {}
    yield "MatMul", (3,), [weight(3, LONG)], {}
    yield "Einsum", (64, 512, 64), [weight(64, 512, 64)], {"equation": "bhqd,hkd->bhqk"}
    yield "Einsum", ROWS[1:], [weight(SIDE, SIDE)], {"equation": "bij,jk->bki"}
    yield "LSTM", (1, 64), [weight(1, 256, 64), weight(1, 256, 64)], LSTM
    for op in ("MaxPool", "AveragePool"):
        yield op, IMAGE[1:], [], {"kernel_shape": [3, 3], "strides": [2, 2]}
        yield op, ROWS, [], {"kernel_shape": [2, 2]}
    yield "GlobalAveragePool", IMAGE[1:], [], {}
    yield "BatchNormalization", IMAGE[1:], [weight(64)] * 4, {}
    yield "InstanceNormalization", IMAGE[1:], [weight(64)] * 2, {}
    yield "DepthToSpace", IMAGE[1:], [], {"blocksize": 4}
    for mode in ("nearest", "linear", "cubic"):
        yield "Resize", (3, 64, 64), ["", scalars(1, 1, 16, 16)], {"mode": mode}
        yield "Resize", (1, 2, 2), ["", scalars(1, 1, 2**19, 1)], {"mode": mode}
    same = {"auto_pad": "SAME_UPPER"}
    for channels, filters, kernel, more in (
        (3, 64, 3, {}), (64, 64, 3, {}), (64, 64, 1, {}), (1, 1, 5, {}), (64, 64, 3, {"strides": [2, 2]}),
        (3, 3, 9, {}), (64, 64, 3, {"dilations": [2, 2], "auto_pad": "VALID"}), (33, 65, 3, {}),
    ):  # fmt: skip
        yield "Conv", (channels, 256, 256), [weight(filters, channels, kernel, kernel)], {**same, **more}
    yield "Conv", (64, 256, 256), [weight(64, 1, 3, 3)], {**same, "group": 64}
    yield "Conv", (64, 256, 256), [weight(64, 4, 3, 3)], {**same, "group": 16}
    yield "Conv", (64, 2**16), [weight(64, 64, 5)], {}
    yield "Conv", (8, 32, 64, 64), [weight(8, 8, 3, 3, 3)], {}
    yield "Conv", (512, 8, 8), [weight(512, 512, 3, 3)], same
    yield "Conv", (1, 8, 8), [weight(2**19, 1, 3, 3)], {}
    yield "Conv", (2**17, 4, 4), [weight(1, 2**17, 3, 3)], {}
    yield "ConvTranspose", (64, 128, 128), [weight(64, 32, 3, 3)], {"strides": [2, 2]}
    yield "ConvTranspose", (64, 64, 64), [weight(64, 3, 8, 8)], {"strides": [4, 4]}
    yield "ConvTranspose", (512, 8, 8), [weight(512, 512, 3, 3)], {"strides": [2, 2]}


def graph(op: str, shape: tuple[int, ...], inputs: list[Any], attributes: dict[str, Any]) -> bytes:
    """Return a graph of one operator, which is reduced to one number per output."""
    if op in ("Gemm", "LSTM"):  # The batch is the second axis of an LSTM.
        shape = (SIDE,) if op == "Gemm" else shape
    names = ["x", *("" if isinstance(each, str) else f"w{index}" for index, each in enumerate(inputs))]
    tensors = [tensor(f"w{index}", each) for index, each in enumerate(inputs) if not isinstance(each, str)]
    outputs = ["y", "y1"] if op == "TopK" else ["y"]
    nodes = [
        wire.node(op, names, outputs, *(attribute(*pair) for pair in attributes.items())),
        wire.node("Flatten", ["y"], ["flat"]),
        wire.node("Slice", ["flat", "from", "to"], ["corner"]),
        wire.node("Cast", ["corner"], ["out"], wire.int_attribute("to", 1)),
    ]
    tensors += [tensor("from", ints(0, 0)), tensor("to", ints(1, 1))]
    end = wire.value("out", [1, 1])
    return wire.model(wire.graph(nodes, [wire.value("x", ["batch", *shape])], [end], tensors))


def peak(data: bytes, batch: int, blocked: bool = True) -> tuple[memory.Memory, int]:
    """Return the bound and the memory that the process gains by one run at a batch size."""
    graph = validate.walk(data).computation
    bound = memory.bound(graph, shapes.infer(graph, batch), len(data))
    packed = blocked and memory.padding(graph) <= memory.MAX_PADDING

    def run() -> None:
        opened = session._open(dequantize.restore(data), 1, 2**34, "file", "cpu", packed)
        types = {1: np.float32, 7: np.int64}
        # The second run of a batch size plans its memory in advance.
        for rows in (batch, batch, batch, max(1, batch // 2), batch):
            feeds = {
                name: np.ones([rows if isinstance(size, str) else size for size in shape], types[dtype])
                for name, (dtype, shape) in graph.inputs.items()
            }
            opened.run(None, feeds)
            del feeds

    return bound, memory_use.gained(run)[1]


def report(title: str, data: bytes, batch: int, blocked: bool = True) -> None:
    """Print a line, from a forked process."""
    child = os.fork()
    if child == 0:
        try:
            bound, gained = peak(data, batch, blocked)
            numbers = f"{bound.total / MIB:8.0f} {gained / MIB:8.0f} {gained / bound.total:6.2f}"
        except Exception as error:
            numbers = f"{error!r:.120}"
        print(f"{title:70.70} {numbers}", flush=True)
        os._exit(0)
    os.waitpid(child, 0)


def main() -> None:
    session._open(graph("Relu", (3,), [], {}), 1, 2**28, "file", "cpu")
    print(f"{'operator, shape of its input, of its weights':70} {'bound':>8} {'peak':>8} {'ratio':>6}")
    for op, shape, inputs, attributes in operators():
        weights = " ".join(str(list(each.shape)) for each in inputs if not isinstance(each, str))
        title = f"{op} {list(shape)} {weights} {attributes or ''}"
        data = graph(op, shape, inputs, attributes)
        report(title, data, 2)
        if op == "Conv":
            report(f"{op}, layout not blocked", data, 2, blocked=False)
    for name, folder in shipped().items():
        for path in sorted(Path(folder).glob("*.onnx")):
            report(f"{name} {path.stem}, 64 rows", path.read_bytes(), 64)
    for argument in sys.argv[1:]:
        for batch in (1, 64):
            report(f"{argument}, {batch} rows", Path(argument).read_bytes(), batch)


if __name__ == "__main__":
    main()
