"""Lossless storage of rounded weights in 8 or 16 bits.

The weights are rounded in the Keras model before (`kvae.exporting.quantize`), so the reference outputs are computed
with the numbers that the file contains. Each tensor that is int8 or float16 numbers times a scale per channel becomes a
stored tensor followed by `Cast` and `Mul`. Every other tensor stays float32. ONNX Runtime folds the two nodes when it
loads a graph, and the reader of kvae restores the weights itself (`kvae_serve.sealed.dequantize`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import onnx

NODE_BYTES = 200
"""Approximate size of the two nodes and their names, which the smaller tensor must save."""

_FLOAT = onnx.TensorProto.FLOAT
_EXACT = 4 * np.finfo(np.float32).eps
"""Relative tolerance: a scale recovered from the weights differs by a few roundings."""


def store(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same graph with each weight in its smallest lossless form; names and order follow the original.

    Args:
        model: A graph in canonical form with float32 weights.
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
    """Return (numbers, scale) whose product is the weight, int8 before float16, or None if neither saves space."""
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
    """Yield candidates for the channel axes: none, one, or two of them."""
    for num in range(3):
        yield from itertools.combinations(range(rank), num)


def scale_of(weight: np.ndarray, axes: tuple[int, ...], dtype: type) -> np.ndarray:
    """Return the scale of each channel, float32 of the weight's rank.

    Args:
        weight: float32.
        axes: Channel axes; the other axes have size 1 in the result.
        dtype: `numpy.int8`, whose largest number is 127, or `numpy.float16`, for which 1 is used.
    """
    others = tuple(axis for axis in range(weight.ndim) if axis not in {each % weight.ndim for each in axes})
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scale = (largest / np.float32(127 if dtype is np.int8 else 1)).astype(np.float32)
    return np.where(scale > 0, scale, np.float32(1))


def round_to(weight: np.ndarray, scale: np.ndarray, dtype: type) -> np.ndarray:
    """Return the numbers of `dtype` that are nearest to `weight / scale`."""
    numbers = weight / scale
    return np.clip(np.rint(numbers), -127, 127).astype(np.int8) if dtype is np.int8 else numbers.astype(np.float16)
