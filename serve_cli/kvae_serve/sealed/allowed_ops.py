"""The operators that a sealed graph may use, and in which form: arithmetic over tensors, and nothing else.

The one place that says so: the exporter checks against it, and the reader refuses what is not in it. Left out on
purpose: control flow (Loop, Scan, If), anything random, strings, sequences, and training modes. An operator
that makes large tensors out of small ones is safe here, for a session's memory is capped.

ONNX Runtime trusts more than it checks: a name left empty where a tensor is needed, fewer outputs than an attribute
says, or an axis of -2**63 end the process rather than the request. So each operator has its form here, as opset 18
defines it or narrower: what it takes and makes, and between which bounds each attribute lies.
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
    """What an operator takes and makes: for each a letter, `x` where it must be there, `?` where it may be left out.

    A `.` may be left out where nothing follows it, but not left empty: ONNX Runtime would read what is not there. A `*`
    at the end stands for more like the one before it.
    """

    inputs: str
    outputs: str
    attributes: tuple[str, ...]


class Bounds(NamedTuple):
    """What an attribute may be: its type, the least and the highest number, or the texts; how long a list may be."""

    kind: int
    least: int = 0
    highest: int = 0
    texts: tuple[str, ...] = ()
    most: int = MAX_LIST


# Inputs -> outputs, then operators of that form, each with its attributes.
_TABLE = """
x -> x
Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor GlobalAveragePool GlobalMaxPool HardSwish Identity
IsNaN Log Mish Neg Not Reciprocal Relu Round Sigmoid Sign Sin Sinh Size Softplus Softsign Sqrt Tan Tanh
ArgMax(axis,keepdims,select_last_index) ArgMin(axis,keepdims,select_last_index) Cast(to) Celu(alpha)
AveragePool(auto_pad,ceil_mode,count_include_pad,kernel_shape,pads,strides) ConstantOfShape(value)
DepthToSpace(blocksize,mode) Elu(alpha) Flatten(axis) HardSigmoid(alpha,beta) IsInf(detect_negative,detect_positive)
LeakyRelu(alpha) LogSoftmax(axis) MaxPool(auto_pad,ceil_mode,dilations,kernel_shape,pads,storage_order,strides)
Selu(alpha,gamma) Shape(start,end) Softmax(axis) SpaceToDepth(blocksize) ThresholdedRelu(alpha) Transpose(perm)

xx -> x
Add And CastLike Div Equal Expand Greater GreaterOrEqual Less LessOrEqual MatMul Mul Or PRelu Pow Sub Tile Unsqueeze Xor
CumSum(exclusive,reverse) Gather(axis) GatherElements(axis) GatherND(batch_dims) Mod(fmod) Reshape(allowzero)
ReverseSequence(batch_axis,time_axis)

xxx -> x
GroupNormalization(epsilon,num_groups) InstanceNormalization(epsilon) OneHot(axis) Range Where

xxxxx -> x
BatchNormalization(epsilon,momentum,training_mode)

x. -> x
ReduceL1(keepdims,noop_with_empty_axes) ReduceL2(keepdims,noop_with_empty_axes)
ReduceLogSum(keepdims,noop_with_empty_axes) ReduceLogSumExp(keepdims,noop_with_empty_axes)
ReduceMax(keepdims,noop_with_empty_axes) ReduceMean(keepdims,noop_with_empty_axes)
ReduceMin(keepdims,noop_with_empty_axes) ReduceProd(keepdims,noop_with_empty_axes)
ReduceSum(keepdims,noop_with_empty_axes) ReduceSumSquare(keepdims,noop_with_empty_axes) Squeeze Trilu(upper)

x?? -> x
Clip

xx. -> x
Conv(auto_pad,dilations,group,kernel_shape,pads,strides) Gemm(alpha,beta,transA,transB)
ConvTranspose(auto_pad,dilations,group,kernel_shape,output_padding,pads,strides)
LayerNormalization(axis,epsilon,stash_type)

xx?? -> x
Pad(mode)

xxx?? -> x
Slice

x??? -> x
Resize(coordinate_transformation_mode,cubic_coeff_a,exclude_outside,mode,nearest_mode)

x* -> x
Concat(axis) Einsum(equation) Max Mean Min Sum

-> x
Constant(value,value_float,value_floats,value_int,value_ints)

x. -> x*
Split(axis,num_outputs)

xx -> xx
TopK(axis,largest,sorted)

xxx??? -> ??
GRU(activations,clip,direction,hidden_size,layout,linear_before_reset)
RNN(activations,clip,direction,hidden_size,layout)

