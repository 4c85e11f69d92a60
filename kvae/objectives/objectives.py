"""What training minimises, from the terms of a batch: the elbo weighted by beta, and its kin.

An objective is a small object that a model is given: it is called with `Terms` and the optimiser's count, and returns
`[batch]`, in nats. What a run reports as `elbo` is the plain bound under every one of them.
"""

import math

import keras
from keras import ops

from kvae.backends import batch_mean
from kvae.loss_terms import LOG_2_PI, log_mean_exp, log_normal
from kvae.objectives import schedules
from kvae.serialization import register


class Objective:
    """Base of all objectives."""

    #: Draws of z for each example.
    num_samples = 1
    #: Whether log p(z) of each draw is read.
    needs_log_prior = False
    #: Whether the prior must factorise over dimensions.
    needs_factorised_prior = False
    #: Whether several devices may share a batch: not where each of its examples is compared with all others.
    splits_across_devices = True

    def __call__(self, terms, step):
        """What training minimises, float32 `[batch]`, from `Terms` and the optimiser's count."""
        raise NotImplementedError

    def beta_at(self, step):
        """Weight of the kl at `step`, for the progress bar; 1 where there is none."""
        return ops.ones((), "float32")

    def get_config(self):
        """The arguments, for Keras."""
        return {}

    def manifest(self):
        """The objective as JSON, for the exported file."""
        plain = {k: v.manifest() if isinstance(v, schedules.Schedule) else v for k, v in vars(self).items()}
        return {"name": _snake(type(self).__name__), **plain}

    @classmethod
    def from_config(cls, config):
        """Rebuild from `get_config`."""
        return cls(**config)


@register("objectives.Elbo")
class Elbo(Objective):
    """Reconstruction + beta * kl: a VAE where beta is 1, else a beta-VAE (Higgins et al., 2017, eq. 4).

    Args:
        beta: a number of at least 0, or a schedule over optimiser steps.
    """

    def __init__(self, beta=1.0):
        self.beta = schedules.get(beta)

    def __call__(self, terms, step):
        """`[batch]`, in nats."""
        if self.beta == schedules.Constant(1.0):
            return terms.reconstruction + terms.kl
        return terms.reconstruction + self.beta(step) * terms.kl

    def beta_at(self, step):
        """Weight of the kl at `step`."""
        return self.beta(step)

    def get_config(self):
        """The schedule."""
        return {"beta": keras.saving.serialize_keras_object(self.beta)}


@register("objectives.Capacity")
class Capacity(Objective):
    """Reconstruction + gamma * |kl - C|: the kl is held at a capacity C that grows (Burgess et al. 2018, eq. 8).

    The kl is the batch's mean, as in the reference implementation of Locatello et al. (2019).

    Args:
        capacity: C in nats: a schedule over optimiser steps, or a number.
        gamma: how hard the kl is held there.

    Reference: https://arxiv.org/abs/1804.03599.
    """

    def __init__(self, capacity, gamma=1000.0):
        self.capacity = schedules.get(capacity)
        self.gamma = schedules.weight("gamma", gamma)

    def __call__(self, terms, step):
        """`[batch]`, in nats."""
        return terms.reconstruction + self.gamma * ops.abs(batch_mean(terms.kl) - self.capacity(step))

    def get_config(self):
        """Capacity and gamma."""
        return {"capacity": keras.saving.serialize_keras_object(self.capacity), "gamma": self.gamma}


@register("objectives.FreeBits")
class FreeBits(Objective):
    """Reconstruction + sum over dimensions of max(nats, its kl): no dimension is pressed below `nats`.

    The kl of a dimension is the batch's mean (Kingma et al. 2016, https://arxiv.org/abs/1606.04934, eq. 15).

    Args:
        nats: what each dimension may hold at no cost.
    """

    needs_factorised_prior = True

    def __init__(self, nats=0.1):
        self.nats = schedules.weight("nats", nats)

    def __call__(self, terms, step):
        """`[batch]`, in nats."""
        return terms.reconstruction + ops.sum(ops.maximum(self.nats, batch_mean(terms.kl_per_dim)))

    def get_config(self):
        """The nats."""
        return {"nats": self.nats}


