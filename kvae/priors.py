"""What p(z) or p(z given y) is: log densities, and the kl of a diagonal Gaussian posterior to it.

A prior other than N(0, I) is a mixture of diagonal Gaussians, of one component (then its kl has a closed form) or of
several (then it is estimated from the draws of z). Its parameters are what `prior.onnx` gives.
"""

import math

import keras
import numpy as np
from keras import layers, ops

from kvae import loss_terms
from kvae.backends.initializers import RandomNormal
from kvae.serialization import register


class Prior(keras.layers.Layer):
    """Base of all priors. A layer, so that one with learned parameters is saved with the model."""

    #: The name in the manifest of an exported file.
    kind: str
    #: Whether the density is a product over dimensions, so that each has a kl of its own.
    factorises = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.built = True

    @property
    def num_components(self):
        """How many Gaussians are mixed."""
        return 1

    def components(self, given, encode):
        """The Gaussians of the mixture.

        Args:
            given: what the networks are given beside x or z: `()`, or a tuple of the condition vector.
            encode: the model's `encode`, for a prior that is made of posteriors.

        Returns:
            `(mean, log_var)`, each `[batch or 1, num_components, latent_dim]`, and the log weights `[num_components]`.
        """
        raise NotImplementedError

    def kl_per_dim(self, z_mean, z_log_var, given=(), encode=None):
        """KL(q || p) dimension by dimension, float32 `[batch, latent_dim]`, in nats; one component only."""
        mean, log_var, _ = self.components(given, encode)
        return loss_terms.kl_per_dim_between_gaussians(z_mean, z_log_var, mean[:, 0], log_var[:, 0])

    def log_prob(self, z, given=(), encode=None):
        """Log p(z), float32 `[batch, num_samples]`, in nats, of z `[batch, num_samples, latent_dim]`."""
        mean, log_var, log_weights = self.components(given, encode)
        each = loss_terms.log_normal(ops.expand_dims(z, 2), ops.expand_dims(mean, 1), ops.expand_dims(log_var, 1))
        return ops.logsumexp(each + log_weights, axis=-1)

    def manifest(self, encode=None):
        """What a reader of the exported file must know, as JSON."""
        return {"name": self.kind}


@register("priors.StandardNormal")
class StandardNormal(Prior):
    """N(0, I): nothing to learn, and nothing to ship beside the decoder."""

    kind = "standard_normal"

    def kl_per_dim(self, z_mean, z_log_var, given=(), encode=None):
        """KL(q || N(0, I)) dimension by dimension in closed form, float32 `[batch, latent_dim]`, in nats."""
        return loss_terms.kl_per_dim_to_standard_normal(z_mean, z_log_var)

    def log_prob(self, z, given=(), encode=None):
        """Log p(z), float32 `[batch, num_samples]`, in nats."""
        return -0.5 * ops.sum(loss_terms.LOG_2_PI + ops.square(z), axis=-1)


@register("priors.ConditionalGaussian")
class ConditionalGaussian(Prior):
    """A Gaussian whose mean and log variance a small network makes of the conditions (Sohn et al. 2015).

    It starts at N(0, I) whatever the condition.

    Args:
        latent_dim: size of z.
        condition_dim: width of the model's condition vector.
        hidden: widths of dense layers in between.
        activation: of those layers.
    """

    kind = "conditional_gaussian"

    def __init__(self, latent_dim, condition_dim, hidden=(), activation="tanh", **kwargs):
        super().__init__(**kwargs)
        self.latent_dim, self.condition_dim = int(latent_dim), int(condition_dim)
        self.hidden, self.activation = tuple(hidden), activation
        if self.condition_dim < 1:
            raise ValueError("A conditional prior needs conditions: give a ConditionalVAE's condition_dim, got 0.")
        vector = state = layers.Input((self.condition_dim,))
        for width in self.hidden:
            state = layers.Dense(width, activation=activation)(state)
        start_at_n01 = {"kernel_initializer": "zeros", "bias_initializer": "zeros"}
        heads = [layers.Dense(latent_dim, name=name, **start_at_n01)(state) for name in ("z_mean", "z_log_var")]
        self.network = keras.Model(vector, heads, name="network")

    def components(self, given, encode):
        """One Gaussian for each row of the condition vector."""
        mean, log_var = self.network(given[0])
        log_var = loss_terms.safe_log_var(ops.cast(log_var, "float32"))
        return ops.expand_dims(ops.cast(mean, "float32"), 1), ops.expand_dims(log_var, 1), ops.zeros((1,))

    def get_config(self):
        """The arguments, for Keras."""
        names = ("latent_dim", "condition_dim", "hidden", "activation")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@register("priors.GaussianMixture")
