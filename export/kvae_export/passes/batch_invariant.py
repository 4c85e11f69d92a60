"""Activations whose last bit depends on the batch, rewritten with operators whose result does not.

ONNX Runtime computes Elu, Selu, Softplus and Mish with SIMD instructions and the remainder of a tensor differently.
The last bit of a row therefore depends on its position in the batch and on the number of threads. Exp, Tanh and Atanh
do not have this property. Sample i of a seed must not depend on the batch, so graphs that produce samples and latent
vectors use only these.
"""

from __future__ import annotations

import numpy as np
import onnx

GRAPHS = ("encoder", "decoder", "prior")
"""Not the likelihood: it sums over a row, and the order of a sum depends on the batch anyway."""

_DEFAULTS = {
    "Elu": {"alpha": 1.0},
    "Selu": {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
    "Softplus": {},
    "Mish": {},
}


def make_batch_invariant(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function without activations whose last bit depends on the batch.

    Args:
        model: A graph without subgraphs, in topological order, whose constants are initializers.
    """
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    del rewritten.graph.node[:]
    for node in model.graph.node:
        if node.op_type in _DEFAULTS and not node.domain:
            attributes = _DEFAULTS[node.op_type] | {each.name: each.f for each in node.attribute}
            _Rewriter(rewritten.graph, node).rewrite(attributes)
        else:
            rewritten.graph.node.append(node)
    return rewritten


class _Rewriter:
    """Appends the nodes that replace one activation to a graph."""

    def __init__(self, graph: onnx.GraphProto, node: onnx.NodeProto):
        self._graph, self._node = graph, node
        self._count = 0

    def rewrite(self, attributes: dict[str, float]) -> None:
        (x,) = self._node.input
        if self._node.op_type == "Softplus":
            self._softplus(x)
        elif self._node.op_type == "Mish":
            self._op("Mul", x, self._op("Tanh", self._softplus(x)))
        else:
            self._exponential(x, attributes["alpha"], attributes.get("gamma", 1.0))
        self._graph.node[-1].output[0] = self._node.output[0]

    def _exponential(self, x: str, alpha: float, gamma: float) -> None:
        """Write gamma * (max(x, 0) + alpha * (exp(min(x, 0)) - 1)); exp of a negative number cannot overflow."""
        low = self._op("Sub", self._op("Exp", self._op("Min", x, self._number(0.0))), self._number(1.0))
        low = self._op("Mul", low, self._number(gamma * alpha))
        high = self._op("Max", x, self._number(0.0))
        self._op("Add", high if gamma == 1.0 else self._op("Mul", high, self._number(gamma)), low)

    def _softplus(self, x: str) -> str:
        """Write max(x, 0) + log(1 + e) with e = exp(-abs(x)), and log(1 + e) = 2 atanh(e / (2 + e))."""
        e = self._op("Exp", self._op("Neg", self._op("Abs", x)))
        half = self._op("Atanh", self._op("Div", e, self._op("Add", e, self._number(2.0))))
        return self._op("Add", self._op("Max", x, self._number(0.0)), self._op("Add", half, half))

    def _op(self, op: str, *inputs: str) -> str:
        output = self._name()
        self._graph.node.append(onnx.helper.make_node(op, inputs, [output], output))
        return output

    def _number(self, value: float) -> str:
        name = self._name()
        self._graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    def _name(self) -> str:
        self._count += 1
        return f"{self._node.output[0]}__{self._count}"
