"""Likelihoods of values between 0 and 1: Bernoulli for black and white pixels, and continuous Bernoulli."""

import math
from typing import Any

import numpy as np
from keras import ops

from kvae.data.spec import DataSpec
from kvae.likelihoods.base import Likelihood, first_match
from kvae.loss_terms import sum_over_data
from kvae.serialization import register
from kvae.types import Shape, Tensor

# Within this distance of 1/2 the normaliser of the continuous Bernoulli is 0/0, so a Taylor series replaces it.
_NEAR_HALF = 0.02


@register("likelihoods.Bernoulli")
class Bernoulli(Likelihood):
    """Likelihood of pixels that are 0 or 1. The decoder's output is the logit of each pixel.

    Gray levels are not outcomes of a Bernoulli, so their scores would not be likelihoods. By default each pixel is
    therefore drawn in every step, white with its gray level as probability, for encoder and likelihood
    (dynamic binarisation, Burda et al. 2016, https://arxiv.org/abs/1509.00519).

    Args:
        binarize: `"dynamic"`, or `"none"` for data that are already 0 or 1.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `binarize` is neither.

    Example:
        >>> import kvae
        >>> from keras import ops
        >>> likelihood = kvae.likelihoods.Bernoulli()
        >>> round(float(likelihood.nll(ops.ones((1, 3)), ops.zeros((1, 3)))[0]), 4)  # 3 log 2
        2.0794
    """

    kind = "bernoulli"

    def __init__(self, binarize: str = "dynamic", **kwargs: Any) -> None:
        if binarize not in ("dynamic", "none"):
            raise ValueError(f'binarize must be "dynamic" or "none", got {binarize!r}.')
        super().__init__(**kwargs)
        self.binarize = binarize

    def target(self, x: Tensor, noise: Any) -> Tensor:
        """Draw every pixel, 0 or 1, float32 `[batch, *data]`; return `x` if `binarize="none"`."""
        return noise.bernoulli(x) if self.binarize == "dynamic" else x

    def nll(self, x: Tensor, parameters: Tensor, training: bool = False) -> Tensor:
        """Sum softplus(logit) - x logit over pixels, float32 `[batch]`, in nats; finite for any logit."""
        return _nll_with_gradient(x, parameters) if training else _nll(x, parameters)

    def mean(self, parameters: Tensor) -> Tensor:
        """Compute the probability of a white pixel, float32 `[batch, *data]`."""
        return ops.sigmoid(parameters)

    def check(self, x: Any, data: DataSpec, context: str) -> None:
        """Raise ValueError if the data contain gray levels and `binarize="none"`."""
        if self.binarize == "dynamic":
            return
        low, high = data.range
        gray = first_match(x, lambda values: (values != low) & (values != high))
        if gray is not None:
            raise ValueError(
                f'{context}: x contains {gray:g}, but binarize="none" needs {low:g} or {high:g}; '
                'use binarize="dynamic", or a likelihood of gray levels such as continuous_bernoulli.'
            )

    def initial_bias(self, mean: Tensor) -> Tensor:
        """Return the logit of the data mean, clipped to 1 % and 99 %, so that training starts at the average image."""
        mean = ops.clip(mean, 0.01, 0.99)
        return ops.log(mean) - ops.log(1.0 - mean)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "binarize": self.binarize}


