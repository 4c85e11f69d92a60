"""A look at everything in an ONNX file before ONNX Runtime sees it, with the standard library alone.

Each protobuf message that a sealed graph may hold has a table of its fields. What stands in no table is refused:
functions, subgraphs, external and sparse tensors, fields of the future. No table leads back to one above it, so the
depth is fixed and nothing recurses. Numbers of fields are those of onnx.proto3, https://github.com/onnx/onnx.
"""

from __future__ import annotations

from typing import NamedTuple

from serve_cli.ops import ALLOWED_OPS

IR_VERSIONS = range(7, 11)
OPSETS = range(13, 22)
MAX_NODES = 10_000
MAX_TENSORS = 10_000
MAX_DIMS = 8
MAX_ELEMENTS = 2**31
MAX_NAME_BYTES = 1_000

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5

# Field number -> (wire types, may stand more than once).
_ONE, _TEXT, _MANY = ((_VARINT,), False), ((_LEN,), False), ((_LEN,), True)
_NUMBERS = ((_VARINT, _LEN), True)
_MODEL = {1: _ONE, 2: _TEXT, 3: _TEXT, 4: _TEXT, 5: _ONE, 6: _TEXT, 7: _TEXT, 8: _MANY, 14: _MANY}
_OPSET = {1: _TEXT, 2: _ONE}
_ENTRY = {1: _TEXT, 2: _TEXT}
_GRAPH = {1: _MANY, 2: _TEXT, 5: _MANY, 10: _TEXT, 11: _MANY, 12: _MANY, 13: _MANY}
_NODE = {1: _MANY, 2: _MANY, 3: _TEXT, 4: _TEXT, 5: _MANY, 6: _TEXT, 7: _TEXT}
_ATTRIBUTE = {
    1: _TEXT, 2: ((_I32,), False), 3: _ONE, 4: _TEXT, 5: _TEXT, 7: ((_I32, _LEN), True), 8: _NUMBERS, 9: _MANY,
    13: _TEXT, 20: _ONE,
}  # fmt: skip
_TENSOR = {
    1: _NUMBERS, 2: _ONE, 4: ((_I32, _LEN), True), 5: _NUMBERS, 7: _NUMBERS, 8: _TEXT, 9: _TEXT,
    10: ((_I64, _LEN), True), 11: _NUMBERS, 12: _TEXT, 14: _ONE,
}  # fmt: skip
_VALUE = {1: _TEXT, 2: _TEXT, 3: _TEXT}
_TYPE = {1: _TEXT, 6: _TEXT}
_TENSOR_TYPE = {1: _ONE, 2: _TEXT}
_SHAPE = {1: _MANY}
_DIM = {1: _ONE, 2: _TEXT, 3: _TEXT}

# What some refused fields are called, for the message.
_REFUSED = {
    ("model", 20): "training graphs", ("model", 25): "functions", ("model", 26): "device settings",
    ("graph", 14): "quantisation notes", ("graph", 15): "sparse tensors", ("graph", 16): "metadata",
    ("attribute", 6): "subgraphs", ("attribute", 10): "lists of tensors", ("attribute", 11): "subgraphs",
    ("attribute", 14): "types", ("attribute", 15): "types", ("attribute", 21): "functions",
    ("attribute", 22): "sparse tensors", ("attribute", 23): "sparse tensors",
    ("tensor", 3): "tensors in segments", ("tensor", 6): "strings", ("tensor", 13): "external data",
    ("type", 4): "sequences", ("type", 5): "maps", ("type", 8): "sparse tensors", ("type", 9): "optional values",
}  # fmt: skip

# Element type -> (name, bytes an element, field that holds the elements where it is not raw_data).
_DTYPES = {
    1: ("float32", 4, 4), 2: ("uint8", 1, 5), 3: ("int8", 1, 5), 4: ("uint16", 2, 5), 5: ("int16", 2, 5),
    6: ("int32", 4, 5), 7: ("int64", 8, 7), 9: ("bool", 1, 5), 10: ("float16", 2, 5), 11: ("float64", 8, 10),
    12: ("uint32", 4, 11), 13: ("uint64", 8, 11),
}  # fmt: skip
_HIGH_BYTES = bytes(range(0x80, 0x100))


class WalkError(ValueError):
    """What was found that a sealed graph must not hold."""


class TensorInfo(NamedTuple):
    """Type and shape of an input or output, such as `float32`, `("batch", 28, 28, 1)`; None for an unknown size."""

    dtype: str
    shape: tuple[int | str | None, ...]