class GaussianMixture(Prior):
    """A mixture of diagonal Gaussians with learned means, variances and weights.

    Args:
        latent_dim: size of z.
        num_components: how many, at least 2.
        seed: of the means, which start as draws from N(0, I).
    """

    kind = "gaussian_mixture"
    factorises = False

    def __init__(self, latent_dim, num_components=10, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.latent_dim, self._num_components, self.seed = int(latent_dim), int(num_components), seed
        if self._num_components < 2:
            raise ValueError(f"A mixture has at least 2 components, got {num_components}.")
        shape = (self._num_components, self.latent_dim)
        start = RandomNormal(stddev=1.0, seed=seed)
        self.means = self.add_weight(shape, initializer=start, name="means")
        self.log_vars = self.add_weight(shape, initializer="zeros", name="log_vars")
        self.logits = self.add_weight((self._num_components,), initializer="zeros", name="logits")

    @property
    def num_components(self):
        """How many Gaussians are mixed."""
        return self._num_components

    def components(self, given, encode):
        """The learned Gaussians, the same for every row."""
        log_var = loss_terms.safe_log_var(ops.convert_to_tensor(self.log_vars))
        return (
            ops.expand_dims(ops.convert_to_tensor(self.means), 0),
            ops.expand_dims(log_var, 0),
            ops.log_softmax(self.logits),
        )

    def manifest(self, encode=None):
        """Name and log weights."""
        return {"name": self.kind, "log_weights": _floats(ops.log_softmax(self.logits))}

    def get_config(self):
        """The arguments, for Keras."""
        own = {"latent_dim": self.latent_dim, "num_components": self._num_components, "seed": self.seed}
        return {**super().get_config(), **own}


@register("priors.VampPrior")
class VampPrior(Prior):
    """An equal mixture of the posteriors of learned pseudo-inputs (Tomczak and Welling 2018).

    Under a conditional model each pseudo-input also has a condition vector of its own, learned with it.

    Args:
        shape: shape of one example.
        num_components: how many pseudo-inputs, at least 2.
        condition_dim: width of the model's condition vector, 0 for none.
        pseudo_inputs: array `[num_components, *shape]` of unit data to start at, real examples best; by default draws
            around the middle of the range.
        seed: of those draws.
        bounded: whether pseudo-inputs are kept within 0 and 1, where unit data lie; False for tables.
        condition_vectors: array `[num_components, condition_dim]` to start at, those of the same examples best; by
            default draws from N(0, I).

    Reference: https://arxiv.org/abs/1705.07120.
    """

    kind = "vamp"
    factorises = False

    def __init__(
        self, shape, num_components=50, condition_dim=0, pseudo_inputs=None, seed=0, bounded=True,
        condition_vectors=None, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.shape, self._num_components = tuple(shape), int(num_components)
        self.condition_dim, self.seed, self.bounded = int(condition_dim), seed, bool(bounded)
        if self._num_components < 2:
            raise ValueError(f"A mixture has at least 2 components, got {num_components}.")
        full = (self._num_components, *self.shape)
        # Kept as logits where bounded, so that pseudo-inputs stay in the range of unit data however far they go.
        self.logits = self.add_weight(full, initializer=RandomNormal(stddev=0.5, seed=seed), name="logits")
        if pseudo_inputs is not None:
            start_at = np.asarray(pseudo_inputs, "float32").reshape(full)
            p = np.clip(start_at, 0.01, 0.99)
            self.logits.assign(np.log(p) - np.log(1.0 - p) if self.bounded else start_at)
        self.condition_vectors = None
        if self.condition_dim:
            start = RandomNormal(stddev=1.0, seed=seed)
            self.condition_vectors = self.add_weight(
                (self._num_components, self.condition_dim), initializer=start, name="condition_vectors"
            )
            if condition_vectors is not None:
                self.condition_vectors.assign(condition_vectors)

    @property
    def num_components(self):
        """How many Gaussians are mixed."""
        return self._num_components

    def components(self, given, encode):
        """The posteriors of the pseudo-inputs, the same for every row."""
        own = () if self.condition_vectors is None else (ops.convert_to_tensor(self.condition_vectors),)
        pseudo_inputs = ops.sigmoid(self.logits) if self.bounded else ops.convert_to_tensor(self.logits)
        mean, log_var = encode(pseudo_inputs, own)
        weights = ops.full((self._num_components,), -math.log(self._num_components))
        return ops.expand_dims(mean, 0), ops.expand_dims(log_var, 0), weights

    def manifest(self, encode=None):
        """Name and log weights."""
        return {"name": self.kind, "log_weights": [-math.log(self._num_components)] * self._num_components}

    def get_config(self):
        """The arguments, for Keras."""
        own = {"shape": self.shape, "num_components": self._num_components, "condition_dim": self.condition_dim}
        return {**super().get_config(), **own, "seed": self.seed, "bounded": self.bounded}


def _floats(tensor):
    return [float(value) for value in ops.convert_to_numpy(tensor)]
