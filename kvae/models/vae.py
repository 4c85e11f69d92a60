"""VAE, BetaVAE and ConditionalVAE: subclassed Keras models that train with `compile` and `fit`.

What varies freely (networks, likelihood, prior, conditions, beta) is an object each; the classes differ by one small
method. They combine: `ConditionalBetaVAE` has no body of its own.
"""

import numbers

import keras
from keras import ops

import kvae.optimizers  # noqa: F401 - models that were compiled with it load without asking for it
from kvae.backends import BackendStep, Totals
from kvae.data.spec import DataSpec
from kvae.likelihoods import Bernoulli
from kvae.loss_terms import Terms, log_normal, reparameterize, safe_log_var
from kvae.models.conditions import Categorical, Continuous
from kvae.models.trainer import KerasFace
from kvae.models.validation import input_shapes, latent_dim_of
from kvae.objectives.objectives import Elbo
from kvae.priors import StandardNormal
from kvae.serialization import register

__all__ = ["VAE", "BetaVAE", "Categorical", "ConditionalBetaVAE", "ConditionalVAE", "Continuous", "load_model"]

_PARTS = ("encoder", "decoder", "data", "likelihood", "prior", "objective")


@register("models.VAE")
class VAE(BackendStep, KerasFace, keras.Model):
    """Variational autoencoder (Kingma and Welling 2014, https://arxiv.org/abs/1312.6114).

    Train it as any Keras model: `model.compile("adam")`, `model.fit(x)` with x `[batch, *shape]` in data units.

    Args:
        encoder: Keras model, unit data to the pair `(z_mean, z_log_var)`: Functional, or subclassed (then give `data`).
        decoder: Keras model, z to the likelihood's parameters: for a Bernoulli logits, so no sigmoid at its end.
        data: `DataSpec` of the examples; by default the encoder's input shape, with pixels 0 to 255.
        likelihood: p(x given z), see `kvae.likelihoods`; `Bernoulli()` by default.
        prior: p(z), see `kvae.priors`; N(0, I) by default.
        objective: what training minimises, see `kvae.objectives`; minus the elbo by default.
        seed: of the noise of training and validation, 0 to 2^31 - 1. The noise is a function of (seed, step) alone.

    Raises:
        ValueError: where the networks do not fit each other or the data.
    """

    def __init__(self, encoder, decoder, *, data=None, likelihood=None, prior=None, objective=None, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.decoder = encoder, decoder
        self.data = data or DataSpec(_shape_told_by(encoder))
        self.likelihood = likelihood or Bernoulli()
        self.prior = prior or StandardNormal()
        self.objective = objective or Elbo()
        if self.objective.needs_factorised_prior and not self.prior.factorises:
            raise ValueError(
                f"{type(self.objective).__name__} needs a kl for each dimension, which a {self.prior.kind} prior "
                "does not have; use StandardNormal or ConditionalGaussian."
            )
        if not isinstance(seed, numbers.Integral) or not 0 <= int(seed) < 2**31:
            raise ValueError(f"seed must be an integer from 0 to 2^31 - 1, got {seed!r}.")
        self.seed = int(seed)
        self.totals = Totals()
        if (self.data.kind == "table") != (self.likelihood.kind == "mixed"):
            raise ValueError(
                f"A {self.likelihood.kind} likelihood does not model {self.data.kind} data: a TableSpec takes "
                "likelihoods.Mixed.from_spec(spec), and nothing else does."
            )
        self.latent_dim = latent_dim_of(encoder, decoder, self.data, self.likelihood, self.condition_dim)
        self.built = True

    # What a model does with one batch

    def encode(self, x, given=(), training=False):
        """Posterior of unit data `x`: `(z_mean, z_log_var)`, float32 `[batch, latent_dim]` each."""
        z_mean, z_log_var = self.encoder([x, *given] if given else x, training=training)
        return ops.cast(z_mean, "float32"), safe_log_var(ops.cast(z_log_var, "float32"))

    def decode(self, z, given=(), training=False):
        """The likelihood's parameters at `z`, float32."""
        z = ops.convert_to_tensor(z, "float32")
        return ops.cast(self.decoder([z, *given] if given else z, training=training), "float32")

    def unpack(self, data):
        """Split one batch, as `fit` hands it over, into unit data and what the networks are given beside it."""
        x, conditions, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if sample_weight is not None:
            raise ValueError("Sample weights are not supported: every example counts once in the elbo.")
        if conditions is not None:
            raise ValueError(f"{type(self).__name__} is given x alone, got a y too; ConditionalVAE takes conditions.")
        return self.data.to_unit(x), ()

    def terms(self, data, noise, training):
        """Return the `Terms` of one batch: `reconstruction` and `kl`, each `[batch]`, in nats."""
        x, given = self.unpack(data)
        x = self.likelihood.target(x, noise)
        z_mean, z_log_var = self.encode(x, given, training)
        num = self.objective.num_samples
        means = _repeat(z_mean, num)
        z = reparameterize(means, _repeat(z_log_var, num), noise.normal(means))
        parameters = self.decode(z, [_repeat(values, num) for values in given], training)
        nll = self.likelihood.nll(_repeat(x, num), parameters, training) - self.data.log_jacobian(self.likelihood)
        log_p_x = -ops.reshape(nll, (-1, num))
        z = ops.reshape(z, (-1, num, self.latent_dim))
        kl, kl_per_dim, log_p_z = self._kl(z_mean, z_log_var, z, given)
        return Terms(-ops.mean(log_p_x, axis=1), kl, z_mean, z_log_var, z, log_p_x, log_p_z, kl_per_dim)

    def _kl(self, z_mean, z_log_var, z, given):
        """KL(q || p) `[batch]`; it dimension by dimension, and log p(z) of the draws, where they are to be had."""
        kl_per_dim = log_p_z = None
        if self.objective.needs_log_prior or not self.prior.factorises:
            log_p_z = self.prior.log_prob(z, given, self.encode)
        if self.prior.factorises:
            kl_per_dim = self.prior.kl_per_dim(z_mean, z_log_var, given, self.encode)
            return ops.sum(kl_per_dim, axis=-1), kl_per_dim, log_p_z
        log_q = log_normal(z, ops.expand_dims(z_mean, 1), ops.expand_dims(z_log_var, 1))
        return ops.mean(log_q - log_p_z, axis=1), None, log_p_z

    def beta_at(self, step):
        """Weight of the kl at `step`, for the progress bar."""
        return self.objective.beta_at(step)

    def call(self, inputs):
        """Reconstruct: `x` (or `(x, conditions)`) in data units to `x_mean` at the posterior's mean, same units."""
        x, given = self.unpack(inputs if isinstance(inputs, (tuple, list)) else (inputs,))
        z_mean, _ = self.encode(x, given)
        return self.data.to_data(self.likelihood.mean(self.decode(z_mean, given)))

    # The Keras side

    def export(self, filepath, format="onnx", verbose=None, **kwargs):
        """Write the folder of sealed ONNX files; other formats go to `keras.Model.export`.

        Args:
            filepath: the folder to make.
            format: `"onnx"`, or a format of Keras.
            verbose: as Keras has it; the ONNX export says nothing.
            **kwargs: `name`, `weights` (`"float16"` and `"int8"` store them smaller), `training` (facts of the run for
                the manifest) and `force`, see `kvae.exporting.graphs.export`.

        Returns:
            Paths of what was written.

        Raises:
            VerificationError: where ONNX Runtime does not reproduce Keras.
            OutputError: where `filepath` exists.
        """
        if format != "onnx":
            kwargs.setdefault("input_signature", [self._input_specs()])
            return super().export(filepath, format=format, verbose=verbose, **kwargs)
        from kvae.exporting import graphs

        return graphs.export(self, filepath, **kwargs)

    def get_config(self):
        """The parts, each serialised, and the seed."""
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in _PARTS}
        return {"name": self.name, **parts, "seed": self.seed}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuild from `get_config`."""
        parts = {
            key: keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
            if isinstance(value, (dict, list))
            else value
            for key, value in config.items()
        }
        return cls(**parts)

    def _input_specs(self):
        return keras.InputSpec(shape=(None, *self.data.shape), dtype="float32")

    # Checks

    @property
    def condition_dim(self):
        """Width of the condition vector; 0 where the model is given nothing."""
        return 0


@register("models.BetaVAE")
class BetaVAE(VAE):
    """VAE whose kl is weighted by beta (Higgins et al., 2017, eq. 4).

    Args:
        *args: as for `VAE`.
        beta: a number, or a schedule of `kvae.schedules` over optimiser steps.
        **kwargs: as for `VAE`.
    """

    def __init__(self, *args, beta=1.0, **kwargs):
        super().__init__(*args, objective=Elbo(beta), **kwargs)

    @property
    def beta(self):
        """The schedule of beta."""
        return self.objective.beta

    def get_config(self):
        """The parts and the schedule."""
        config = super().get_config()
        del config["objective"]  # made of beta
        return {**config, "beta": keras.saving.serialize_keras_object(self.beta)}


@register("models.ConditionalVAE")
class ConditionalVAE(VAE):
    """VAE whose encoder and decoder are told attributes of the example (Sohn et al., 2015).

    `fit(x, label)` with one condition, `fit(x, {"label": ..., "age": ...})` with several.

    Args:
        *args: as for `VAE`; both networks take the list `[x or z, condition_vector]`.
        conditions: one or several of `kvae.Categorical` and `kvae.Continuous`; ten labels by default.
        **kwargs: as for `VAE`.
    """

    def __init__(self, *args, conditions=None, **kwargs):
        conditions = conditions if conditions is not None else [Categorical("label", 10)]
        self._condition_list = list(conditions) if isinstance(conditions, (list, tuple)) else [conditions]
        names = [condition.name for condition in self._condition_list]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"A conditional model has conditions, each with a name of its own, got {names}.")
        super().__init__(*args, **kwargs)
        self.conditions = self._condition_list

    @property
    def condition_dim(self):
        """Width of the condition vector."""
        return sum(condition.dim for condition in self._condition_list)

    def condition_vector(self, conditions):
        """All conditions of a batch, a dict of `[batch]` by name, as one vector, float32 `[batch, condition_dim]`."""
        return ops.concatenate([c.vector(_column(conditions[c.name])) for c in self._condition_list], axis=-1)

    def unpack(self, data):
        """Split one batch into unit data and the condition vector."""
        x, conditions, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if sample_weight is not None:
            raise ValueError("Sample weights are not supported: every example counts once in the elbo.")
        return self.data.to_unit(x), (self.condition_vector(self._by_name(conditions)),)

    def get_config(self):
        """The parts and the conditions."""
        conditions = [keras.saving.serialize_keras_object(condition) for condition in self._condition_list]
        return {**super().get_config(), "conditions": conditions}

    def _input_specs(self):
        kinds = {c.name: "int64" if isinstance(c, Categorical) else "float32" for c in self._condition_list}
        given = {name: keras.InputSpec(shape=(None,), dtype=dtype) for name, dtype in kinds.items()}
        return super()._input_specs(), given

    def _by_name(self, conditions, where="This batch"):
        names = [condition.name for condition in self._condition_list]
        if conditions is None:
            raise ValueError(f"{where}: this model is given {', '.join(names)} beside x; give (x, {names[0]}).")
        if not isinstance(conditions, dict):
            if len(names) > 1:
                raise ValueError(f"{where}: with several conditions y is a dict with the keys {', '.join(names)}.")
            conditions = {names[0]: conditions}
        if set(conditions) != set(names):
            raise ValueError(
                f"{where}: expected the conditions {', '.join(names)}, got {', '.join(sorted(conditions))}."
            )
        return conditions

    def _check(self, x, y, where):
        super()._check(x, None, where)
        values = self._by_name(y, where)
        for condition in self._condition_list:
            array = values[condition.name]
            condition.check(array, where)
            if len(array) != len(x):
                raise ValueError(f"{where}: {len(x)} examples but {len(array)} values of {condition.name}.")


@register("models.ConditionalBetaVAE")
class ConditionalBetaVAE(ConditionalVAE, BetaVAE):
    """Conditional VAE whose kl is weighted by beta."""


def load_model(path, **kwargs):
    """Open a saved `.keras` model of this package; `fit` goes on where it was.

    Args:
        path: the file, or the folder that `kvae train` wrote.
        **kwargs: as for `keras.saving.load_model`.
    """
    from pathlib import Path

    from kvae.backends import initializers

    path = Path(path)
    with initializers.drawn_alike():  # for nothing, but in no time
        return keras.saving.load_model(path / "model.keras" if path.is_dir() else path, **kwargs)


def _column(values):
    """`[batch, 1]` as `[batch]`."""
    if getattr(values.shape, "rank", 0) is None:  # to TensorFlow, once it has seen batches of both kinds
        return ops.reshape(values, (-1,))
    return ops.squeeze(values, axis=-1) if len(values.shape) == 2 else values


def _repeat(values, num):
    return values if num == 1 else ops.repeat(values, num, axis=0)


def _shape_told_by(encoder):
    if not (shapes := input_shapes(encoder)):
        raise ValueError(
            "This encoder does not tell the shape of its input: give data=DataSpec(shape)."
            if isinstance(encoder, keras.Layer)
            else f"The encoder is no Keras model but of type {type(encoder).__name__}; see kvae.networks."
        )
    return shapes[0]
