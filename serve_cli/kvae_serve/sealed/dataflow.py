"""Data flow of a graph: each value is produced once, before it is used.

ONNX requires this, and ONNX Runtime checks it again. Here it also shows which divisions are of integers: the lowest
integer divided by -1 crashes the process (measured with onnxruntime 1.32 on x86-64), so integers may only be divided
by positive constants.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kvae_serve.sealed import ranks as rank_rules
from kvae_serve.sealed.allowed_ops import MAX_SIZE
from kvae_serve.sealed.protobuf import Reader, Span, WalkError

_FLOAT32, _INT64, _BOOL = 1, 7, 9
_FLOATS = {1, 10, 11}
# Highest number of each integer type.
_HIGHEST = {
    2: 2**8 - 1, 3: 2**7 - 1, 4: 2**16 - 1, 5: 2**15 - 1, 6: 2**31 - 1, 7: 2**63 - 1, 12: 2**32 - 1, 13: 2**64 - 1,
}  # fmt: skip
_MAX_DIVISORS = 1_000
_MAX_DEPTH = 2**40
# Element types for computing. Other types are for storage, and a Cast converts them.
_COMPUTED = {1, 6, 7, 9, 11}

# Operators whose results do not have the element type of their first input.
_MAKES_INT64 = {"ArgMax", "ArgMin", "Shape", "Size"}
_MAKES_BOOL = {
    "And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor",
}  # fmt: skip
# Operators that may produce empty tensors from non-empty inputs.
_MAY_EMPTY = {
    "AveragePool", "ConstantOfShape", "Expand", "MaxPool", "Pad", "Range", "Resize", "Shape",
    "Slice", "Split", "Tile", "TopK",
}  # fmt: skip
_AS_INPUT = {"CastLike": 1, "OneHot": 2, "Where": 1}


class Tensor(NamedTuple):
    """A constant of the file: name, code of its type, shape, size, and location of its elements."""

    name: str
    dtype: int
    dims: list[int]
    elements: int
    raw: Span | None
    numbers: list[Any]


class Node(NamedTuple):
    """A node: operator, names of inputs and outputs, and attributes as read by `validate`."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


def check(
    inputs: dict[str, int],
    input_ranks: dict[str, int],
    tensors: list[Tensor],
    nodes: list[Node],
    outputs: list[str],
    reader: Reader,
) -> None:
    """Raise `WalkError` if a value is produced twice or never, or integers may be divided by 0 or less.

    Args:
        inputs: Inputs of the graph, name to code of the element type.
        input_ranks: Number of axes of each input.
        tensors: Constants of the graph.
        nodes: Nodes in the order of the file.
        outputs: Names of the outputs of the graph.
        reader: Reader of the bytes that contain the tensors.
    """
    dtypes = dict(inputs)
    held = {tensor.name: tensor for tensor in tensors}
    ranks: dict[str, int | None] = dict(input_ranks)
    # Values that always have at least one element.
    filled = {*inputs, *(tensor.name for tensor in tensors if tensor.elements)}
    sizes = {tensor.name: tensor.elements for tensor in tensors}
    for tensor in tensors:
        _make(dtypes, tensor.name, tensor.dtype)
        _check_elements(tensor)
        ranks[tensor.name] = len(tensor.dims)
    for node in nodes:
        for name in node.inputs:
            if name and name not in dtypes:
                raise WalkError(f"a node {node.op!r} uses {name!r} before it is produced")
        _check_stored(node, dtypes)
        taken = [ranks.get(name) if name else -1 for name in node.inputs]
        rank_rules.check(node.op, taken, node.attributes)
        # A ConvTranspose of volumes reads out of bounds if its input is empty.
        if node.op == "ConvTranspose" and taken[1] == 5 and node.inputs[0] not in filled:
            raise WalkError("a node 'ConvTranspose' has an input that may be empty")
        _check_filled(node, filled, held, reader)
        if node.op in ("Div", "Mod") and len(node.inputs) == 2 and dtypes.get(node.inputs[0]) not in _FLOATS:
            _check_divisor(held.get(node.inputs[1]), node.op, reader)
        dtype = _result(node, dtypes)
        ranks[node.outputs[0]] = rank_rules.of_result(
            node.op, taken, sizes.get(node.inputs[-1]) if node.inputs else None
        )
        value = node.attributes.get("value")
        if node.op in ("Constant", "ConstantOfShape") and isinstance(value, Tensor):
            _check_elements(value)
        for index, name in enumerate(node.outputs):
            if name:
                # The second output of these two contains indices. Other operators have outputs of one type.
                _make(dtypes, name, _INT64 if index == 1 and node.op in ("TopK", "MaxPool") else dtype)
    for name in outputs:
        if name not in dtypes:
            raise WalkError(f"its output {name!r} is never produced")


