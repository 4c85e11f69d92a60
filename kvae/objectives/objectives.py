"""Objectives that training minimises: the ELBO weighted by beta, and its relatives.

An objective is a small object that a model receives. It maps the `Terms` of a batch and the optimizer's step count to
float32 `[batch]`, in nats. The `elbo` that a run reports is the plain bound under every objective.
"""

import math
from typing import Any

import keras
from keras import ops

from kvae.backends.current import batch_mean
from kvae.loss_terms import LOG_2_PI, Terms, log_mean_exp, log_normal
from kvae.objectives import schedules
from kvae.serialization import register
from kvae.types import Tensor


class Objective:
    """Base class of all objectives.

    Example:
        >>> isinstance(kvae.objectives.Elbo(beta=4.0), kvae.objectives.Objective)
        True
    """

    #: Draws of z for each example.
    num_samples = 1
    #: Whether the objective reads log p(z) of each draw.
    needs_log_prior = False
    #: Whether the prior must factorise over dimensions.
    needs_factorised_prior = False
    #: Whether several devices may share a batch. False if each example is compared with all others of the batch.
    splits_across_devices = True

    def __call__(self, terms: Terms, step: Tensor) -> Tensor:
        """Compute the costs of a batch.

        Args:
            terms: `Terms` of the batch.
            step: Optimizer steps so far, an integer tensor.

        Returns:
            float32 `[batch]`, in nats.
        """
        raise NotImplementedError

    def beta_at(self, step: Tensor) -> Tensor:
        """Return the weight of the KL at `step` for the progress bar, a float32 scalar; 1 by default."""
        return ops.ones((), "float32")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            name: keras.saving.serialize_keras_object(value) if isinstance(value, schedules.Schedule) else value
            for name, value in vars(self).items()
        }

    def manifest(self) -> dict[str, Any]:
        """Return the objective as JSON, for the manifest of an exported file."""
        plain = {k: v.manifest() if isinstance(v, schedules.Schedule) else v for k, v in vars(self).items()}
        return {"name": _snake(type(self).__name__), **plain}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Objective":
        """Create the objective from the result of `get_config`."""
        return cls(**config)


@register("objectives.Elbo")
class Elbo(Objective):
    """Reconstruction + beta * kl: a VAE if beta is 1, otherwise a beta-VAE.

    Args:
        beta: Number of at least 0, or a schedule over optimizer steps.

    Raises:
        ValueError: If `beta` is not a finite number of at least 0.

    Example:
        >>> import kvae
        >>> from kvae.loss_terms import Terms
        >>> kvae.objectives.Elbo()(Terms(reconstruction=80.0, kl=20.0), step=0)
        100.0

    Reference: Higgins et al. (2017), https://openreview.net/forum?id=Sy2fzU9gl, eq. 4.
    """

    def __init__(self, beta: Any = 1.0) -> None:
        self.beta = schedules.get(beta)

    def __call__(self, terms: Terms, step: Tensor) -> Tensor:
        """Compute reconstruction + beta * kl, float32 `[batch]`, in nats."""
        if self.beta == schedules.Constant(1.0):
            return terms.reconstruction + terms.kl
        return terms.reconstruction + self.beta(step) * terms.kl

    def beta_at(self, step: Tensor) -> Tensor:
        """Return beta at `step`, a float32 scalar."""
        return self.beta(step)


@register("objectives.Capacity")
class Capacity(Objective):
    """Reconstruction + gamma * |kl - capacity|, which holds the KL at a capacity that grows.

    The KL is averaged over the batch, as in the reference implementation of Locatello et al. (2019).

    Args:
        capacity: Target of the KL in nats: a number, or a schedule over optimizer steps.
        gamma: Weight of the penalty.

    Raises:
        ValueError: If an argument is not a finite number of at least 0.

    Example:
        >>> import kvae
        >>> objective = kvae.objectives.Capacity(kvae.schedules.Linear(end=25.0, steps=100_000))

    Reference: Burgess et al. (2018), https://arxiv.org/abs/1804.03599, eq. 8.
    """

    def __init__(self, capacity: Any, gamma: float = 1000.0) -> None:
        self.capacity = schedules.get(capacity)
        self.gamma = schedules.check_weight("gamma", gamma)

    def __call__(self, terms: Terms, step: Tensor) -> Tensor:
        """Compute reconstruction + gamma * |mean kl - capacity|, float32 `[batch]`, in nats."""
        return terms.reconstruction + self.gamma * ops.abs(batch_mean(terms.kl) - self.capacity(step))


@register("objectives.FreeBits")
class FreeBits(Objective):
    """Reconstruction + sum over dimensions of max(nats, kl), which does not push a dimension below `nats`.

    The KL of each dimension is averaged over the batch. The prior must factorise.

    Args:
        nats: KL of each dimension that costs nothing more.

    Raises:
        ValueError: If `nats` is not a finite number of at least 0.

    Example:
        >>> import kvae
        >>> objective = kvae.objectives.FreeBits(nats=0.1)

    Reference: Kingma et al. (2016), https://arxiv.org/abs/1606.04934, eq. 15.
    """

    needs_factorised_prior = True

    def __init__(self, nats: float = 0.1) -> None:
        self.nats = schedules.check_weight("nats", nats)

    def __call__(self, terms: Terms, step: Tensor) -> Tensor:
        """Compute reconstruction + sum of max(nats, mean kl of a dimension), float32 `[batch]`, in nats."""
        return terms.reconstruction + ops.sum(ops.maximum(self.nats, batch_mean(terms.kl_per_dim)))


