"""Upper bound of the memory of a session, computed from shapes before ONNX Runtime opens the graph.

The bound is the sum of the weights, the values that are alive at the same time, and allowances for what ONNX Runtime
adds to them. `benchmarks/memory_bound.py` measures each operator against its bound (benchmarks/RESULTS.md). Random and
targeted graphs run with the bound as their limit (`tests/kvae_serve/sealed/test_random_graphs.py`). The allowances:

- A convolution may use a blocked layout, in which the number of channels is a multiple of 16, for weights and data.
- Matrix products and convolutions pack their weights, with columns in multiples of 16.
- Convolutions write each window as a column of a matrix. Softmax over another axis than the last, TopK and reductions
  copy their input and output.
- Resize stores tables per coordinate of the output, measured at 16, 29 and 87 bytes for nearest, linear and cubic if
  one axis grows, and allowed 32, 128 and 4,096.
- The allocator stores 8 bytes for each 256 that it reserves. A session reserves 1 MiB at the start.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from kvae_serve.sealed.shapes import FLOAT32, SIZES, Graph, Node, Value

_BLOCK = 16
_TABLE_BYTES = {"nearest": 32, "linear": 128, "cubic": 4096}
_PACKED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM")
_COPIES = {
    *_PACKED, "ArgMax", "ArgMin", "AveragePool", "Einsum", "GlobalAveragePool", "GlobalMaxPool",
    "InstanceNormalization", "LogSoftmax", "MaxPool", "Resize", "ReverseSequence", "Softmax", "TopK",
}  # fmt: skip
_BOOKKEEPING = 32  # The allocator stores 8 bytes per 256 bytes.
MIB = 2**20
MAX_PADDING = 32 * MIB
"""Bytes that blocked and packed weights may add; beyond that, a session switches off packing and the blocked layout."""


class Memory(NamedTuple):
    """Upper bounds in bytes: of everything, and of the part that ONNX Runtime allocates outside of its allocator."""

    total: int
    outside: int


def padding(graph: Graph) -> int:
    """Return the bytes that packing and blocking add to the weights of a graph."""
    names = {name for node in graph.nodes if node.op in _PACKED for name in node.inputs}
    return sum(_padded(value) - value.bytes for name, value in graph.constants.items() if name in names)


def bound(graph: Graph, values: dict[str, Value], num_bytes: int) -> Memory:
    """Return the upper bounds for one batch size.

    Args:
        graph: The graph.
        values: Its values at that batch size, see `sealed.shapes.infer`.
        num_bytes: Size of the file.
    """
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    last |= dict.fromkeys(graph.outputs, len(graph.nodes))
    blocked = any(node.op == "Conv" for node in graph.nodes)
    sizes = {name: _blocked(value) if blocked else value.bytes for name, value in values.items()}
    live = sum(sizes[name] for name in graph.inputs)
    peak = tables = 0
    for index, node in enumerate(graph.nodes):
        outputs = [name for name in node.outputs if name]
        live += sum(sizes[name] for name in outputs)
        peak = max(peak, live + _workspace(node, values, sizes))
        for name in {*outputs, *node.inputs}:
            if last.get(name, index) == index and name in values and name not in graph.constants:
                live -= sizes[name]
        if node.op == "Resize":
            mode = node.attributes.get("mode", "nearest")
            tables += _TABLE_BYTES[mode] * sum(values[node.outputs[0]].shape)
    extra = min(padding(graph), MAX_PADDING)
    outside = 4 * num_bytes + 3 * extra + tables
    inside = 2 * num_bytes + peak
    return Memory(outside + inside + inside // _BOOKKEEPING + MIB, outside)


def allocated(limit: int) -> int:
    """Return the bytes that the allocator may reserve so that it stays within a limit together with its bookkeeping."""
    return limit - limit // _BOOKKEEPING


def _workspace(node: Node, values: dict[str, Value], sizes: dict[str, int]) -> int:
    """Return the bytes that a node needs while it runs: copies of its inputs and outputs, and columns of windows."""
    if node.op not in _COPIES and not node.op.startswith("Reduce"):
        return 0
    copies = sum(sizes[name] for name in (*node.inputs, *node.outputs) if name)
    if node.op in ("Conv", "ConvTranspose"):
        weights, windows = (
            values[node.inputs[1]].shape,
            values[node.inputs[0] if node.op == "ConvTranspose" else node.outputs[0]],
        )
        return copies + 4 * math.prod(weights[1:]) * math.prod(windows.shape[2:]) * max(
            1, node.attributes.get("group", 1)
        )
    if node.op == "LSTM":
        steps, batch, _ = values[node.inputs[0]].shape
        return copies + 8 * 4 * steps * batch * 4 * node.attributes["hidden_size"]
    if node.op == "Einsum":
        return copies + 4 * sum(sizes[name] for name in (*node.inputs, *node.outputs) if name)
    return copies


def _blocked(value: Value) -> int:
    """Return the size of a value, for images with channels in multiples of 16."""
    shape = value.shape
    if len(shape) == 4 and value.dtype == FLOAT32:
        shape = (shape[0], -(-shape[1] // _BLOCK) * _BLOCK, *shape[2:])
    return math.prod(shape) * SIZES[value.dtype]


def _padded(value: Value) -> int:
    """Return the size of a weight with every axis that may be packed in multiples of 16."""
    shape = list(value.shape)
    for axis in (0, 1) if len(shape) > 2 else range(len(shape)):
        shape[axis] = -(-shape[axis] // _BLOCK) * _BLOCK
    return math.prod(shape) * SIZES[value.dtype]
