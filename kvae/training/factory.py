"""From a configuration to a model in code: what `kvae train` trains, and what `kvae export` loads weights into."""

import functools
import math
from typing import Any

import keras
import numpy as np

from kvae import likelihoods, networks, priors
from kvae.backends import initializers
from kvae.data.disk import take, value_range
from kvae.data.spec import DataSpec
from kvae.data.table import TableSpec
from kvae.models.conditions import Categorical, Continuous
from kvae.models.vae import VAE, BetaVAE, ConditionalBetaVAE, ConditionalVAE
from kvae.objectives import objectives, schedules
from kvae.optimizers import Adam
from kvae_serve.errors import InputDataError, RequestError


def model(config, spec, conditions=(), steps_per_epoch=1, data_mean=None, num_examples=1, pseudo_inputs=None):
    """Build the model that `config` describes, with fresh weights.

    Args:
        config: `kvae.training.config.Config`.
        spec: `DataSpec` or `TableSpec` of the examples.
        conditions: what the model is given, as `conditions_of` says it.
        steps_per_epoch: optimiser steps an epoch, for schedules that count in epochs.
        data_mean: mean example in unit data, array `[*unit_shape]`; the decoder's last bias starts there.
        num_examples: size of the training set, which the total correlation needs.
        pseudo_inputs: what a VampPrior starts at: a pair of examples in unit data and their conditions by name.

    Returns:
        A `VAE`, `BetaVAE`, `ConditionalVAE` or `ConditionalBetaVAE`.
    """
    m = config.model
    likelihood = _likelihood(m, spec)
    conditions = [_condition(m.condition_embedding, **facts) for facts in conditions]
    condition_dim = sum(condition.dim for condition in conditions)
    bias = None if data_mean is None else likelihood.initial_bias(np.asarray(data_mean, "float32"))
    with initializers.drawn_alike():
        encoder, decoder = _networks(m, spec, condition_dim, likelihood, bias)
    prior = _prior(m, spec, conditions, config.training.seed, pseudo_inputs)
    arguments = {"data": spec, "likelihood": likelihood, "prior": prior, "seed": config.training.seed, "name": "model"}
    objective = _objective(config.objective, steps_per_epoch, num_examples)
    weighted = isinstance(objective, objectives.Elbo) and objective.beta != schedules.Constant(1.0)
    arguments |= {"beta": objective.beta} if weighted else {"objective": objective}
    if conditions:
        return (ConditionalBetaVAE if weighted else ConditionalVAE)(
            encoder, decoder, conditions=conditions, **arguments
        )
    return (BetaVAE if weighted else VAE)(encoder, decoder, **arguments)


def _likelihood(m, spec):
    if m.likelihood == "bernoulli":
        return likelihoods.Bernoulli(binarize=m.binarize)
    if m.likelihood == "gaussian":
        return likelihoods.Gaussian(m.sigma if m.sigma.isalpha() else float(m.sigma))
    if m.likelihood == "categorical":
        return likelihoods.Categorical(round(spec.range[1]) + 1)
    if m.likelihood == "mixed":
        return likelihoods.Mixed.from_spec(spec, m.sigma if m.sigma.isalpha() else float(m.sigma))
    return {
        "continuous_bernoulli": likelihoods.ContinuousBernoulli,
        "discretized_logistic": likelihoods.DiscretizedLogistic,
    }[m.likelihood]()


def _condition(embedding_dim, name, kind, classes=None, range=None):
    return Categorical(name, classes, embedding_dim or None) if kind == "categorical" else Continuous(name, *range)


def _networks(m, spec, condition_dim, likelihood, bias):
    if spec.kind == "table" and m.network != "dense":
        raise RequestError(f"A table takes dense networks, got {m.network}; use --network dense.")
    common = {"activation": m.activation, "condition_dim": condition_dim}
    last = {"num_parameters": likelihood.num_parameters, "output_bias": bias}
    shape, latent_dim = spec.unit_shape, m.latent_dim
    builders: dict[str, Any] = {
        "dense": (networks.dense_encoder, networks.dense_decoder),
        "conv": (networks.conv_encoder, networks.conv_decoder),
        "residual": (networks.residual_encoder, networks.residual_decoder),
        "lstm": (networks.lstm_encoder, networks.lstm_decoder),
    }
    encoder, decoder = builders[m.network]
    sizes: tuple[dict[str, Any], ...]
    if m.network == "dense":
        sizes = {"hidden": m.encoder_hidden, "gated": m.gated}, {"hidden": m.decoder_hidden, "gated": m.gated}
    elif m.network == "lstm":
        sizes = tuple({"units": m.lstm_units, "dense": hidden} for hidden in (m.encoder_hidden, m.decoder_hidden))
    else:
        sizes = (
            {"filters": m.encoder_filters, "dense": m.encoder_hidden},
            {"filters": m.decoder_filters, "dense": m.decoder_hidden},
        )
    if m.likelihood == "categorical":
        width = min(m.value_embedding, likelihood.num_classes)
        encoder = functools.partial(
            networks.embedded_encoder, encoder, num_classes=likelihood.num_classes, embedding_dim=width
        )
    try:
        return (
            encoder(shape, latent_dim, **sizes[0], **common),
            decoder(shape, latent_dim, **sizes[1], **common, **last),
        )
    except ValueError as error:  # sides that cannot be halved
        raise RequestError(str(error)) from error


