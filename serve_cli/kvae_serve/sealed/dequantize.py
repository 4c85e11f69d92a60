"""Weights that a file stores in 8 or 16 bits, made float32 again before ONNX Runtime sees the graph.

`kvae export --weights float16` (or int8) stores a weight as `Mul(Cast(numbers), scale)`, a scale per channel. ONNX
Runtime would compute that once, when it folds constants; but folding runs outside of the memory cap and is switched off
(see session.py), so that each run would compute it anew. Here it is done once, and by us: two nodes and their tensors
give way to one float32 tensor, bit for bit the product that ONNX Runtime computes.

Only that pattern is touched, and only tensors that the file itself holds and uses once: what comes out is at most four
times what the file holds. Anything else stays as it is, to be computed under the cap.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Numbers of onnx.proto3: element types, then fields.
_FLOAT, _INT8, _FLOAT16 = 1, 3, 10
_STORED: dict[int, np.dtype] = {_INT8: np.dtype("i1"), _FLOAT16: np.dtype("<f2")}
_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP, _NODE_ATTRIBUTE = 1, 2, 4, 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5


class _Field(NamedTuple):
    """One field of a message: a number, or the bytes of what has a length; `whole` is the field as it stands there."""

    number: int
    value: int
    body: memoryview
    whole: memoryview


class _Tensor(NamedTuple):
    name: bytes
    code: int
    dims: tuple[int, ...]
    raw: memoryview


class _Node(NamedTuple):
    op: bytes
    inputs: list[bytes]
    outputs: list[bytes]
    attributes: list[memoryview]


class _Weight(NamedTuple):
    """What makes one weight: `mul` of `cast` of `stored`, and `scale`."""

    stored: _Tensor
    scale: _Tensor
    cast: _Node
    mul: _Node


def restore(data: bytes) -> bytes:
    """Return a model with its stored weights float32 and without metadata; one that stores none comes back as it is.

    Args:
        data: a serialised ModelProto that `onnx_walk.walk` found to be well formed.
    """
    model = list(_fields(memoryview(data)))
    graph = list(_fields(next(field.body for field in model if field.number == _MODEL_GRAPH)))
    tensors = {id(field): _tensor(field.body) for field in graph if field.number == _GRAPH_TENSOR}
    if not any(tensor.code in _STORED for tensor in tensors.values()):
        return data
    nodes = {id(field): _node(field.body) for field in graph if field.number == _GRAPH_NODE}
    faces = {_text(field.body, 1) for field in graph if field.number in (_GRAPH_INPUT, _GRAPH_OUTPUT)}
    weights = _weights(list(tensors.values()), list(nodes.values()), faces)
    if not weights:
        return data
    gone = {id(part) for weight in weights for part in (weight.cast, weight.mul)}
    used = {name for node in nodes.values() if id(node) not in gone for name in node.inputs}
    spent = {tensor.name for weight in weights for tensor in (weight.stored, weight.scale)} - used
    parts: list[bytes | memoryview] = []
    for field in graph:
        if field.number == _GRAPH_NODE and id(nodes[id(field)]) in gone:
            continue
        if field.number == _GRAPH_TENSOR and tensors[id(field)].name in spent:
            continue
        parts.append(field.whole)
    parts += [_message(_GRAPH_TENSOR, _product(weight)) for weight in weights]
    rest = [field.whole for field in model if field.number not in (_MODEL_GRAPH, _MODEL_METADATA)]
    return b"".join([*rest, _message(_MODEL_GRAPH, parts)])


def _weights(tensors: list[_Tensor], nodes: list[_Node], faces: set[bytes]) -> list[_Weight]:
    """Return the weights whose parts serve them alone; a scale may serve several."""
    uses = Counter(name for node in nodes for name in node.inputs)
    user = {name: node for node in nodes for name in node.inputs}
    makers = Counter(name for node in nodes for name in node.outputs) + Counter(tensor.name for tensor in tensors)
    floats = {tensor.name: tensor for tensor in tensors if tensor.code == _FLOAT}
    found = []
    for stored in tensors:
        cast = user.get(stored.name)
        if stored.code not in _STORED or not cast or not _casts_to_float(cast):
            continue
        mul = user.get(cast.outputs[0])
        if not mul or mul.op != b"Mul" or len(mul.inputs) != 2 or len(mul.outputs) != 1:
            continue
        scale = floats.get(mul.inputs[0 if mul.inputs[1] == cast.outputs[0] else 1])
        once = (stored.name, cast.outputs[0])
        if scale is None or any(uses[name] != 1 for name in once):
            continue
        names = {*once, scale.name, mul.outputs[0]}
        if not names & faces and all(makers[name] == 1 for name in names) and _fits(stored, scale):
            found.append(_Weight(stored, scale, cast, mul))
    return found


def _fits(stored: _Tensor, scale: _Tensor) -> bool:
    """Tell whether the product is of the stored tensor's shape, and both have their elements as raw bytes."""
    return (
        len(scale.dims) == len(stored.dims)
        and all(small in (1, large) for small, large in zip(scale.dims, stored.dims, strict=True))
        and len(stored.raw) == math.prod(stored.dims) * _STORED[stored.code].itemsize
        and len(scale.raw) == math.prod(scale.dims) * 4
    )


