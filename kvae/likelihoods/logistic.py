"""Discretised logistic likelihood: probabilities of the 256 levels of 8-bit data."""

import math
from typing import Any

import keras
from keras import ops

from kvae.data.spec import DataSpec
from kvae.likelihoods.base import Likelihood, check_sigma, first_match, is_fraction, optimal_log_var
from kvae.loss_terms import sum_over_data
from kvae.serialization import register
from kvae.types import Shape, Tensor

_LEVELS = 256
# Scales of 0.001 to 2.7 times the range of the data.
_MIN_LOG_SCALE, _MAX_LOG_SCALE = -7.0, 1.0
# The standard deviation of a logistic is pi / sqrt(3) times its scale.
_LOG_SCALE_OF_1 = math.log(math.sqrt(3.0) / math.pi)
_BOUNDS = (2.0 * (_MIN_LOG_SCALE - _LOG_SCALE_OF_1), 2.0 * (_MAX_LOG_SCALE - _LOG_SCALE_OF_1))


@register("likelihoods.DiscretizedLogistic")
class DiscretizedLogistic(Likelihood):
    """Likelihood of bytes: a logistic density, integrated over the bin of each of 256 levels.

    The bins at both ends include the tails. The result is a probability of the bytes, so bits per dimension are
    comparable with those of any lossless coder. The decoder's output is the location of each value, and its log scale
    if `sigma` is `"element"`.

    Args:
        sigma: Standard deviation. `"element"` makes the decoder output one for each value. `"optimal"` uses that of the
            errors of the batch for all values, and keeps its running mean for evaluation and export, as `Gaussian`
            does. `"shared"` learns one for all values by gradient. A number fixes it, in unit data, whose range is 1.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `sigma` is a different value.

    Example:
        >>> import kvae
        >>> kvae.likelihoods.DiscretizedLogistic().num_parameters
        2
        >>> kvae.likelihoods.DiscretizedLogistic("optimal").num_parameters
        1

    Reference: Salimans et al. (2017), https://arxiv.org/abs/1701.05517, eq. 2, with one component.
    """

    kind = "discretized_logistic"

    def __init__(self, sigma: float | str = "element", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_sigma(sigma, ("shared", "element", "optimal"))
        self.sigma: Any = sigma
        self.num_parameters = 2 if sigma == "element" else 1
        self.log_var: Any = None
        if sigma in ("shared", "optimal"):
            start = keras.initializers.Constant(2.0 * math.log(0.1))
            self.log_var = self.add_weight(
                (), initializer=start, trainable=sigma == "shared", aggregation="only_first_replica", name="log_var"
            )

    def nll(self, x: Tensor, parameters: Tensor, training: bool = False) -> Tensor:
        """Sum -log of the probability of each level, float32 `[batch]`, in nats."""
        location, log_scale = self._split(parameters)
        if self.sigma == "optimal" and training:
            squares = ops.square(x - ops.clip(location, 0.0, 1.0))
            per_example = ops.mean(squares, axis=tuple(range(1, len(squares.shape))))
            log_var = optimal_log_var(per_example, self.log_var, _BOUNDS)
            # This is not the exact maximum, so its gradient would pull the location away from the data.
            log_scale = ops.stop_gradient(0.5 * log_var + _LOG_SCALE_OF_1)
        inverse = ops.exp(-log_scale)
        half = 0.5 / (_LEVELS - 1)
        upper, lower = (x - location + half) * inverse, (x - location - half) * inverse
        # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)) avoids the difference of close numbers.
        inner = -ops.softplus(-upper) - ops.softplus(lower) + _log_one_minus_exp(2.0 * half * inverse)
        at_lowest, at_highest = x < half, x > 1.0 - half
        log_p = ops.where(at_lowest, -ops.softplus(-upper), ops.where(at_highest, -ops.softplus(lower), inner))
        return -sum_over_data(log_p)

    def mean(self, parameters: Tensor) -> Tensor:
        """Compute the mean of the logistic with its tails moved to 0 and 1, float32 `[batch, *data]`.

        The mean of the discretised distribution is the midpoint rule for the same integral.
        """
        location, log_scale = self._split(parameters)
        scale = ops.exp(log_scale)
        return scale * (ops.softplus(location / scale) - ops.softplus((location - 1.0) / scale))

    def outputs(self, parameters: Tensor, data: DataSpec) -> dict[str, Tensor]:
        """Return `x_location` and `x_log_scale` of each value, in data units."""
        location, log_scale = self._split(parameters)
        low, high = data.range
        # A scale that all values share is repeated. zeros_like would export arithmetic on shapes.
        each = ops.clip(location, 0.0, 0.0)
        return {"x_location": data.to_data(location), "x_log_scale": log_scale + math.log(high - low) + each}

    def output_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shapes of `x_location` and `x_log_scale`, one per value."""
        return {"x_location": tuple(shape), "x_log_scale": tuple(shape)}

    def initial_bias(self, mean: Tensor) -> Tensor:
        """Return the data mean; log scales of elements start at a tenth of the range."""
        return mean if self.num_parameters == 1 else ops.concatenate([mean, ops.full_like(mean, math.log(0.1))], -1)

    def check(self, x: Any, data: DataSpec, context: str) -> None:
        """Raise ValueError unless the data are integers from 0 to 255."""
        problem = f"{context}: a discretised logistic needs integers from 0 to 255"
        if data.range != (0.0, 255.0):
            raise ValueError(f"{problem}, but the range of the data is {data.range}; use gaussian.")
        if x.dtype.kind == "f" and (fraction := first_match(x, is_fraction)) is not None:
            raise ValueError(f"{problem}, got {fraction:g}; round x, or use gaussian.")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "sigma": self.sigma}

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        if self.sigma == "element":
            location, log_scale = ops.split(parameters, 2, axis=-1)
        else:
            log_var = 2.0 * math.log(self.sigma) if self.log_var is None else self.log_var
            log_scale = 0.5 * ops.convert_to_tensor(log_var, "float32") + _LOG_SCALE_OF_1
            location = parameters
        return location, ops.clip(log_scale, _MIN_LOG_SCALE, _MAX_LOG_SCALE)


def _log_one_minus_exp(distance: Tensor) -> Tensor:
    """Compute log(1 - exp(-d)) for d > 0 without losing digits at small d."""
    small = distance < 0.05
    safe = ops.where(small, 1.0, distance)
    # log d - d/2 + d^2/24 - ...; its next term is d^4/2880.
    series = ops.log(ops.where(small, distance, 1.0)) - 0.5 * distance + ops.square(distance) / 24.0
    return ops.where(small, series, ops.log(1.0 - ops.exp(-safe)))
