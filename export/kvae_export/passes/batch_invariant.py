"""Functions whose last bit depends on the batch give way to others that compute the same, one number at a time.

ONNX Runtime computes Elu, Selu, Celu, Softplus and Mish several numbers at once and what is left over in another way,
so that a row's last bit depends on its place in the batch, and on the threads. Exp, Tanh and Atanh do not. Image i of a
seed is to be image i: so the graphs that make images and codes have the latter alone.
"""

from __future__ import annotations

import numpy as np
import onnx

GRAPHS = ("encoder", "decoder", "prior")
"""Not the likelihood, which sums over a row: the order of a sum depends on the batch all the same."""

_SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}
_DEFAULTS = {"Elu": {"alpha": 1.0}, "Selu": _SELU, "Celu": {"alpha": 1.0}, "Softplus": {}, "Mish": {}}


def steady(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function without ops whose last bit depends on the batch, as far as there is another form.

    Args:
        model: nodes stand after what they need, no subgraphs; constants are initializers.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    writer = _Writer(nodes, made.graph)
    for node in model.graph.node:
        if node.op_type not in _DEFAULTS or node.domain:
            nodes.append(node)
            continue
        given = {each.name: each.f for each in node.attribute}
        writer.write(node, _DEFAULTS[node.op_type] | given)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


class _Writer:
    """Writes one node as several, which have its name with a number behind."""

    def __init__(self, nodes: list[onnx.NodeProto], graph: onnx.GraphProto):
        self._nodes, self._graph = nodes, graph
        self._prefix = ""
        self._count = 0

    def write(self, node: onnx.NodeProto, values: dict[str, float]) -> None:
        """Write the nodes that take a node's place; the last one gives its output."""
        self._prefix, self._count = node.output[0], 0
        (x,) = node.input
        if node.op_type == "Softplus":
            self._softplus(x)
        elif node.op_type == "Mish":
            self._op("Mul", x, self._op("Tanh", self._softplus(x)))
        else:
            self._exponential(x, values["alpha"], values.get("gamma", 1.0), celu=node.op_type == "Celu")
        self._nodes[-1].output[0] = node.output[0]

    def _exponential(self, x: str, alpha: float, gamma: float, celu: bool) -> None:
        """Write gamma * (max(x, 0) + alpha * (exp(min(x, 0)) - 1)); Celu has x / alpha in the exponential."""
        low = self._op("Min", x, self._number(0.0))  # Where exp cannot overflow.
        if celu:
            low = self._op("Div", low, self._number(alpha))
        low = self._op("Mul", self._op("Sub", self._op("Exp", low), self._number(1.0)), self._number(gamma * alpha))
        high = self._op("Max", x, self._number(0.0))
        self._op("Add", high if gamma == 1.0 else self._op("Mul", high, self._number(gamma)), low)

    def _softplus(self, x: str) -> str:
        """max(x, 0) + log(1 + e) with e = exp(-abs(x)), and log(1 + e) = 2 atanh(e / (2 + e))."""
        e = self._op("Exp", self._op("Neg", self._op("Abs", x)))
        half = self._op("Atanh", self._op("Div", e, self._op("Add", e, self._number(2.0))))
        return self._op("Add", self._op("Max", x, self._number(0.0)), self._op("Add", half, half))

    def _op(self, op: str, *inputs: str) -> str:
        self._count += 1
        output = f"{self._prefix}__steady_{self._count}"
        self._nodes.append(onnx.helper.make_node(op, inputs, [output], output))
        return output

    def _number(self, value: float) -> str:
        self._count += 1
        name = f"{self._prefix}__steady_{self._count}"
        self._graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
        return name
