"""VAE, BetaVAE, ConditionalVAE and ConditionalBetaVAE: subclassed Keras models that train with `compile` and `fit`.

Networks, likelihood, prior, objective and conditions are objects that combine freely. The classes differ by their
objective and their conditions.
"""

import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
from keras import ops

import kvae.optimizers  # noqa: F401 - registers the optimizer of models that were compiled with it
from kvae.backends.current import BackendStep, LossTracker
from kvae.data.spec import DataSpec
from kvae.data.table import TableSpec
from kvae.exporting import graphs
from kvae.likelihoods import Bernoulli
from kvae.likelihoods.base import Likelihood
from kvae.loss_terms import Terms, log_normal, reparameterize, safe_log_var
from kvae.models.conditions import Categorical, Condition
from kvae.models.constructors import Constructors
from kvae.models.inference import Inference
from kvae.models.trainer import ValidatedTrainer
from kvae.models.validation import data_spec_from, validate_networks
from kvae.objectives.objectives import Elbo, Objective
from kvae.objectives.schedules import Schedule
from kvae.priors import Prior, StandardNormal
from kvae.serialization import register
from kvae_serve.errors import InputDataError

_PARTS = ("encoder", "decoder", "data", "likelihood", "prior", "objective")


@register("models.VAE")
class VAE(BackendStep, ValidatedTrainer, Inference, Constructors, keras.Model):
    """Variational autoencoder (Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114).

    It trains like any Keras model: `model.compile("adam")`, `model.fit(x)` with x `[batch, *shape]` in data units.

    Args:
        encoder: Keras model that maps unit data to the pair `(z_mean, z_log_var)`. A subclassed one needs `data`.
        decoder: Keras model that maps z to the likelihood's parameters: for a Bernoulli logits, without a sigmoid.
        data: `DataSpec` or `TableSpec` of the examples. Default: the encoder's input shape, with pixels 0 to 255.
        likelihood: p(x given z), see `kvae.likelihoods`. Default: `Bernoulli()`.
        prior: p(z), see `kvae.priors`. Default: N(0, I).
        objective: Function that training minimises, see `kvae.objectives`. Default: minus the elbo.
        seed: Seed of the noise of training and validation, 0 to 2^31 - 1. The noise depends on (seed, step) alone.
        name: Name of the Keras model.

    Raises:
        ValueError: The parts do not fit each other or the data.

    Example:
        >>> encoder = kvae.networks.dense_encoder((8, 8, 1), latent_dim=2, hidden=(16,))
        >>> decoder = kvae.networks.dense_decoder((8, 8, 1), latent_dim=2, hidden=(16,))
        >>> model = kvae.VAE(encoder, decoder)
        >>> model.compile("adam")
        >>> history = model.fit(np.zeros((32, 8, 8, 1), "uint8"), verbose=0)
        >>> sorted(history.history)
        ['beta', 'elbo', 'kl', 'loss', 'reconstruction']
    """

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        *,
        data: DataSpec | TableSpec | None = None,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
        objective: Objective | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.encoder, self.decoder = encoder, decoder
        self.data = data or data_spec_from(encoder)
        self.likelihood = likelihood or Bernoulli()
        self.prior = prior or StandardNormal()
        self.objective = objective or Elbo()
        if self.objective.needs_factorised_prior and not self.prior.factorises:
            raise ValueError(
                f"{type(self.objective).__name__} needs a kl per dimension, which a {self.prior.kind} prior does not "
                "have. Use StandardNormal or ConditionalGaussian."
            )
        if not isinstance(seed, numbers.Integral) or not 0 <= int(seed) < 2**31:
            raise ValueError(f"seed is {seed!r}; expected an integer from 0 to 2^31 - 1.")
        self.seed = int(seed)
        self.totals = LossTracker()
        if (self.data.kind == "table") != self.likelihood.for_tables:
            raise ValueError(
                f"A {self.likelihood.kind} likelihood does not model {self.data.kind} data. "
                "Use likelihoods.MixedAutoregressive.from_spec(spec) or Mixed.from_spec(spec) with a TableSpec, and "
                "only there."
            )
        if self.data.kind != "table" and self.data.range is None and self.likelihood.kind != "gaussian":
            raise ValueError(
                f"A {self.likelihood.kind} likelihood needs data with a range, but this DataSpec scales each "
                "feature. Use likelihoods.Gaussian, or DataSpec(range=...)."
            )
        self.latent_dim: int = validate_networks(encoder, decoder, self.data, self.likelihood, self.condition_dim)
        self.built = True

    @property
    def condition_dim(self) -> int:
        """Width of the condition vector; 0 for an unconditional model."""
        return 0

    # One batch of tensors. `vectors` is () or a tuple of the condition vector, float32 [batch, condition_dim].

    def _encode(self, x: Any, vectors: Sequence[Any] = (), training: bool = False) -> tuple[Any, Any]:
        """Map unit data to `(z_mean, z_log_var)`, float32 `[batch, latent_dim]` each."""
        z_mean, z_log_var = self.encoder([x, *vectors] if vectors else x, training=training)
        return ops.cast(z_mean, "float32"), safe_log_var(ops.cast(z_log_var, "float32"))

    def _decode(self, z: Any, vectors: Sequence[Any] = (), training: bool = False) -> Any:
        """Map z to the likelihood's parameters, float32."""
        z = ops.convert_to_tensor(z, "float32")
        return ops.cast(self.decoder([z, *vectors] if vectors else z, training=training), "float32")

    def _unpack(self, data: Any) -> tuple[Any, tuple[Any, ...], Any]:
        """Split a batch, in the form that `fit` passes on, into unit data, `vectors` and sample weights or None."""
        x, conditions, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if isinstance(sample_weight, dict):  # Keras repeats them for each condition
            sample_weight = next(iter(sample_weight.values()))
        if sample_weight is not None:
            sample_weight = _column(ops.cast(sample_weight, "float32"))
            if not self.condition_dim:
                conditions = None  # see `ValidatedTrainer.fit`
        return self.data.to_unit(x), self._vectors(conditions), sample_weight

    def _vectors(self, conditions: Any, where: str = "This batch") -> tuple[Any, ...]:
        if conditions is not None:
            raise ValueError(
                f"{where}: got y, but {type(self).__name__} is unconditional. Leave y out, or use ConditionalVAE."
            )
        return ()

    def terms(self, data: Any, noise: Any, training: bool) -> Terms:
        """Compute the `Terms` of one batch: `reconstruction` and `kl`, each `[batch]`, in nats.

        Args:
            data: Batch `(x,)`, `(x, conditions)` or `(x, conditions, sample_weight)` of tensors in data units.
            noise: `kvae.backends.current.Noise`, the random numbers of this batch.
            training: Whether layers such as dropout are in training mode.
        """
        x, vectors, sample_weight = self._unpack(data)
        x = self.likelihood.target(x, noise)
        z_mean, z_log_var = self._encode(x, vectors, training)
        num = self.objective.num_samples
        means = _repeat(z_mean, num)
        z = reparameterize(means, _repeat(z_log_var, num), noise.normal(means))
        parameters = self._decode(z, [_repeat(vector, num) for vector in vectors], training)
        nll = self.likelihood.nll(_repeat(x, num), parameters, training) - self.data.log_jacobian(self.likelihood)
        log_p_x = -ops.reshape(nll, (-1, num))
        z = ops.reshape(z, (-1, num, self.latent_dim))
        kl, kl_per_dim, log_p_z = self._kl(z_mean, z_log_var, z, vectors)
        reconstruction = -ops.mean(log_p_x, axis=1)
        return Terms(reconstruction, kl, z_mean, z_log_var, z, log_p_x, log_p_z, kl_per_dim, sample_weight)

    def _kl(self, z_mean: Any, z_log_var: Any, z: Any, vectors: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        """Return KL(q || p) `[batch]`, and, if available, the kl per dimension and log p(z) of the samples."""
        kl_per_dim = log_p_z = None
        if self.objective.needs_log_prior or not self.prior.factorises:
            log_p_z = self.prior.log_prob(z, vectors, self._encode)
        if self.prior.factorises:
            kl_per_dim = self.prior.kl_per_dim(z_mean, z_log_var, vectors, self._encode)
            return ops.sum(kl_per_dim, axis=-1), kl_per_dim, log_p_z
        log_q = log_normal(z, ops.expand_dims(z_mean, 1), ops.expand_dims(z_log_var, 1))
        return ops.mean(log_q - log_p_z, axis=1), None, log_p_z

    def beta_at(self, step: Any) -> Any:
        """Return the weight of the kl at an optimizer step, for the logs."""
        return self.objective.beta_at(step)

    def call(self, inputs: Any) -> Any:
        """Reconstruct at the posterior's mean.

        Args:
            inputs: `x`, or `(x, conditions)`, in data units.

        Returns:
            `x_mean`, float32 `[batch, *shape]` in data units.
        """
        x, vectors, _ = self._unpack(inputs if isinstance(inputs, (tuple, list)) else (inputs,))
        z_mean, _ = self._encode(x, vectors)
        return self.data.to_data(self.likelihood.mean(self._decode(z_mean, vectors)))

    # Saving and export

    def export(self, filepath: Any, format: str = "onnx", verbose: Any = None, **kwargs: Any) -> Any:
        """Write a folder of sealed ONNX files. Other formats go to `keras.Model.export`.

        Args:
            filepath: Folder to create.
            format: `"onnx"`, or a format of Keras.
            verbose: As for Keras; the ONNX export prints nothing.
            **kwargs: `name`, `weights` (`"float16"` and `"int8"` make smaller files), `training` (metadata of the run
                for the manifest) and `force`, see `kvae.exporting.graphs.export`.

        Returns:
            Paths of the files.

        Raises:
            VerificationError: ONNX Runtime does not reproduce Keras.
            OutputError: `filepath` exists.
        """
        if format != "onnx":
            kwargs.setdefault("input_signature", [self._input_specs()])
            return super().export(filepath, format=format, verbose=verbose, **kwargs)
        return graphs.export(self, filepath, **kwargs)

    def check_export(self) -> None:
        """Check that the model can be exported. Call it before `fit`: the check does not depend on the weights.

        Raises:
            RequestError: A layer does not have an ONNX form. The message names the layer and an alternative.
            VerificationError: ONNX Runtime does not reproduce Keras.

        Example:
            >>> encoder = kvae.networks.dense_encoder((8, 8, 1), latent_dim=2, hidden=(16,))
            >>> decoder = kvae.networks.dense_decoder((8, 8, 1), latent_dim=2, hidden=(16,))
            >>> kvae.VAE(encoder, decoder).check_export()
        """
        graphs.check(self)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, each part serialised."""
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in _PARTS}
        return {"name": self.name, **parts, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "VAE":
        """Rebuild a model from `get_config`, also of a file from an earlier version of kvae."""
        parts = {
            key: keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
            if isinstance(value, (dict, list))
            else value
            for key, value in config.items()
            if key not in ("trainable", "dtype")  # Keras' own entries
        }
        return cls(**parts)

    def _input_specs(self) -> Any:
        return keras.InputSpec(shape=(None, *self.data.shape), dtype="float32")

    def _class_index(self, y: Any) -> tuple[Any, int]:
        """Return the class of each example, int `[batch]`, and the number of classes, for `class_weight`."""
        raise ValueError(f"class_weight needs labels, but {type(self).__name__} is unconditional. Use sample_weight.")


@register("models.BetaVAE")
class BetaVAE(VAE):
    """VAE whose kl is weighted by beta (Higgins et al., 2017, eq. 4, https://openreview.net/forum?id=Sy2fzU9gl).

    Args:
        encoder: As for `VAE`.
        decoder: As for `VAE`.
        beta: Number of at least 0, or a schedule of `kvae.schedules` over optimizer steps.
        data: As for `VAE`.
        likelihood: As for `VAE`.
        prior: As for `VAE`.
        objective: Not accepted, because beta determines it. `VAE` accepts other objectives.
        seed: As for `VAE`.
        name: As for `VAE`.

    Raises:
        ValueError: An objective is given, beta is negative, or the parts do not fit each other.

    Example:
        >>> encoder = kvae.networks.dense_encoder((8, 8, 1), latent_dim=2, hidden=(16,))
        >>> decoder = kvae.networks.dense_decoder((8, 8, 1), latent_dim=2, hidden=(16,))
        >>> model = kvae.BetaVAE(encoder, decoder, beta=kvae.schedules.Linear(4.0, steps=1000))
        >>> float(model.beta(500))
        2.0
    """

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        *,
        beta: float | Schedule = 1.0,
        data: DataSpec | TableSpec | None = None,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
        objective: None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        VAE.__init__(
            self, encoder, decoder, data=data, likelihood=likelihood, prior=prior,
            objective=_weighted_elbo(type(self), beta, objective), seed=seed, name=name,
        )  # fmt: skip

    @property
    def beta(self) -> Schedule:
        """Schedule of beta."""
        return self.objective.beta

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, each part serialised."""
        config = super().get_config()
        del config["objective"]  # beta determines it
        return {**config, "beta": keras.saving.serialize_keras_object(self.beta)}


@register("models.ConditionalVAE")
class ConditionalVAE(VAE):
    """VAE whose encoder and decoder also receive attributes of the example (Sohn et al., 2015).

    `fit(x, label)` with one condition, `fit(x, {"label": ..., "age": ...})` with several.

    Args:
        encoder: As for `VAE`, with the list `[x, condition_vector]` as its input.
        decoder: As for `VAE`, with the list `[z, condition_vector]` as its input.
        conditions: One or several of `kvae.Categorical` and `kvae.Continuous`.
        data: As for `VAE`.
        likelihood: As for `VAE`.
        prior: As for `VAE`.
        objective: As for `VAE`.
        seed: As for `VAE`.
        name: As for `VAE`.

    Raises:
        ValueError: There are no conditions, two have the same name, or the parts do not fit each other.

    Example:
        >>> encoder = kvae.networks.dense_encoder((8, 8, 1), latent_dim=2, hidden=(16,), condition_dim=3)
        >>> decoder = kvae.networks.dense_decoder((8, 8, 1), latent_dim=2, hidden=(16,), condition_dim=3)
        >>> model = kvae.ConditionalVAE(encoder, decoder, conditions=kvae.Categorical("label", 3))
        >>> model.condition_dim
        3

    Reference: https://papers.nips.cc/paper/5775
    """

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        *,
        conditions: Condition | Sequence[Condition],
        data: DataSpec | TableSpec | None = None,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
        objective: Objective | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        # Set before Keras' constructor, and under this name: saved files order and name the weights by it.
        several = isinstance(conditions, (list, tuple))
        self._condition_list: list[Any] = list(conditions) if several else [conditions]
        names = [getattr(condition, "name", condition) for condition in self._condition_list]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"conditions are {names}; expected one or more, all with different names.")
        VAE.__init__(
            self, encoder, decoder, data=data, likelihood=likelihood, prior=prior, objective=objective, seed=seed,
            name=name,
        )  # fmt: skip
        self.conditions = self._condition_list

    @property
    def condition_dim(self) -> int:
        """Width of the condition vector."""
        return sum(condition.dim for condition in self._condition_list)

    def condition_vector(self, conditions: dict[str, Any]) -> Any:
        """Map the conditions of a batch, `[batch]` each by name, to float32 `[batch, condition_dim]`."""
        return ops.concatenate([c.vector(_column(conditions[c.name])) for c in self._condition_list], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, each part serialised."""
        conditions = [keras.saving.serialize_keras_object(condition) for condition in self._condition_list]
        return {**super().get_config(), "conditions": conditions}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "VAE":
        """Rebuild a model from `get_config`; ten labels were the default of earlier versions."""
        if "conditions" not in config:
            config = {**config, "conditions": [keras.saving.serialize_keras_object(Categorical("label", 10))]}
        return super().from_config(config, custom_objects)

    def _input_specs(self) -> Any:
        dtypes = {c.name: "int64" if isinstance(c, Categorical) else "float32" for c in self._condition_list}
        conditions = {name: keras.InputSpec(shape=(None,), dtype=dtype) for name, dtype in dtypes.items()}
        return super()._input_specs(), conditions

    def _vectors(self, conditions: Any, where: str = "This batch") -> tuple[Any, ...]:
        return (self.condition_vector(self._by_name(conditions, where)),)

    def _class_index(self, y: Any) -> tuple[Any, int]:
        conditions = self._condition_list
        if len(conditions) > 1 or not isinstance(conditions[0], Categorical):
            names = ", ".join(condition.name for condition in conditions)
            raise ValueError(
                f"class_weight needs one categorical condition; this model has {names}. Use sample_weight."
            )
        return (y[conditions[0].name] if isinstance(y, dict) else y), conditions[0].num_classes

    def _by_name(self, conditions: Any, where: str) -> dict[str, Any]:
        names = [condition.name for condition in self._condition_list]
        if conditions is None:
            raise ValueError(f"{where}: this model needs {', '.join(names)} as well as x. Use (x, {names[0]}).")
        if not isinstance(conditions, dict):
            if len(names) > 1:
                raise ValueError(f"{where}: y has no names; expected a dict with the keys {', '.join(names)}.")
            conditions = {names[0]: conditions}
        if set(conditions) != set(names):
            raise ValueError(
                f"{where}: got the conditions {', '.join(sorted(conditions))}; expected {', '.join(names)}."
            )
        return conditions

    def _check(self, x: Any, y: Any, sample_weight: Any, where: str) -> None:
        super()._check(x, None, sample_weight, where)
        values = self._by_name(y, where)
        for condition in self._condition_list:
            array = values[condition.name]
            condition.check(array, where)
            if len(array) != len(x):
                raise ValueError(f"{where}: {len(x)} examples but {len(array)} values of {condition.name}.")


@register("models.ConditionalBetaVAE")
class ConditionalBetaVAE(ConditionalVAE, BetaVAE):
    """Conditional VAE whose kl is weighted by beta.

    Args:
        encoder: As for `ConditionalVAE`.
        decoder: As for `ConditionalVAE`.
        conditions: As for `ConditionalVAE`.
        beta: As for `BetaVAE`.
        data: As for `VAE`.
        likelihood: As for `VAE`.
        prior: As for `VAE`.
        objective: Not accepted, because beta determines it. `ConditionalVAE` accepts other objectives.
        seed: As for `VAE`.
        name: As for `VAE`.

    Raises:
        ValueError: As for `ConditionalVAE` and `BetaVAE`.

    Example:
        >>> encoder = kvae.networks.dense_encoder((8, 8, 1), latent_dim=2, hidden=(16,), condition_dim=3)
        >>> decoder = kvae.networks.dense_decoder((8, 8, 1), latent_dim=2, hidden=(16,), condition_dim=3)
        >>> model = kvae.ConditionalBetaVAE(encoder, decoder, conditions=kvae.Categorical("label", 3), beta=4.0)
        >>> float(model.beta(0))
        4.0
    """

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        *,
        conditions: Condition | Sequence[Condition],
        beta: float | Schedule = 1.0,
        data: DataSpec | TableSpec | None = None,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
        objective: None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        ConditionalVAE.__init__(
            self, encoder, decoder, conditions=conditions, data=data, likelihood=likelihood, prior=prior,
            objective=_weighted_elbo(type(self), beta, objective), seed=seed, name=name,
        )  # fmt: skip


def load_model(path: Any, **kwargs: Any) -> VAE:
    """Open a saved `.keras` model of this package, with its optimizer, so that `fit` continues.

    Args:
        path: A `.keras` file, or a folder that `kvae train` wrote.
        **kwargs: As for `keras.saving.load_model`.

    Raises:
        InputDataError: The file is missing or corrupted, or contains another kind of model.

    Example:
        >>> kvae.VAE.dense((8, 8, 1), latent_dim=2).save("model.keras")
        >>> kvae.load_model("model.keras").latent_dim
        2
    """
    path = Path(path)
    path = path / "model.keras" if path.is_dir() else path
    try:
        model = keras.saving.load_model(path, **kwargs)
    except (KeyError, OSError, TypeError, ValueError, BadZipFile) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputDataError(
            f"{path} cannot be opened as a model ({reason[:200]}). Expected a .keras file; import layers of your own "
            "before you open it."
        ) from error
    if not isinstance(model, VAE):
        raise InputDataError(f"{path} contains a {type(model).__name__}; expected a model of kvae, such as kvae.VAE.")
    return model


def _weighted_elbo(cls: type, beta: float | Schedule, objective: Any) -> Elbo:
    if objective is not None:
        raise ValueError(
            f"{cls.__name__} received an objective, but its objective is Elbo(beta). Give beta alone, or the objective "
            f"to {cls.__name__.replace('Beta', '')}."
        )
    return Elbo(beta)


def _column(values: Any) -> Any:
    """Return `[batch, 1]` as `[batch]`."""
    if getattr(values.shape, "rank", 0) is None:  # TensorFlow, after batches of both kinds
        return ops.reshape(values, (-1,))
    return ops.squeeze(values, axis=-1) if len(values.shape) == 2 else values


def _repeat(values: Any, num: int) -> Any:
    return values if num == 1 else ops.repeat(values, num, axis=0)
