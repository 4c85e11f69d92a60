"""The evidence lower bound and its terms, as pure functions.

Each takes a batch and returns float32 `[batch]`, in nats per example: summed over
pixels or latent dimensions, never averaged over the batch. `reconstruction` and
`kl` are costs; `elbo` bounds log p(x) from below. Only `loss` ever carries beta.
"""

import math
from typing import Any, NamedTuple

from keras import ops

# exp of these is a standard deviation of 0.0009 to 150 prior standard deviations: wider than any posterior that
# is of use, and narrow enough that no exponential of it leaves float32.
MIN_LOG_VAR, MAX_LOG_VAR = -14.0, 10.0

LOG_2_PI = math.log(2.0 * math.pi)


class Terms(NamedTuple):
    """The two costs of one batch, float32 `[batch]`, in nats per example, and what other objectives read beside them.

    Attributes:
        reconstruction: -log p(x given z), averaged over the draws of z where there are several.
        kl: KL(q || p) in closed form, or its Monte Carlo estimate where there is none.
        z_mean: mean of q, `[batch, latent_dim]`.
        z_log_var: log variance of q, same shape.
        z: draws from q, `[batch, num_samples, latent_dim]`.
        log_p_x: log p(x given z), `[batch, num_samples]`.
        log_p_z: log p(z), same shape; None where the objective does not ask for it.
        kl_per_dim: `[batch, latent_dim]`; None where the prior does not factorise.
    """

    reconstruction: Any
    kl: Any
    z_mean: Any = None
    z_log_var: Any = None
    z: Any = None
    log_p_x: Any = None
    log_p_z: Any = None
    kl_per_dim: Any = None

    @property
    def elbo(self):
        """The plain bound on log p(x), whatever beta is: float32 `[batch]`, higher is better."""
        return -self.reconstruction - self.kl


def safe_log_var(z_log_var):
    """Keep a log variance where its exponential is finite and not zero; shape as given."""
    return ops.clip(z_log_var, MIN_LOG_VAR, MAX_LOG_VAR)


def reparameterize(z_mean, z_log_var, noise):
    """Draw z from N(z_mean, exp(z_log_var)) as a differentiable function of standard normal noise.

    Args:
        z_mean: float32 `[batch, latent_dim]`.
        z_log_var: log of the variance, same shape.
        noise: standard normal, same shape.

    Returns:
        z, float32 `[batch, latent_dim]`.

    Reference: Kingma and Welling (2014), https://arxiv.org/abs/1312.6114, section 2.4.
    """
    return z_mean + ops.exp(0.5 * z_log_var) * noise


def kl_to_standard_normal(z_mean, z_log_var):
    """KL(q || N(0, I)) of a diagonal Gaussian q, in closed form.

    Args:
        z_mean: float32 `[batch, latent_dim]`.
        z_log_var: log of the variance, same shape.

    Returns:
        float32 `[batch]`, in nats; zero exactly where q is the prior.

    Reference: Kingma and Welling (2014), https://arxiv.org/abs/1312.6114, appendix B.
    """
    return ops.sum(kl_per_dim_to_standard_normal(z_mean, z_log_var), axis=-1)


def kl_per_dim_to_standard_normal(z_mean, z_log_var):
    """As `kl_to_standard_normal`, before the sum: float32 `[batch, latent_dim]`, in nats."""
    return 0.5 * (ops.square(z_mean) + ops.exp(z_log_var) - 1.0 - z_log_var)


def kl_per_dim_between_gaussians(z_mean, z_log_var, prior_mean, prior_log_var):
    """KL(q || p) of two diagonal Gaussians, dimension by dimension, in closed form.

    Args:
        z_mean: mean of q, float32 `[batch, latent_dim]`.
        z_log_var: log variance of q, same shape.
        prior_mean: mean of p, a shape that broadcasts.
        prior_log_var: log variance of p, likewise.

    Returns:
        float32 `[batch, latent_dim]`, in nats.
    """
    spread = ops.exp(z_log_var - prior_log_var)
    distance = ops.square(z_mean - prior_mean) * ops.exp(-prior_log_var)
    return 0.5 * (spread + distance - 1.0 + prior_log_var - z_log_var)


def log_normal(z, mean, log_var):
    """Log density of diagonal Gaussians, summed over the last axis, in nats; the shapes broadcast."""
    return -0.5 * ops.sum(LOG_2_PI + log_var + ops.square(z - mean) * ops.exp(-log_var), axis=-1)


def log_mean_exp(values, axis):
    """Log of the mean of exponentials along `axis`, stable for any finite values."""
    return ops.logsumexp(values, axis=axis) - math.log(values.shape[axis])


def sum_over_data(values):
    """Sum over everything but the first axis: `[batch, *data]` to `[batch]`."""
    return ops.sum(values, axis=tuple(range(1, len(values.shape))))
