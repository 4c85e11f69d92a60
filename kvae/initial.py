"""Initial weights that are the same under every engine: Keras' initialisers, with the numbers that TensorFlow draws.

Keras leaves the drawing to its engine, so one seed would start other weights under each. TensorFlow's are the reference
(those of its CPU kernels); elsewhere they are drawn here, by NumPy.
"""

import math

import keras
import numpy as np

from kvae import philox
from kvae.registry import register

_INITIALIZERS = {"kernel": "kernel_initializer", "recurrent_kernel": "recurrent_initializer"}
# A group of four draws of a truncated normal has so many blocks of words to itself, of which few are needed.
_RESERVED, _LOOKED_AT = 256, 8


@register
class RandomNormal(keras.initializers.RandomNormal):
    """As Keras' own, with the same numbers under every engine."""

    def __call__(self, shape, dtype=None):
        """Draw the weights."""
        if keras.backend.backend() == "tensorflow":
            return super().__call__(shape, dtype=dtype)
        return keras.ops.convert_to_tensor(draw(self, shape), dtype)


def redraw(model):
    """Draw the kernels of a fresh model again, with the numbers that TensorFlow would have drawn."""
    for layer in model._flatten_layers(include_self=False):
        for name, of_name in _INITIALIZERS.items():
            variable, initializer = getattr(layer, name, None), getattr(layer, of_name, None)
            if variable is not None and (values := draw(initializer, tuple(variable.shape))) is not None:
                variable.assign(values)


def draw(initializer, shape):
    """What a Keras initialiser gives under TensorFlow, a float32 array; None where it draws nothing that we know.

    Args:
        initializer: a seeded `RandomNormal`, `VarianceScaling` (Glorot, He, LeCun) or `Orthogonal`.
        shape: of the weights.
    """
    seed = getattr(initializer, "seed", None)
    if not isinstance(seed, int):
        return None
    seeds = (seed % (2**31 - 2), 0)
    if isinstance(initializer, keras.initializers.RandomNormal):
        return np.float32(initializer.mean) + np.float32(initializer.stddev) * _normal(shape, seeds)
    if isinstance(initializer, keras.initializers.VarianceScaling):
        return _scaled(initializer, shape, seeds)
    if isinstance(initializer, keras.initializers.Orthogonal):
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(_normal((max(rows, columns), min(rows, columns)), seeds))
        q = q * np.sign(np.diag(r))
        return (np.float32(initializer.gain) * (q.T if rows < columns else q)).reshape(shape)
    return None


def _scaled(initializer, shape, seeds):
    receptive = math.prod(shape[:-2])
    fan_in, fan_out = shape[-2] * receptive, shape[-1] * receptive
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2.0}[initializer.mode]
    scale = initializer.scale / max(1.0, fan)
    if initializer.distribution == "uniform":
        limit = np.float32(math.sqrt(3.0 * scale))
        return philox.uniform(philox.words(seeds, math.prod(shape))).reshape(shape) * (limit + limit) - limit
    if initializer.distribution == "truncated_normal":
        # The standard deviation of a normal cut off at 2.
        return _truncated_normal(shape, seeds) * np.float32(math.sqrt(scale) / 0.87962566103423978)
    return _normal(shape, seeds) * np.float32(math.sqrt(scale))


def _normal(shape, seeds):
    count = math.prod(shape)
    return philox.normal(philox.words(seeds, 2 * -(-count // 2)))[:count].reshape(shape)


def _truncated_normal(shape, seeds):
    """Normals between -2 and 2: of each group of four, the first four that lie there."""
    count = math.prod(shape)
    groups = np.arange(-(-count // 4), dtype="uint64")[:, None] * np.uint64(_RESERVED)
    blocks = philox.stream(tuple(np.uint64(part) for part in seeds))(groups + np.arange(_LOOKED_AT, dtype="uint64"))
    normals = philox.normal(np.stack(blocks, axis=-1).reshape(-1)).reshape(len(groups), -1)
    inside = np.argsort(np.abs(normals) >= 2.0, axis=1, kind="stable")[:, :4]
    return np.take_along_axis(normals, inside, axis=1).reshape(-1)[:count].reshape(shape)
