"""The discretised logistic likelihood: probabilities of the 256 levels of 8-bit data."""

import math

from keras import ops

from kvae.likelihoods.base import Likelihood, first_of, is_fraction
from kvae.loss_terms import sum_over_data
from kvae.serialization import register

_LEVELS = 256
# Scales of 0.001 to 2.7 times the data's range.
_MIN_LOG_SCALE, _MAX_LOG_SCALE = -7.0, 1.0


@register("likelihoods.DiscretizedLogistic")
class DiscretizedLogistic(Likelihood):
    """A logistic density, summed over the bin of each of 256 levels; the bins at both ends take the tails.

    So it is a probability of the bytes themselves, and its bits per dimension compare with those of any lossless
    coder. The decoder gives location and log scale of each value.

    Reference: Salimans et al. (2017), https://arxiv.org/abs/1701.05517, eq. 2, with one component.
    """

    kind = "discretized_logistic"
    num_parameters = 2

    def nll(self, x, parameters, training=False):
        """-log of the probability of each level, summed, float32 `[batch]`, in nats."""
        location, log_scale = self._split(parameters)
        inverse = ops.exp(-log_scale)
        half = 0.5 / (_LEVELS - 1)
        upper, lower = (x - location + half) * inverse, (x - location - half) * inverse
        # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)): no difference of near numbers.
        inner = -ops.softplus(-upper) - ops.softplus(lower) + _log_one_minus_exp(2.0 * half * inverse)
        at_lowest, at_highest = x < half, x > 1.0 - half
        log_p = ops.where(at_lowest, -ops.softplus(-upper), ops.where(at_highest, -ops.softplus(lower), inner))
        return -sum_over_data(log_p)

    def mean(self, parameters):
        """The mean of the logistic with its tails folded onto 0 and 1, float32 `[batch, *data]`.

        That of the discretised distribution is the midpoint rule for the same integral.
        """
        location, log_scale = self._split(parameters)
        scale = ops.exp(log_scale)
        return scale * (ops.softplus(location / scale) - ops.softplus((location - 1.0) / scale))

    def outputs(self, parameters, data):
        """Location and log scale of each value, in data units."""
        location, log_scale = self._split(parameters)
        low, high = data.range
        return {"x_location": data.to_data(location), "x_log_scale": log_scale + math.log(high - low)}

    def output_shapes(self, shape):
        """One of each a value."""
        return {"x_location": tuple(shape), "x_log_scale": tuple(shape)}

    def initial_bias(self, mean):
        """The data mean, and a scale of a tenth of the range."""
        return ops.concatenate([mean, ops.full_like(mean, math.log(0.1))], -1)

    def check(self, x, data, where):
        """Only bytes have levels."""
        words = f"{where}: a discretised logistic models bytes, whole numbers from 0 to 255"
        if data.range != (0.0, 255.0):
            raise ValueError(f"{words}, the model's data range is {data.range}; use gaussian.")
        if x.dtype.kind == "f" and (found := first_of(x, is_fraction)) is not None:
            raise ValueError(f"{words}, got {found:g}; round x, or use gaussian.")

    def _split(self, parameters):
        location, log_scale = ops.split(parameters, 2, axis=-1)
        return location, ops.clip(log_scale, _MIN_LOG_SCALE, _MAX_LOG_SCALE)


def _log_one_minus_exp(distance):
    """log(1 - exp(-d)) for d > 0, without the loss of digits that float32 has at small d."""
    small = distance < 0.05
    safe = ops.where(small, ops.ones_like(distance), distance)
    # log d - d/2 + d^2/24 - ...; its next term is d^4/2880.
    series = ops.log(ops.where(small, distance, ops.ones_like(distance))) - 0.5 * distance + ops.square(distance) / 24.0
    return ops.where(small, series, ops.log(1.0 - ops.exp(-safe)))