@register("objectives.ImportanceWeighted")
class ImportanceWeighted(Objective):
    """Minus the importance-weighted bound on log p(x) with several draws of z (Burda et al. 2016, eq. 8).

    With one sample it is the elbo with a Monte Carlo kl; with more it is tighter, and tends to log p(x).

    Args:
        num_samples: draws of z for each example, at least 1. A step costs as many passes through the decoder.

    Reference: https://arxiv.org/abs/1509.00519.
    """

    needs_log_prior = True

    def __init__(self, num_samples=50):
        if int(num_samples) != num_samples or num_samples < 1:
            raise ValueError(f"num_samples must be a whole number of at least 1, got {num_samples}.")
        self.num_samples = int(num_samples)

    def __call__(self, terms, step):
        """`[batch]`, in nats."""
        log_q = log_normal(terms.z, ops.expand_dims(terms.z_mean, 1), ops.expand_dims(terms.z_log_var, 1))
        return -log_mean_exp(terms.log_p_x + terms.log_p_z - log_q, axis=1)

    def get_config(self):
        """The number of samples."""
        return {"num_samples": self.num_samples}


@register("objectives.TotalCorrelation")
class TotalCorrelation(Objective):
    """beta-TCVAE: the kl taken apart into index-code information, total correlation and dimension-wise kl.

    Its mean over a batch is E[reconstruction] + alpha I(x; z) + beta TC(z) + gamma sum_j KL(q(z_j) || p(z_j)), with
    log q(z) estimated from the batch by minibatch weighted sampling. With all weights 1 it is the elbo with a Monte
    Carlo kl.

    Args:
        num_examples: size of the training set, which the estimate of log q(z) needs.
        beta: weight of the total correlation.
        alpha: weight of the information.
        gamma: weight of the dimension-wise kl.

    Reference: Chen et al. (2018), https://arxiv.org/abs/1802.04942, eq. 4 and 5.
    """

    needs_log_prior = True
    splits_across_devices = False

    def __init__(self, num_examples, beta=6.0, alpha=1.0, gamma=1.0):
        if int(num_examples) != num_examples or num_examples < 1:
            raise ValueError(f"num_examples must be a whole number of at least 1, got {num_examples}.")
        self.num_examples = int(num_examples)
        self.beta, self.alpha, self.gamma = (
            schedules.weight(name, value) for name, value in (("beta", beta), ("alpha", alpha), ("gamma", gamma))
        )

    def __call__(self, terms, step):
        """`[batch]`, in nats."""
        information, total_correlation, dimension_wise = self.decompose(terms)
        kl = self.alpha * information + self.beta * total_correlation + self.gamma * dimension_wise
        return terms.reconstruction + kl

    def decompose(self, terms):
        """The three parts of the kl, float32 `[batch]` each, in nats; they add up to log q(z given x) - log p(z)."""
        z = terms.z[:, 0]
        log_q_given_x = log_normal(z, terms.z_mean, terms.z_log_var)
        # log q(z_i, dimension j given x_k) for all pairs of draws i and examples k: [batch, batch, latent_dim].
        mean, log_var = ops.expand_dims(terms.z_mean, 0), ops.expand_dims(terms.z_log_var, 0)
        pairs = -0.5 * (LOG_2_PI + log_var + ops.square(ops.expand_dims(z, 1) - mean) * ops.exp(-log_var))
        log_count = ops.log(ops.cast(ops.shape(z)[0], "float32")) + math.log(self.num_examples)
        log_q = ops.logsumexp(ops.sum(pairs, axis=2), axis=1) - log_count
        log_q_product = ops.sum(ops.logsumexp(pairs, axis=1) - log_count, axis=1)
        return log_q_given_x - log_q, log_q - log_q_product, log_q_product - terms.log_p_z[:, 0]

    def beta_at(self, step):
        """Weight of the total correlation."""
        return ops.convert_to_tensor(self.beta, "float32")

    def get_config(self):
        """Size of the training set and weights."""
        return {name: getattr(self, name) for name in ("num_examples", "beta", "alpha", "gamma")}


def _snake(name):
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
