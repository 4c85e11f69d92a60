"""Weights that tf2onnx received as inputs, made constants again.

tf2onnx computes what depends only on constants, such as the transposed kernel of a convolution. For weights that are
inputs it leaves these nodes in the graph, and they are computed here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.reference


def bind(graph: onnx.GraphProto, weights: Mapping[str, np.ndarray]) -> None:
    """Replace, in place, inputs of a graph by constants, and the nodes that depend on constants only by their results.

    Args:
        graph: A graph without subgraphs, in topological order.
        weights: Name of each input to its value.
    """
    known = {value.name: weights[value.name] for value in graph.input if value.name in weights}
    if not known:
        return
    inputs = [value for value in graph.input if value.name not in known]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    nodes = []
    for node in graph.node:
        names = [name for name in node.input if name]
        # Nodes of constants that tf2onnx did not compute remain, as in a graph without inputs for weights.
        if (
            known.keys().isdisjoint(names)
            or outputs.intersection(node.output)
            or any(name not in known and name not in constants for name in names)
        ):
            nodes.append(node)
            continue
        feeds = {name: known[name] if name in known else onnx.numpy_helper.to_array(constants[name]) for name in names}
        results = onnx.reference.ReferenceEvaluator(node).run(None, feeds)
        known |= dict(zip(node.output, results, strict=True))
    used = {name for node in nodes for name in node.input} | outputs
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in known.items() if name in used]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.input[:], graph.node[:]
    graph.input.extend(inputs)
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
