"""The Gaussian likelihood, with the standard deviation fixed, learned or worked out."""

import math
from typing import Any

from keras import ops

from kvae.backends import batch_mean
from kvae.likelihoods.base import Likelihood
from kvae.loss_terms import LOG_2_PI, sum_over_data
from kvae.serialization import register

# Standard deviations of 0.0025 to 12 times the data's range.
MIN_LOG_VAR, MAX_LOG_VAR = -12.0, 5.0
_MOMENTUM = 0.95


@register("likelihoods.Gaussian")
class Gaussian(Likelihood):
    """Each value is normal around the decoder's output.

    Args:
        sigma: the standard deviation, in one of four forms. A number fixes it, in unit data, where the data's range
            has width 1. `"shared"` learns one for all values; `"element"` has the decoder give one for each value.
            `"optimal"` takes the one that is most likely given the errors of the batch, and remembers a running mean
            of it for evaluation and export (Rybkin et al. 2021, https://arxiv.org/abs/2006.13202, eq. 5).
    """

    kind = "gaussian"
    is_density = True

    def __init__(self, sigma="optimal", **kwargs):
        super().__init__(**kwargs)
        if isinstance(sigma, str):
            if sigma not in ("shared", "element", "optimal"):
                raise ValueError(f'sigma must be a number, "shared", "element" or "optimal", got {sigma!r}.')
        elif not (math.isfinite(sigma) and sigma > 0):
            raise ValueError(f"sigma must be a positive number, got {sigma}.")
        self.sigma = sigma
        self.num_parameters = 2 if sigma == "element" else 1
        self.log_var: Any = None
        if sigma in ("shared", "optimal"):
            self.log_var = self.add_weight(
                (), initializer="zeros", trainable=sigma == "shared", aggregation="only_first_replica", name="log_var"
            )

    def nll(self, x, parameters, training=False):
        """Sum over values of (log 2 pi + log_var + (x - mean)^2 / var) / 2, float32 `[batch]`, in nats."""
        mean, log_var = self._mean_and_log_var(parameters)
        squares = ops.square(x - mean)
        if self.sigma == "optimal" and training:
            mean_square = batch_mean(ops.mean(squares, axis=tuple(range(1, len(squares.shape)))))
            log_var = ops.clip(ops.log(mean_square + 1e-12), MIN_LOG_VAR, MAX_LOG_VAR)
            self.log_var.assign(_MOMENTUM * self.log_var + (1.0 - _MOMENTUM) * ops.stop_gradient(log_var))
        return 0.5 * sum_over_data(LOG_2_PI + log_var + squares * ops.exp(-log_var))

    def mean(self, parameters):
        """The decoder's output itself, float32 `[batch, *data]`; it is not kept within the range."""
        return self._mean_and_log_var(parameters)[0]

    def outputs(self, parameters, data):
        """Log variance of each value, in squared data units."""
        mean, log_var = self._mean_and_log_var(parameters)
        low, high = data.range
        return {"x_log_var": log_var + 2.0 * math.log(high - low) + ops.zeros_like(mean)}

    def output_shapes(self, shape):
        """One log variance a value."""
        return {"x_log_var": tuple(shape)}

    def initial_bias(self, mean):
        """The data mean; an element's log variance starts at 0.1 squared."""
        return mean if self.num_parameters == 1 else ops.concatenate([mean, ops.full_like(mean, 2 * math.log(0.1))], -1)

    def manifest(self):
        """Name and form of sigma."""
        return {"name": self.kind, "sigma": self.sigma}

    def get_config(self):
        """The arguments, for Keras."""
        return {**super().get_config(), "sigma": self.sigma}

    def _mean_and_log_var(self, parameters):
        if self.sigma == "element":
            mean, log_var = ops.split(parameters, 2, axis=-1)
            return mean, ops.clip(log_var, MIN_LOG_VAR, MAX_LOG_VAR)
        if self.log_var is None:
            return parameters, ops.convert_to_tensor(2.0 * math.log(self.sigma), "float32")
        return parameters, ops.clip(ops.convert_to_tensor(self.log_var), MIN_LOG_VAR, MAX_LOG_VAR)
