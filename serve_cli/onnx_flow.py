"""The values of a graph, followed from node to node: each is made once, before it is used, by something known.

ONNX asks for as much, and ONNX Runtime checks it again. Here it is needed for one thing more: to know which divisions
are of whole numbers. Those stop the processor, and with it the process, at the lowest number divided by -1 (measured
with onnxruntime 1.32 on x86-64), so they are allowed by constants above 0 alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from serve_cli.protobuf import Reader, Span, WalkError

_FLOAT32, _INT64, _BOOL = 1, 7, 9
_FLOATS = {1, 10, 11}
# Highest number of each type of whole numbers.
_HIGHEST = {
    2: 2**8 - 1, 3: 2**7 - 1, 4: 2**16 - 1, 5: 2**15 - 1, 6: 2**31 - 1, 7: 2**63 - 1, 12: 2**32 - 1, 13: 2**64 - 1,
}  # fmt: skip
_MAX_DIVISORS = 1_000

# Operators whose results have another element type than their first input.
_MAKES_INT64 = {"ArgMax", "ArgMin", "Shape", "Size"}
_MAKES_BOOL = {
    "And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor",
}  # fmt: skip
_AS_INPUT = {"CastLike": 1, "OneHot": 2, "Where": 1}


class Tensor(NamedTuple):
    """A tensor that the file holds: its name, code of its type, size, and where its elements are."""

    name: str
    dtype: int
    elements: int
    raw: Span | None
    numbers: list[Any]


class Node(NamedTuple):
    """An operator, the names of what it takes and makes, and those attributes that are a number or a `Tensor`."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


def check(inputs: dict[str, int], tensors: list[Tensor], nodes: list[Node], outputs: list[str], reader: Reader) -> None:
    """Raise `WalkError` where a value is made twice or never, or whole numbers may be divided by 0 or less.

    Args:
        inputs: the graph's, name to code of the element type.
        tensors: what the graph holds.
        nodes: in the order of the file.
        outputs: names of what the graph gives.
        reader: of the bytes in which the tensors lie.
    """
    dtypes = dict(inputs)
    held = {tensor.name: tensor for tensor in tensors}
    for tensor in tensors:
        _make(dtypes, tensor.name, tensor.dtype)
    for node in nodes:
        for name in node.inputs:
            if name and name not in dtypes:
                raise WalkError(f"a node {node.op!r} takes {name!r}, which nothing before it makes")
        if node.op in ("Div", "Mod") and len(node.inputs) == 2 and dtypes.get(node.inputs[0]) not in _FLOATS:
            _check_divisor(held.get(node.inputs[1]), node.op, reader)
        dtype = _result(node, dtypes)
        for index, name in enumerate(node.outputs):
            if name:
                # The second output of these two holds places; those of other operators are of one type.
                _make(dtypes, name, _INT64 if index == 1 and node.op in ("TopK", "MaxPool") else dtype)
    for name in outputs:
        if name not in dtypes:
            raise WalkError(f"its output {name!r} is made by nothing")


def _make(dtypes: dict[str, int], name: str, dtype: int) -> None:
    if name in dtypes:
        raise WalkError(f"the value {name!r} is made twice")
    dtypes[name] = dtype


def _result(node: Node, dtypes: dict[str, int]) -> int:
    """Return the element type of what a node makes; whatever is not known for sure counts as whole numbers."""
    if node.op in _MAKES_INT64:
        return _INT64
    if node.op in _MAKES_BOOL:
        return _BOOL
    if node.op == "Cast":
        return node.attributes.get("to") or _INT64
    if node.op in ("Constant", "ConstantOfShape"):
        value = node.attributes.get("value")
        if isinstance(value, Tensor):
            return value.dtype
        floats = node.op == "ConstantOfShape" or {"value_float", "value_floats"} & node.attributes.keys()
        return _FLOAT32 if floats else _INT64
    place = _AS_INPUT.get(node.op, 0)
    return dtypes.get(node.inputs[place], _INT64) if len(node.inputs) > place else _INT64


def _check_divisor(divisor: Tensor | None, op: str, reader: Reader) -> None:
    if divisor is not None and divisor.dtype in _HIGHEST and 0 < divisor.elements <= _MAX_DIVISORS:
        if divisor.raw is None:
            values = reader.numbers(divisor.numbers, _MAX_DIVISORS) or [0]
        else:
            data = reader.data[divisor.raw[0] : divisor.raw[1]]
            size = len(data) // divisor.elements
            values = [int.from_bytes(data[start : start + size], "little") for start in range(0, len(data), size)]
        # A negative number reads as one above the highest.
        if min(values) > 0 and max(values) <= _HIGHEST[divisor.dtype]:
            return
    raise WalkError(f"a node {op!r} divides whole numbers by other things than constants above 0")
