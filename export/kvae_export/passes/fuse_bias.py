"""Fusion of a matrix product and its bias into `Gemm`, which saves one pass over the output of the layer.

ONNX Runtime fuses the two only at some optimisation levels, and a fused product adds in a different order. kvae's
sessions switch this fusion off, so that bits do not depend on the optimisation level (see runtime/session.py of
`kvae_serve`). As one node of the file, product and bias are added in one order everywhere.
"""

from __future__ import annotations

from collections import Counter

import onnx


def fuse_bias(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function with `Add(MatMul(a, b), c)` as `Gemm(a, b, c)` if a is a matrix.

    Args:
        model: A graph without subgraphs, in topological order, whose constants are initializers.
    """
    fused = onnx.ModelProto()
    fused.CopyFrom(model)
    graph = fused.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    matrices = _matrices(model)
    uses = Counter(name for node in graph.node for name in node.input) + Counter(each.name for each in graph.output)
    makers = {node.output[0]: node for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        product = next((makers[name] for name in node.input if name in makers), None)
        if node.op_type != "Add" or product is None or uses[product.output[0]] != 1:
            continue
        (bias,) = [name for name in node.input if name != product.output[0]]
        a, b = product.input
        # Only a bias per column: a bias of more axes, or a scalar, could change the shape of the sum.
        if a not in matrices or b not in constants or bias not in constants or len(constants[b].dims) != 2:
            continue
        if list(constants[bias].dims) != [constants[b].dims[1]] or constants[b].data_type != onnx.TensorProto.FLOAT:
            continue
        node.CopyFrom(onnx.helper.make_node("Gemm", [a, b, bias], list(node.output), node.name))
        product.op_type = ""
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node if node.op_type]
    del graph.node[:]
    graph.node.extend(kept)
    return fused


def _matrices(model: onnx.ModelProto) -> set[str]:
    """Return the names of the tensors that are known to have two axes."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    types = ((each.name, each.type.tensor_type) for each in (*graph.input, *graph.value_info, *graph.output))
    return {name for name, type_ in types if type_.HasField("shape") and len(type_.shape.dim) == 2}
