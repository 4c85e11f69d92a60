"""A matrix product and its bias become one node, `Gemm`: a pass less over what the layer gives.

ONNX Runtime would fuse the two itself, but only from its basic optimisations on, and a fused product adds in another
order; so kvae's sessions leave them apart, that bits may not depend on how far a graph is optimised
(serve_cli/session.py). As one node in the file they add in one order everywhere.
"""

from __future__ import annotations

from collections import Counter

import onnx


def fuse_bias(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function with `Add(MatMul(a, b), c)` as `Gemm(a, b, c)`, where a is a matrix.

    Args:
        model: all constants are initializers, nodes stand after what they need, no subgraphs.
    """
    joined = onnx.ModelProto()
    joined.CopyFrom(model)
    graph = joined.graph
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
        # A bias per column alone: of more axes, or of one number, it might give the sum another shape.
        if a not in matrices or b not in constants or bias not in constants or len(constants[b].dims) != 2:
            continue
        if list(constants[bias].dims) != [constants[b].dims[1]] or constants[b].data_type != onnx.TensorProto.FLOAT:
            continue
        node.CopyFrom(onnx.helper.make_node("Gemm", [a, b, bias], list(node.output), node.name))
        product.op_type = ""
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node if node.op_type]
    del graph.node[:]
    graph.node.extend(kept)
    return joined


def _matrices(model: onnx.ModelProto) -> set[str]:
    """Return the names of the tensors that are known to have two axes."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    kinds = ((each.name, each.type.tensor_type) for each in (*graph.input, *graph.value_info, *graph.output))
    return {name for name, kind in kinds if kind.HasField("shape") and len(kind.shape.dim) == 2}