def _make(dtypes: dict[str, int], name: str, dtype: int) -> None:
    if name in dtypes:
        raise WalkError(f"the value {name!r} is produced twice")
    dtypes[name] = dtype


def _result(node: Node, dtypes: dict[str, int]) -> int:
    """Return the element type of a node's result; unknown types count as integers."""
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


def _check_elements(tensor: Tensor) -> None:
    if not tensor.elements and (tensor.dtype, tensor.dims) != (_INT64, [0]):  # The shape of a scalar is empty.
        raise WalkError(f"the tensor {tensor.name!r} is empty")


def _check_stored(node: Node, dtypes: dict[str, int]) -> None:
    """Refuse arithmetic in storage types, which ONNX Runtime rarely implements, and not always safely."""
    if node.op != "Cast" and any(dtypes[name] not in _COMPUTED for name in node.inputs if name):
        raise WalkError(
            f"a node {node.op!r} computes with elements that are not float32, float64, int32, int64 or bool"
        )


def _check_filled(node: Node, filled: set[str], held: dict[str, Tensor], reader: Reader) -> None:
    """Track which values are known to be non-empty, and refuse operators that crash on empty inputs."""
    if node.op in ("GRU", "LSTM", "OneHot") and node.inputs[0] not in filled:
        raise WalkError(f"a node {node.op!r} has an input that may be empty")
    if node.op.startswith("Reduce") and len(node.inputs) > 1:
        axes = held.get(node.inputs[1])
        if axes is None or len(axes.dims) != 1:
            raise WalkError(f"a node {node.op!r} has axes that are not a constant list")
    if node.op == "Trilu" and len(node.inputs) > 1:
        diagonal = held.get(node.inputs[1])
        if diagonal is None or diagonal.elements != 1 or abs(_signed(diagonal, reader)) > MAX_SIZE:
            raise WalkError("a node 'Trilu' has a diagonal that is not a constant, or too far away")
    if node.op == "OneHot":
        _check_one_hot(held.get(node.inputs[1]), held.get(node.inputs[2]), reader)
    keeps = node.op not in _MAY_EMPTY
    if node.op in ("Expand", "Tile") and (sizes := held.get(node.inputs[1])) is not None:
        keeps = 0 < sizes.elements <= _MAX_DIVISORS and 0 not in _whole_numbers(sizes, reader)
    # Reshape keeps the number of elements, whatever its shape input is.
    if keeps and filled.issuperset(filter(None, node.inputs[:1] if node.op == "Reshape" else node.inputs)):
        filled.update(filter(None, node.outputs))


def _check_one_hot(depth: Tensor | None, values: Tensor | None, reader: Reader) -> None:
    if depth is not None and values is not None and depth.elements == 1 and values.dims == [2]:
        numbers = _whole_numbers(depth, reader)
        if numbers and 0 < numbers[0] <= min(_MAX_DEPTH, _HIGHEST[depth.dtype]):
            return
    raise WalkError("a node 'OneHot' has a depth or values that are not constants")


def _signed(tensor: Tensor, reader: Reader) -> int:
    """Return the first element of an integer tensor."""
    number = (_whole_numbers(tensor, reader) or [2**63])[0]
    return number if number <= _HIGHEST.get(tensor.dtype, 0) else number - 2 * _HIGHEST.get(tensor.dtype, 0) - 2


def _whole_numbers(tensor: Tensor, reader: Reader) -> list[int]:
    """Return the elements of an integer tensor, negative ones above the highest; an empty list for other tensors."""
    if tensor.dtype not in _HIGHEST:
        return []
    if tensor.raw is None:
        return reader.numbers(tensor.numbers, _MAX_DIVISORS) or []
    data = reader.data[tensor.raw[0] : tensor.raw[1]]
    size = len(data) // tensor.elements
    return [int.from_bytes(data[start : start + size], "little") for start in range(0, len(data), size)]


def _check_divisor(divisor: Tensor | None, op: str, reader: Reader) -> None:
    if divisor is not None and 0 < divisor.elements <= _MAX_DIVISORS:
        values = _whole_numbers(divisor, reader)
        # A negative number is read as one above the highest.
        if values and min(values) > 0 and max(values) <= _HIGHEST[divisor.dtype]:
            return
    raise WalkError(f"a node {op!r} divides integers by values that are not positive constants")