def _prior(m, spec, conditions, seed, pseudo_inputs):
    condition_dim = sum(condition.dim for condition in conditions)
    if m.prior == "conditional_gaussian":
        return priors.ConditionalGaussian(m.latent_dim, condition_dim, m.prior_hidden)
    if m.prior == "gaussian_mixture":
        return priors.GaussianMixture(m.latent_dim, m.prior_components, seed)
    if m.prior == "vamp":
        x, vectors = None, None
        if pseudo_inputs is not None:
            x, given = pseudo_inputs
            vectors = np.concatenate([np.asarray(c.vector(given[c.name])) for c in conditions], 1) if given else None
        components, bounded = m.prior_components, spec.bounded
        return priors.VampPrior(spec.unit_shape, components, condition_dim, x, seed, bounded, vectors)
    return priors.StandardNormal()


def _objective(o, steps_per_epoch, num_examples):
    steps = max(1, round(o.warmup_epochs * steps_per_epoch))
    if o.objective == "capacity":
        warm = bool(o.warmup_epochs)
        return objectives.Capacity(schedules.Linear(o.capacity, steps) if warm else o.capacity, o.gamma)
    if o.objective == "free_bits":
        return objectives.FreeBits(o.free_bits)
    if o.objective == "importance_weighted":
        return objectives.ImportanceWeighted(o.num_samples)
    if o.objective == "total_correlation":
        return objectives.TotalCorrelation(num_examples, o.beta)
    if not o.warmup_epochs:
        return objectives.Elbo(o.beta)
    kinds = {"linear": schedules.Linear, "cosine": schedules.Cosine, "cyclical": schedules.Cyclical}
    return objectives.Elbo(kinds[o.beta_schedule](o.beta, steps=steps, start=o.initial_beta))


def optimizer(config, steps_per_epoch):
    """Adam with the configured learning-rate schedule over the whole run."""
    t = config.training
    steps = t.epochs * steps_per_epoch
    rate = t.learning_rate
    if t.learning_rate_schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            t.learning_rate, steps, alpha=t.final_learning_rate / t.learning_rate
        )
    elif t.learning_rate_schedule == "exponential":
        rate = keras.optimizers.schedules.ExponentialDecay(
            t.learning_rate, steps, t.final_learning_rate / t.learning_rate
        )
    return Adam(rate)


def conditions_of(dataset, rows=None):
    """What a model is given, as JSON: name, kind, and classes or range of each condition of a `Dataset`.

    Args:
        dataset: the data.
        rows: indices of the rows that ranges are learned from; all by default, and where those have one value only.
    """
    facts = []
    for name, values in dataset.conditions.items():
        if name in dataset.class_names:
            facts.append({"name": name, "kind": "categorical", "classes": list(dataset.class_names[name])})
        else:
            seen = values if rows is None or values[rows].min() == values[rows].max() else values[rows]
            facts.append({"name": name, "kind": "continuous", "range": [float(seen.min()), float(seen.max())]})
    return facts


def spec_from(facts):
    """The `DataSpec` or `TableSpec` whose `get_config` is `facts`."""
    return (TableSpec if "columns" in facts else DataSpec).from_config(facts)


def spec_of(dataset, likelihood="bernoulli", rows=None):
    """`DataSpec` of a `kvae_serve.readers.Dataset`; of a table a `TableSpec`.

    Eight-bit data range over 0 to 255; other numbers over 0 to 1 or 0 to 255, whichever holds them. Under a Gaussian
    vectors and sequences, which have no bounds, are scaled by what the training data hold, and so are images of other
    ranges. Class indices range from 0 to the highest.

    Args:
        dataset: the data.
        likelihood: by its name in a configuration.
        rows: indices of the rows that scales are learned from; all by default.

    Raises:
        InputDataError: where the values lie in no range that the likelihood models.
    """
    if bool(dataset.columns) != (likelihood == "mixed"):
        what = "is a table, whose columns" if dataset.columns else "is no table, so its values"
        fit = "use --likelihood mixed" if dataset.columns else "use another --likelihood, such as gaussian"
        raise InputDataError(f"{dataset.source} {what} a {likelihood} likelihood does not model; {fit}.")
    if dataset.columns:
        return TableSpec.learn(dataset.columns, dataset.x if rows is None else dataset.x[rows])
    if likelihood != "categorical" and dataset.range is not None:
        return DataSpec(dataset.x.shape[1:], dataset.range)
    low, high = value_range(dataset.x)
    if likelihood == "categorical":
        if low < 0 or high < 1 or high > 255:
            raise InputDataError(
                f"{dataset.source}: class indices run from 0 to at most 255, x lies in {low:g} to {high:g}; "
                "number the classes from 0, or use --likelihood gaussian."
            )
        return DataSpec(dataset.x.shape[1:], (0.0, high))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputDataError(f"{dataset.source}: x holds NaN or infinity; remove or replace those values.")
    if low == high:
        raise InputDataError(f"{dataset.source}: every value of x is {low:g}, from which nothing is learned.")
    measured = likelihood == "gaussian" and dataset.x.ndim < 4
    for bound in (1.0, 255.0):
        if not measured and low >= 0 and high <= bound:
            return DataSpec(dataset.x.shape[1:], (0.0, bound))
    if likelihood == "gaussian":
        seen = (low, high) if rows is None else value_range(take(dataset.x, rows))
        return DataSpec(dataset.x.shape[1:], seen if seen[0] < seen[1] else (low, high), bounded=False)
    raise InputDataError(
        f"{dataset.source}: x lies in {low:g} to {high:g}, but {likelihood} needs 0 to 1 or 0 to 255; "
        "scale x, or use --likelihood gaussian."
    )


def steps_per_epoch(config, num_examples):
    """Optimiser steps an epoch over `num_examples`: full batches, at least one."""
    return max(1, math.floor(num_examples / min(config.training.batch_size, num_examples)))
