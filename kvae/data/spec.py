"""Description of one example, and the conversion between data units and the networks' unit data."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from kvae.data.disk import chunks, subsample, value_range
from kvae.serialization import register
from kvae.types import Shape, Tensor
from kvae_serve.readers.checks import has_smaller_scale
from kvae_serve.sealed import noise

#: Rows of 8-bit data on disk that are checked.
_NUM_CHECKED = 5000


@register("data.DataSpec")
class DataSpec:
    """Kind, shape and range of one example.

    The scaling is part of the model and of its graphs, so that training and serving cannot differ. Models and files
    use data units (pixels 0 to 255). Networks and likelihoods use unit data (0 to 1).

    Args:
        shape: Shape of one example, at most 3 axes. Images are (height, width, channels), also with one channel.
        range: Lowest and highest value in data units. Ignored with `mean` and `scale`.
        kind: `"image"`, `"vector"` or `"sequence"`. By default it follows from the number of axes: 3, 1 or 2.
        bounded: Whether values outside the range are rejected. Measurements under a Gaussian are unbounded; their
            range is that of the training data, and later data may lie outside.
        mean: Mean of each feature (the last axis), for vectors and sequences under a Gaussian. Unit data are then
            `(x - mean) / scale`, and the data are unbounded. `DataSpec.learn_features` measures mean and scale.
        scale: Standard deviation of each feature.

    Raises:
        ValueError: If an argument is invalid.

    Example:
        >>> import kvae
        >>> spec = kvae.DataSpec((28, 28, 1))
        >>> spec.kind, round(float(spec.to_unit(51.0)), 6)
        ('image', 0.2)
    """

    def __init__(
        self,
        shape: Sequence[int],
        range: Sequence[float] = (0.0, 255.0),
        kind: str | None = None,
        bounded: bool = True,
        mean: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
    ) -> None:
        self.shape: Shape = tuple(int(size) for size in shape)
        self.kind = kind or {3: "image", 2: "sequence"}.get(len(self.shape), "vector")
        low, high = (float(bound) for bound in range)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"range must be two finite numbers, the lower first, got {range!r}.")
        if self.kind not in ("image", "vector", "sequence"):
            raise ValueError(f"kind must be image, vector or sequence, got {self.kind!r}.")
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"shape must have at least one axis, each of at least 1, got {self.shape}.")
        if len(self.shape) > 3:
            merged = (self.shape[0], math.prod(self.shape[1:-1]), self.shape[-1])
            raise ValueError(
                f"shape is {self.shape}; expected at most 3 axes. Reshape the data to {merged}, and begin the encoder "
                f"with keras.layers.Reshape({self.shape})."
            )
        self.range: Any = (low, high)
        self.bounded = bool(bounded)
        self.mean: tuple[float, ...] | None = None
        self.scale: tuple[float, ...] | None = None
        if mean is not None or scale is not None:
            self._set_features(mean, scale)

    def _set_features(self, mean: Sequence[float] | None, scale: Sequence[float] | None) -> None:
        num = self.shape[-1]
        if self.kind == "image" or mean is None or scale is None or (len(mean), len(scale)) != (num, num):
            raise ValueError(f"mean and scale must be {num} numbers each, for vectors or sequences of {num} features.")
        if not (np.isfinite(mean).all() and np.isfinite(scale).all() and min(scale) > 0):
            raise ValueError("mean must be finite, and scale finite and above 0.")
        self.mean, self.scale = tuple(map(float, mean)), tuple(map(float, scale))
        self.range, self.bounded = None, False
        self._means, self._scales = np.array(mean, "float32"), np.array(scale, "float32")

    @classmethod
    def learn_features(cls, x: Any) -> "DataSpec":
        """Create a spec with the mean and standard deviation of each feature of vectors or sequences.

        Args:
            x: NumPy array or `OnDisk`, `[num, features]` or `[num, steps, features]`. A constant feature gets the scale
                1.

        Example:
            >>> import kvae
            >>> import numpy as np
            >>> spec = kvae.DataSpec.learn_features(np.array([[30.0, 1e6], [50.0, 3e6]]))
            >>> spec.mean, spec.scale
            ((40.0, 2000000.0), (10.0, 1000000.0))
        """
        shape = x.shape[1:]
        axes = tuple(range(len(shape)))
        first = np.asarray(x[:1], "float64").reshape(-1, shape[-1])[0]
        total, squares = np.zeros(shape[-1]), np.zeros(shape[-1])
        for chunk in chunks(x):
            away = np.asarray(chunk, "float64") - first  # Small numbers, so that their squares keep their digits.
            total, squares = total + away.sum(axes), squares + np.square(away).sum(axes)
        num = len(x) * math.prod(shape[:-1])
        deviation = np.sqrt(np.maximum(squares / num - np.square(total / num), 0.0))
        # Rounded to float32, the type in the graphs.
        mean, scale = (first + total / num).astype("float32"), deviation.astype("float32")
        scale[scale == 0] = 1.0
        return cls(shape, mean=mean.tolist(), scale=scale.tolist())

    @property
    def size(self) -> int:
        """Number of values in one example."""
        return math.prod(self.shape)

    @property
    def unit_shape(self) -> Shape:
        """Shape of one example in unit data, the encoder's input."""
        return self.shape

    def to_unit(self, x: Tensor) -> Tensor:
        """Convert data units of any numeric type to unit data, float32 of the same shape."""
        x = ops.cast(x, "float32")
        if self.scale:
            return (x - self._means) * (1.0 / self._scales)
        low, high = self.range
        return (x - low) * (1.0 / (high - low)) if low else x * (1.0 / high)

    def to_data(self, x: Tensor) -> Tensor:
        """Convert unit data to data units, float32 of the same shape."""
        if self.scale:
            return x * self._scales + self._means
        low, high = self.range
        return x * (high - low) + low if low else x * high

    def log_jacobian(self, likelihood: Any) -> float:
        """Return log |d unit / d data| of an example, in nats: log p per data unit is log p per unit plus this.

        Args:
            likelihood: A `kvae.likelihoods.Likelihood`. The result is 0 if it is not a density.
        """
        per_feature = self.size / self.shape[-1] * float(np.broadcast_to(self.log_width, self.shape[-1:]).sum())
        return -per_feature if likelihood.is_density else 0.0

    @property
    def log_width(self) -> Any:
        """Log of the width in data units of one unit: a number, or float32 `[features]` with a scale per feature."""
        return math.log(self.range[1] - self.range[0]) if self.scale is None else np.log(self._scales)

    def unit_array(self, x: Any) -> np.ndarray:
        """Convert a NumPy array as `to_unit` does."""
        return ops.convert_to_numpy(self.to_unit(np.asarray(x)))

    def unit_mean(self, x: Any) -> np.ndarray:
        """Compute the mean of the examples `x`, an array or `OnDisk`, in unit data: float64 `[*unit_shape]`."""
        low, high = (self._means, self._means + self._scales) if self.scale else self.range
        return (sum(chunk.sum(axis=0, dtype="float64") for chunk in chunks(x)) / len(x) - low) / (high - low)

    def probe(self, num: int) -> np.ndarray:
        """Return values spread over the range, float32 `[num, *shape]`, to test a model without data."""
        if self.scale:
            offsets = np.sin(1.0 + np.outer(np.arange(num), np.arange(1.0, self.size + 1.0)))
            return np.asarray(self._means + 2.0 * self._scales * offsets.reshape(num, *self.shape), "float32")
        low, high = self.range
        uniform = noise.uniforms(1, noise.STREAM_GOLDEN, 0, num, self.size)
        return (low + (high - low) * np.round(uniform)).astype("float32").reshape(num, *self.shape)

    def check(self, x: Any, context: str) -> None:
        """Check that `x` contains such examples.

        Args:
            x: NumPy array or `OnDisk`, in data units.
            context: First words of the message, such as the name of the method.

        Raises:
            ValueError: If shape, type or range do not match. The message names the remedy.
        """
        self._check_array(x, context)
        is_byte = x.dtype == np.uint8 and self.range == (0.0, 255.0)
        lowest, highest = value_range(subsample(x, _NUM_CHECKED) if is_byte else x)
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise ValueError(f"{context}: x contains NaN or infinity; remove or replace those values.")
        if not self.bounded:
            return
        low, high = self.range
        ranges = f"{context}: x lies in {lowest:g} to {highest:g}, but the model's data in {low:g} to {high:g};"
        if lowest < low or highest > high:
            raise ValueError(
                f"{ranges} scale x, or build the model with DataSpec(range=({lowest:g}, {highest:g})), and "
                "bounded=False if later data may lie outside."
            )
        if has_smaller_scale(x.dtype, highest, self.range, len(x)):
            raise ValueError(f"{ranges} multiply x, or build the model with DataSpec(range=(0, {highest:g})).")

    def _check_array(self, x: Any, context: str) -> None:
        if tuple(x.shape[1:]) != self.shape:
            sizes = ", ".join(map(str, self.shape))
            raise ValueError(f"{context}: expected x of shape [batch, {sizes}], got {list(x.shape)}.")
        if x.dtype.kind not in "iufb":
            raise ValueError(f"{context}: x must be numbers, got {x.dtype}.")
        if not len(x):
            raise ValueError(f"{context}: x contains no examples.")

    def manifest(self) -> dict[str, Any]:
        """Return kind, shape and range as JSON; also `bounded` if it is False, and `mean` and `scale` if they exist."""
        description: dict[str, Any] = {"kind": self.kind, "shape": list(self.shape)}
        if self.mean and self.scale:
            features = {"mean": list(self.mean), "scale": list(self.scale)}
            return {**description, "range": None, "bounded": False, **features}
        return {**description, "range": list(self.range), **({} if self.bounded else {"bounded": False})}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        config = {"shape": list(self.shape), "kind": self.kind}
        if self.mean and self.scale:
            return {**config, "mean": list(self.mean), "scale": list(self.scale)}
        return {**config, "range": list(self.range), "bounded": self.bounded}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DataSpec":
        """Create the spec from the result of `get_config`."""
        return cls(**config)
