"""Likelihoods of values between 0 and 1: the Bernoulli of black and white pixels, and its continuous kin."""

import math

import numpy as np
from keras import ops

from kvae.likelihoods.base import Likelihood, first_of
from kvae.loss_terms import sum_over_data
from kvae.serialization import register

# Within this distance of 1/2 the normaliser of the continuous Bernoulli is 0/0; a Taylor series takes over.
_NEAR_HALF = 0.02


@register("likelihoods.Bernoulli")
class Bernoulli(Likelihood):
    """Each pixel is 0 or 1 with the probability that the decoder's logit gives.

    Gray levels are no outcomes of a Bernoulli, and scoring them as such yields figures that are not likelihoods. So
    by default each pixel is drawn anew, white with its gray level as probability, every time that it is seen
    (dynamic binarisation, Burda et al. 2016, https://arxiv.org/abs/1509.00519), for encoder and likelihood alike.

    Args:
        binarize: `"dynamic"`, or `"none"` for data that are 0 or 1 already.
    """

    kind = "bernoulli"

    def __init__(self, binarize="dynamic", **kwargs):
        if binarize not in ("dynamic", "none"):
            raise ValueError(f'binarize must be "dynamic" or "none", got {binarize!r}.')
        super().__init__(**kwargs)
        self.binarize = binarize

    def target(self, x, noise):
        """A draw of every pixel, 0 or 1, float32 `[batch, *data]`; `x` itself where `binarize="none"`."""
        return noise.bernoulli(x) if self.binarize == "dynamic" else x

    def nll(self, x, parameters, training=False):
        """Sum over pixels of softplus(logit) - x logit, float32 `[batch]`, in nats: exact, and finite for any logit."""
        return _nll_with_gradient(x, parameters) if training else _nll(x, parameters)

    def mean(self, parameters):
        """Probability of a white pixel, float32 `[batch, *data]`."""
        return ops.sigmoid(parameters)

    def check(self, x, data, where):
        """What is not drawn anew must be black or white already."""
        low, high = data.range
        gray = None if self.binarize == "dynamic" else first_of(x, lambda values: (values != low) & (values != high))
        if gray is not None:
            raise ValueError(
                f'{where}: x holds {gray:g}, but under binarize="none" each value is an outcome, {low:g} or {high:g}; '
                'use binarize="dynamic", or a likelihood of gray levels such as continuous_bernoulli.'
            )

    def initial_bias(self, mean):
        """The logit of the data mean, kept within 1 % and 99 %: training need not learn the average image first."""
        mean = ops.clip(mean, 0.01, 0.99)
        return ops.log(mean) - ops.log(1.0 - mean)

    def get_config(self):
        """The arguments, for Keras."""
        return {**super().get_config(), "binarize": self.binarize}


def _nll(x, logits):
    """The sum of softplus(t) - x t in a fraction of the time that softplus takes; of a likelihood's graph it took most.

    The softplus of t is max(t, 0) + log(1 + e^-|t|). A sum of logarithms is the logarithm of a product, and a product
    of up to 64 factors between 1 and 2 stays far inside float32: one logarithm does for all of them.
    """
    size = math.prod(logits.shape[1:])
    factors = max(factor for factor in range(1, 65) if size % factor == 0)
    products = ops.prod(ops.reshape(1.0 + ops.exp(-ops.abs(logits)), (-1, factors, size // factors)), axis=1)
    return sum_over_data(ops.relu(logits) - x * logits) + ops.sum(ops.log(products), axis=1)


@ops.custom_gradient
def _nll_with_gradient(x, logits):
    """`_nll` with its gradient written out, sigmoid(t) - x: half the time in training."""
    nll = _nll(x, logits)

    def gradient(*arguments, upstream=None):  # as Keras' engines call it
        upstream = arguments[0] if upstream is None else upstream
        upstream = ops.reshape(upstream, (-1, *[1] * (len(logits.shape) - 1)))
        return -logits * upstream, (ops.sigmoid(logits) - x) * upstream

    return nll, gradient


@register("likelihoods.ContinuousBernoulli")
class ContinuousBernoulli(Likelihood):
    """A density over [0, 1] with the Bernoulli's exponent and the normaliser that makes it one.

    For gray levels taken as they are: p(x) = C(l) l^x (1 - l)^(1 - x).

    Reference: Loaiza-Ganem and Cunningham (2019), https://arxiv.org/abs/1907.06845, eq. 1 to 8.
    """

    kind = "continuous_bernoulli"
    is_density = True

    def nll(self, x, parameters, training=False):
        """Sum over values of softplus(logit) - x logit - log C, float32 `[batch]`, in nats."""
        return sum_over_data(ops.softplus(parameters) - x * parameters - self._log_normalizer(parameters))

    def mean(self, parameters):
        """The mean of the density, which is not l: l / (2 l - 1) + 1 / (2 artanh(1 - 2 l))."""
        safe, near, offset = self._split(parameters)
        far = 1.0 / (1.0 - ops.exp(-safe)) - 1.0 / safe
        # Around a logit t of 0 the mean is 1/2 + t/12 - t^3/720.
        return ops.where(near, 0.5 + offset / 12.0 - offset**3 / 720.0, far)

    def outputs(self, parameters, data):
        """The logit of l, which a draw needs and the mean does not tell."""
        return {"x_logits": parameters}

    def output_shapes(self, shape):
        """One logit a value."""
        return {"x_logits": tuple(shape)}

    def initial_bias(self, mean):
        """The logits whose density has the data mean, kept within 2 % and 98 %, by bisection."""
        mean = np.clip(np.asarray(mean, "float32"), 0.02, 0.98)
        low, high = np.full_like(mean, -60.0), np.full_like(mean, 60.0)
        for _ in range(40):
            middle = (low + high) / 2
            below = ops.convert_to_numpy(self.mean(ops.convert_to_tensor(middle))) < mean
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    def _log_normalizer(self, logits):
        """Log C as a function of the logit t: log(t / tanh(t / 2)), which is log 2 at t = 0."""
        safe, near, offset = self._split(logits)
        magnitude = ops.abs(safe)
        # t coth(t/2) = |t| (1 + e^-|t|) / (1 - e^-|t|)
        decay = ops.exp(-magnitude)
        far = ops.log(magnitude) + ops.log(1.0 + decay) - ops.log(1.0 - decay)
        series = math.log(2.0) + offset**2 / 12.0 - offset**4 * 7.0 / 1440.0
        return ops.where(near, series, far)

    @staticmethod
    def _split(logits):
        """The logits made safe to divide by, where they were near 0, and themselves there (0 elsewhere)."""
        near = ops.abs(logits) < 4.0 * _NEAR_HALF
        return ops.where(near, ops.ones_like(logits), logits), near, ops.where(near, logits, ops.zeros_like(logits))
