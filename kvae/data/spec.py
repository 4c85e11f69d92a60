"""What the data are, and the way between the user's units and the networks' unit data."""

import math
from typing import Any

import numpy as np
from keras import ops

from kvae.data.disk import chunks, value_range
from kvae.serialization import register
from kvae_serve.sealed import noise


@register("data.DataSpec")
class DataSpec:
    """Kind, shape and range of one example.

    The scaling is part of the model and of its graphs, so that what trains and what serves cannot differ: models
    and files speak data units (pixels 0 to 255), networks and likelihoods unit data (0 to 1).

    Args:
        shape: shape of one example; images are (height, width, channels), also with one channel.
        range: lowest and highest value in data units.
        kind: `"image"`, `"vector"` or `"sequence"`; by default told from the number of axes: 3, 1 and 2.
        bounded: whether values beyond the range are refused. Measurements under a Gaussian have no bounds: there the
            range is that of the training data, a scale, and later data may lie outside.
    """

    def __init__(self, shape, range=(0.0, 255.0), kind=None, bounded=True):
        self.shape = tuple(int(size) for size in shape)
        self.kind = kind or {3: "image", 2: "sequence"}.get(len(self.shape), "vector")
        low, high = (float(bound) for bound in range)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"range must be two finite numbers, the lower first, got {range!r}.")
        if self.kind not in ("image", "vector", "sequence"):
            raise ValueError(f"kind must be image, vector or sequence, got {self.kind!r}.")
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"shape must have at least one axis, each of at least 1, got {self.shape}.")
        self.range: Any = (low, high)
        self.bounded = bool(bounded)

    @property
    def size(self):
        """How many values one example has."""
        return math.prod(self.shape)

    @property
    def unit_shape(self):
        """Shape of one example in unit data: what the encoder takes."""
        return self.shape

    def to_unit(self, x):
        """Data units of any number type to unit data, float32."""
        low, high = self.range
        x = ops.cast(x, "float32")
        return (x - low) * (1.0 / (high - low)) if low else x * (1.0 / high)

    def to_data(self, x):
        """Unit data to data units, float32."""
        low, high = self.range
        return x * (high - low) + low if low else x * high

    def log_jacobian(self, likelihood):
        """What makes a density over unit data one over data units: log |d unit / d data| of an example, in nats.

        Zero for a likelihood over outcomes, whose probabilities have no unit.
        """
        low, high = self.range
        return -self.size * math.log(high - low) if likelihood.is_density else 0.0

    def unit_array(self, x):
        """As `to_unit`, of and as a NumPy array."""
        return ops.convert_to_numpy(self.to_unit(np.asarray(x)))

    def unit_mean(self, x):
        """Mean of the examples `x` in unit data, float64 `[*unit_shape]`."""
        low, high = self.range
        return (sum(part.sum(axis=0, dtype="float64") for part in chunks(x)) / len(x) - low) / (high - low)

    def probe(self, num):
        """Values spread over the range, float32 `[num, *shape]`, for a look at a model where there are no data."""
        low, high = self.range
        uniform = noise.uniforms(1, noise.STREAM_GOLDEN, 0, num, self.size)
        return (low + (high - low) * np.round(uniform)).astype("float32").reshape(num, *self.shape)

    def check(self, x, where):
        """Raise ValueError, with what to do, unless `x`, an array or `OnDisk`, holds such examples."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"{where}: expected x of shape [batch, {_sizes(self.shape)}], got [{_sizes(x.shape)}].")
        if x.dtype.kind not in "iufb":
            raise ValueError(f"{where}: x must be numbers, got {x.dtype}.")
        if not len(x):
            raise ValueError(f"{where}: x holds no examples.")
        low, high = self.range
        if x.dtype == np.uint8 and self.range == (0.0, 255.0):
            return
        least, most = value_range(x)
        if not (math.isfinite(least) and math.isfinite(most)):
            raise ValueError(f"{where}: x holds NaN or infinity; remove or replace those values.")
        if not self.bounded:
            return
        if least < low or most > high:
            raise ValueError(
                f"{where}: x lies in {least:g} to {most:g}, the model's data in {low:g} to {high:g}; "
                f"scale x, or build the model with DataSpec(range=({least:g}, {most:g})), and bounded=False where "
                "later data may lie beyond."
            )
        if x.dtype.kind == "f" and low == 0 and high > 1 and 0 < most <= 1:
            raise ValueError(
                f"{where}: x lies in {least:g} to {most:g}, but the model's data in {low:g} to {high:g}; "
                "multiply x, or build the model with DataSpec(range=(0, 1))."
            )

    def manifest(self):
        """Kind, shape and range as JSON, and `bounded` where the range is no bound."""
        bounds = {} if self.bounded else {"bounded": False}
        return {"kind": self.kind, "shape": list(self.shape), "range": list(self.range), **bounds}

    def get_config(self):
        """The arguments, for Keras."""
        return {"shape": list(self.shape), "range": list(self.range), "kind": self.kind, "bounded": self.bounded}

    @classmethod
    def from_config(cls, config):
        """Rebuild from `get_config`."""
        return cls(**config)


def _sizes(shape):
    return ", ".join(str(size) for size in shape)
