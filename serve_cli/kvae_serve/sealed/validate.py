"""Validation of a whole ONNX file before ONNX Runtime reads it, with the standard library only.

Each protobuf message that a sealed graph may contain has a table of its fields. Anything else is refused: functions,
subgraphs, external and sparse tensors, fields of future versions. The tables form no cycle, so the depth is fixed and
nothing recurses. Field numbers are those of onnx.proto3, https://github.com/onnx/onnx. Afterwards `shapes`
infers the shape of every value.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from kvae_serve.sealed import allowed_ops, shapes
from kvae_serve.sealed.protobuf import (
    I32,
    I64,
    LEN,
    ONE,
    PART,
    TEXT,
    Fields,
    Reader,
    Rule,
    Span,
    WalkError,
    many,
    numbers,
)
from kvae_serve.sealed.protobuf import names as texts
from kvae_serve.sealed.shapes import Node, Tensor, Value

__all__ = ["TensorInfo", "WalkError", "WalkedGraph", "has_metadata", "walk"]

IR_VERSION = 8
OPSET = 18
MAX_NODES = 10_000
MAX_TENSORS = 10_000
MAX_DIMS = 8
MAX_ELEMENTS = 2**31
MAX_MANIFEST_BYTES = 2**20

_MODEL = {
    1: ONE, 2: TEXT, 3: TEXT, 4: TEXT, 5: ONE, 6: TEXT, 7: PART, 8: many(2, "operator sets"),
    14: many(2, "entries of metadata"),
}  # fmt: skip
_OPSET = {1: TEXT, 2: ONE}
_ENTRY = {1: TEXT, 2: Rule((LEN,), text=MAX_MANIFEST_BYTES)}
_GRAPH = {
    1: many(MAX_NODES, "nodes"), 2: TEXT, 5: many(MAX_TENSORS, "tensors"), 10: TEXT, 11: many(1_000, "inputs"),
    12: many(1_000, "outputs"), 13: many(4 * MAX_NODES, "values"),
}  # fmt: skip
_NODE = {
    1: texts(1_000, "inputs"), 2: texts(1_000, "outputs"), 3: TEXT, 4: TEXT, 5: many(100, "attributes"), 6: TEXT,
    7: TEXT,
}  # fmt: skip
_ATTRIBUTE = {
    1: TEXT, 2: Rule((I32,)), 3: ONE, 4: TEXT, 5: PART, 7: numbers(I32), 8: numbers(), 9: texts(1_000, "texts"),
    13: TEXT, 20: ONE,
}  # fmt: skip
_TENSOR = {
    1: numbers(), 2: ONE, 4: numbers(I32), 5: numbers(), 7: numbers(), 8: TEXT, 9: PART, 10: numbers(I64),
    11: numbers(), 12: TEXT, 14: ONE,
}  # fmt: skip
_SIDES = ((11, "inputs"), (12, "outputs"))
_VALUE = {1: TEXT, 2: PART, 3: TEXT}
_TYPE = {1: PART, 6: TEXT}
_TENSOR_TYPE = {1: ONE, 2: PART}
_SHAPE = {1: many(MAX_DIMS, "axes")}
_DIM = {1: ONE, 2: TEXT, 3: TEXT}

# Names of some refused fields, for error messages.
_REFUSED = {
    ("model", 20): "training graphs", ("model", 25): "functions", ("model", 26): "device settings",
    ("graph", 14): "quantisation notes", ("graph", 15): "sparse tensors", ("graph", 16): "metadata",
    ("attribute", 6): "subgraphs", ("attribute", 10): "lists of tensors", ("attribute", 11): "subgraphs",
    ("attribute", 14): "types", ("attribute", 15): "types", ("attribute", 21): "functions",
    ("attribute", 22): "sparse tensors", ("attribute", 23): "sparse tensors",
    ("tensor", 3): "tensors in segments", ("tensor", 6): "strings", ("tensor", 13): "external data",
    ("type", 4): "sequences", ("type", 5): "maps", ("type", 8): "sparse tensors", ("type", 9): "optional values",
}  # fmt: skip

# Type of an attribute -> field of its value. Graphs, sparse tensors, types and lists of them are not allowed.
_ATTRIBUTE_TYPES = {
    allowed_ops.FLOAT: 2, allowed_ops.INT: 3, allowed_ops.STRING: 4, allowed_ops.TENSOR: 5, allowed_ops.FLOATS: 7,
    allowed_ops.INTS: 8, allowed_ops.STRINGS: 9,
}  # fmt: skip

# Element type -> (name, bytes per element, field of the elements if they are not in raw_data).
_DTYPES = {
    1: ("float32", 4, 4), 2: ("uint8", 1, 5), 3: ("int8", 1, 5), 4: ("uint16", 2, 5), 5: ("int16", 2, 5),
    6: ("int32", 4, 5), 7: ("int64", 8, 7), 9: ("bool", 1, 5), 10: ("float16", 2, 5), 11: ("float64", 8, 10),
    12: ("uint32", 4, 11), 13: ("uint64", 8, 11),
}  # fmt: skip


class TensorInfo(NamedTuple):
    """Type and shape of an input or output, such as `float32`, `("batch", 28, 28, 1)`. Unknown sizes are None."""

    dtype: str
    shape: tuple[int | str | None, ...]


class WalkedGraph(NamedTuple):
    """Content of a validated graph."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    metadata: list[tuple[str, str]]
    metadata_last: bool
    num_nodes: int
    num_parameters: int
    computation: shapes.Graph


