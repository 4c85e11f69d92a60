"""The evidence lower bound and its terms, as pure functions.

Each takes a batch and returns float32 `[batch]`, in nats per example: summed over
pixels or latent dimensions, never averaged over the batch. `reconstruction` and
`kl` are costs; `elbo` bounds log p(x) from below. Only `loss` ever carries beta.
"""

from typing import Any, NamedTuple

from keras import ops

# exp of these is a standard deviation of 0.0009 to 150 prior standard deviations: wider than any posterior that
# is of use, and narrow enough that no exponential of it leaves float32.
MIN_LOG_VAR, MAX_LOG_VAR = -14.0, 10.0


class Terms(NamedTuple):
    """The two costs of one batch, each float32 `[batch]`, in nats per example."""

    reconstruction: Any
    kl: Any

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
    return 0.5 * ops.sum(ops.square(z_mean) + ops.exp(z_log_var) - 1.0 - z_log_var, axis=-1)


def sum_over_data(values):
    """Sum over everything but the first axis: `[batch, *data]` to `[batch]`."""
    return ops.sum(values, axis=tuple(range(1, len(values.shape))))
