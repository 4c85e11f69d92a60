"""Element type and concrete shape of every value of a graph at one batch size, computed before anything runs.

`infer` passes through the nodes once. Each allowed operator has one function, which checks the inputs as the ONNX
specification (opset 18) defines them, or more narrowly, and returns the output. The same pass computes small integer
tensors, because shapes depend on them. A graph is refused if a shape is not known, contains a zero, depends on data or
contradicts a declaration. ONNX Runtime checks few of these conditions, and some violations end its process. `memory`
derives an upper bound of the memory of a run.
"""

from __future__ import annotations

import math
import operator
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kvae_serve.sealed.protobuf import Reader, Span, WalkError

FLOAT32, INT32, INT64, BOOL, FLOAT64 = 1, 6, 7, 9, 11
MAX_ELEMENTS = 2**31
MAX_RANK = 8
MAX_NUMBERS = 128
"""Longest integer tensor whose elements are computed; shapes, axes and divisors are shorter."""

# Element type -> bytes per element, and its format in the module struct.
SIZES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8}
_FORMATS = {1: "f", 2: "B", 3: "b", 4: "H", 5: "h", 6: "i", 7: "q", 9: "?", 12: "I", 13: "Q"}
_RANGES = {
    2: (0, 2**8), 3: (-(2**7), 2**7), 4: (0, 2**16), 5: (-(2**15), 2**15), 6: (-(2**31), 2**31),
    7: (-(2**63), 2**63), 9: (0, 2), 12: (0, 2**32), 13: (0, 2**64),
}  # fmt: skip
# Types whose elements are computed: all integers, and float32 with one rounding per operation.
_EXACT = {FLOAT32, *_RANGES}
# Other types are for storage: only Cast reads them.
_COMPUTED = {FLOAT32, INT32, INT64, BOOL, FLOAT64}
_FLOATS, _INTS, _NUMBERS = {FLOAT32, FLOAT64}, {INT32, INT64}, {FLOAT32, INT32, INT64, FLOAT64}


# Inputs that may be the shape of a scalar.
_EMPTY = {("Concat", 0), ("Concat", 1), ("ConstantOfShape", 0), ("Expand", 1), ("Reshape", 1)}


class Tensor(NamedTuple):
    """A constant of the file: its name, element type, size, and the location of its elements."""

    name: str
    dtype: int
    dims: list[int]
    elements: int
    raw: Span | None
    numbers: list[Any]