@register("objectives.ImportanceWeighted")
class ImportanceWeighted(Objective):
    """Negative importance-weighted bound on log p(x), from several draws of z.

    With one sample it is the ELBO with a Monte Carlo KL. More samples make it tighter; it converges to log p(x).

    Args:
        num_samples: Draws of z for each example, at least 1. A step costs that many passes through the decoder.

    Raises:
        ValueError: If `num_samples` is not an integer of at least 1.

    Example:
        >>> import kvae
        >>> objective = kvae.objectives.ImportanceWeighted(num_samples=5)

    Reference: Burda et al. (2016), https://arxiv.org/abs/1509.00519, eq. 8.
    """

    needs_log_prior = True

    def __init__(self, num_samples: int = 50) -> None:
        self.num_samples = _check_count("num_samples", num_samples)

    def __call__(self, terms: Terms, step: Tensor) -> Tensor:
        """Compute the negative log of the mean importance weight, float32 `[batch]`, in nats."""
        log_q = log_normal(terms.z, ops.expand_dims(terms.z_mean, 1), ops.expand_dims(terms.z_log_var, 1))
        return -log_mean_exp(terms.log_p_x + terms.log_p_z - log_q, axis=1)


@register("objectives.TotalCorrelation")
class TotalCorrelation(Objective):
    """Objective of the beta-TCVAE: the KL split into index-code information, total correlation and dimension-wise KL.

    The mean over a batch is E[reconstruction] + alpha I(x; z) + beta TC(z) + gamma sum_j KL(q(z_j) || p(z_j)). log q(z)
    is estimated from the batch by minibatch weighted sampling. If all weights are 1 it is the ELBO with a Monte Carlo
    KL.

    Args:
        num_examples: Size of the training set, which the estimate of log q(z) needs.
        beta: Weight of the total correlation.
        alpha: Weight of the information.
        gamma: Weight of the dimension-wise KL.

    Raises:
        ValueError: If `num_examples` is not an integer of at least 1, or a weight is not a finite number of at least 0.

    Example:
        >>> import kvae
        >>> objective = kvae.objectives.TotalCorrelation(num_examples=60_000, beta=6.0)

    Reference: Chen et al. (2018), https://arxiv.org/abs/1802.04942, eq. 4 and 5.
    """

    needs_log_prior = True
    splits_across_devices = False

    def __init__(self, num_examples: int, beta: float = 6.0, alpha: float = 1.0, gamma: float = 1.0) -> None:
        self.num_examples = _check_count("num_examples", num_examples)
        self.beta = schedules.check_weight("beta", beta)
        self.alpha = schedules.check_weight("alpha", alpha)
        self.gamma = schedules.check_weight("gamma", gamma)

    def __call__(self, terms: Terms, step: Tensor) -> Tensor:
        """Compute reconstruction plus the three weighted parts of the KL, float32 `[batch]`, in nats."""
        information, total_correlation, dimension_wise = self.decompose(terms)
        kl = self.alpha * information + self.beta * total_correlation + self.gamma * dimension_wise
        return terms.reconstruction + kl

    def decompose(self, terms: Terms) -> tuple[Tensor, Tensor, Tensor]:
        """Split the KL into information, total correlation and dimension-wise KL.

        Args:
            terms: `Terms` of a batch, with `z` and `log_p_z`.

        Returns:
            Three tensors, float32 `[batch]`, in nats. Their sum is log q(z given x) - log p(z).
        """
        z = terms.z[:, 0]
        log_q_given_x = log_normal(z, terms.z_mean, terms.z_log_var)
        # log q(z_i, dimension j given x_k) for all pairs of draws i and examples k: [batch, batch, latent_dim].
        mean, log_var = ops.expand_dims(terms.z_mean, 0), ops.expand_dims(terms.z_log_var, 0)
        pairs = -0.5 * (LOG_2_PI + log_var + ops.square(ops.expand_dims(z, 1) - mean) * ops.exp(-log_var))
        log_count = ops.log(ops.cast(ops.shape(z)[0], "float32")) + math.log(self.num_examples)
        log_q = ops.logsumexp(ops.sum(pairs, axis=2), axis=1) - log_count
        log_q_product = ops.sum(ops.logsumexp(pairs, axis=1) - log_count, axis=1)
        return log_q_given_x - log_q, log_q - log_q_product, log_q_product - terms.log_p_z[:, 0]

    def beta_at(self, step: Tensor) -> Tensor:
        """Return the weight of the total correlation, a float32 scalar."""
        return ops.convert_to_tensor(self.beta, "float32")


def _check_count(name: str, value: int) -> int:
    if int(value) != value or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value}.")
    return int(value)


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