def walk(data: bytes) -> WalkedGraph:
    """Validate a serialised ModelProto.

    Raises:
        WalkError: If it is not protobuf, or contains anything outside the tables and limits of this module.
    """
    reader, layout = Reader(data), list[tuple[int, Span]]()
    model = model_fields(reader, layout)
    _check_versions(reader, model)
    graph = graph_fields(reader, model)
    tensors = [read_tensor(reader, span) for span in graph.get(5, [])]
    nodes = [read_node(reader, span) for span in graph.get(1, [])]
    for span in graph.get(13, []):
        _value(reader, span)
    inputs, outputs = (_values(reader, graph.get(number, []), kind) for number, kind in _SIDES)
    computation = _computation(reader, inputs, outputs, tensors, nodes)
    shapes.check_batch_axes(shapes.infer(computation, 1), shapes.infer(computation, 2))
    return WalkedGraph(
        inputs={name: info for name, (_, info) in inputs.items()},
        outputs={name: info for name, (_, info) in outputs.items()},
        metadata=[_metadata_entry(reader, span) for span in model.get(14, [])],
        metadata_last=[number for number, _ in layout[-2:]] == [14, 14],
        num_nodes=len(nodes),
        num_parameters=sum(tensor.elements for tensor in tensors)
        + sum(
            math.prod(value.shape) for node in nodes for value in node.attributes.values() if isinstance(value, Value)
        ),
        computation=computation,
    )


def computation(data: bytes) -> shapes.Graph:
    """Return the computation of a serialised ModelProto without checking its versions and shapes."""
    reader = Reader(data)
    graph = graph_fields(reader, model_fields(reader))
    tensors = [read_tensor(reader, span) for span in graph.get(5, [])]
    nodes = [read_node(reader, span) for span in graph.get(1, [])]
    inputs, outputs = (_values(reader, graph.get(number, []), kind) for number, kind in _SIDES)
    return _computation(reader, inputs, outputs, tensors, nodes)


def _computation(
    reader: Reader,
    inputs: dict[str, tuple[int, TensorInfo]],
    outputs: dict[str, tuple[int, TensorInfo]],
    tensors: list[Tensor],
    nodes: list[Node],
) -> shapes.Graph:
    constants = {tensor.name: shapes.constant(tensor, reader) for tensor in tensors}
    if len(constants) != len(tensors):
        raise WalkError("it defines a tensor twice")
    declared_inputs, declared_outputs = (
        {name: (code, info.shape) for name, (code, info) in side.items()} for side in (inputs, outputs)
    )
    return shapes.Graph(declared_inputs, declared_outputs, constants, nodes)


