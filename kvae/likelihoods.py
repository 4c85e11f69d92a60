"""What p(x given z) is: how the decoder's output becomes a density, its mean and its target.

A likelihood speaks unit data, as the networks do: what `kvae.data.DataSpec` makes of data units.
"""

import keras
from keras import ops

from kvae.objective import sum_over_data
from kvae.registry import register


class Likelihood(keras.layers.Layer):
    """Base of all likelihoods. A layer, so that one with learned parameters is saved with the model."""

    #: The name in the manifest of an exported file.
    kind: str
    #: Whether p(x given z) is a density, which has a unit, rather than a probability.
    is_density = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.built = True

    def target(self, x, noise):
        """Return what this step models of unit data `x`, float32 `[batch, *data]`: `x` itself, or a draw from it."""
        return x

    def nll(self, x, parameters):
        """-log p(x given z) of unit data `x`, float32 `[batch]`, in nats, every constant included."""
        raise NotImplementedError

    def mean(self, parameters):
        """The mean of p(x given z) in unit data, float32 `[batch, *data]`."""
        raise NotImplementedError

    def initial_bias(self, mean):
        """What the decoder's last bias should start at, given the mean of the unit data (same shape), or None."""
        return

    def manifest(self):
        """What a reader of the exported file must know, as JSON."""
        return {"name": self.kind}


@register
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

    def nll(self, x, parameters):
        """Sum over pixels of softplus(logit) - x logit, float32 `[batch]`, in nats: exact, and finite for any logit."""
        return sum_over_data(ops.softplus(parameters) - x * parameters)

    def mean(self, parameters):
        """Probability of a white pixel, float32 `[batch, *data]`."""
        return ops.sigmoid(parameters)

    def initial_bias(self, mean):
        """The logit of the data mean, kept within 1 % and 99 %: training need not learn the average image first."""
        mean = ops.clip(mean, 0.01, 0.99)
        return ops.log(mean) - ops.log(1.0 - mean)

    def get_config(self):
        """The arguments, for Keras."""
        return {**super().get_config(), "binarize": self.binarize}