class Node(NamedTuple):
    """An operator, the names of its inputs and outputs, its attributes, and its own name."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    name: str = ""


class Value(NamedTuple):
    """Element type and shape of a value, and its elements in a flat tuple if they are known."""

    dtype: int
    shape: tuple[int, ...]
    numbers: tuple[Any, ...] | None = None

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * SIZES[self.dtype]


class Graph(NamedTuple):
    """The computation of a file: inputs and outputs with declared type and shape, constants, and nodes in order."""

    inputs: dict[str, tuple[int, tuple[int | str | None, ...]]]
    outputs: dict[str, tuple[int, tuple[int | str | None, ...]]]
    constants: dict[str, Value]
    nodes: list[Node]


Inputs = list[Any]  # A Value per input, None for one that is left out. Checked in `infer` by the form of the operator.


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise WalkError(message)


def constant(tensor: Tensor, reader: Reader) -> Value:
    """Return a constant as a value, with its elements if they are few."""
    empty_shape = (tensor.dtype, tensor.dims) == (INT64, [0])  # The shape of a scalar is empty.
    _expect(tensor.elements > 0 or empty_shape, f"the tensor {tensor.name!r} is empty")
    numbers: tuple[Any, ...] | None = None
    if tensor.dtype in _FORMATS and tensor.elements <= MAX_NUMBERS:
        if empty_shape:
            numbers = ()
        elif tensor.raw is not None or (tensor.dtype == FLOAT32 and list(map(type, tensor.numbers)) == [tuple]):
            span = tensor.raw or tensor.numbers[0]
            numbers = struct.unpack(f"<{tensor.elements}{_FORMATS[tensor.dtype]}", reader.data[slice(*span)])
        elif tensor.dtype in _RANGES:
            bits = 32 if tensor.dtype not in (INT64, 12, 13) else 64  # The width of the field that stores the elements.
            read = reader.numbers(tensor.numbers, MAX_NUMBERS) or []
            low = 0 if tensor.dtype in (12, 13) else 2 ** (bits - 1)
            numbers = _exact(tensor.dtype, [(number + low) % 2**bits - low for number in read])
    if tensor.dtype == FLOAT32 and not all(map(math.isfinite, numbers or ())):
        numbers = None
    return Value(tensor.dtype, tuple(tensor.dims), numbers)


def infer(graph: Graph, batch: int, *, allow_empty: bool = False) -> dict[str, Value]:
    """Return every value of a graph at one batch size.

    Args:
        graph: The computation of a file.
        batch: Batch size.
        allow_empty: Accept empty values, such as `shape[3:]` of three axes. The exporter removes them; a file may not
            contain them.

    Raises:
        WalkError: A value is not defined before its use, or its shape is unknown, empty or contradictory. The attribute
            `node` of the error is the name of the node.
    """
    values: dict[str, Value] = {}
    for name, (dtype, shape) in graph.inputs.items():
        values[name] = Value(dtype, _declared(name, shape, batch))
    for name, value in graph.constants.items():
        _expect(name not in values, f"the value {name!r} is produced twice")
        values[name] = value
    for node in graph.nodes:
        try:
            for name, value in zip(node.outputs, _outputs(node, values, allow_empty), strict=False):
                if name:
                    _expect(name not in values, f"produces {name!r}, which is produced twice")
                    values[name] = value
        except WalkError as error:
            raise WalkError(f"a node {node.op!r} {error}", node.name) from error
    for name, (dtype, shape) in graph.outputs.items():
        _expect(name in values, f"its output {name!r} is never produced")
        found, expected = values[name], _declared(name, shape, batch)
        _expect(
            (found.dtype, found.shape) == (dtype, expected),
            f"its output {name!r} has shape {list(found.shape)} for a batch of {batch}, declared {list(expected)}",
        )
    return values


def check_batch_axes(one: dict[str, Value], two: dict[str, Value]) -> None:
    """Refuse values with an axis that is neither constant nor proportional to the batch.

    Args:
        one: Values at batch size 1.
        two: Values at batch size 2.
    """
    for name, value in one.items():
        other = two[name].shape
        if len(other) != len(value.shape) or any(b not in (a, 2 * a) for a, b in zip(value.shape, other, strict=True)):
            raise WalkError(f"{name!r} has an axis that is neither constant nor proportional to the batch")


def _declared(name: str, shape: Sequence[int | str | None], batch: int) -> tuple[int, ...]:
    sizes = [batch if isinstance(size, str) else size for size in shape]
    _expect(all(size for size in sizes), f"the shape of {name!r} is not declared, or is empty")
    return tuple(size for size in sizes if size)


def _outputs(node: Node, values: dict[str, Value], allow_empty: bool) -> list[Value]:
    inputs: Inputs = []
    for name in node.inputs:
        _expect(not name or name in values, f"uses {name!r} before it is produced")
        inputs.append(values[name] if name else None)
    known = [value for value in inputs if value is not None]
    # The shape of a scalar is the only empty value, and other operators than these do not always expect it.
    empty = [index for index, value in enumerate(inputs) if value is not None and 0 in value.shape]
    _expect(
        allow_empty or all((node.op, index) in _EMPTY or (node.op[:6] == "Reduce" and index == 1) for index in empty),
        "has an empty input",
    )
    if node.op != "Cast":
        _expect(
            all(v.dtype in _COMPUTED for v in known),
            "computes with elements that are not float32, float64, int32, int64 or bool",
        )
    found = SHAPES[node.op](node, inputs)
    outputs = found if isinstance(found, list) else [found]
    out = outputs[0]
    if allow_empty and out.shape == (0,) and all(value.numbers is not None for value in known):
        return [out._replace(numbers=()), *outputs[1:]]
    for value in outputs:
        # Only the shape of a scalar is empty.
        _expect(allow_empty or 0 not in value.shape or value.numbers == (), "has an empty output")
        _expect(len(value.shape) <= MAX_RANK, f"has an output of more than {MAX_RANK} axes")
        _expect(
            math.prod(value.shape) < MAX_ELEMENTS, f"has an output of shape {list(value.shape)}, which is too large"
        )
    small = out.numbers is None and out.dtype in _EXACT and math.prod(out.shape) <= MAX_NUMBERS
    exact = all(value.numbers is not None and value.dtype in _EXACT for value in known)
    if node.op in _EVALUATE and small and exact:
        outputs = [out._replace(numbers=_exact(out.dtype, _EVALUATE[node.op](node, inputs, out))), *outputs[1:]]
    return outputs


def _exact(dtype: int, numbers: Sequence[Any] | None) -> tuple[Any, ...] | None:
    """Return numbers as elements of a type, or None if one does not fit."""
    if numbers is None:
        return None
    if dtype == FLOAT32:
        numbers = [_single(number) for number in numbers]
        return tuple(numbers) if all(map(math.isfinite, numbers)) else None
    low, high = _RANGES[dtype]
    # Conversion to an integer discards the fraction, to a bool everything but zero.
    whole = [number != 0 if dtype == BOOL else int(number) for number in numbers if math.isfinite(number)]
    return tuple(whole) if len(whole) == len(numbers) and all(low <= each < high for each in whole) else None


# --- Parts of the shape functions ---


def _list(value: Any, what: str, length: int | None = None) -> list[int]:
    """Return the elements of an integer vector, such as a shape or axes."""
    _expect(value is not None and value.dtype in _INTS and len(value.shape) == 1, f"has {what} that are not integers")
    _expect(value.numbers is not None, f"has {what} that depend on data")
    _expect(length is None or len(value.numbers) == length, f"has {len(value.numbers)} numbers as {what}")
    return list(value.numbers)


def _scalar(value: Any, what: str) -> int:
    return _list(value._replace(shape=value.shape or (1,)), what, 1)[0]


def _axis(axis: int, rank: int) -> int:
    _expect(-rank <= axis < rank, f"has the axis {axis} for {rank} axes")
    return axis % rank


def _axes(axes: Sequence[int], rank: int) -> list[int]:
    found = [_axis(axis, rank) for axis in axes]
    _expect(len(set(found)) == len(found), "has an axis twice")
    return found


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    rank = max(map(len, shapes))
    sizes = []
    for column in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        size = 0 if 0 in column else max(column)  # Only the exporter computes with empty values.
        _expect(
            all(each in (1, size) for each in column),
            f"combines the shapes {' and '.join(map(str, map(list, shapes)))}",
        )
        sizes.append(size)
    return tuple(sizes)


def _typed(inputs: Inputs, allowed: set[int]) -> int:
    """Return the common element type of the inputs."""
    dtypes = {value.dtype for value in inputs if value is not None}
    _expect(len(dtypes) == 1, "has inputs of different types")
    _expect(dtypes <= allowed, "has inputs of a type that it does not support")
    return dtypes.pop()


def _vector(value: Any, size: int, what: str) -> None:
    _expect(value is None or value.shape == (size,), f"has a {what} of another shape than [{size}]")


# --- One function per form of operator ---


def _same(allowed: set[int]) -> Callable:
    return lambda node, inputs: Value(_typed(inputs, allowed), inputs[0].shape)


def _elementwise(allowed: set[int], result: int | None = None) -> Callable:
    def shape(node: Node, inputs: Inputs) -> Value:
        dtype = _typed(inputs, allowed)
        return Value(result or dtype, _broadcast(*(value.shape for value in inputs)))

    return shape


def _divide(node: Node, inputs: Inputs) -> Value:
    found = _elementwise(_NUMBERS)(node, inputs)
    if found.dtype in _INTS:
        # The processor stops at 0, and at the lowest number divided by -1.
        divisors = inputs[1].numbers
        _expect(divisors is not None, "divides integers by numbers that depend on data")
        _expect(not {0, -1} & set(divisors), "divides integers by 0 or -1")
    return found


def _softmax(node: Node, inputs: Inputs) -> Value:
    _axis(node.attributes.get("axis", -1), len(inputs[0].shape))
    return _same({FLOAT32})(node, inputs)


def _cast(node: Node, inputs: Inputs) -> Value:
    return Value(node.attributes["to"], inputs[0].shape)


def _constant(node: Node, inputs: Inputs) -> Value:
    ((name, value),) = node.attributes.items()
    if name == "value":
        return value
    numbers = value if isinstance(value, list) else [value]
    shape = (len(numbers),) if isinstance(value, list) else ()
    if name.startswith("value_int"):
        return Value(INT64, shape, tuple(numbers) if len(numbers) <= MAX_NUMBERS else None)
    return Value(FLOAT32, shape)


def _constant_of_shape(node: Node, inputs: Inputs) -> Value:
    value = node.attributes.get("value", Value(FLOAT32, (1,)))
    _expect(value.shape == (1,), "is filled with more than one number")
    return Value(value.dtype, tuple(_list(inputs[0], "sizes")))


def _shape(node: Node, inputs: Inputs) -> Value:
    rank = len(inputs[0].shape)
    start, end = (
        min(max(number + rank * (number < 0), 0), rank)
        for number in (node.attributes.get("start", 0), node.attributes.get("end", rank))
    )
    numbers = inputs[0].shape[start:end]
    return Value(INT64, (len(numbers),), numbers)


def _size(node: Node, inputs: Inputs) -> Value:
    return Value(INT64, (), (math.prod(inputs[0].shape),))


def _reshape(node: Node, inputs: Inputs) -> Value:
    data, sizes = inputs[0], _list(inputs[1], "sizes")
    _expect(all(size >= -1 for size in sizes) and sizes.count(-1) <= 1, f"reshapes to {sizes}")
    if not node.attributes.get("allowzero", 0):
        _expect(all(size or index < len(data.shape) for index, size in enumerate(sizes)), f"reshapes to {sizes}")
        sizes = [size or data.shape[index] for index, size in enumerate(sizes)]
    rest = math.prod(size for size in sizes if size != -1)
    total = math.prod(data.shape)
    _expect(rest > 0 and total % rest == 0, f"reshapes {list(data.shape)} to {sizes}")
    found = tuple(total // rest if size == -1 else size for size in sizes)
    _expect(math.prod(found) == total, f"reshapes {list(data.shape)} to {sizes}")
    return Value(data.dtype, found)


def _squeeze(node: Node, inputs: Inputs) -> Value:
    shape = inputs[0].shape
    if len(inputs) > 1:
        axes = _axes(_list(inputs[1], "axes"), len(shape))
    else:
        axes = [axis for axis, size in enumerate(shape) if size == 1]
    _expect(all(shape[axis] == 1 for axis in axes), f"squeezes {list(shape)} at the axes {axes}")
    return Value(inputs[0].dtype, tuple(size for axis, size in enumerate(shape) if axis not in axes))


def _unsqueeze(node: Node, inputs: Inputs) -> Value:
    added = _list(inputs[1], "axes")
    rank = len(inputs[0].shape) + len(added)
    axes, sizes = _axes(added, rank), iter(inputs[0].shape)
    return Value(inputs[0].dtype, tuple(1 if axis in axes else next(sizes) for axis in range(rank)))


def _flatten(node: Node, inputs: Inputs) -> Value:
    shape, axis = inputs[0].shape, node.attributes.get("axis", 1)
    _expect(-len(shape) <= axis <= len(shape), f"flattens at the axis {axis}")
    axis += len(shape) if axis < 0 else 0
    return Value(inputs[0].dtype, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def _transpose(node: Node, inputs: Inputs) -> Value:
    rank = len(inputs[0].shape)
    order = node.attributes.get("perm", list(range(rank))[::-1])
    _expect(sorted(order) == list(range(rank)), f"transposes {rank} axes by {order}")
    return Value(inputs[0].dtype, tuple(inputs[0].shape[axis] for axis in order))


def _expand(node: Node, inputs: Inputs) -> Value:
    sizes = tuple(_list(inputs[1], "sizes"))
    _expect(all(size > 0 for size in sizes), f"expands to {list(sizes)}")
    return Value(inputs[0].dtype, _broadcast(inputs[0].shape, sizes))


def _tile(node: Node, inputs: Inputs) -> Value:
    repeats = _list(inputs[1], "repeats", len(inputs[0].shape))
    _expect(inputs[1].dtype == INT64 and all(each > 0 for each in repeats), f"repeats {repeats} times")
    return Value(inputs[0].dtype, tuple(map(operator.mul, inputs[0].shape, repeats)))


def _concat(node: Node, inputs: Inputs) -> Value:
    dtype, shapes = _typed(inputs, _COMPUTED), [list(value.shape) for value in inputs]
    axis = _axis(node.attributes["axis"], len(shapes[0]))
    joined = sum(shape[axis] for shape in shapes if len(shape) == len(shapes[0]))
    for shape in shapes:
        shape[axis : axis + 1] = [joined]
        _expect(shape == shapes[0], "concatenates shapes that do not fit")
    return Value(dtype, tuple(shapes[0]))


def _split(node: Node, inputs: Inputs) -> list[Value]:
    data, num = inputs[0], len(node.outputs)
    axis = _axis(node.attributes.get("axis", 0), len(data.shape))
    size = data.shape[axis]
    if len(inputs) > 1:
        sizes = _list(inputs[1], "sizes", num)
    else:
        part = -(-size // num)
        sizes = [*[part] * (num - 1), size - part * (num - 1)]
    _expect(all(each > 0 for each in sizes) and sum(sizes) == size, f"splits {size} into {sizes}")
    parts, start = [], 0
    for each in sizes:
        known = data.numbers is not None and len(data.shape) == 1
        numbers = data.numbers[start : start + each] if known else None
        parts.append(Value(data.dtype, (*data.shape[:axis], each, *data.shape[axis + 1 :]), numbers))
        start += each
    return parts


def _slice_axes(inputs: Inputs) -> list[tuple[int, int, int, int]]:
    """Return (axis, start, step, number of elements) of each sliced axis."""
    shape = inputs[0].shape
    starts = _list(inputs[1], "starts")
    ends = _list(inputs[2], "ends", len(starts))
    given = _list(inputs[3], "axes", len(starts)) if inputs[3:4] != [] and inputs[3] is not None else range(len(starts))
    steps = _list(inputs[4], "steps", len(starts)) if len(inputs) > 4 else [1] * len(starts)
    parts = []
    for axis, start, end, step in zip(_axes(list(given), len(shape)), starts, ends, steps, strict=True):
        _expect(step != 0, "slices with the step 0")
        start, end, step = slice(start, end, step).indices(shape[axis])
        parts.append((axis, start, step, len(range(start, end, step))))
    return parts


def _slice(node: Node, inputs: Inputs) -> Value:
    sizes = list(inputs[0].shape)
    for axis, _, _, num in _slice_axes(inputs):
        sizes[axis] = num
    # A slice of a shape may be the shape of a scalar.
    empty = sizes == [0] and inputs[0].numbers is not None and inputs[0].dtype == INT64
    return Value(inputs[0].dtype, tuple(sizes), () if empty else None)


def _gather(node: Node, inputs: Inputs) -> Value:
    data, indices = inputs
    axis = _axis(node.attributes.get("axis", 0), len(data.shape))
    _typed([indices], _INTS)
    return Value(data.dtype, data.shape[:axis] + indices.shape + data.shape[axis + 1 :])


def _gather_elements(node: Node, inputs: Inputs) -> Value:
    data, indices = inputs
    axis = _axis(node.attributes.get("axis", 0), len(data.shape))
    _typed([indices], _INTS)
    _expect(
        len(indices.shape) == len(data.shape)
        and all(
            small <= size or each == axis
            for each, (small, size) in enumerate(zip(indices.shape, data.shape, strict=True))
        ),
        "has indices of another shape than its data",
    )
    return Value(data.dtype, indices.shape)


def _gather_nd(node: Node, inputs: Inputs) -> Value:
    data, indices = inputs
    num, rank = node.attributes.get("batch_dims", 0), len(indices.shape)
    _expect(indices.dtype == INT64 and num < min(rank, len(data.shape)), "has indices that do not fit")
    _expect(data.shape[:num] == indices.shape[:num] and indices.shape[-1] <= len(data.shape) - num, "has bad indices")
    return Value(data.dtype, indices.shape[:-1] + data.shape[num + indices.shape[-1] :])


def _pad(node: Node, inputs: Inputs) -> Value:
    data, mode = inputs[0], node.attributes.get("mode", "constant")
    rank = len(data.shape)
    axes = _axes(_list(inputs[3], "axes"), rank) if len(inputs) > 3 and inputs[3] is not None else list(range(rank))
    pads = _list(inputs[1], "pads", 2 * len(axes))
    _expect(mode in ("constant", "edge", "reflect"), f"pads by the mode {mode!r}")
    _typed([data, *inputs[2:3]], _NUMBERS)
    _expect(inputs[2:3] in ([], [None]) or math.prod(inputs[2].shape) == 1, "pads with more than one number")
    sizes = list(data.shape)
    for index, axis in enumerate(axes):
        both = pads[index], pads[index + len(axes)]
        # ONNX Runtime reflects once.
        _expect(min(both) >= 0 and (mode != "reflect" or max(both) < sizes[axis]), f"pads {data.shape[axis]} by {both}")
        sizes[axis] += sum(both)
    return Value(data.dtype, tuple(sizes))


def _resize(node: Node, inputs: Inputs) -> Value:
    data, rank = inputs[0], len(inputs[0].shape)
    dtype = _typed(inputs[:1], {FLOAT32})
    if len(inputs) > 3:
        _expect(inputs[2] is None, "has both scales and sizes")
        sizes = _list(inputs[3], "sizes", rank)
    else:
        scales = inputs[2].numbers if len(inputs) > 2 and inputs[2] is not None and inputs[2].dtype == FLOAT32 else None
        _expect(scales is not None and len(scales) == rank, "has scales that are not one constant per axis")
        _expect(all(1e-6 < scale < 1e6 for scale in scales or ()), "has scales outside of 1e-6 to 1e6")
        sizes = [int(_single(_single(scale) * size)) for scale, size in zip(scales or (), data.shape, strict=True)]
    # Other forms are refused by ONNX Runtime as well, except for images of which it resizes other axes.
    resized = [axis for axis in range(rank) if sizes[axis] != data.shape[axis]]
    mode = node.attributes.get("mode", "nearest")
    _expect(mode in ("nearest", "linear", "cubic"), f"resizes by {mode!r}")
    if mode != "nearest":
        _expect(rank in ((4,) if mode == "cubic" else (3, 4, 5)), f"resizes {rank} axes by {mode!r}")
        _expect(all(axis >= 2 for axis in resized), f"resizes the axes {resized} by {mode!r}")
    return Value(dtype, tuple(sizes))


def _single(number: float) -> float:
    try:
        return struct.unpack("<f", struct.pack("<f", number))[0]
    except OverflowError:
        return math.inf


def _matmul(node: Node, inputs: Inputs) -> Value:
    a, b = (value.shape for value in inputs)
    dtype = _typed(inputs, _NUMBERS)
    _expect(bool(a and b), "multiplies scalars")
    rows, columns = (a[-2:-1], b[-1:]) if len(b) > 1 else (a[-2:-1], ())
    _expect(a[-1] == b[-2 if len(b) > 1 else -1], f"multiplies {list(a)} by {list(b)}")
    return Value(dtype, (*(_broadcast(a[:-2], b[:-2]) if len(a) > 2 or len(b) > 2 else ()), *rows, *columns))


def _gemm(node: Node, inputs: Inputs) -> Value:
    dtype = _typed(inputs, {FLOAT32})
    a, b = (value.shape for value in inputs[:2])
    _expect(len(a) == len(b) == 2, "multiplies values that are not matrices")
    a, b = (a[::-1] if node.attributes.get("transA", 0) else a), (b[::-1] if node.attributes.get("transB", 0) else b)
    shape = (a[0], b[1])
    _expect(a[1] == b[0], f"multiplies {list(a)} by {list(b)}")
    _expect(len(inputs) < 3 or _broadcast(inputs[2].shape, shape) == shape, "adds a bias of another shape")
    return Value(dtype, shape)


def _einsum(node: Node, inputs: Inputs) -> Value:
    dtype = _typed(inputs, {FLOAT32})
    equation = node.attributes["equation"].replace(" ", "")
    _expect(re.fullmatch(r"[A-Za-z.]+(,[A-Za-z.]+)*->[A-Za-z.]*", equation) is not None, "has an invalid equation")
    left, _, right = equation.partition("->")
    terms, sizes = left.split(","), dict[str, int]()
    _expect(len(terms) == len(inputs) <= 3, "has a different number of inputs than its equation, or more than 3")
    # Axes that an ellipsis stands for get digits as their letters. One input may have it.
    digits = ""
    for index, (term, value) in enumerate(zip(terms, inputs, strict=True)):
        if "..." in term:
            _expect(not digits, "has an ellipsis twice")
            digits = "0123456789"[: max(0, len(value.shape) - len(term) + 3)]
            terms[index] = term.replace("...", digits)
    right = right.replace("...", digits)
    for term, value in zip(terms, inputs, strict=True):
        _expect(len(set(term)) == len(term) == len(value.shape), f"has {len(value.shape)} axes for the term {term!r}")
        for letter, size in zip(term, value.shape, strict=True):
            _expect(letter != "." and sizes.setdefault(letter, size) == size, f"has different sizes for {letter!r}")
    _expect(len(set(right)) == len(right) and set(right) <= set(sizes), f"has the output {right!r}")
    return Value(dtype, tuple(sizes[letter] for letter in right))


def _reduce(node: Node, inputs: Inputs) -> Value:
    shape, dtype = inputs[0].shape, _typed(inputs[:1], _NUMBERS)
    axes = _axes(_list(inputs[1], "axes"), len(shape)) if len(inputs) > 1 else []
    if not axes:
        if node.attributes.get("noop_with_empty_axes", 0):
            return Value(dtype, shape)
        axes = list(range(len(shape)))
    return Value(dtype, _reduced(node, shape, axes))


def _reduced(node: Node, shape: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    if node.attributes.get("keepdims", 1):
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _arg(node: Node, inputs: Inputs) -> Value:
    shape = inputs[0].shape
    _typed(inputs, _NUMBERS)
    return Value(INT64, _reduced(node, shape, [_axis(node.attributes.get("axis", 0), len(shape))]))


def _top_k(node: Node, inputs: Inputs) -> list[Value]:
    shape, num = list(inputs[0].shape), _scalar(inputs[1], "k")
    axis = _axis(node.attributes.get("axis", -1), len(shape))
    _expect(inputs[1].shape == (1,) and 1 <= num <= shape[axis], f"selects {num} of {shape[axis]}")
    shape[axis] = num
    return [Value(_typed(inputs[:1], _NUMBERS), tuple(shape)), Value(INT64, tuple(shape))]


def _one_hot(node: Node, inputs: Inputs) -> Value:
    indices, depth = inputs[0], _scalar(inputs[1], "depth")
    _typed([indices], _NUMBERS - {FLOAT64})
    _vector(inputs[2], 2, "pair of values")
    _expect(depth > 0, f"has the depth {depth}")
    axis = _axis(node.attributes.get("axis", -1), len(indices.shape) + 1)
    return Value(inputs[2].dtype, (*indices.shape[:axis], depth, *indices.shape[axis:]))


def _range(node: Node, inputs: Inputs) -> Value:
    dtype = _typed(inputs, _INTS)
    start, limit, step = (_scalar(value, "limits") for value in inputs)
    _expect(step != 0 and all(not value.shape for value in inputs), "has limits that are not numbers, or the step 0")
    _expect(abs(limit - start) < MAX_ELEMENTS, f"counts from {start} to {limit}")
    return Value(dtype, (len(range(start, limit, step)),))


def _cumsum(node: Node, inputs: Inputs) -> Value:
    _axis(_scalar(inputs[1], "axis"), len(inputs[0].shape))
    return Value(_typed(inputs[:1], _NUMBERS), inputs[0].shape)


def _reverse_sequence(node: Node, inputs: Inputs) -> Value:
    data, lengths = inputs
    axes = node.attributes.get("batch_axis", 1), node.attributes.get("time_axis", 0)
    _expect(sorted(axes) == [0, 1] and len(data.shape) >= 2, "reverses other axes than the first two")
    _expect(lengths.dtype == INT64 and lengths.shape == (data.shape[axes[0]],), "has another number of lengths")
    return Value(data.dtype, data.shape)


def _where(node: Node, inputs: Inputs) -> Value:
    _typed(inputs[:1], {BOOL})
    return Value(_typed(inputs[1:], _COMPUTED), _broadcast(*(value.shape for value in inputs)))


def _clip(node: Node, inputs: Inputs) -> Value:
    _expect(all(value is None or value.shape == () for value in inputs[1:]), "has bounds that are not numbers")
    return Value(_typed(inputs, _NUMBERS), inputs[0].shape)


def _prelu(node: Node, inputs: Inputs) -> Value:
    shape = inputs[0].shape
    _expect(_broadcast(*(value.shape for value in inputs)) == shape, "has slopes of another shape")
    return Value(_typed(inputs, {FLOAT32}), shape)


def _batch_normalization(node: Node, inputs: Inputs) -> Value:
    _expect(len(inputs[0].shape) >= 2, "normalises a vector")
    for value in inputs[1:]:
        _vector(value, inputs[0].shape[1], "statistic")
    return _same({FLOAT32})(node, inputs)


def _instance_normalization(node: Node, inputs: Inputs) -> Value:
    _expect(len(inputs[0].shape) >= 3, "normalises a matrix")
    return _batch_normalization(node, inputs)


def _depth_to_space(node: Node, inputs: Inputs) -> Value:
    block, shape = node.attributes["blocksize"], inputs[0].shape
    dtype = _typed(inputs, {FLOAT32})
    _expect(len(shape) == 4, f"has an input of {len(shape)} axes, expected 4")
    num, channels, height, width = shape
    if node.op == "DepthToSpace":
        _expect(channels % block**2 == 0, f"spreads {channels} channels over {block} x {block}")
        return Value(dtype, (num, channels // block**2, height * block, width * block))
    _expect(height % block == width % block == 0, f"cuts {height} x {width} into blocks of {block}")
    return Value(dtype, (num, channels * block**2, height // block, width // block))


def _lists(node: Node, kernel: Sequence[int]) -> dict[str, list[int]]:
    """Return the lists of a convolution or a pooling, each of the length that its kernel needs."""
    _expect(1 <= len(kernel) <= 3, f"has a kernel of {len(kernel)} axes, expected 1 to 3")
    found = {}
    for name, default in (("strides", 1), ("dilations", 1), ("output_padding", 0), ("pads", 0)):
        length = len(kernel) * (2 if name == "pads" else 1)
        found[name] = node.attributes.get(name, [default] * length)
        _expect(len(found[name]) == length, f"has {len(found[name])} numbers as {name!r} for {len(kernel)} axes")
    explicit = node.attributes.get("auto_pad", "NOTSET") == "NOTSET"
    _expect(explicit or not any(found["pads"]), "has both pads and auto_pad")
    return found


def _windows(node: Node, sizes: Sequence[int], kernel: Sequence[int], pooling: bool) -> list[int]:
    """Return the number of positions of a kernel on each axis."""
    lists, mode = _lists(node, kernel), node.attributes.get("auto_pad", "NOTSET")
    num, out = len(kernel), []
    for axis, size in enumerate(sizes):
        stride, extent = lists["strides"][axis], (kernel[axis] - 1) * lists["dilations"][axis] + 1
        before, after = lists["pads"][axis], lists["pads"][axis + num]
        _expect(not pooling or max(before, after) < kernel[axis], "pads by its kernel or more")
        if mode.startswith("SAME"):
            out.append(-(-size // stride))
        else:
            _expect(
                size + before + after >= extent, f"has a kernel of {extent} for an input of {size + before + after}"
            )
            out.append((size + before + after - extent) // stride + 1)
    return out


def _conv(node: Node, inputs: Inputs) -> Value:
    data, weights, group = inputs[0].shape, inputs[1].shape, node.attributes.get("group", 1)
    dtype, kernel = _typed(inputs, {FLOAT32}), weights[2:]
    _expect(3 <= len(data) == len(weights), f"has an input of {len(data)} axes for weights of {len(weights)}")
    _expect(
        tuple(node.attributes.get("kernel_shape", kernel)) == kernel, "has a kernel of another shape than its weights"
    )
    if node.op == "Conv":
        _expect(
            data[1] == weights[1] * group and weights[0] % group == 0, f"has weights for {weights[1] * group} channels"
        )
        channels, sizes = weights[0], _windows(node, data[2:], kernel, pooling=False)
    else:
        _expect(data[1] == weights[0] and data[1] % group == 0, f"has weights for {weights[0]} channels")
        channels, sizes = weights[1] * group, _transposed(node, data[2:], kernel)
    _vector(inputs[2] if len(inputs) > 2 else None, channels, "bias")
    return Value(dtype, (data[0], channels, *sizes))


def _transposed(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
    lists, mode, num, out = _lists(node, kernel), node.attributes.get("auto_pad", "NOTSET"), len(kernel), []
    for axis, size in enumerate(sizes):
        stride, dilation, more = (lists[name][axis] for name in ("strides", "dilations", "output_padding"))
        full = (size - 1) * stride + more + (kernel[axis] - 1) * dilation + 1
        _expect(more < max(stride, dilation), f"has an output_padding of {more} for a stride of {stride}")
        if mode.startswith("SAME"):
            _expect(full >= size * stride, f"has a kernel that is smaller than its stride {stride}")
            out.append(size * stride)
        else:
            out.append(full - lists["pads"][axis] - lists["pads"][axis + num])
    return out


def _pool(node: Node, inputs: Inputs) -> Value:
    shape, kernel = inputs[0].shape, node.attributes["kernel_shape"]
    _expect(len(shape) == len(kernel) + 2, f"has an input of {len(shape)} axes for a kernel of {len(kernel)}")
    # ONNX Runtime ignores dilations in some modes of padding. Keras pools without.
    _expect(not {*node.attributes.get("dilations", [])} - {1}, "has dilations")
    return Value(_typed(inputs, {FLOAT32}), (*shape[:2], *_windows(node, shape[2:], kernel, pooling=True)))


def _global_pool(node: Node, inputs: Inputs) -> Value:
    shape = inputs[0].shape
    _expect(len(shape) >= 3, f"has an input of {len(shape)} axes")
    return Value(_typed(inputs, {FLOAT32}), (*shape[:2], *[1] * (len(shape) - 2)))


def _lstm(node: Node, inputs: Inputs) -> list[Value]:
    dtype = _typed(inputs, {FLOAT32})
    data, weights = inputs[0].shape, inputs[1].shape
    optional = inputs[2:] + [None] * (8 - len(inputs))
    _expect(len(data) == len(weights) == 3, "has an input or weights that do not have 3 axes")
    steps, batch, width = data
    sides, units = 2 if node.attributes.get("direction") == "bidirectional" else 1, node.attributes["hidden_size"]
    expected = [
        (sides, 4 * units, units), (sides, 8 * units), (), (sides, batch, units), (sides, batch, units),
        (sides, 3 * units),
    ]  # fmt: skip
    _expect(weights == (sides, 4 * units, width) and optional[2] is None, "has weights of another shape, or lengths")
    for value, shape in zip(optional, expected, strict=True):
        _expect(value is None or value.shape == shape, f"has an input of another shape than {list(shape)}")
    _expect(len(node.attributes.get("activations", [0] * 3 * sides)) == 3 * sides, "has another number of activations")
    return [Value(dtype, (steps, sides, batch, units)), *[Value(dtype, (sides, batch, units))] * 2]


def _table(*entries: tuple[str, Callable]) -> dict[str, Callable]:
    return {op: function for ops, function in entries for op in ops.split()}


SHAPES = _table(
    (
        "Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Elu Erf Exp Floor LeakyRelu Log Reciprocal "
        "Relu Round Selu Sigmoid Sin Sinh Softplus Softsign Sqrt Tan Tanh",
        _same(_FLOATS),
    ),
    ("Abs Neg Sign", _same(_NUMBERS)),
    ("Identity", _same(_COMPUTED)),
    ("Not", _same({BOOL})),
    ("IsInf IsNaN", lambda node, inputs: Value(BOOL, _same(_FLOATS)(node, inputs).shape)),
    ("Add Max Min Mul Pow Sub Sum", _elementwise(_NUMBERS)),
    ("Div Mod", _divide),
    ("And Or", _elementwise({BOOL})),
    ("Equal", _elementwise(_COMPUTED, BOOL)),
    ("Greater GreaterOrEqual Less LessOrEqual", _elementwise(_NUMBERS, BOOL)),
    ("ArgMax ArgMin", _arg), ("AveragePool MaxPool", _pool), ("BatchNormalization", _batch_normalization),
    ("Cast", _cast), ("Clip", _clip), ("Concat", _concat), ("Constant", _constant),
    ("ConstantOfShape", _constant_of_shape), ("Conv ConvTranspose", _conv), ("CumSum", _cumsum),
    ("DepthToSpace SpaceToDepth", _depth_to_space), ("Einsum", _einsum), ("Expand", _expand), ("Flatten", _flatten),
    ("Gather", _gather), ("GatherElements", _gather_elements), ("GatherND", _gather_nd), ("Gemm", _gemm),
    ("GlobalAveragePool GlobalMaxPool", _global_pool), ("InstanceNormalization", _instance_normalization),
    ("LSTM", _lstm), ("LogSoftmax Softmax", _softmax),
    ("MatMul", _matmul), ("OneHot", _one_hot), ("PRelu", _prelu), ("Pad", _pad), ("Range", _range),
    ("ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum", _reduce),
    ("Reshape", _reshape), ("Resize", _resize), ("ReverseSequence", _reverse_sequence), ("Shape", _shape),
    ("Size", _size), ("Slice", _slice), ("Split", _split), ("Squeeze", _squeeze), ("Tile", _tile), ("TopK", _top_k),
    ("Transpose", _transpose), ("Unsqueeze", _unsqueeze), ("Where", _where),
)  # fmt: skip

# --- Elements of small integer tensors, as (node, inputs, output) -> numbers, None if they are not needed ---


def _spread(value: Value, shape: tuple[int, ...]) -> Sequence[int] | None:
    """Return the elements of a value that is broadcast to a shape of the same rank, or of one element."""
    numbers = value.numbers or ()
    if value.shape == shape:
        return numbers
    return numbers * math.prod(shape) if len(numbers) == 1 else None


def _compute(function: Callable) -> Callable:
    def numbers(node: Node, inputs: Inputs, out: Value) -> list[int] | None:
        columns = [_spread(value, out.shape) for value in inputs]
        return None if None in columns else [function(*row) for row in zip(*columns, strict=True)]

    return numbers


def _quotient(a: Any, b: Any) -> Any:
    if isinstance(a, float):
        return a / b if b else math.inf
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _fold(function: Callable) -> Callable:
    def numbers(node: Node, inputs: Inputs, out: Value) -> list[int] | None:
        # ONNX Runtime adds float32 numbers in any order, and integers with the precision of float64.
        found = [abs(number) for number in inputs[0].numbers]
        exact = sum(found) <= 2**53 and math.prod(number or 1 for number in found) <= 2**53
        known = found and out.dtype != FLOAT32 and math.prod(out.shape) == 1 and exact
        return [function(inputs[0].numbers)] if known else None

    return numbers


def _gathered(node: Node, inputs: Inputs, out: Value) -> list[int] | None:
    data, indices = inputs
    size = len(data.numbers)
    if len(data.shape) != 1 or not all(-size <= index < size for index in indices.numbers):
        return None
    return [data.numbers[index] for index in indices.numbers]


def _sliced(node: Node, inputs: Inputs, out: Value) -> list[int] | None:
    if len(inputs[0].shape) != 1:
        return None
    ((_, start, step, num),) = _slice_axes(inputs) or [(0, 0, 1, len(inputs[0].numbers))]
    return [inputs[0].numbers[start + index * step] for index in range(num)]


def _joined(node: Node, inputs: Inputs, out: Value) -> list[int] | None:
    return [number for value in inputs for number in value.numbers] if len(out.shape) == 1 else None


def _kept(node: Node, inputs: Inputs, out: Value) -> Sequence[int]:
    return inputs[0].numbers


def _filled(node: Node, inputs: Inputs, out: Value) -> Sequence[int] | None:
    numbers = node.attributes["value"].numbers if "value" in node.attributes else None
    return None if numbers is None else numbers * math.prod(out.shape)


_EVALUATE: dict[str, Callable] = {
    "Abs": _compute(abs), "Add": _compute(operator.add), "And": _compute(operator.and_), "Cast": _kept,
    "Concat": _joined, "ConstantOfShape": _filled, "Div": _compute(_quotient),
    "Equal": _compute(operator.eq), "Expand": lambda node, inputs, out: _spread(inputs[0], out.shape),
    "Gather": _gathered, "Greater": _compute(operator.gt), "GreaterOrEqual": _compute(operator.ge), "Identity": _kept,
    "Less": _compute(operator.lt), "LessOrEqual": _compute(operator.le),
    "Max": _compute(lambda *row: max(row)), "Min": _compute(lambda *row: min(row)),
    "Mod": lambda node, inputs, out: (
        None if out.dtype == FLOAT32 or node.attributes.get("fmod", 0) else _compute(operator.mod)(node, inputs, out)
    ),
    "Mul": _compute(operator.mul), "Neg": _compute(operator.neg), "Not": _compute(operator.not_),
    "Or": _compute(operator.or_), "Range": lambda node, inputs, out: range(*(value.numbers[0] for value in inputs)),
    "ReduceMax": _fold(max), "ReduceMin": _fold(min), "ReduceProd": _fold(math.prod), "ReduceSum": _fold(sum),
    "Reshape": _kept, "Slice": _sliced, "Squeeze": _kept, "Sub": _compute(operator.sub),
    "Unsqueeze": _kept, "Where": _compute(lambda condition, a, b: a if condition else b),
}  # fmt: skip