def has_metadata(data: bytes) -> bool:
    """Return whether a serialised ModelProto contains metadata_props."""
    return 14 in model_fields(Reader(data))


def model_fields(reader: Reader, layout: list[tuple[int, Span]] | None = None) -> Fields:
    """Return the fields of the ModelProto that the reader holds; `layout` is filled as in `Reader.fields`."""
    return reader.fields((0, len(reader.data)), "model", _MODEL, _REFUSED, layout)


def graph_fields(reader: Reader, model: Fields, layout: list[tuple[int, Span]] | None = None) -> Fields:
    """Return the fields of a model's graph; `layout` is filled as in `Reader.fields`."""
    if 7 not in model:
        raise WalkError("it does not contain a graph")
    return reader.fields(model[7][0], "graph", _GRAPH, _REFUSED, layout)


def value_names(reader: Reader, graph: Fields) -> set[str]:
    """Return the names of a graph's inputs and outputs."""
    return {_value(reader, span)[0] for number in (11, 12) for span in graph.get(number, [])}


def _first(fields: Fields, number: int, default: Any) -> Any:
    return fields[number][0] if number in fields else default


def _check_versions(reader: Reader, model: Fields) -> None:
    ir_version = _first(model, 1, 0)
    if ir_version != IR_VERSION:
        raise WalkError(f"its IR version is {ir_version}, expected {IR_VERSION}")
    opsets = [reader.fields(span, "opset", _OPSET) for span in model.get(8, [])]
    if len(opsets) != 1:
        raise WalkError(f"it imports {len(opsets)} operator sets, expected only the default one")
    if domain := _first(opsets[0], 1, ""):
        raise WalkError(f"it imports the operators of {domain!r}, expected only the default ones")
    version = _first(opsets[0], 2, 0)
    if version != OPSET:
        raise WalkError(f"its opset is {version}, expected {OPSET}")


def read_node(reader: Reader, span: Span) -> Node:
    """Read a node, checking its operator, its attributes and its form."""
    node = reader.fields(span, "node", _NODE)
    op = _first(node, 4, "")
    if domain := _first(node, 7, ""):
        raise WalkError(f"it uses the operator {op!r} of {domain!r}, expected only the default ones")
    if op not in allowed_ops.ALLOWED_OPS:
        raise WalkError(f"it uses the operator {op!r}, which is not allowed")
    attributes: dict[str, tuple[int, Any]] = {}
    for each in node.get(5, []):
        name, kind, value = _attribute(reader, each, op)
        if name in attributes:
            raise WalkError(f"a node {op!r} has an attribute twice")
        attributes[name] = kind, value
    inputs, outputs = node.get(1, []), node.get(2, [])
    if fault := allowed_ops.fault(op, inputs, outputs, attributes):
        raise WalkError(f"a node {op!r} {fault}", _first(node, 3, ""))
    values = {name: value for name, (_, value) in attributes.items()}
    return Node(op, inputs, outputs, values, _first(node, 3, ""))


