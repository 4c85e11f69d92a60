"""Canonical form of a graph: the same weights give the same bytes.

The names and the order that tf2onnx produces depend on counters of the process. In the canonical form, nodes are in
the order in which the outputs need them, names consist of op and position (`Conv_0`, its kernel `Conv_0.W`), equal
constants are stored once, in the order of their use, and no timestamp, host name or version is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx


def canonicalize(model: onnx.ModelProto, name: str, opset: int, ir_version: int) -> onnx.ModelProto:
    """Return the same computation in canonical form.

    Args:
        model: A model without subgraphs, whose inputs and outputs are in their final order.
        name: Name of the graph.
        opset: Version of the default domain, the only one that is kept.
        ir_version: IR version of the file.
    """
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = _constant(node)
        else:
            nodes.append(node)
    namer = _Namer(model.graph, constants, opset)
    ordered = [namer.rename(node) for node in _in_order(nodes, [value.name for value in model.graph.output])]
    graph = onnx.helper.make_graph(
        ordered, name, list(model.graph.input), list(model.graph.output), initializer=namer.initializers
    )
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=ir_version, producer_name="kvae"
    )


def _in_order(nodes: list[onnx.NodeProto], outputs: list[str]) -> list[onnx.NodeProto]:
    """Sort nodes depth first from the outputs, each after the nodes that it needs, and drop unused nodes."""
    makers = {name: node for node in nodes for name in node.output if name}
    ordered: list[onnx.NodeProto] = []
    seen: set[str] = set()
    # No recursion, because a chain of nodes may be long. The stack holds (node, iterator over its inputs).
    stack: list[tuple[onnx.NodeProto | None, Iterator[str]]] = [(None, iter(outputs))]
    while stack:
        node, inputs = stack[-1]
        tensor = next(inputs, None)
        if tensor is None:
            stack.pop()
            if node is not None:
                ordered.append(node)
        elif tensor in makers and _key(makers[tensor]) not in seen:
            seen.add(_key(makers[tensor]))
            stack.append((makers[tensor], iter(makers[tensor].input)))
    return ordered


def _key(node: onnx.NodeProto) -> str:
    """Return the first output, which identifies a node."""
    return next(name for name in node.output if name)


class _Namer:
    """Assigns names to nodes and tensors in the order of its calls."""

    def __init__(self, graph: onnx.GraphProto, constants: dict[str, np.ndarray], opset: int):
        self.initializers: list[onnx.TensorProto] = []
        self._constants = constants
        self._opset = opset
        self._kept = {value.name for value in graph.output}
        self._names = {"": ""} | {value.name: value.name for value in graph.input}
        self._counts: Counter[str] = Counter()
        self._by_content: dict[tuple, str] = {}

    def rename(self, node: onnx.NodeProto) -> onnx.NodeProto:
        name = f"{node.op_type}_{self._counts[node.op_type]}"
        self._counts[node.op_type] += 1
        inputs = [
            self._constant(tensor, f"{name}.{self._slot(node.op_type, index)}")
            if tensor in self._constants
            else self._names[tensor]
            for index, tensor in enumerate(node.input)
        ]
        while inputs[-1:] == [""]:
            del inputs[-1]  # Optional inputs at the end are left out, not empty.
        for index, tensor in enumerate(node.output):
            if tensor:
                own = name if index == 0 else f"{name}.out{index}"
                self._names[tensor] = tensor if tensor in self._kept else own
        renamed = onnx.helper.make_node(node.op_type, inputs, [self._names[tensor] for tensor in node.output], name)
        for attribute in sorted(node.attribute, key=lambda attribute: attribute.name):
            kept = renamed.attribute.add()
            kept.CopyFrom(attribute)
            kept.ClearField("doc_string")
        return renamed

    def _constant(self, tensor: str, name: str) -> str:
        array = self._constants[tensor]
        content = (array.dtype.str, array.shape, array.tobytes())
        if content not in self._by_content:
            self._by_content[content] = name
            self.initializers.append(onnx.numpy_helper.from_array(array, name))
        return self._by_content[content]

    def _slot(self, op: str, index: int) -> str:
        """Return the standard's name of an operator's input, or its index for variadic inputs."""
        slots = onnx.defs.get_schema(op, self._opset).inputs
        return slots[index].name if index < len(slots) and len(slots) > 1 else str(index)


def _constant(node: onnx.NodeProto) -> np.ndarray:
    (attribute,) = node.attribute
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return onnx.numpy_helper.to_array(value)
    dtype = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    return np.array(value, dtype[attribute.name])
