"""Priors p(z) or p(z given y): log densities, and the KL of a diagonal Gaussian posterior to them.

Every prior is N(0, I) or a mixture of diagonal Gaussians. With one component the KL has a closed form. With several
it is estimated from the draws of z. `prior.onnx` contains the parameters of the Gaussians.

The methods share two arguments. `conditions` is `()`, or the tuple of the condition vector `[batch, condition_dim]`.
`encode` is the model's encoder, unit data and conditions to `(z_mean, z_log_var)`; only `VampPrior` needs it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kvae import loss_terms, mixtures
from kvae.serialization import register
from kvae.types import Shape, Tensor


class Prior(keras.layers.Layer):
    """Base class of all priors. It is a layer, so that learned parameters are saved with the model.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Example:
        >>> isinstance(kvae.priors.StandardNormal(), kvae.priors.Prior)
        True
    """

    #: Name in the manifest of an exported file.
    kind: str
    #: Whether the density is a product over dimensions, so that each dimension has its own KL.
    factorises = True
    #: Number of Gaussians.
    num_components = 1

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.built = True

    def components(
        self, conditions: Sequence[Tensor], encode: Callable[..., Any] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the Gaussians of the mixture.

        Args:
            conditions: `()`, or the tuple of the condition vector `[batch, condition_dim]`.
            encode: The model's encoder, for a prior that consists of posteriors.

        Returns:
            `(mean, log_var, log_weights)`: mean and log variance `[batch or 1, num_components, latent_dim]`, and log
            weights `[num_components]`, all float32.
        """
        raise NotImplementedError

    def kl_per_dim(
        self,
        z_mean: Tensor,
        z_log_var: Tensor,
        conditions: Sequence[Tensor] = (),
        encode: Callable[..., Any] | None = None,
    ) -> Tensor:
        """Compute KL(q || p) for each dimension in closed form, for a prior of one component.

        Args:
            z_mean: Mean of q, float32 `[batch, latent_dim]`.
            z_log_var: Log variance of q, same shape.
            conditions: As in `components`.
            encode: As in `components`.

        Returns:
            float32 `[batch, latent_dim]`, in nats.
        """
        mean, log_var, _ = self.components(conditions, encode)
        return loss_terms.kl_per_dim_between_gaussians(z_mean, z_log_var, mean[:, 0], log_var[:, 0])

    def log_prob(
        self, z: Tensor, conditions: Sequence[Tensor] = (), encode: Callable[..., Any] | None = None
    ) -> Tensor:
        """Compute log p(z).

        Args:
            z: float32 `[batch, num_samples, latent_dim]`.
            conditions: As in `components`.
            encode: As in `components`.

        Returns:
            float32 `[batch, num_samples]`, in nats.
        """
        mean, log_var, log_weights = self.components(conditions, encode)
        each = loss_terms.log_normal(ops.expand_dims(z, 2), ops.expand_dims(mean, 1), ops.expand_dims(log_var, 1))
        return ops.logsumexp(each + log_weights, axis=-1)

    def manifest(self) -> dict[str, Any]:
        """Return the description for the manifest of an exported file, as JSON."""
        return {"name": self.kind}


@register("priors.StandardNormal")
class StandardNormal(Prior):
    """N(0, I). Because it does not have parameters, an export does not contain `prior.onnx`.

    Example:
        >>> import kvae
        >>> from keras import ops
        >>> prior = kvae.priors.StandardNormal()
        >>> round(float(prior.log_prob(ops.zeros((1, 1, 2)))[0, 0]), 4)  # -log(2 pi)
        -1.8379
    """

    kind = "standard_normal"

    def kl_per_dim(
        self,
        z_mean: Tensor,
        z_log_var: Tensor,
        conditions: Sequence[Tensor] = (),
        encode: Callable[..., Any] | None = None,
    ) -> Tensor:
        """Compute KL(q || N(0, I)) for each dimension in closed form, float32 `[batch, latent_dim]`, in nats."""
        return loss_terms.kl_per_dim_to_standard_normal(z_mean, z_log_var)

    def log_prob(
        self, z: Tensor, conditions: Sequence[Tensor] = (), encode: Callable[..., Any] | None = None
    ) -> Tensor:
        """Compute log p(z) of z `[batch, num_samples, latent_dim]`, float32 `[batch, num_samples]`, in nats."""
        return -0.5 * ops.sum(loss_terms.LOG_2_PI + ops.square(z), axis=-1)


