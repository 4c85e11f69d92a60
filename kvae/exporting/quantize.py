"""Weights rounded to what a file will store, so that what is exported and what it is proved against are one model.

float16 and int8 are forms of storage: a kernel becomes small numbers times one scale per output channel, computed back
to float32 where it is used. Rounding happens here, in the model itself; `kvae_export.passes.quantized_storage` then
stores without loss.
A scale per channel stays one when batch normalisation is folded into the kernel, which is why float16 has it too.
"""

import contextlib

import keras
import numpy as np
from keras import layers, ops

from kvae_export.passes import quantized_storage
from kvae_serve.errors import RequestError

FORMS = ("float32", "float16", "int8")

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_CELLS = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)

#: The kernels of known layers, with the axes that count output channels.
_CHANNELS = (
    (_TRANSPOSED, {"kernel": (-2,)}),
    ((layers.SeparableConv1D, layers.SeparableConv2D), {"depthwise_kernel": (-2, -1), "pointwise_kernel": (-1,)}),
    ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), {"kernel": (-2, -1)}),
    ((layers.Dense, *_CONVOLUTIONS), {"kernel": (-1,)}),
    (_CELLS, {"kernel": (-1,), "recurrent_kernel": (-1,)}),
    ((layers.Embedding,), {"embeddings": (0,)}),
)


def check(form):
    """Raise RequestError unless `form` is one of FORMS."""
    if form not in FORMS:
        raise RequestError(f"Weights are stored as {', '.join(FORMS[:-1])} or {FORMS[-1]}, got {form!r}.")


@contextlib.contextmanager
def rounded(model, form):
    """Hold the model's kernels rounded to `form`, and give them back as they were.

    Biases, scales of normalisations and whatever is small stay as they are; kernels of layers that are not known here
    (custom ones) are kept to 16 bits with one scale for the whole tensor.

    Args:
        model: a built model.
        form: one of FORMS; float32 changes nothing.

    Raises:
        RequestError: where `form` is none of FORMS.
    """
    check(form)
    kept = []
    try:
        if form != "float32":
            for weight, axes in _kernels(model):
                before = np.array(ops.convert_to_numpy(weight))
                kept.append((weight, before))
                dtype = np.float16 if form == "float16" or axes == () else np.int8
                weight.assign(_round(before, axes, dtype))
        yield
    finally:
        for weight, before in kept:
            weight.assign(before)


def _kernels(model):
    """Yield (variable, axes of its channels), each variable once, known layers first."""
    seen = set()
    for layer in model._flatten_layers():
        names = next((names for classes, names in _CHANNELS if isinstance(layer, classes)), {})
        for name, axes in names.items():
            weight = getattr(layer, name, None)
            if weight is not None and id(weight) not in seen and _worth(weight.shape, axes):
                seen.add(id(weight))
                yield weight, axes
    for part in (model.encoder, model.decoder):
        for weight in part.trainable_weights:
            if id(weight) not in seen and keras.backend.standardize_dtype(weight.dtype) == "float32":
                seen.add(id(weight))
                if _worth(weight.shape, ()):
                    yield weight, ()


def _worth(shape, axes):
    """Tell whether storing a tensor in fewer bits makes its file smaller: a scale takes 4 bytes a channel."""
    size, channels = int(np.prod(shape)), int(np.prod([shape[axis] for axis in axes]))
    return len(shape) >= 2 and size * 2 > channels * 4 + quantized_storage.NODE_BYTES and size >= 8 * channels


def _round(weight, axes, dtype):
    scale = quantized_storage.scale_of(weight, axes, dtype)
    return quantized_storage.round_to(weight, scale, dtype) * scale
