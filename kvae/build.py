"""From a configuration to a model in code: what `kvae train` trains, and what `kvae export` loads weights into."""

import math

import keras
import numpy as np

from kvae import likelihoods, networks, schedules
from kvae.conditions import Categorical
from kvae.data.spec import DataSpec
from kvae.models import VAE, BetaVAE, ConditionalBetaVAE, ConditionalVAE
from serve_cli.errors import InputDataError


def model(config, spec, classes=None, steps_per_epoch=1, data_mean=None):
    """Build the model that `config` describes, with fresh weights.

    Args:
        config: `kvae.config.Config`.
        spec: `DataSpec` of the examples.
        classes: class names of the condition `label`, where the model is conditional.
        steps_per_epoch: optimiser steps an epoch, for schedules that count in epochs.
        data_mean: mean example in unit data, array `[*shape]`; the decoder's last bias starts there.

    Returns:
        A `VAE`, `BetaVAE`, `ConditionalVAE` or `ConditionalBetaVAE`.
    """
    m, objective = config.model, config.objective
    conditional = config.data.conditional
    likelihood = likelihoods.Bernoulli(binarize=m.binarize)
    conditions = [Categorical("label", classes)] if conditional else []
    condition_dim = sum(condition.dim for condition in conditions)
    bias = None if data_mean is None else likelihood.initial_bias(np.asarray(data_mean, "float32"))
    if m.network == "dense":
        common = {"activation": m.activation, "gated": m.gated, "condition_dim": condition_dim}
        encoder = networks.dense_encoder(spec.shape, m.latent_dim, m.encoder_hidden, **common)
        decoder = networks.dense_decoder(spec.shape, m.latent_dim, m.decoder_hidden, output_bias=bias, **common)
    else:
        common = {"activation": m.activation, "condition_dim": condition_dim}
        encoder = networks.conv_encoder(spec.shape, m.latent_dim, m.encoder_filters, m.encoder_hidden, **common)
        decoder = networks.conv_decoder(
            spec.shape, m.latent_dim, m.decoder_filters, m.decoder_hidden, output_bias=bias, **common
        )
    beta: schedules.Schedule = schedules.Constant(objective.beta)
    if objective.warmup_epochs:
        steps = max(1, round(objective.warmup_epochs * steps_per_epoch))
        beta = schedules.Linear(objective.beta, steps=steps, start=objective.initial_beta)
    weighted = beta.manifest() != {"name": "constant", "value": 1.0}
    arguments = {"data": spec, "likelihood": likelihood, "seed": config.training.seed, "name": "model"}
    if weighted:
        arguments["beta"] = beta
    if conditional:
        cls = ConditionalBetaVAE if weighted else ConditionalVAE
        return cls(encoder, decoder, conditions=conditions, **arguments)
    return (BetaVAE if weighted else VAE)(encoder, decoder, **arguments)


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
    return keras.optimizers.Adam(rate)


def spec_of(dataset):
    """`DataSpec` of a `serve_cli.readers.Dataset`.

    Eight-bit data range over 0 to 255; other numbers over 0 to 1 or 0 to 255, whichever holds them.

    Raises:
        InputDataError: where the values lie in neither.
    """
    if dataset.range is not None:
        return DataSpec(dataset.x.shape[1:], dataset.range)
    low, high = float(dataset.x.min()), float(dataset.x.max())
    for bound in (1.0, 255.0):
        if low >= 0 and high <= bound:
            return DataSpec(dataset.x.shape[1:], (0.0, bound))
    raise InputDataError(
        f"{dataset.source}: x lies in {low:g} to {high:g}, a Bernoulli likelihood needs 0 to 1 or 0 to 255; scale x."
    )


def steps_per_epoch(config, num_examples):
    """Optimiser steps an epoch over `num_examples`: full batches, at least one."""
    return max(1, math.floor(num_examples / min(config.training.batch_size, num_examples)))