@register("priors.ConditionalGaussian")
class ConditionalGaussian(Prior):
    """Gaussian whose mean and log variance are computed from the conditions by a small network.

    It starts at N(0, I) for every condition.

    Args:
        latent_dim: Size of z.
        condition_dim: Width of the model's condition vector, at least 1.
        hidden: Widths of the hidden dense layers.
        activation: Activation of the hidden layers.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `condition_dim` is 0.

    Example:
        >>> import kvae
        >>> from keras import ops
        >>> prior = kvae.priors.ConditionalGaussian(latent_dim=2, condition_dim=10)
        >>> mean, log_var, log_weights = prior.components((ops.ones((5, 10)),), None)
        >>> tuple(mean.shape)
        (5, 1, 2)

    Reference: Sohn et al. (2015), "Learning Structured Output Representation using Deep Conditional Generative
    Models", section 4.1.
    """

    kind = "conditional_gaussian"

    def __init__(
        self, latent_dim: int, condition_dim: int, hidden: Sequence[int] = (), activation: str = "tanh", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.latent_dim, self.condition_dim = int(latent_dim), int(condition_dim)
        self.hidden, self.activation = tuple(hidden), activation
        if self.condition_dim < 1:
            raise ValueError(
                f"condition_dim is {condition_dim}, expected at least 1; a conditional prior needs a ConditionalVAE."
            )
        vector = state = layers.Input((self.condition_dim,))
        for width in self.hidden:
            state = layers.Dense(width, activation=activation)(state)
        zeros = {"kernel_initializer": "zeros", "bias_initializer": "zeros"}
        heads = [layers.Dense(latent_dim, name=name, **zeros)(state) for name in ("z_mean", "z_log_var")]
        self.network = keras.Model(vector, heads, name="network")

    def components(
        self, conditions: Sequence[Tensor], encode: Callable[..., Any] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return one Gaussian for each row of the condition vector: `[batch, 1, latent_dim]`, weight 1."""
        mean, log_var = self.network(conditions[0])
        log_var = loss_terms.safe_log_var(ops.cast(log_var, "float32"))
        return ops.expand_dims(ops.cast(mean, "float32"), 1), ops.expand_dims(log_var, 1), ops.zeros((1,))

    def fit(self, z: Any, condition_vectors: Any) -> None:
        """Set the Gaussian of each condition to the mean and the variance of its points.

        With draws from the posteriors of the training data, this is the best prior of this kind for a trained model
        (Hoffman and Johnson 2016, ELBO surgery). A class without points keeps N(0, I) if classes are one-hot.

        Args:
            z: Points, float32 `[num, latent_dim]`.
            condition_vectors: Condition vector of each point, float32 `[num, condition_dim]`.

        Raises:
            ValueError: If the prior has hidden layers, or if the different vectors are not linearly independent, as
                those of one class condition are.

        Example:
            >>> import kvae
            >>> import numpy as np
            >>> prior = kvae.priors.ConditionalGaussian(latent_dim=1, condition_dim=2)
            >>> prior.fit([[1.0], [3.0], [7.0], [9.0]], [[1, 0], [1, 0], [0, 1], [0, 1]])
            >>> mean, log_var, _ = prior.components((np.eye(2, dtype="float32"),), None)
            >>> np.ravel(mean).round(3).tolist()
            [2.0, 8.0]
        """
        points, rows = np.asarray(z, "float64"), np.asarray(condition_vectors, "float64")
        vectors, group = np.unique(rows, axis=0, return_inverse=True)
        if self.hidden or np.linalg.matrix_rank(vectors) < len(vectors):
            raise ValueError(
                "The prior cannot be fitted: it has hidden layers, or the model has other conditions than one class."
            )
        groups = [points[group.ravel() == index] for index in range(len(vectors))]
        moments = (
            [each.mean(axis=0) for each in groups],
            [np.log(each.var(axis=0) + 1e-6) for each in groups],
        )
        for name, values in zip(("z_mean", "z_log_var"), moments, strict=True):
            kernel = np.linalg.lstsq(vectors, np.array(values), rcond=None)[0]
            self.network.get_layer(name).set_weights([kernel, np.zeros(self.latent_dim)])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        names = ("latent_dim", "condition_dim", "hidden", "activation")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@register("priors.GaussianMixture")
class GaussianMixture(Prior):
    """Mixture of diagonal Gaussians with learned means, variances and weights.

    Args:
        latent_dim: Size of z.
        num_components: Number of Gaussians, at least 2.
        seed: Seed of the initial means, which are draws from N(0, I).
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `num_components` is less than 2.

    Example:
        >>> import kvae
        >>> prior = kvae.priors.GaussianMixture(latent_dim=2, num_components=4)
        >>> mean, log_var, log_weights = prior.components((), None)
        >>> tuple(mean.shape)
        (1, 4, 2)
    """

    kind = "gaussian_mixture"
    factorises = False

    def __init__(self, latent_dim: int, num_components: int = 10, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.latent_dim, self.seed = int(latent_dim), seed
        self.num_components = _check_num_components(num_components)
        shape = (self.num_components, self.latent_dim)
        self.means = self.add_weight(
            shape, initializer=keras.initializers.RandomNormal(stddev=1.0, seed=seed), name="means"
        )
        self.log_vars = self.add_weight(shape, initializer="zeros", name="log_vars")
        self.logits = self.add_weight((self.num_components,), initializer="zeros", name="logits")

    def components(
        self, conditions: Sequence[Tensor], encode: Callable[..., Any] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the learned Gaussians, the same for every row: `[1, num_components, latent_dim]`."""
        log_var = loss_terms.safe_log_var(ops.convert_to_tensor(self.log_vars))
        means = ops.convert_to_tensor(self.means)
        return ops.expand_dims(means, 0), ops.expand_dims(log_var, 0), ops.log_softmax(self.logits)

    def fit(self, z: Any, num_iterations: int = 40) -> None:
        """Fit the Gaussians to points by expectation maximisation, and assign them.

        With draws from the posteriors of the training data, the prior becomes close to the aggregate posterior, which
        is the best prior of a trained model (Hoffman and Johnson 2016, ELBO surgery).

        Args:
            z: Points, float32 `[num, latent_dim]`, at least one per component.
            num_iterations: Number of iterations.

        Raises:
            ValueError: If there are fewer points than components.

        Example:
            >>> import kvae
            >>> import numpy as np
            >>> prior = kvae.priors.GaussianMixture(latent_dim=1, num_components=2)
            >>> prior.fit(np.repeat([[-3.0], [5.0]], 50, axis=0))
            >>> sorted(prior.means.numpy()[:, 0].round(3).tolist())
            [-3.0, 5.0]
        """
        mixture = mixtures.fit([z], self.num_components, self.seed, num_iterations)
        self.means.assign(mixture.mean[0])
        self.log_vars.assign(mixture.log_var[0])
        self.logits.assign(mixture.log_weights)

    def manifest(self) -> dict[str, Any]:
        """Return the name and the log weights, as JSON."""
        log_weights = ops.convert_to_numpy(ops.log_softmax(self.logits))
        return {"name": self.kind, "log_weights": [float(each) for each in log_weights]}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        arguments = {"latent_dim": self.latent_dim, "num_components": self.num_components, "seed": self.seed}
        return {**super().get_config(), **arguments}


@register("priors.VampPrior")
class VampPrior(Prior):
    """Equally weighted mixture of the posteriors of learned pseudo-inputs.

    In a conditional model each pseudo-input has a condition vector, which is learned too.

    Args:
        shape: Shape of one example.
        num_components: Number of pseudo-inputs, at least 2.
        condition_dim: Width of the model's condition vector; 0 for an unconditional model.
        pseudo_inputs: Initial pseudo-inputs, unit data `[num_components, *shape]`. Real examples are best. By default
            they are drawn around the middle of the range.
        seed: Seed of the initial values that are drawn.
        bounded: Whether pseudo-inputs are kept between 0 and 1, the range of unit data; False for tables.
        condition_vectors: Initial condition vectors `[num_components, condition_dim]`, best those of the same
            examples. By default they are drawn from N(0, I).
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `num_components` is less than 2.

    Example:
        >>> import kvae
        >>> prior = kvae.priors.VampPrior((28, 28, 1), num_components=50)
        >>> tuple(prior.logits.shape)
        (50, 28, 28, 1)

    Reference: Tomczak and Welling (2018), https://arxiv.org/abs/1705.07120.
    """

    kind = "vamp"
    factorises = False

    def __init__(
        self,
        shape: Sequence[int],
        num_components: int = 50,
        condition_dim: int = 0,
        pseudo_inputs: Tensor | None = None,
        seed: int = 0,
        bounded: bool = True,
        condition_vectors: Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.shape: Shape = tuple(shape)
        self.num_components = _check_num_components(num_components)
        self.condition_dim, self.seed, self.bounded = int(condition_dim), seed, bool(bounded)
        full = (self.num_components, *self.shape)
        # Stored as logits if bounded, so that pseudo-inputs stay in the range of unit data.
        self.logits = self.add_weight(
            full, initializer=keras.initializers.RandomNormal(stddev=0.5, seed=seed), name="logits"
        )
        if pseudo_inputs is not None:
            values = np.asarray(pseudo_inputs, "float32").reshape(full)
            p = np.clip(values, 0.01, 0.99)
            self.logits.assign(np.log(p) - np.log(1.0 - p) if self.bounded else values)
        self.condition_vectors = None
        if self.condition_dim:
            self.condition_vectors = self.add_weight(
                (self.num_components, self.condition_dim),
                initializer=keras.initializers.RandomNormal(stddev=1.0, seed=seed),
                name="condition_vectors",
            )
            if condition_vectors is not None:
                self.condition_vectors.assign(condition_vectors)

    def components(
        self, conditions: Sequence[Tensor], encode: Callable[..., Any] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the posteriors of the pseudo-inputs, the same for every row: `[1, num_components, latent_dim]`."""
        assert encode is not None, "a VampPrior consists of posteriors and needs the model's encoder"
        vectors = () if self.condition_vectors is None else (ops.convert_to_tensor(self.condition_vectors),)
        pseudo_inputs = ops.sigmoid(self.logits) if self.bounded else ops.convert_to_tensor(self.logits)
        mean, log_var = encode(pseudo_inputs, vectors)
        log_weights = ops.full((self.num_components,), -math.log(self.num_components))
        return ops.expand_dims(mean, 0), ops.expand_dims(log_var, 0), log_weights

    def manifest(self) -> dict[str, Any]:
        """Return the name and the log weights, as JSON."""
        return {"name": self.kind, "log_weights": [-math.log(self.num_components)] * self.num_components}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments, without the initial values of the weights."""
        names = ("shape", "num_components", "condition_dim", "seed", "bounded")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _check_num_components(num_components: int) -> int:
    if int(num_components) < 2:
        raise ValueError(f"num_components is {num_components}, expected at least 2; use StandardNormal for one.")
    return int(num_components)
