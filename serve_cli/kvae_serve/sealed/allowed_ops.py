"""Operators that a sealed graph may use, and their forms: arithmetic on tensors only.

The exporter and the reader both check against this table. Control flow (Loop, Scan, If), random operators, strings,
sequences and training modes are excluded. Operators that turn small tensors into large ones are safe, because the
memory of a session is capped.

ONNX Runtime does not check everything. An empty name of a required tensor, fewer outputs than an attribute states, or
an axis of -2**63 crash the process. So the table lists the form of each operator, as in opset 18 or narrower: its
inputs and outputs, and the bounds of each attribute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MAX_AXIS = 7
MAX_SIZE = 2**20
MAX_LIST = 1_000
MAX_EQUATION = 100

# Types of attributes in onnx.proto3.
FLOAT, INT, STRING, TENSOR, FLOATS, INTS, STRINGS = 1, 2, 3, 4, 6, 7, 8


class Form(NamedTuple):
    """Inputs and outputs of an operator, one letter each: `x` is required, `?` may be omitted or empty.

    `.` may be omitted at the end, but not empty, because ONNX Runtime would read a missing tensor. A final `*` stands
    for more of the kind before it.
    """

    inputs: str
    outputs: str
    attributes: tuple[str, ...]


class Bounds(NamedTuple):
    """Bounds of an attribute: type, least and highest number or allowed texts, and greatest length of a list."""

    kind: int
    least: int = 0
    highest: int = 0
    texts: tuple[str, ...] = ()
    most: int = MAX_LIST


# Inputs -> outputs, then the operators of that form, each with its attributes.
_TABLE = """
x -> x
Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor GlobalAveragePool GlobalMaxPool Identity IsNaN Log Neg
Not Reciprocal Relu Round Sigmoid Sign Sin Sinh Size Softplus Softsign Sqrt Tan Tanh
ArgMax(axis,keepdims,select_last_index) ArgMin(axis,keepdims,select_last_index)
AveragePool(auto_pad,count_include_pad,kernel_shape,pads,strides) Cast(to) ConstantOfShape(value)
DepthToSpace(blocksize,mode) Elu(alpha) Flatten(axis) IsInf(detect_negative,detect_positive) LeakyRelu(alpha)
LogSoftmax(axis) MaxPool(auto_pad,dilations,kernel_shape,pads,strides) Selu(alpha,gamma) Shape(start,end) Softmax(axis)
SpaceToDepth(blocksize) Transpose(perm)

xx -> x
Add And Div Equal Expand Greater GreaterOrEqual Less LessOrEqual MatMul Mul Or PRelu Pow Sub Tile Unsqueeze
CumSum(exclusive,reverse) Gather(axis) GatherElements(axis) GatherND(batch_dims) Mod(fmod) Reshape(allowzero)
ReverseSequence(batch_axis,time_axis)

xxx -> x
InstanceNormalization(epsilon) OneHot(axis) Range Where

xxxxx -> x
BatchNormalization(epsilon,momentum,training_mode)

x. -> x
ReduceL2(keepdims,noop_with_empty_axes) ReduceMax(keepdims,noop_with_empty_axes)
ReduceMean(keepdims,noop_with_empty_axes) ReduceMin(keepdims,noop_with_empty_axes)
ReduceProd(keepdims,noop_with_empty_axes) ReduceSum(keepdims,noop_with_empty_axes) Squeeze

x?? -> x
Clip

xx. -> x
Conv(auto_pad,dilations,group,kernel_shape,pads,strides) Gemm(alpha,beta,transA,transB)
ConvTranspose(auto_pad,dilations,group,kernel_shape,output_padding,pads,strides)

xx?? -> x
Pad(mode)

xxx?? -> x
Slice

x??? -> x
Resize(coordinate_transformation_mode,cubic_coeff_a,exclude_outside,mode,nearest_mode)

x* -> x
Concat(axis) Einsum(equation) Max Min Sum

-> x
Constant(value,value_float,value_floats,value_int,value_ints)

x. -> x*
Split(axis,num_outputs)

xx -> xx
TopK(axis,largest,sorted)