def _casts_to_float(node: _Node) -> bool:
    if node.op != b"Cast" or len(node.inputs) != 1 or len(node.outputs) != 1 or len(node.attributes) != 1:
        return False
    fields = {field.number: field for field in _fields(node.attributes[0])}
    return _text(node.attributes[0], 1) == b"to" and 3 in fields and fields[3].value == _FLOAT


def _product(weight: _Weight) -> list[bytes | memoryview]:
    """Return the fields of a TensorProto that holds the weight."""
    numbers = np.frombuffer(weight.stored.raw, _STORED[weight.stored.code]).reshape(weight.stored.dims)
    scale = np.frombuffer(weight.scale.raw, "<f4").reshape(weight.scale.dims)
    with np.errstate(all="ignore"):  # What overflows does so in ONNX Runtime too, and is found in the outputs.
        values = np.multiply(numbers.astype("<f4"), scale)
    dims: list[bytes | memoryview] = [b"\x08" + _varint(dim) for dim in weight.stored.dims]
    name, raw = _message(_TENSOR_NAME, [weight.mul.outputs[0]]), _message(_TENSOR_RAW, [values.tobytes()])
    return [*dims, b"\x10\x01", name, raw]


def _node(body: memoryview) -> _Node:
    fields = list(_fields(body))
    texts = {number: [bytes(f.body) for f in fields if f.number == number] for number in (1, 2, 4)}
    attributes = [field.body for field in fields if field.number == _NODE_ATTRIBUTE]
    return _Node(b"".join(texts[_NODE_OP]), texts[_NODE_INPUT], texts[_NODE_OUTPUT], attributes)


def _tensor(body: memoryview) -> _Tensor:
    name, code, raw = b"", 0, memoryview(b"")
    dims: list[int] = []
    for field in _fields(body):
        if field.number == _TENSOR_DIMS:
            position = 0
            dims += [] if field.body else [field.value]
            while position < len(field.body):  # Packed: one after the other.
                dim, position = _number(field.body, position)
                dims.append(dim)
        elif field.number == _TENSOR_TYPE:
            code = field.value
        elif field.number == _TENSOR_NAME:
            name = bytes(field.body)
        elif field.number == _TENSOR_RAW:
            raw = field.body
    return _Tensor(name, code, tuple(dims), raw)


def _text(body: memoryview, number: int) -> bytes:
    return next((bytes(field.body) for field in _fields(body) if field.number == number), b"")


def _fields(message: memoryview) -> Iterator[_Field]:
    """Split a message into its fields; it is well formed."""
    position, nothing = 0, memoryview(b"")
    while position < len(message):
        start = position
        tag, position = _number(message, position)
        value, body = 0, nothing
        if tag & 7 == _VARINT:
            value, position = _number(message, position)
        elif tag & 7 == _LEN:
            size, position = _number(message, position)
            body = message[position : position + size]
            position += size
        else:
            position += {_I64: 8, _I32: 4}[tag & 7]
        yield _Field(tag >> 3, value, body, message[start:position])


def _number(data: memoryview, position: int) -> tuple[int, int]:
    """Return the varint at `position`, and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _message(number: int, parts: list[bytes | memoryview] | list[bytes]) -> bytes:
    """Return parts as one field that has a length."""
    return b"".join([_varint(number << 3 | _LEN), _varint(sum(len(part) for part in parts)), *parts])


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
