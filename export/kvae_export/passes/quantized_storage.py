"""Weights stored in fewer bits, with nothing lost: only what 8 or 16 bits hold to the last digits is stored so.

The weights are rounded before, where the model is (kvae/rounding.py), so that what a file is proved against computes
with the very numbers that the file holds. Here each tensor that is such numbers times a scale per channel becomes a
stored tensor behind `Cast` and `Mul`; every other tensor stays float32. ONNX Runtime folds the two nodes at load, and
the reader of kvae does it itself (serve_cli/stored_weights.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import onnx

NODE_BYTES = 200
"""About what two nodes and two names take, which has to be won back."""

_FLOAT = onnx.TensorProto.FLOAT
_EXACT = 4 * np.finfo(np.float32).eps
"""Relative: a scale that was multiplied into a weight and is found again differs by some roundings."""


def store(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same graph with each weight in the smallest form that holds it; names and order follow the original.

    Args:
        model: a graph in canonical form, all weights float32.
    """
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    graph = stored.graph
    tensors, nodes = [], []
    for tensor in graph.initializer:
        form = _smallest(onnx.numpy_helper.to_array(tensor))
        if form is None:
            tensors.append(tensor)
            continue
        numbers, scale = form
        name = tensor.name
        tensors += [
            onnx.numpy_helper.from_array(numbers, f"{name}.stored"),
            onnx.numpy_helper.from_array(scale, f"{name}.scale"),
        ]
        nodes += [
            onnx.helper.make_node(
                "Cast", [f"{name}.stored"], [f"{name}.cast"], f"{name}.cast", to=onnx.TensorProto.FLOAT
            ),
            onnx.helper.make_node("Mul", [f"{name}.cast", f"{name}.scale"], [name], name),
        ]
    nodes += graph.node
    tensors, nodes = list(map(_copy, tensors)), list(map(_copy, nodes))
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(tensors)
    graph.node.extend(nodes)
    return stored


def _copy(message):
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def _smallest(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (numbers, scale) whose product is the weight, int8 before float16; None where neither is worth it."""
    if weight.dtype != np.float32 or weight.ndim < 2 or not np.isfinite(weight).all():
        return None
    for dtype in (np.int8, np.float16):
        for axes in _channel_axes(weight.ndim):
            scale = scale_of(weight, axes, dtype)
            numbers = round_to(weight, scale, dtype)
            if numbers.nbytes + scale.nbytes + NODE_BYTES >= weight.nbytes:
                continue
            if (np.abs(numbers * scale - weight) <= _EXACT * np.abs(weight)).all():
                return numbers, scale
    return None


def _channel_axes(rank: int) -> Iterator[tuple[int, ...]]:
    """Yield which axes count channels: none, one, or two of them."""
    for num in range(3):
        yield from itertools.combinations(range(rank), num)


def scale_of(weight: np.ndarray, axes: tuple[int, ...], dtype: type) -> np.ndarray:
    """Return float32 of the weight's rank: for each channel what its largest number stands for.

    Args:
        weight: float32.
        axes: those that count channels; the others have size 1 in the result.
        dtype: `numpy.int8`, whose largest number is 127, or `numpy.float16`, for which it is 1.
    """
    others = tuple(axis for axis in range(weight.ndim) if axis not in {each % weight.ndim for each in axes})
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scale = (largest / np.float32(127 if dtype is np.int8 else 1)).astype(np.float32)
    return np.where(scale > 0, scale, np.float32(1))


def round_to(weight: np.ndarray, scale: np.ndarray, dtype: type) -> np.ndarray:
    """Return the numbers nearest to `weight / scale`."""
    numbers = weight / scale
    return np.clip(np.rint(numbers), -127, 127).astype(np.int8) if dtype is np.int8 else numbers.astype(np.float16)
