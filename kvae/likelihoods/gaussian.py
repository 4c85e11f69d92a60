"""Gaussian likelihood, with a fixed, learned or optimal standard deviation."""

import math
from typing import Any

from keras import ops

from kvae.data.spec import DataSpec
from kvae.likelihoods.base import Likelihood, check_sigma, optimal_log_var
from kvae.loss_terms import LOG_2_PI, sum_over_data
from kvae.serialization import register
from kvae.types import Shape, Tensor

# Standard deviations of 0.0025 to 12 times the range of the data.
_BOUNDS = (-12.0, 5.0)


@register("likelihoods.Gaussian")
class Gaussian(Likelihood):
    """Likelihood of real values, normal around the decoder's output.

    Args:
        sigma: Standard deviation. A number fixes it, in unit data, whose range or scale is 1. `"shared"` learns one for
            all values by gradient. `"element"` makes the decoder output one for each value. `"optimal"` uses the one
            that is most likely given the errors of the batch, and keeps its running mean for evaluation and export
            (Rybkin et al. 2021, https://arxiv.org/abs/2006.13202, eq. 5).
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `sigma` is a different value.

    Example:
        >>> import kvae
        >>> from keras import ops
        >>> likelihood = kvae.likelihoods.Gaussian(sigma=1.0)
        >>> round(float(likelihood.nll(ops.ones((1, 1)), ops.zeros((1, 1)))[0]), 4)  # (log(2 pi) + 1) / 2
        1.4189
    """

    kind = "gaussian"
    is_density = True

    def __init__(self, sigma: float | str = "optimal", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_sigma(sigma, ("shared", "element", "optimal"))
        self.sigma: Any = sigma
        self.num_parameters = 2 if sigma == "element" else 1
        self.log_var: Any = None
        if sigma in ("shared", "optimal"):
            self.log_var = self.add_weight(
                (), initializer="zeros", trainable=sigma == "shared", aggregation="only_first_replica", name="log_var"
            )

    def nll(self, x: Tensor, parameters: Tensor, training: bool = False) -> Tensor:
        """Sum (log 2 pi + log_var + (x - mean)^2 / var) / 2 over values, float32 `[batch]`, in nats."""
        mean, log_var = self._mean_and_log_var(parameters)
        squares = ops.square(x - mean)
        if self.sigma == "optimal" and training:
            per_example = ops.mean(squares, axis=tuple(range(1, len(squares.shape))))
            log_var = optimal_log_var(per_example, self.log_var, _BOUNDS)
        return 0.5 * sum_over_data(LOG_2_PI + log_var + squares * ops.exp(-log_var))

    def mean(self, parameters: Tensor) -> Tensor:
        """Return the mean in the decoder's output, float32 `[batch, *data]`, which is not clipped to the range."""
        return self._mean_and_log_var(parameters)[0]

    def outputs(self, parameters: Tensor, data: DataSpec) -> dict[str, Tensor]:
        """Return the log variance of each value, in squared data units, as `x_log_var`."""
        mean, log_var = self._mean_and_log_var(parameters)
        # A variance that all values share is repeated. zeros_like would export arithmetic on shapes.
        return {"x_log_var": log_var + 2.0 * data.log_width + ops.clip(mean, 0.0, 0.0)}

    def output_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of `x_log_var`, one per value."""
        return {"x_log_var": tuple(shape)}

    def initial_bias(self, mean: Tensor) -> Tensor:
        """Return the data mean; log variances of elements start at that of a standard deviation of 0.1."""
        return mean if self.num_parameters == 1 else ops.concatenate([mean, ops.full_like(mean, 2 * math.log(0.1))], -1)

    def manifest(self) -> dict[str, Any]:
        """Return the name and sigma, as JSON."""
        return {"name": self.kind, "sigma": self.sigma}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "sigma": self.sigma}

    def _mean_and_log_var(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        if self.sigma == "element":
            mean, log_var = ops.split(parameters, 2, axis=-1)
            return mean, ops.clip(log_var, *_BOUNDS)
        if self.log_var is None:
            return parameters, ops.convert_to_tensor(2.0 * math.log(self.sigma), "float32")
        return parameters, ops.clip(ops.convert_to_tensor(self.log_var), *_BOUNDS)
