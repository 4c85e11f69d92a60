"""The evidence lower bound and its terms, as pure functions.

Each function receives a batch and returns float32 `[batch]`, in nats per example: summed over
pixels or latent dimensions, never averaged over the batch. `reconstruction` and
`kl` are costs; `elbo` bounds log p(x) from below. Only `loss` ever contains beta.
"""

import math
from typing import NamedTuple

from keras import ops

from kvae.types import Tensor

# A standard deviation of 0.0009 to 150 times that of N(0, I): wider than any useful posterior, and narrow enough that
# no exponential leaves float32.
MIN_LOG_VAR, MAX_LOG_VAR = -14.0, 10.0

LOG_2_PI = math.log(2.0 * math.pi)


class Terms(NamedTuple):
    """Costs of one batch, float32 `[batch]`, in nats per example, and the tensors that objectives need.

    Attributes:
        reconstruction: -log p(x given z), averaged over the draws of z.
        kl: KL(q || p) in closed form, or a Monte Carlo estimate if no closed form exists.
        z_mean: Mean of q, `[batch, latent_dim]`.
        z_log_var: Log variance of q, same shape.
        z: Draws from q, `[batch, num_samples, latent_dim]`.
        log_p_x: log p(x given z), `[batch, num_samples]`.
        log_p_z: log p(z), same shape; None if the objective does not need it.
        kl_per_dim: `[batch, latent_dim]`; None if the prior does not factorise.
        sample_weight: Weight of each example, `[batch]`; None if all count equally.

    Example:
        >>> Terms(reconstruction=80.0, kl=20.0).elbo
        -100.0
    """

    reconstruction: Tensor
    kl: Tensor
    z_mean: Tensor = None
    z_log_var: Tensor = None
    z: Tensor = None
    log_p_x: Tensor = None
    log_p_z: Tensor = None
    kl_per_dim: Tensor = None
    sample_weight: Tensor = None

    def weighted(self, values: Tensor) -> Tensor:
        """Multiply values `[batch]` by the weights of the examples."""
        return values if self.sample_weight is None else values * self.sample_weight

    @property
    def elbo(self) -> Tensor:
        """Plain bound on log p(x), independent of beta: float32 `[batch]`, in nats, higher is better."""
        return -self.reconstruction - self.kl


def safe_log_var(z_log_var: Tensor) -> Tensor:
    """Clip a log variance of any shape so that its exponential is finite and not zero."""
    return ops.clip(z_log_var, MIN_LOG_VAR, MAX_LOG_VAR)


def reparameterize(z_mean: Tensor, z_log_var: Tensor, noise: Tensor) -> Tensor:
    """Draw z from N(z_mean, exp(z_log_var)) as a differentiable function of standard normal noise.

    Args:
        z_mean: float32 `[batch, latent_dim]`.
        z_log_var: Log of the variance, same shape.
        noise: Standard normal, same shape.

    Returns:
        z, float32 `[batch, latent_dim]`.

    Example:
        >>> import numpy as np
        >>> float(reparameterize(np.float32(1.0), np.float32(0.0), np.float32(0.5)))
        1.5

    Reference: Kingma and Welling (2014), https://arxiv.org/abs/1312.6114, section 2.4.
    """
    return z_mean + ops.exp(0.5 * z_log_var) * noise


def kl_to_standard_normal(z_mean: Tensor, z_log_var: Tensor) -> Tensor:
    """Compute KL(q || N(0, I)) of a diagonal Gaussian q in closed form.

    Args:
        z_mean: float32 `[batch, latent_dim]`.
        z_log_var: Log of the variance, same shape.

    Returns:
        float32 `[batch]`, in nats. Zero exactly if q is the prior.

    Example:
        >>> from keras import ops
        >>> float(kl_to_standard_normal(ops.ones((1, 2)), ops.zeros((1, 2)))[0])
        1.0

    Reference: Kingma and Welling (2014), https://arxiv.org/abs/1312.6114, appendix B.
    """
    return ops.sum(kl_per_dim_to_standard_normal(z_mean, z_log_var), axis=-1)


def kl_per_dim_to_standard_normal(z_mean: Tensor, z_log_var: Tensor) -> Tensor:
    """Compute `kl_to_standard_normal` before the sum: float32 `[batch, latent_dim]`, in nats."""
    return 0.5 * (ops.square(z_mean) + ops.exp(z_log_var) - 1.0 - z_log_var)


def kl_per_dim_between_gaussians(
    z_mean: Tensor, z_log_var: Tensor, prior_mean: Tensor, prior_log_var: Tensor
) -> Tensor:
    """Compute KL(q || p) of two diagonal Gaussians in closed form, for each dimension.

    Args:
        z_mean: Mean of q, float32 `[batch, latent_dim]`.
        z_log_var: Log variance of q, same shape.
        prior_mean: Mean of p, of a shape that broadcasts.
        prior_log_var: Log variance of p, of a shape that broadcasts.

    Returns:
        float32 `[batch, latent_dim]`, in nats.
    """
    spread = ops.exp(z_log_var - prior_log_var)
    distance = ops.square(z_mean - prior_mean) * ops.exp(-prior_log_var)
    return 0.5 * (spread + distance - 1.0 + prior_log_var - z_log_var)


def log_normal(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Compute the log density of diagonal Gaussians, summed over the last axis, in nats.

    Args:
        z: float32 `[..., latent_dim]`.
        mean: Mean, of a shape that broadcasts.
        log_var: Log variance, of a shape that broadcasts.

    Returns:
        float32, the broadcast shape without its last axis.

    Example:
        >>> from keras import ops
        >>> round(float(log_normal(ops.zeros((1, 2)), 0.0, 0.0)[0]), 4)  # -log(2 pi)
        -1.8379
    """
    return -0.5 * ops.sum(LOG_2_PI + log_var + ops.square(z - mean) * ops.exp(-log_var), axis=-1)


def log_mean_exp(values: Tensor, axis: int) -> Tensor:
    """Compute the log of the mean of exponentials along `axis`, stable for any finite values."""
    return ops.logsumexp(values, axis=axis) - math.log(values.shape[axis])


def sum_over_data(values: Tensor) -> Tensor:
    """Sum over all axes except the first: `[batch, *data]` to `[batch]`."""
    return ops.sum(values, axis=tuple(range(1, len(values.shape))))