def _nll(x: Tensor, logits: Tensor) -> Tensor:
    """Sum softplus(t) - x t, several times faster than with softplus, which dominated the likelihood graph.

    The softplus of t is max(t, 0) + log(1 + e^-|t|). A sum of logarithms is the logarithm of a product, and a product
    of up to 64 factors between 1 and 2 stays far inside float32. So 64 values share one logarithm.
    """
    size = math.prod(logits.shape[1:])
    factors = max(factor for factor in range(1, 65) if size % factor == 0)
    products = ops.prod(ops.reshape(1.0 + ops.exp(-ops.abs(logits)), (-1, factors, size // factors)), axis=1)
    return sum_over_data(ops.relu(logits) - x * logits) + ops.sum(ops.log(products), axis=1)


@ops.custom_gradient
def _nll_with_gradient(x: Tensor, logits: Tensor) -> Any:
    """Compute `_nll` with an explicit gradient, sigmoid(t) - x, which halves its time in training."""
    nll = _nll(x, logits)

    def gradient(*arguments: Tensor, upstream: Tensor = None) -> tuple[Tensor, Tensor]:  # as Keras' backends call it
        upstream = arguments[0] if upstream is None else upstream
        upstream = ops.reshape(upstream, (-1, *[1] * (len(logits.shape) - 1)))
        return -logits * upstream, (ops.sigmoid(logits) - x) * upstream

    return nll, gradient


@register("likelihoods.ContinuousBernoulli")
class ContinuousBernoulli(Likelihood):
    """Density over [0, 1] for gray levels: p(x) = C(l) l^x (1 - l)^(1 - x). The decoder's output is the logit of l.

    Example:
        >>> import kvae
        >>> from keras import ops
        >>> likelihood = kvae.likelihoods.ContinuousBernoulli()
        >>> float(likelihood.mean(ops.zeros((1, 1)))[0, 0])
        0.5

    Reference: Loaiza-Ganem and Cunningham (2019), https://arxiv.org/abs/1907.06845, eq. 1 to 8.
    """

    kind = "continuous_bernoulli"
    is_density = True

    def nll(self, x: Tensor, parameters: Tensor, training: bool = False) -> Tensor:
        """Sum softplus(logit) - x logit - log C over values, float32 `[batch]`, in nats."""
        return sum_over_data(ops.softplus(parameters) - x * parameters - self._log_normalizer(parameters))

    def mean(self, parameters: Tensor) -> Tensor:
        """Compute the mean l / (2 l - 1) + 1 / (2 artanh(1 - 2 l)), float32 `[batch, *data]`. It differs from l."""
        safe, near, offset = self._split(parameters)
        far = 1.0 / (1.0 - ops.exp(-safe)) - 1.0 / safe
        # Around a logit t of 0 the mean is 1/2 + t/12 - t^3/720.
        return ops.where(near, 0.5 + offset / 12.0 - offset**3 / 720.0, far)

    def outputs(self, parameters: Tensor, data: DataSpec) -> dict[str, Tensor]:
        """Return the logit of l as `x_logits`."""
        return {"x_logits": parameters}

    def output_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of `x_logits`, one logit per value."""
        return {"x_logits": tuple(shape)}

    def initial_bias(self, mean: Tensor) -> Tensor:
        """Find the logits whose density has the data mean, clipped to 2 % and 98 %, by bisection."""
        mean = np.clip(np.asarray(mean, "float32"), 0.02, 0.98)
        low, high = np.full_like(mean, -60.0), np.full_like(mean, 60.0)
        for _ in range(40):
            middle = (low + high) / 2
            below = ops.convert_to_numpy(self.mean(ops.convert_to_tensor(middle))) < mean
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    def _log_normalizer(self, logits: Tensor) -> Tensor:
        """Compute log C from the logit t: log(t / tanh(t / 2)), which is log 2 at t = 0."""
        safe, near, offset = self._split(logits)
        magnitude = ops.abs(safe)
        # t coth(t/2) = |t| (1 + e^-|t|) / (1 - e^-|t|)
        decay = ops.exp(-magnitude)
        far = ops.log(magnitude) + ops.log(1.0 + decay) - ops.log(1.0 - decay)
        series = math.log(2.0) + offset**2 / 12.0 - offset**4 * 7.0 / 1440.0
        return ops.where(near, series, far)

    @staticmethod
    def _split(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits with 1 in place of values near 0, the mask of those values, and them (0 elsewhere)."""
        near = ops.abs(logits) < 4.0 * _NEAR_HALF
        return ops.where(near, 1.0, logits), near, ops.where(near, logits, 0.0)
