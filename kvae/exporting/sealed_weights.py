"""Weights of an exported model, copied into a Keras model of the same network.

The Keras model is converted once with its weights replaced by consecutive integers, so each constant of the graph shows
which weights it contains and in which order. The constants of the exported graph have the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import onnx

from kvae.exporting import graphs
from kvae_export import convert
from kvae_export.tolerances import default_tolerances
from kvae_export.trace import Traced
from kvae_serve.errors import InputDataError, RequestError, printable
from kvae_serve.sealed import dequantize, golden
from kvae_serve.sealed import file as onnx_file

if TYPE_CHECKING:
    from kvae_serve.model import Model

_EXACT_INTEGERS = 2**24


def copy(model: keras.Model, exported: Model) -> None:
    """Set the weights of a Keras model to those of an exported one, and compare the two on the golden inputs.

    Weights that were rounded stay rounded. If the models differ, the weights of `model` do not change.

    Args:
        model: A `kvae.VAE` or a subclass, under TensorFlow. Its network may not contain batch normalisations, which the
            export folds into other weights.
        exported: An exported model with encoder and decoder, from `kvae.load`.

    Raises:
        RequestError: The backend is not TensorFlow.
        InputDataError: The networks differ, or a weight is not part of the files as it is.
    """
    name = printable(exported.manifest.name, 60)
    if keras.backend.backend() != "tensorflow":
        raise RequestError(
            f"The weights of {name} are those of an exported model, which only the TensorFlow backend reads. Set "
            "KERAS_BACKEND=tensorflow."
        )
    weights = [weight for weight in model.weights if keras.backend.standardize_dtype(weight.dtype) == "float32"]
    originals = [np.array(keras.ops.convert_to_numpy(weight)) for weight in weights]
    try:
        values = _values(model, exported, weights, originals)
        for weight, value in zip(weights, values, strict=True):
            weight.assign(value)
        _compare(model, exported)
    except BaseException:
        for weight, original in zip(weights, originals, strict=True):
            weight.assign(original)
        raise


def _values(model: keras.Model, exported: Model, weights: list[Any], originals: list[np.ndarray]) -> list[np.ndarray]:
    """Return the values of the weights in the exported files."""
    # Weight i is replaced by the integers above ends[i - 1] and up to ends[i]. A zero is padding.
    ends = np.cumsum([original.size for original in originals])
    total = int(ends[-1])
    if total >= _EXACT_INTEGERS:
        raise RequestError(f"The model has {total:,} weights; expected less than {_EXACT_INTEGERS:,}. Train it again.")
    for weight, original, end in zip(weights, originals, ends, strict=True):
        weight.assign(np.arange(end - original.size + 1, end + 1, dtype="float32").reshape(original.shape))
    found = np.full(total, np.nan, np.float32)
    for graph in graphs.graphs(model):
        if graph.name not in exported.graphs:
            continue
        stored = list(_constants(onnx.load_from_string(_restored(exported, graph.name))))
        for numbers in _constants(convert.convert(graph)):
            if not _is_weight(numbers, ends):
                continue
            while stored and stored[0].shape != numbers.shape:
                del stored[0]
            if not stored:
                raise _differs(exported, f"its {graph.name} lacks weights of shape {list(numbers.shape)}")
            found[numbers[numbers > 0].astype(np.int64) - 1] = stored.pop(0)[numbers > 0]
    if np.isnan(found).any():
        missing = weights[int(np.searchsorted(ends, int(np.isnan(found).argmax()), side="right"))]
        raise _differs(exported, f"{missing.path} is not part of its files as it is")
    return [part.reshape(each.shape) for part, each in zip(np.split(found, ends[:-1]), originals, strict=True)]


def _is_weight(numbers: np.ndarray, ends: np.ndarray) -> bool:
    """Return whether a constant of the converted graph contains the integers that stand for one weight."""
    present = np.sort(numbers[numbers != 0])
    index = int(np.searchsorted(ends, present[-1])) if len(present) else len(ends)
    if index == len(ends):
        return False
    start = int(ends[index - 1]) if index else 0
    return np.array_equal(present, np.arange(start + 1, int(ends[index]) + 1))


def _constants(model: onnx.ModelProto) -> Iterator[np.ndarray]:
    """Yield the float32 constants of at least one axis in the order in which the nodes use them, each once."""
    tensors = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims
    }
    for node in model.graph.node:
        for name in node.input:
            if name in tensors:
                yield onnx.numpy_helper.to_array(tensors.pop(name))


def _restored(exported: Model, name: str) -> bytes:
    return dequantize.restore(onnx_file.unseal(exported.sealed(name)[0]))


def _compare(model: keras.Model, exported: Model) -> None:
    """Raise InputDataError unless the models agree on the golden inputs."""
    for graph in graphs.graphs(model):
        if graph.name not in exported.graphs:
            continue
        inputs = golden.golden_inputs(exported.manifest, graph.inputs)
        expected, actual = exported.run(graph.name, inputs), Traced(graph).run(inputs)
        for output, (absolute, relative) in default_tolerances(exported.manifest.raw, graph.outputs).items():
            if not np.allclose(actual[output], expected[output], atol=np.max(absolute), rtol=relative):
                raise _differs(exported, f"its {graph.name} computes another {output}")


def _differs(exported: Model, reason: str) -> InputDataError:
    return InputDataError(
        f"{printable(exported.manifest.name, 60)} has a different network: {reason}. Use the same network, likelihood, "
        "prior and conditions."
    )