class WalkedGraph(NamedTuple):
    """What `walk` learned on its way."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    metadata: list[tuple[str, str]]
    metadata_last: bool
    num_nodes: int
    num_parameters: int


Span = tuple[int, int]


def walk(data: bytes) -> WalkedGraph:
    """Check a serialised ModelProto whole.

    Raises:
        WalkError: it is no protobuf, or holds anything outside the tables and limits of this module.
    """
    order: list[int] = []
    model = _fields(data, (0, len(data)), "model", _MODEL, order)
    _check_versions(data, model)
    if not model.get(7):
        raise WalkError("it holds no graph")
    graph = _fields(data, model[7][0], "graph", _GRAPH)
    nodes, tensors = graph.get(1, []), graph.get(5, [])
    if len(nodes) > MAX_NODES:
        raise WalkError(f"it has {len(nodes)} nodes, more than {MAX_NODES}")
    if len(tensors) > MAX_TENSORS:
        raise WalkError(f"it has {len(tensors)} tensors, more than {MAX_TENSORS}")
    parameters = sum(_check_tensor(data, span) for span in tensors)
    parameters += sum(_check_node(data, span) for span in nodes)
    for span in graph.get(13, []):
        _value(data, span)
    return WalkedGraph(
        inputs=_values(data, graph.get(11, []), "inputs"),
        outputs=_values(data, graph.get(12, []), "outputs"),
        metadata=[_metadata_entry(data, span) for span in model.get(14, [])],
        metadata_last=order[-2:] == [14, 14],
        num_nodes=len(nodes),
        num_parameters=parameters,
    )


def has_metadata(data: bytes) -> bool:
    """Tell whether a serialised ModelProto carries metadata_props."""
    return bool(_fields(data, (0, len(data)), "model", _MODEL).get(14))


def _check_versions(data: bytes, model: dict[int, list]) -> None:
    ir_version = model.get(1, [0])[0]
    if ir_version not in IR_VERSIONS:
        raise WalkError(f"its IR version is {ir_version}, expected {IR_VERSIONS[0]} to {IR_VERSIONS[-1]}")
    opsets = [_fields(data, span, "opset", _OPSET) for span in model.get(8, [])]
    if len(opsets) != 1:
        raise WalkError(f"it imports {len(opsets)} operator sets, expected the default one alone")
    if domain := _text(data, opsets[0].get(1, [(0, 0)])[0]):
        raise WalkError(f"it imports the operators of {domain!r}, expected the default ones alone")
    version = opsets[0].get(2, [0])[0]
    if version not in OPSETS:
        raise WalkError(f"its opset is {version}, expected {OPSETS[0]} to {OPSETS[-1]}")


def _check_node(data: bytes, span: Span) -> int:
    """Check a node; return how many elements its attributes hold as tensors."""
    node = _fields(data, span, "node", _NODE)
    op = _text(data, node.get(4, [(0, 0)])[0])
    if domain := _text(data, node.get(7, [(0, 0)])[0]):
        raise WalkError(f"it uses the operator {op!r} of {domain!r}, expected the default ones alone")
    if op not in ALLOWED_OPS:
        raise WalkError(f"it uses the operator {op!r}, which is not allowed")
    for number in (1, 2, 3):
        for name in node.get(number, []):
            _text(data, name)
    attributes = [_fields(data, attribute, "attribute", _ATTRIBUTE) for attribute in node.get(5, [])]
    names = [_text(data, attribute.get(1, [(0, 0)])[0]) for attribute in attributes]
    if len(set(names)) != len(names):
        raise WalkError(f"a node {op!r} has an attribute twice")
    return sum(_check_tensor(data, tensor) for attribute in attributes for tensor in attribute.get(5, []))


def _check_tensor(data: bytes, span: Span) -> int:
    """Check that a tensor holds just the bytes that its shape and type ask for; return how many elements it has."""
    tensor = _fields(data, span, "tensor", _TENSOR)
    name = _text(data, tensor.get(8, [(0, 0)])[0])
    if tensor.get(14, [0])[0] != 0:
        raise WalkError(f"the tensor {name!r} has external data")
    code = tensor.get(2, [0])[0]
    if code not in _DTYPES:
        raise WalkError(f"the tensor {name!r} has the element type {code}, which is not allowed")
    dtype, size, field = _DTYPES[code]
    dims = _numbers(data, tensor.get(1, []), MAX_DIMS)
    elements = 1
    for dim in dims:
        elements *= dim
        if dim >= MAX_ELEMENTS or elements >= MAX_ELEMENTS:  # A negative number reads as one above 2**63.
            raise WalkError(f"the tensor {name!r} is of an impossible size")
    filled = [number for number in (4, 5, 7, 9, 10, 11) if number in tensor]
    if len(filled) > 1 or (filled and filled[0] not in (9, field)):
        raise WalkError(f"the tensor {name!r} holds its {dtype} elements in the wrong field")
    if filled == [9]:
        start, end = tensor[9][0]
        found, expected = end - start, elements * size
    elif filled:
        found, expected = _count(data, tensor[field], field), elements
    else:
        found, expected = 0, elements
    if found != expected:
        raise WalkError(f"the tensor {name!r} of shape {dims} holds {found} bytes or elements, expected {expected}")
    return elements


def _count(data: bytes, parts: list, field: int) -> int:
    """Count the elements of a repeated number, packed or not."""
    total = 0
    for part in parts:
        if not isinstance(part, tuple):
            total += 1
        elif field in (4, 10):
            size = 4 if field == 4 else 8
            if (part[1] - part[0]) % size:
                raise WalkError("a packed list of numbers is cut short")
            total += (part[1] - part[0]) // size
        else:
            total += len(data[part[0] : part[1]].translate(None, _HIGH_BYTES))  # Each varint ends in a low byte.
    return total


def _values(data: bytes, spans: list[Span], what: str) -> dict[str, TensorInfo]:
    pairs = [_value(data, span) for span in spans]
    values = dict(pairs)
    if len(values) != len(pairs) or not values:
        raise WalkError(f"its {what} need names of their own, and at least one")
    return values


def _value(data: bytes, span: Span) -> tuple[str, TensorInfo]:
    value = _fields(data, span, "value", _VALUE)
    name = _text(data, value.get(1, [(0, 0)])[0])
    kind = _fields(data, value.get(2, [(0, 0)])[0], "type", _TYPE)
    tensor = _fields(data, kind.get(1, [(0, 0)])[0], "tensor type", _TENSOR_TYPE)
    code = tensor.get(1, [0])[0]
    if code not in _DTYPES or 2 not in tensor:
        raise WalkError(f"the value {name!r} has no known type and shape")
    spans = _fields(data, tensor[2][0], "shape", _SHAPE).get(1, [])
    if len(spans) > MAX_DIMS:
        raise WalkError(f"the value {name!r} has {len(spans)} axes, more than {MAX_DIMS}")
    shape: list[int | str | None] = []
    for dim in (_fields(data, dim, "dimension", _DIM) for dim in spans):
        shape.append(dim[1][0] if 1 in dim else _text(data, dim[2][0]) if 2 in dim else None)
    return name, TensorInfo(_DTYPES[code][0], tuple(shape))


def _metadata_entry(data: bytes, span: Span) -> tuple[str, str]:
    entry = _fields(data, span, "metadata", _ENTRY)
    return _text(data, entry.get(1, [(0, 0)])[0]), _text(data, entry.get(2, [(0, 0)])[0], limit=len(data))


def _text(data: bytes, span: Span, limit: int = MAX_NAME_BYTES) -> str:
    start, end = span
    if end - start > limit:
        raise WalkError(f"a name has {end - start} bytes, more than {limit}")
    try:
        return data[start:end].decode()
    except UnicodeDecodeError as error:
        raise WalkError("a name is no UTF-8") from error


def _numbers(data: bytes, parts: list, limit: int) -> list[int]:
    """Return a repeated varint field as a list, packed or not."""
    numbers: list[int] = []
    for part in parts:
        if isinstance(part, tuple):
            position, end = part
            while position < end and len(numbers) <= limit:
                number, position = _varint(data, position, end)
                numbers.append(number)
        else:
            numbers.append(part)
        if len(numbers) > limit:
            raise WalkError(f"a tensor has more than {limit} axes")
    return numbers


def _fields(
    data: bytes, span: Span, message: str, table: dict[int, tuple], order: list[int] | None = None
) -> dict[int, list]:
    """Split a message into its fields, each of which must stand in `table`.

    Returns:
        Field number to its values in order: an int for a varint, the pair (start, end) of its bytes otherwise.
        Numbers of fixed width that are not packed count as None.
    """
    position, end = span
    found: dict[int, list] = {}
    while position < end:
        tag, position = _varint(data, position, end)
        number, wire = tag >> 3, tag & 7
        rule = table.get(number)
        if rule is None:
            what = _REFUSED.get((message, number), f"the unknown field {number} in a {message}")
            raise WalkError(f"it holds {what}")
        wires, repeated = rule
        if wire not in wires:
            raise WalkError(f"field {number} of a {message} has the wrong wire type")
        if number in found and not repeated:
            raise WalkError(f"field {number} of a {message} stands there twice")
        value: int | Span | None = None
        if wire == _VARINT:
            value, position = _varint(data, position, end)
        elif wire == _LEN:
            size, start = _varint(data, position, end)
            position = start + size
            value = (start, position)
        else:
            position += 4 if wire == _I32 else 8
        if position > end:
            raise WalkError(f"a {message} is cut short")
        found.setdefault(number, []).append(value)
        if order is not None:
            order.append(number)
    return found


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return the number at `position` and the position after it."""
    value = shift = 0
    while position < end and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
    raise WalkError("a number is cut short or too long")
