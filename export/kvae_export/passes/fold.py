"""Factors and shifts per channel after a convolution or a matrix product, folded into its kernel and bias.

Batch normalisation becomes such a factor and a shift at inference. ONNX Runtime merges them into a convolution itself,
but not into a transposed convolution, where they cost two passes over the feature map. The values are computed in
float64 and rounded once, so only the order of rounding changes. `kvae_export.parity` checks the result. A factor per
output channel keeps quantized weights in their stored form, see `quantized_storage`.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx

_OUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function with constant `Mul` and `Add` per channel folded into the node before them.

    Args:
        model: A graph without subgraphs, in topological order, whose constants are initializers.
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = _Graph(folded.graph)
    for node in list(folded.graph.node):
        if node.op_type in _OUT_AXIS:
            graph.fold_followers(node)
    graph.write()
    return folded


class _Graph:
    """A graph with its constants as arrays. Folded nodes lose their operator and are removed by `write`."""

    def __init__(self, proto: onnx.GraphProto):
        self.proto = proto
        self.constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.initializer}
        self.outputs = {value.name for value in proto.output}
        self.uses = Counter(name for node in proto.node for name in node.input)
        self.users = {name: node for node in proto.node for name in node.input}

    def fold_followers(self, node: onnx.NodeProto) -> None:
        """Fold the chain of factors and shifts that follows a node."""
        kernel = self._kernel(node)
        if kernel is None:
            return
        out_axis = _OUT_AXIS[node.op_type]
        channels = kernel.shape[out_axis]
        per_output = [channels if axis == out_axis else 1 for axis in range(kernel.ndim)]
        last, bias = node, self._bias(node, channels)
        folded = False
        while (follower := self._follower(last)) is not None:
            values = self._per_channel(follower, node.op_type, kernel.ndim, channels)
            if values is None:
                break
            if follower.op_type == "Mul":
                kernel = kernel * values.reshape(per_output)
                bias = None if bias is None else bias * values
            elif bias is None:  # The bias of a matrix product is a separate node, which remains.
                last, bias = follower, values
                continue
            else:
                bias = bias + values
            last.output[0] = follower.output[0]
            follower.op_type = ""
            folded = True
        if folded:
            self.constants[node.input[1]] = kernel.astype(np.float32)
            if bias is not None:
                self._set_bias(last, bias.astype(np.float32))

    def write(self) -> None:
        """Write the remaining nodes and constants back into the graph."""
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self.proto.node if node.op_type]
        used = {name for node in nodes for name in node.input}
        tensors = [onnx.numpy_helper.from_array(array, name) for name, array in self.constants.items() if name in used]
        del self.proto.node[:], self.proto.initializer[:]
        self.proto.node.extend(nodes)
        self.proto.initializer.extend(tensors)

    def _kernel(self, node: onnx.NodeProto) -> np.ndarray | None:
        """Return the kernel in float64, or None if it cannot be scaled per output channel."""
        name = node.input[1]
        array = self.constants.get(name)
        group = next((each.i for each in node.attribute if each.name == "group"), 1)
        if array is None or array.dtype != np.float32 or self.uses[name] > 1:
            return None
        if node.op_type == "MatMul" and array.ndim != 2:
            return None
        if node.op_type == "ConvTranspose" and group > 1:  # Its channels are counted within a group.
            return None
        if len(node.input) > 2 and node.input[2] and node.input[2] not in self.constants:
            return None
        return array.astype(np.float64)

    def _bias(self, node: onnx.NodeProto, channels: int) -> np.ndarray | None:
        """Return the bias of a convolution in float64, zeros if it is absent; None for a matrix product."""
        if node.op_type == "MatMul":
            return None
        name = node.input[2] if len(node.input) > 2 else ""
        return self.constants[name].astype(np.float64) if name else np.zeros(channels)

    def _set_bias(self, node: onnx.NodeProto, bias: np.ndarray) -> None:
        name = f"{node.output[0]}.bias"
        self.constants[name] = bias
        if node.op_type == "Add":
            node.input[list(node.input).index(self._constant(node))] = name
        else:
            node.input[:] = [*node.input[:2], name]

    def _follower(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """Return the only user of a node's output if it multiplies or adds a constant."""
        (output,) = node.output
        if self.uses[output] != 1 or output in self.outputs:
            return None
        user = self.users[output]
        return user if user.op_type in ("Mul", "Add") and self._constant(user) else None

    def _constant(self, node: onnx.NodeProto) -> str | None:
        return next((name for name in node.input if name in self.constants), None)

    def _per_channel(self, follower: onnx.NodeProto, op: str, rank: int, channels: int) -> np.ndarray | None:
        """Return the follower's constant as float64 `[channels]`, or None if it differs within a channel."""
        array = self.constants[self._constant(follower)].astype(np.float64)
        if array.size == 1 and array.ndim <= rank:
            return np.full(channels, array.reshape(()))
        # A constant of more axes than the product could add axes to it.
        expected = (channels,) if op == "MatMul" else (1, channels, *[1] * (rank - 2))
        return array.reshape(-1) if array.shape == expected else None
