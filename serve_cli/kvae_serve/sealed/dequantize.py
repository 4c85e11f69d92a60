"""Weights stored in 8 or 16 bits, restored to float32 before ONNX Runtime opens the graph.

`kvae export --weights float16` (or int8) stores a weight as `Mul(Cast(numbers), scale)` with one scale per channel.
ONNX Runtime would compute the product once, by constant folding. But folding allocates outside the memory cap and is
switched off (see runtime/session.py), so the product would be computed in every run. This module computes it once:
one float32 tensor replaces the two nodes and their tensors, bit for bit the product that ONNX Runtime computes.

Only this pattern is replaced, and only if the tensors belong to the file and are used once. The result is therefore
at most four times the size of the file. Everything else stays in the graph and is computed under the cap.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from kvae_serve.sealed import validate
from kvae_serve.sealed.protobuf import Reader, Span, write_field, write_varint
from kvae_serve.sealed.shapes import Node, Tensor

# Element types of onnx.proto3.
_FLOAT = 1
_STORED: dict[int, np.dtype] = {3: np.dtype("i1"), 10: np.dtype("<f2")}
_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_GRAPH_NODE, _GRAPH_TENSOR = 1, 5


class _Weight(NamedTuple):
    """The parts of one weight: `mul` multiplies `cast` of `stored` by `scale`."""

    stored: Tensor
    scale: Tensor
    cast: Node
    mul: Node


def restore(data: bytes) -> bytes:
    """Return the model with float32 weights and without metadata, or `data` itself if no weight can be restored.

    Args:
        data: A serialised ModelProto that `validate.walk` accepted.
    """
    reader, model_fields, graph_fields = Reader(data), list[tuple[int, Span]](), list[tuple[int, Span]]()
    model = validate.model_fields(reader, model_fields)
    graph = validate.graph_fields(reader, model, graph_fields)
    tensors = [validate.read_tensor(reader, span) for span in graph.get(_GRAPH_TENSOR, [])]
    if not any(tensor.dtype in _STORED for tensor in tensors):
        return data
    nodes = [validate.read_node(reader, span) for span in graph.get(_GRAPH_NODE, [])]
    weights = _weights(tensors, nodes, validate.value_names(reader, graph))
    if not weights:
        return data
    removed_nodes = {id(node) for weight in weights for node in (weight.cast, weight.mul)}
    used = {name for node in nodes if id(node) not in removed_nodes for name in node.inputs}
    removed_tensors = {tensor.name for weight in weights for tensor in (weight.stored, weight.scale)} - used
    parts: list[bytes | memoryview] = []
    view, remaining_nodes, remaining_tensors = memoryview(data), iter(nodes), iter(tensors)
    for number, (start, end) in graph_fields:
        removed = (number == _GRAPH_NODE and id(next(remaining_nodes)) in removed_nodes) or (
            number == _GRAPH_TENSOR and next(remaining_tensors).name in removed_tensors
        )
        if not removed:
            parts.append(view[start:end])
    parts += [write_field(_GRAPH_TENSOR, *_product(view, weight)) for weight in weights]
    rest = [view[start:end] for number, (start, end) in model_fields if number not in (_MODEL_GRAPH, _MODEL_METADATA)]
    return b"".join([*rest, write_field(_MODEL_GRAPH, *parts)])


def _weights(tensors: list[Tensor], nodes: list[Node], values: set[str]) -> list[_Weight]:
    """Return the weights whose parts serve them alone; a scale may serve several.

    Args:
        tensors: Constants of the graph.
        nodes: Nodes of the graph.
        values: Names of the inputs and outputs of the graph.
    """
    uses = Counter(name for node in nodes for name in node.inputs)
    users = {name: node for node in nodes for name in node.inputs}
    makers = Counter(name for node in nodes for name in node.outputs) + Counter(tensor.name for tensor in tensors)
    floats = {tensor.name: tensor for tensor in tensors if tensor.dtype == _FLOAT}
    weights = []
    for stored in tensors:
        cast = users.get(stored.name)
        if stored.dtype not in _STORED or not cast or not _casts_to_float(cast):
            continue
        mul = users.get(cast.outputs[0])
        if not mul or mul.op != "Mul" or len(mul.inputs) != 2 or len(mul.outputs) != 1:
            continue
        scale = floats.get(mul.inputs[0 if mul.inputs[1] == cast.outputs[0] else 1])
        once = (stored.name, cast.outputs[0])
        if scale is None or any(uses[name] != 1 for name in once):
            continue
        names = {*once, scale.name, mul.outputs[0]}
        if not names & values and all(makers[name] == 1 for name in names) and _fits(stored, scale):
            weights.append(_Weight(stored, scale, cast, mul))
    return weights


def _casts_to_float(node: Node) -> bool:
    return (node.op, len(node.inputs), len(node.outputs)) == ("Cast", 1, 1) and node.attributes == {"to": _FLOAT}


def _fits(stored: Tensor, scale: Tensor) -> bool:
    """Return whether the product has the shape of the stored tensor, and both keep their elements as raw bytes."""
    return (
        len(scale.dims) == len(stored.dims)
        and all(small in (1, large) for small, large in zip(scale.dims, stored.dims, strict=True))
        and _num_raw_bytes(stored) == stored.elements * _STORED[stored.dtype].itemsize
        and _num_raw_bytes(scale) == scale.elements * 4
    )


def _num_raw_bytes(tensor: Tensor) -> int:
    return 0 if tensor.raw is None else tensor.raw[1] - tensor.raw[0]


def _product(data: memoryview, weight: _Weight) -> list[bytes]:
    """Return the fields of a TensorProto that holds the weight."""
    stored, scale = (
        np.frombuffer(data[slice(*tensor.raw)] if tensor.raw else b"", dtype).reshape(tensor.dims)
        for tensor, dtype in ((weight.stored, _STORED[weight.stored.dtype]), (weight.scale, np.dtype("<f4")))
    )
    with np.errstate(all="ignore"):  # An overflow happens in ONNX Runtime too, and is found in the outputs.
        values = np.multiply(stored.astype("<f4"), scale)
    dims = [b"\x08" + write_varint(dim) for dim in weight.stored.dims]
    name = write_field(8, weight.mul.outputs[0].encode())
    return [*dims, b"\x10" + write_varint(_FLOAT), name, write_field(9, values.tobytes())]
