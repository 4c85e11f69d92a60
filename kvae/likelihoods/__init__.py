"""What p(x given z) is: how the decoder's output becomes a density, its mean, its draws and its target.

A likelihood speaks unit data, as the networks do: what `kvae.data.DataSpec` makes of data units. Its parameters are
the decoder's output, `num_parameters` numbers for each data value, side by side along the last axis.
"""

from kvae.likelihoods.base import Likelihood
from kvae.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli
from kvae.likelihoods.categorical import Categorical
from kvae.likelihoods.gaussian import Gaussian
from kvae.likelihoods.logistic import DiscretizedLogistic
from kvae.likelihoods.mixed import Mixed

__all__ = ["Bernoulli", "Categorical", "ContinuousBernoulli", "DiscretizedLogistic", "Gaussian", "Likelihood", "Mixed"]
