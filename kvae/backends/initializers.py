"""Initial weights that are the same under every engine: Keras' initialisers, with the numbers that TensorFlow draws.

Keras leaves the drawing to its engine, so one seed would start other weights under each. TensorFlow's are the reference
(those of its CPU kernels); elsewhere they are drawn here, by NumPy.
"""

import contextlib
import math

import keras
import numpy as np

from kvae.backends import philox
from kvae.serialization import register

_KINDS = tuple(
    getattr(keras.initializers, name) for name in ("RandomNormal", "RandomUniform", "VarianceScaling", "Orthogonal")
)
# A group of four draws of a truncated normal has so many blocks of words to itself, of which few are needed.
_RESERVED, _LOOKED_AT = 256, 8


@register("initial.RandomNormal")
class RandomNormal(keras.initializers.RandomNormal):
    """As Keras' own, with the same numbers under every engine."""

    def __call__(self, shape, dtype=None):
        """Draw the weights."""
        if keras.backend.backend() == "tensorflow":
            return super().__call__(shape, dtype=dtype)
        return keras.ops.convert_to_tensor(draw(self, shape), dtype)


@contextlib.contextmanager
def drawn_alike():
    """Context in which a layer of Keras starts with the numbers that TensorFlow draws, under every engine.

    Drawn and then replaced they would cost JAX seconds: it compiles a program for each shape.
    """
    if keras.backend.backend() == "tensorflow":
        yield
        return
    before = [(kind, kind.__call__) for kind in _KINDS]

    def drawing(own):
        def call(self, shape, dtype=None):
            values = draw(self, tuple(shape))
            return own(self, shape, dtype) if values is None else keras.ops.convert_to_tensor(values, dtype)

        return call

    try:
        for kind, own in before:
            kind.__call__ = drawing(own)
        yield
    finally:
        for kind, own in before:
            kind.__call__ = own


def draw(initializer, shape):
    """What a Keras initialiser gives under TensorFlow, a float32 array; None where it draws nothing that we know.

    Args:
        initializer: a seeded `RandomNormal`, `RandomUniform`, `VarianceScaling` (Glorot, He, LeCun) or `Orthogonal`.
        shape: of the weights.
    """
    seed = getattr(initializer, "seed", None)
    if not isinstance(seed, int):
        return None
    seeds = (seed % (2**31 - 2), 0)
    if isinstance(initializer, keras.initializers.RandomNormal):
        return np.float32(initializer.mean) + np.float32(initializer.stddev) * _normal(shape, seeds)
    if isinstance(initializer, keras.initializers.RandomUniform):
        return _uniform(shape, seeds, initializer.minval, initializer.maxval)
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
        limit = math.sqrt(3.0 * scale)
        return _uniform(shape, seeds, -limit, limit)
    if initializer.distribution == "truncated_normal":
        # The standard deviation of a normal cut off at 2.
        return _truncated_normal(shape, seeds) * np.float32(math.sqrt(scale) / 0.87962566103423978)
    return _normal(shape, seeds) * np.float32(math.sqrt(scale))


def _uniform(shape, seeds, low, high):
    low, high = np.float32(low), np.float32(high)
    return philox.uniform(philox.words(seeds, math.prod(shape))).reshape(shape) * (high - low) + low


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
