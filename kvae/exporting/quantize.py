"""Rounding of the weights of a model to float16 or int8 before export.

float16 and int8 are storage formats: a kernel becomes small numbers times one scale per output channel, and is float32
again when a file is opened. The model itself is rounded first, so that the exported files are compared with Keras at
the same weights. `kvae_export.passes.quantized_storage` then stores them without loss. float16 has a scale per channel
too, because folding a batch normalisation into a kernel multiplies every channel.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kvae_export.passes import quantized_storage
from kvae_serve.errors import RequestError

FORMS = ("float32", "float16", "int8")

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_CELLS = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)

#: Kernels of known layers, with the axes of their output channels.
_CHANNELS = (
    (_TRANSPOSED, {"kernel": (-2,)}),
    ((layers.SeparableConv1D, layers.SeparableConv2D), {"depthwise_kernel": (-2, -1), "pointwise_kernel": (-1,)}),
    ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), {"kernel": (-2, -1)}),
    ((layers.Dense, *_CONVOLUTIONS), {"kernel": (-1,)}),
    (_CELLS, {"kernel": (-1,), "recurrent_kernel": (-1,)}),
    ((layers.Embedding,), {"embeddings": (0,)}),
)


def check(form: str) -> None:
    """Raise RequestError unless `form` is one of FORMS."""
    if form not in FORMS:
        raise RequestError(f"weights must be {', '.join(FORMS[:-1])} or {FORMS[-1]}, got {form!r}.")


@contextlib.contextmanager
def rounded(model: keras.Model, form: str) -> Iterator[None]:
    """Round the kernels of a model to `form` inside the context, and restore them afterwards.

    Biases, scales of normalisations and small tensors are not rounded. Kernels of unknown layers are rounded to 16 bits
    with one scale per tensor.

    Args:
        model: A built model.
        form: One of FORMS. float32 changes nothing.

    Raises:
        RequestError: If `form` is not one of FORMS.
    """
    check(form)
    originals = []
    try:
        if form != "float32":
            for weight, axes in _kernels(model):
                original = np.array(ops.convert_to_numpy(weight))
                originals.append((weight, original))
                dtype = np.float16 if form == "float16" or axes == () else np.int8
                weight.assign(_round(original, axes, dtype))
        yield
    finally:
        for weight, original in originals:
            weight.assign(original)


def is_rounded(model: keras.Model, form: str) -> bool:
    """Return whether the kernels were rounded to `form` before, so that rounding does not change them."""
    kernels = list(_kernels(model))
    before = [np.array(ops.convert_to_numpy(weight)) for weight, _ in kernels]
    with rounded(model, form):
        after = [ops.convert_to_numpy(weight) for weight, _ in kernels]
        return bool(kernels) and all(map(np.array_equal, before, after))


def _kernels(model: keras.Model) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Yield every kernel with the axes of its channels, known layers first."""
    seen = set()
    for layer in model._flatten_layers():
        names = next((names for classes, names in _CHANNELS if isinstance(layer, classes)), {})
        for name, axes in names.items():
            weight = getattr(layer, name, None)
            if weight is not None and id(weight) not in seen and _pays(weight.shape, axes):
                seen.add(id(weight))
                yield weight, axes
    for part in (model.encoder, model.decoder):
        for weight in part.trainable_weights:
            if id(weight) not in seen and keras.backend.standardize_dtype(weight.dtype) == "float32":
                seen.add(id(weight))
                if _pays(weight.shape, ()):
                    yield weight, ()


def _pays(shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Return whether fewer bits make the file smaller. A scale needs 4 bytes per channel."""
    size, channels = int(np.prod(shape)), int(np.prod([shape[axis] for axis in axes]))
    return len(shape) >= 2 and size * 2 > channels * 4 + quantized_storage.NODE_BYTES and size >= 8 * channels


def _round(weight: np.ndarray, axes: tuple[int, ...], dtype: Any) -> np.ndarray:
    scale = quantized_storage.scale_of(weight, axes, dtype)
    return quantized_storage.round_to(weight, scale, dtype) * scale
