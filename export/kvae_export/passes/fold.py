"""Factors and shifts per channel after a convolution or a matrix product become part of its kernel and bias.

That is what batch normalisation is at inference, and a converter leaves it behind a transposed convolution as two
passes over the feature map. Computed in double precision and rounded once, so that only the order of rounding changes;
the proof in `kvae_export.parity` is on the result. A factor per output channel leaves weights that were rounded for
storage
in their stored form (export/storage.py).
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx

_OUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function with constant `Mul` and `Add` per channel folded into the node before them.

    Args:
        model: all constants are initializers, nodes stand after what they need, no subgraphs.
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = _Graph(folded.graph)
    for node in list(folded.graph.node):
        if node.op_type in _OUT_AXIS:
            while graph.take_next(node):
                pass
    graph.write()
    return folded


class _Graph:
    """A graph with its constants at hand; what is folded is taken out at the end."""

    def __init__(self, proto: onnx.GraphProto):
        self.proto = proto
        self.constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.initializer}
        self.changed: dict[str, np.ndarray] = {}
        self.outputs = {value.name for value in proto.output}
        self.uses = Counter(name for node in proto.node for name in node.input)
        self.users = {name: node for node in proto.node for name in node.input}

    def take_next(self, node: onnx.NodeProto) -> bool:
        """Fold the node that follows, where it is a factor or a shift per channel; tell whether that was done."""
        weight = node.input[1]
        if weight not in self.constants or self.uses[weight] > 1 or not self._plain(node, weight):
            return False
        end = node
        if node.op_type == "MatMul":  # Its bias is a node of its own, which stays.
            bias = self._follower(node, "Add")
            end = bias if bias is not None else node
        follower = self._follower(end, "Mul") or (self._follower(end, "Add") if end is not None else None)
        if follower is None or (node.op_type == "MatMul" and end is node and follower.op_type == "Add"):
            return False
        values = self._per_channel(node, follower)
        if values is None:
            return False
        if follower.op_type == "Mul":
            self._scale(node, values)
        if end is not node:
            own = self._constant_of(end)
            before = self._per_channel(node, end)
            after = before * values if follower.op_type == "Mul" else before + values
            self._change(end, list(end.input).index(own), after.reshape(-1), f"{end.output[0]}.folded")
        elif node.op_type != "MatMul":
            before = self.values(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(len(values))
            after = before * values if follower.op_type == "Mul" else before + values
            if len(node.input) < 3:
                node.input.append("")
            self._change(node, 2, after, f"{node.output[0]}.bias")
        self._take_out(follower, end)
        return True

    def values(self, name: str) -> np.ndarray:
        """Return a constant in double precision."""
        return self.changed[name] if name in self.changed else self.constants[name].astype(np.float64)

    def _plain(self, node: onnx.NodeProto, weight: str) -> bool:
        group = next((each.i for each in node.attribute if each.name == "group"), 1)
        array = self.constants[weight]
        grouped = node.op_type == "ConvTranspose" and group > 1  # Its channels are counted within a group.
        return array.dtype == np.float32 and not grouped and (array.ndim == 2 if node.op_type == "MatMul" else True)

    def _follower(self, node: onnx.NodeProto, op: str) -> onnx.NodeProto | None:
        """Return the only user of a node's output, where it is such an op with a constant."""
        (output,) = node.output
        if self.uses[output] != 1 or output in self.outputs:
            return None
        user = self.users[output]
        return user if user.op_type == op and self._constant_of(user) is not None else None

    def _constant_of(self, node: onnx.NodeProto) -> str | None:
        return next((name for name in node.input if name in self.constants or name in self.changed), None)

    def _per_channel(self, node: onnx.NodeProto, follower: onnx.NodeProto) -> np.ndarray | None:
        """Return the follower's constant as float64 `[channels]`, None where it is anything else."""
        name, kernel = self._constant_of(follower), self.constants[node.input[1]]
        if name is None:
            return None
        array = self.values(name)
        channels = kernel.shape[_OUT_AXIS[node.op_type]]
        if array.size == 1 and array.ndim <= max(1, kernel.ndim):
            return np.full(channels, array.reshape(()))
        axis = array.ndim - 1 if node.op_type == "MatMul" else 1
        fits = array.ndim == kernel.ndim if node.op_type != "MatMul" else array.ndim >= 1
        leading = all(size == 1 for place, size in enumerate(array.shape) if place != axis)
        # A matrix product takes no more axes than its input has: leading ones might add some.
        if node.op_type == "MatMul" and array.ndim > 1:
            return None
        return array.reshape(-1) if fits and leading and array.size == channels else None

    def _scale(self, node: onnx.NodeProto, factor: np.ndarray) -> None:
        kernel = self.values(node.input[1])
        shape = [1] * kernel.ndim
        shape[_OUT_AXIS[node.op_type]] = -1
        self.changed[node.input[1]] = kernel * factor.reshape(shape)

    def _change(self, node: onnx.NodeProto, place: int, values: np.ndarray, name: str) -> None:
        self.changed[name] = values
        node.input[place] = name

    def _take_out(self, follower: onnx.NodeProto, end: onnx.NodeProto) -> None:
        """Let the node before give what the follower gave."""
        end.output[0] = follower.output[0]
        follower.op_type = ""

    def write(self) -> None:
        """Put nodes and constants back."""
        nodes = [_copy(node) for node in self.proto.node if node.op_type]
        used = {name for node in nodes for name in node.input}
        constants = {**self.constants, **{name: values.astype(np.float32) for name, values in self.changed.items()}}
        tensors = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items() if name in used]
        del self.proto.node[:], self.proto.initializer[:]
        self.proto.node.extend(nodes)
        self.proto.initializer.extend(tensors)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied
