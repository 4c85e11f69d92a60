"""Likelihoods p(x given z): density, mean, target and output parameters, from the decoder's output.

A likelihood uses unit data (0 to 1), as the networks do; `kvae.data.DataSpec` converts data units to them. Its
parameters are the decoder's output: `num_parameters` numbers for each data value, side by side along the last axis.
"""

from kvae.likelihoods.base import Likelihood
from kvae.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli
from kvae.likelihoods.categorical import Categorical
from kvae.likelihoods.gaussian import Gaussian
from kvae.likelihoods.logistic import DiscretizedLogistic
from kvae.likelihoods.mixed import Mixed
from kvae.likelihoods.mixed_autoregressive import MixedAutoregressive

__all__ = [
    "Bernoulli", "Categorical", "ContinuousBernoulli", "DiscretizedLogistic", "Gaussian", "Likelihood", "Mixed",
    "MixedAutoregressive",
]  # fmt: skip