xxx????? -> ???
LSTM(activations,clip,direction,hidden_size,input_forget,layout)
"""

_FRACTIONS = "alpha beta clip cubic_coeff_a epsilon gamma momentum value_float"
_FLAGS = """
allowzero ceil_mode count_include_pad detect_negative detect_positive exclude_outside exclusive fmod
input_forget keepdims largest layout linear_before_reset noop_with_empty_axes reverse select_last_index sorted
storage_order transA transB upper
"""
_AXIS, _SIZE = Bounds(INT, -MAX_AXIS - 1, MAX_AXIS), Bounds(INT, 1, MAX_SIZE)
_SIZES, _AMOUNTS = Bounds(INTS, 1, MAX_SIZE, most=8), Bounds(INTS, 0, MAX_SIZE, most=16)

# An attribute means the same wherever it stands.
ATTRIBUTES = {
    **dict.fromkeys(_FRACTIONS.split(), Bounds(FLOAT)),
    "value_floats": Bounds(FLOATS),
    **dict.fromkeys(_FLAGS.split(), Bounds(INT, 0, 1)),
    **dict.fromkeys(("axis", "batch_axis", "time_axis"), _AXIS),
    **dict.fromkeys(("blocksize", "group", "hidden_size", "num_groups", "num_outputs"), _SIZE),
    **dict.fromkeys(("kernel_shape", "strides", "dilations"), _SIZES),
    **dict.fromkeys(("pads", "output_padding"), _AMOUNTS),
    # Those without numbers of their own, which ONNX Runtime takes from lists that it does not measure.
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
    "stash_type": Bounds(INT, 1, 1),
    "to": Bounds(INT, 1, 13),
    "training_mode": Bounds(INT, 0, 0),
    "value": Bounds(TENSOR),
    "value_int": Bounds(INT, -(2**63), 2**63 - 1),
    "value_ints": Bounds(INTS, -(2**63), 2**63 - 1),
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
    """Return what is wrong with a node of an allowed operator; nothing where its form is that of the table.

    Args:
        op: one of `ALLOWED_OPS`.
        inputs: names of what it takes, empty for what is left out.
        outputs: names of what it makes.
        attributes: name to type and value: a number, a text, or a list of them; None for what is not looked at.
    """
    form = FORMS[op]
    for what, names, letters in (("inputs", inputs, form.inputs), ("outputs", outputs, form.outputs)):
        if problem := _count(what, names, letters):
            return problem
    for name, (kind, value) in attributes.items():
        if name not in form.attributes:
            return f"has the attribute {name!r}, which it does not know"
        if problem := _outside(name, kind, value):
            return problem
    if op == "Einsum" and str(attributes.get("equation", (0, ""))[1]).partition("->")[0].count(",") != len(inputs) - 1:
        return "has another number of inputs than its equation"
    if op == "Resize" and any(inputs[1:2]):
        return "resizes a part of an image"
    num_outputs = attributes.get("num_outputs", (INT, len(outputs)))[1]
    if op == "Split" and num_outputs != len(outputs):
        return "has another number of outputs than it says"
    return ""


def _count(what: str, names: Sequence[str], letters: str) -> str:
    more = letters.endswith("*")
    letters = letters.rstrip("*")
    if len(names) > len(letters) and not more:
        return f"has {len(names)} {what}, expected at most {len(letters)}"
    needed = letters.count("x")
    if len(names) < needed or any(
        not name and letters[min(index, len(letters) - 1)] != "?" for index, name in enumerate(names)
    ):
        return f"lacks one of its {what}"
    return "" if any(names) or not letters else f"lacks one of its {what}"


def _outside(name: str, kind: int, value: Any) -> str:
    bounds = ATTRIBUTES[name]
    if kind != bounds.kind:
        return f"has {name!r} of another type"
    values = value if isinstance(value, list) else [value]
    if len(values) > bounds.most:
        return f"has more than {bounds.most} numbers as {name!r}"
    for each in values:
        if name == "equation":
            if not _is_equation(each):
                return "has an equation that is none"
        elif kind in (INT, INTS) and not bounds.least <= each <= bounds.highest:
            return f"has {each} as {name!r}, expected {bounds.least} to {bounds.highest}"
        elif kind in (STRING, STRINGS) and each not in bounds.texts:
            return f"has an unknown {name!r}"
    return ""


def _is_equation(text: str) -> bool:
    """Tell whether Einsum can be sure to read this.

    A lone point makes ONNX Runtime search for ever, and axes left out in two inputs make it read past the end.
    """
    left, arrow, right = text.replace(" ", "").partition("->")
    terms = [*left.split(","), *([right] if arrow else [])]
    letters = [term.replace("...", "", 1) for term in terms]
    return (
        left.count("...") <= 1
        and len(text) <= MAX_EQUATION
        and all(not each or (each.isascii() and each.isalpha()) for each in letters)
    )
