"""Ranks that ONNX Runtime does not check itself, although a mismatch crashes the process.

Convolutions, recurrent layers and OneHot read past the end of lists that are shorter than the number of axes of the
weights (measured with onnxruntime 1.26.0; 1.32.0 checks them). The ranks and lists in question are constant in every
graph that kvae exports, so they must be known without running the graph.
"""

from __future__ import annotations

from typing import Any

from kvae_serve.sealed.protobuf import WalkError

# Operators whose result has the rank of their first input. Operators with one input have it too, unless listed below.
_SAME = {
    "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose", "CumSum", "GroupNormalization",
    "InstanceNormalization", "LayerNormalization", "LogSoftmax", "MaxPool", "Pad", "Resize", "Slice", "Softmax",
    "Split", "Tile", "Trilu",
}  # fmt: skip
_BROADCAST = {
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod",
    "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
}  # fmt: skip
_OTHERS = {"ArgMax", "ArgMin", "ConstantOfShape", "Shape", "Size", "Squeeze"}
_LISTS = ("kernel_shape", "strides", "dilations", "output_padding", "pads")
_MAX_SPATIAL = 3
# Number of activations per direction.
_FUNCTIONS = {"GRU": 2, "LSTM": 3, "RNN": 1}


def of_result(op: str, ranks: list[int | None], shape_size: int | None) -> int | None:
    """Return the rank of an operator's result, or None if it is unknown.

    Args:
        op: The operator.
        ranks: Ranks of the inputs, as in `check`.
        shape_size: Number of elements of the last input if it is a constant.
    """
    if op == "Reshape":
        return shape_size
    if op == "Flatten" or op == "Gemm":
        return 2
    if op in _BROADCAST:
        return None if None in ranks else max(rank for rank in ranks if rank is not None)
    if op in _SAME or (len(ranks) == 1 and op not in _OTHERS):
        return ranks[0]
    return None


def check(op: str, ranks: list[int | None], attributes: dict[str, Any]) -> None:
    """Raise `WalkError` if lists and weights of a node do not fit each other.

    Args:
        op: The operator.
        ranks: Rank of each input, -1 if the input is omitted, None if the rank is unknown.
        attributes: Attributes by name.
    """
    if op in ("AveragePool", "MaxPool"):
        spatial = len(attributes.get("kernel_shape") or ())
        _check_lists(op, spatial, attributes)
        _expect_data(op, ranks[0], spatial + 2)
    elif op in ("Conv", "ConvTranspose"):
        _check_lists(op, (ranks[1] or 0) - 2, attributes)
        _expect(op, ranks[2:], [1])
        _expect_data(op, ranks[0], ranks[1])
    elif op in ("GRU", "LSTM", "RNN"):
        _expect(op, ranks[1:4], [3, 3, 2])
        if ranks[0] is not None:
            _expect_data(op, ranks[0], 3)
        if len(ranks) > 4 and ranks[4] != -1:
            raise WalkError(f"a node {op!r} has sequence lengths, which are not allowed")
        functions = _FUNCTIONS[op] * (2 if attributes.get("direction") == "bidirectional" else 1)
        if len(attributes.get("activations") or [None] * functions) != functions:
            raise WalkError(f"a node {op!r} has a number of activations that is not {functions}")
    elif op == "BatchNormalization":
        _expect(op, ranks[1:], [1, 1, 1, 1])


def _check_lists(op: str, spatial: int, attributes: dict[str, Any]) -> None:
    if not 1 <= spatial <= _MAX_SPATIAL:
        raise WalkError(f"a node {op!r} has a kernel of unknown shape, or without 1 to {_MAX_SPATIAL} spatial axes")
    for name in _LISTS:
        if name in attributes and len(attributes[name]) != spatial * (2 if name == "pads" else 1):
            raise WalkError(f"a node {op!r} has {len(attributes[name])} numbers as {name!r} for {spatial} axes")


def _expect_data(op: str, rank: int | None, want: int | None) -> None:
    if rank != want:
        found = "an unknown number of" if rank is None else rank
        raise WalkError(f"a node {op!r} has data of {found} axes, expected {want}")


def _expect(op: str, ranks: list[int | None], expected: list[int]) -> None:
    for rank, want in zip(ranks, expected, strict=False):
        if rank not in (-1, want):
            raise WalkError(f"a node {op!r} has weights without exactly {want} axes, or of unknown shape")