def _attribute(reader: Reader, span: Span, op: str) -> tuple[str, int, Any]:
    """Return name, type and value of an attribute: an int, a text, a `Tensor` or a list; None for a float."""
    attribute = reader.fields(span, "attribute", _ATTRIBUTE, _REFUSED)
    name, kind = _first(attribute, 1, ""), _first(attribute, 20, 0)
    tensor = shapes.constant(read_tensor(reader, attribute[5][0]), reader) if 5 in attribute else None
    field = _ATTRIBUTE_TYPES.get(kind)
    # A missing number or text has a defined default. For anything else ONNX Runtime would have to guess.
    if field is None or attribute.keys() - {1, 13, 20, field} or (kind == allowed_ops.TENSOR and tensor is None):
        raise WalkError(f"the attribute {name!r} of a node {op!r} does not match its declared type")
    if (op == "Cast" and name == "to" and _first(attribute, 3, 0) not in _DTYPES) or name.startswith("value_string"):
        raise WalkError(f"a node {op!r} produces strings or elements that are not numbers")
    parts = attribute.get(field, [])
    value: Any = None
    if kind == allowed_ops.INT:
        value = _signed(_first(attribute, 3, 0))
    elif kind == allowed_ops.STRING:
        value = _first(attribute, 4, "")
    elif kind == allowed_ops.TENSOR:
        value = tensor
    elif kind == allowed_ops.STRINGS:
        value = parts
    elif kind in (allowed_ops.FLOATS, allowed_ops.INTS):
        count = reader.count(parts, 4 if kind == allowed_ops.FLOATS else 0)
        if count > allowed_ops.MAX_LIST:
            raise WalkError(f"the attribute {name!r} of a node {op!r} has more than {allowed_ops.MAX_LIST} numbers")
        value = [None] * count
        if kind == allowed_ops.INTS:
            value = [_signed(number) for number in reader.numbers(parts, allowed_ops.MAX_LIST) or []]
    return name, kind, value


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def read_tensor(reader: Reader, span: Span) -> Tensor:
    """Read a tensor, checking that it has exactly the bytes of its shape and type."""
    tensor = reader.fields(span, "tensor", _TENSOR, _REFUSED)
    name = _first(tensor, 8, "")
    if _first(tensor, 14, 0) != 0:
        raise WalkError(f"the tensor {name!r} has external data")
    code = _first(tensor, 2, 0)
    if code not in _DTYPES:
        raise WalkError(f"the tensor {name!r} has the element type {code}, which is not allowed")
    dtype, size, field = _DTYPES[code]
    dims = reader.numbers(tensor.get(1, []), MAX_DIMS)
    if dims is None:
        raise WalkError(f"a tensor has more than {MAX_DIMS} axes")
    elements = 1
    for dim in dims:
        elements *= dim
        if dim >= MAX_ELEMENTS or elements >= MAX_ELEMENTS:  # A negative number is read as one above 2**63.
            raise WalkError(f"the tensor {name!r} has an impossible size")
    filled = [number for number in (4, 5, 7, 9, 10, 11) if number in tensor]
    if len(filled) > 1 or (filled and filled[0] not in (9, field)):
        raise WalkError(f"the tensor {name!r} has its {dtype} elements in the wrong field")
    if filled == [9]:
        start, end = tensor[9][0]
        found, expected = end - start, elements * size
    elif filled:
        found, expected = reader.count(tensor[field], {4: 4, 10: 8}.get(field, 0)), elements
    else:
        found, expected = 0, elements
    if found != expected:
        raise WalkError(f"the tensor {name!r} of shape {dims} has {found} bytes or elements, expected {expected}")
    return Tensor(name, code, dims, elements, tensor[9][0] if filled == [9] else None, tensor.get(field, []))


def _values(reader: Reader, spans: list[Span], kind: str) -> dict[str, tuple[int, TensorInfo]]:
    triples = [_value(reader, span) for span in spans]
    values = {name: (code, info) for name, code, info in triples}
    if len(values) != len(triples) or not values:
        raise WalkError(f"its {kind} must have different names, and there must be at least one")
    return values


def _value(reader: Reader, span: Span) -> tuple[str, int, TensorInfo]:
    value = reader.fields(span, "value", _VALUE)
    name = _first(value, 1, "")
    kind = reader.fields(_first(value, 2, (0, 0)), "type", _TYPE, _REFUSED)
    tensor = reader.fields(_first(kind, 1, (0, 0)), "tensor type", _TENSOR_TYPE)
    code = _first(tensor, 1, 0)
    if code not in _DTYPES or 2 not in tensor:
        raise WalkError(f"the value {name!r} lacks a known type and shape")
    dims = [reader.fields(dim, "dimension", _DIM) for dim in reader.fields(tensor[2][0], "shape", _SHAPE).get(1, [])]
    shape: list[int | str | None] = [_first(dim, 1, _first(dim, 2, None)) for dim in dims]
    return name, code, TensorInfo(_DTYPES[code][0], tuple(shape))


def _metadata_entry(reader: Reader, span: Span) -> tuple[str, str]:
    entry = reader.fields(span, "metadata", _ENTRY)
    return _first(entry, 1, ""), _first(entry, 2, "")