xxx????? -> ???
LSTM(activations,direction,hidden_size)
"""

_FRACTIONS = "alpha beta cubic_coeff_a epsilon gamma momentum value_float"
_FLAGS = """
allowzero count_include_pad detect_negative detect_positive exclude_outside exclusive fmod keepdims largest
noop_with_empty_axes reverse select_last_index sorted transA transB
"""
_AXIS, _SIZE = Bounds(INT, -MAX_AXIS - 1, MAX_AXIS), Bounds(INT, 1, MAX_SIZE)
_SIZES, _AMOUNTS = Bounds(INTS, 1, MAX_SIZE, most=8), Bounds(INTS, 0, MAX_SIZE, most=16)

# An attribute has the same meaning in every operator.
ATTRIBUTES = {
    **dict.fromkeys(_FRACTIONS.split(), Bounds(FLOAT)),
    "value_floats": Bounds(FLOATS),
    **dict.fromkeys(_FLAGS.split(), Bounds(INT, 0, 1)),
    **dict.fromkeys(("axis", "batch_axis", "time_axis"), _AXIS),
    **dict.fromkeys(("blocksize", "group", "hidden_size", "num_outputs"), _SIZE),
    **dict.fromkeys(("kernel_shape", "strides", "dilations"), _SIZES),
    **dict.fromkeys(("pads", "output_padding"), _AMOUNTS),
    # Activations with parameters are excluded: ONNX Runtime reads those from lists without checking their length.
    "activations": Bounds(STRINGS, most=8, texts=("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")),
    "auto_pad": Bounds(STRING, texts=("NOTSET", "SAME_LOWER", "SAME_UPPER", "VALID")),
    "batch_dims": Bounds(INT, 0, MAX_AXIS),
    "coordinate_transformation_mode": Bounds(STRING, texts=(
        "align_corners", "asymmetric", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",
    )),
    "direction": Bounds(STRING, texts=("bidirectional", "forward", "reverse")),
    "end": Bounds(INT, -MAX_AXIS - 1, MAX_AXIS + 1),
    "equation": Bounds(STRING),
    "mode": Bounds(STRING, texts=("CRD", "DCR", "constant", "cubic", "edge", "linear", "nearest", "reflect")),
    "nearest_mode": Bounds(STRING, texts=("ceil", "floor", "round_prefer_ceil", "round_prefer_floor")),
    "perm": Bounds(INTS, 0, MAX_AXIS, most=8),
    "start": Bounds(INT, -MAX_AXIS - 1, MAX_AXIS + 1),
    "to": Bounds(INT, 1, 13),
    "training_mode": Bounds(INT, 0, 0),
    "value": Bounds(TENSOR),
    "value_int": Bounds(INT, -(2**63), 2**63 - 1),
    "value_ints": Bounds(INTS, -(2**63), 2**63 - 1),
}  # fmt: skip


_REQUIRED = {
    "AveragePool": ("kernel_shape",), "Cast": ("to",), "Concat": ("axis",), "DepthToSpace": ("blocksize",),
    "Einsum": ("equation",), "LSTM": ("hidden_size",), "MaxPool": ("kernel_shape",), "SpaceToDepth": ("blocksize",),
}  # fmt: skip


def _forms() -> dict[str, Form]:
    forms = {}
    for block in _TABLE.strip().split("\n\n"):
        head, _, rest = block.partition("\n")
        inputs, _, outputs = head.partition("->")
        for entry in rest.replace(",\n", ",").split():
            op, _, attributes = entry.rstrip(")").partition("(")
            forms[op] = Form(inputs.strip(), outputs.strip(), tuple(filter(None, attributes.split(","))))
    return forms


FORMS = _forms()
ALLOWED_OPS = frozenset(FORMS)


def fault(op: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Mapping[str, tuple[int, Any]]) -> str:
    """Return the fault of a node of an allowed operator, or an empty text if its form is in the table.

    Args:
        op: One of `ALLOWED_OPS`.
        inputs: Names of the inputs, empty for omitted ones.
        outputs: Names of the outputs.
        attributes: Name to type and value: a number, a text, or a list of them; None for values that are not checked.
    """
    form = FORMS[op]
    for role, names, letters in (("inputs", inputs, form.inputs), ("outputs", outputs, form.outputs)):
        if problem := _count(role, names, letters):
            return problem
    for name, (kind, value) in attributes.items():
        if name not in form.attributes:
            return f"has the unknown attribute {name!r}"
        if problem := _outside(name, kind, value):
            return problem
    if missing := set(_REQUIRED.get(op, ())) - attributes.keys():
        return f"lacks the attribute {missing.pop()!r}"
    if op == "Constant" and len(attributes) != 1:
        return f"has {len(attributes)} values, expected one"  # ONNX Runtime would choose.
    if op == "Resize" and any(inputs[1:2]):
        return "resizes a part of an image"
    num_outputs = attributes.get("num_outputs", (INT, len(outputs) if inputs[1:] else 0))[1]
    if op == "Split" and num_outputs != len(outputs):
        return "has a different number of outputs than its attribute num_outputs"
    return ""


def _count(role: str, names: Sequence[str], letters: str) -> str:
    more = letters.endswith("*")
    letters = letters.rstrip("*")
    if len(names) > len(letters) and not more:
        return f"has {len(names)} {role}, expected at most {len(letters)}"
    needed = letters.count("x")
    if len(names) < needed or any(
        not name and letters[min(index, len(letters) - 1)] != "?" for index, name in enumerate(names)
    ):
        return f"lacks one of its {role}"
    return "" if any(names) or not letters else f"lacks one of its {role}"


def _outside(name: str, kind: int, value: Any) -> str:
    bounds = ATTRIBUTES[name]
    if kind != bounds.kind:
        return f"has {name!r} of the wrong type"
    values = value if isinstance(value, list) else [value]
    if len(values) > bounds.most:
        return f"has more than {bounds.most} numbers as {name!r}"
    for each in values:
        if name == "equation":
            if len(each) > MAX_EQUATION:
                return f"has an equation of more than {MAX_EQUATION} characters"
        elif kind in (INT, INTS) and not bounds.least <= each <= bounds.highest:
            return f"has {each} as {name!r}, expected {bounds.least} to {bounds.highest}"
        elif kind in (STRING, STRINGS) and each not in bounds.texts:
            return f"has an unknown {name!r}"
    return ""
