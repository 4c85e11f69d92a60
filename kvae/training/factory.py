"""Objects built from a configuration: data specification, conditions, model and optimizer."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kvae import likelihoods, networks, priors
from kvae.data import disk
from kvae.data.spec import DataSpec
from kvae.data.table import TableSpec
from kvae.models.conditions import Categorical, Continuous
from kvae.models.vae import VAE, BetaVAE, ConditionalBetaVAE, ConditionalVAE
from kvae.objectives import objectives, schedules
from kvae.optimizers import Adam
from kvae.training import defaults
from kvae.training.config import Config, ModelConfig, ObjectiveConfig
from kvae_serve.errors import InputDataError, RequestError
from kvae_serve.readers import Dataset
from kvae_serve.runtime.conditions import joint_index
from kvae_serve.sealed.manifest import MAX_COMBINATIONS

#: Number of features whose means and scales fit into the manifest of a file.
_MAX_FEATURES = 10_000
#: Quantiles of a condition that is a number.
_NUM_QUANTILES = 101


def model(
    config: Config,
    spec: DataSpec,
    conditions: Sequence[dict[str, Any]] = (),
    steps_per_epoch: int = 1,
    data_mean: np.ndarray | None = None,
    num_examples: int = 1,
    pseudo_inputs: tuple[np.ndarray, dict[str, Any]] | None = None,
) -> VAE:
    """Build the model that `config` describes, with initial weights.

    Args:
        config: Settings of the run.
        spec: `DataSpec` or `TableSpec` of the examples.
        conditions: Conditions of the model, from `describe_conditions`.
        steps_per_epoch: Number of optimizer steps per epoch, for schedules that count in epochs.
        data_mean: Mean example in unit data, `[*unit_shape]`: the initial output of the decoder.
        num_examples: Number of training examples, which the total correlation needs.
        pseudo_inputs: Initial pseudo-inputs of a VampPrior: examples in unit data, and their conditions by name.

    Returns:
        A `VAE`, `BetaVAE`, `ConditionalVAE` or `ConditionalBetaVAE`.

    Raises:
        RequestError: If the network does not fit the data.
    """
    m = config.model
    likelihood = _likelihood(m, spec)
    parts = [_condition(m.condition_embedding, **description) for description in conditions]
    condition_dim = sum(condition.dim for condition in parts)
    bias = None if data_mean is None else likelihood.initial_bias(np.asarray(data_mean, "float32"))
    encoder, decoder = _networks(m, spec, condition_dim, likelihood, bias)
    prior = _prior(m, spec, parts, config.training.seed, pseudo_inputs)
    arguments: dict[str, Any] = {
        "data": spec,
        "likelihood": likelihood,
        "prior": prior,
        "seed": config.training.seed,
        "name": "model",
    }
    objective = _objective(config.objective, steps_per_epoch, num_examples)
    weighted = isinstance(objective, objectives.Elbo) and objective.beta != schedules.Constant(1.0)
    arguments |= {"beta": objective.beta} if weighted else {"objective": objective}
    if parts:
        return (ConditionalBetaVAE if weighted else ConditionalVAE)(encoder, decoder, conditions=parts, **arguments)
    return (BetaVAE if weighted else VAE)(encoder, decoder, **arguments)


def _likelihood(m: ModelConfig, spec: Any) -> Any:
    if m.likelihood == "bernoulli":
        return likelihoods.Bernoulli(binarize=m.binarize)
    text = defaults.sigma_of(m.sigma, m.likelihood)
    sigma: Any = text if text.isalpha() else float(text)
    if m.likelihood == "gaussian":
        return likelihoods.Gaussian(sigma)
    if m.likelihood == "discretized_logistic":
        return likelihoods.DiscretizedLogistic(sigma)
    if m.likelihood == "categorical":
        return likelihoods.Categorical(round(spec.range[1]) + 1)
    if m.likelihood == "mixed":
        return likelihoods.Mixed.from_spec(spec, sigma)
    if m.likelihood == "mixed_autoregressive":
        return likelihoods.MixedAutoregressive.from_spec(spec, sigma)
    return likelihoods.ContinuousBernoulli()


def _condition(
    embedding_dim: int,
    name: str,
    kind: str,
    classes: Any = None,
    range: Any = None,
    shares: Any = (),
    quantiles: Any = (),
    column: Any = None,
    joint: Any = (),
) -> Categorical | Continuous:
    if kind == "categorical":
        return Categorical(name, classes, embedding_dim or None, shares, column, joint)
    return Continuous(name, range[0], range[1], quantiles, column, joint)


def _networks(m: ModelConfig, spec: DataSpec, condition_dim: int, likelihood: Any, bias: Any) -> tuple[Any, Any]:
    defaults.check_network(m, m.network, tuple(spec.shape), spec.kind == "table")
    common = {"activation": m.activation, "condition_dim": condition_dim}
    last = {"num_parameters": likelihood.num_parameters, "output_bias": bias}
    if likelihood.num_extra:
        last["num_extra"] = likelihood.num_extra
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
    except ValueError as error:  # an image size that the strides do not divide
        raise RequestError(str(error)) from error


def _prior(m: ModelConfig, spec: DataSpec, conditions: Sequence[Any], seed: int, pseudo_inputs: Any) -> Any:
    condition_dim = sum(condition.dim for condition in conditions)
    if m.prior == "conditional_gaussian":
        of_classes = len(conditions) == 1 and isinstance(conditions[0], Categorical) and not m.condition_embedding
        if m.fit_prior and not of_classes:
            raise RequestError(
                "fit_prior with the prior conditional_gaussian needs one condition, of classes, without an embedding. "
                "Leave out --fit-prior, or use --prior gaussian_mixture."
            )
        return priors.ConditionalGaussian(m.latent_dim, condition_dim, m.prior_hidden)
    if m.prior == "gaussian_mixture":
        return priors.GaussianMixture(m.latent_dim, m.prior_components, seed)
    if m.prior == "vamp":
        x, vectors = None, None
        if pseudo_inputs is not None:
            x, values = pseudo_inputs
            vectors = np.concatenate([np.asarray(c.vector(values[c.name])) for c in conditions], 1) if values else None
        components, bounded = m.prior_components, spec.bounded
        return priors.VampPrior(spec.unit_shape, components, condition_dim, x, seed, bounded, vectors)
    return priors.StandardNormal()


def _objective(o: ObjectiveConfig, steps_per_epoch: int, num_examples: int) -> Any:
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


def optimizer(config: Config, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Create Adam with the learning-rate schedule of the whole run."""
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


def describe_conditions(dataset: Dataset, rows: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Describe the conditions of a dataset as JSON: name, kind, classes and shares or range and quantiles, and column.

    The last of several conditions also has the combinations of all, if there are not too many.

    Args:
        dataset: The data.
        rows: Indices of the examples that ranges are learned from. By default, and if these have a single value, all.
    """
    descriptions: list[dict[str, Any]] = []
    for name, values in dataset.conditions.items():
        if name in dataset.class_names:
            classes = list(dataset.class_names[name])
            counts = np.bincount(values if rows is None else values[rows], minlength=len(classes))
            shares = [round(float(share), 9) for share in counts / counts.sum()]
            descriptions.append({"name": name, "kind": "categorical", "classes": classes, "shares": shares})
        else:
            used = values if rows is None or values[rows].min() == values[rows].max() else values[rows]
            extremes = [float(used.min()), float(used.max())]
            quantiles = np.quantile(used, np.linspace(0, 1, _NUM_QUANTILES)).astype("float32").tolist()
            descriptions.append({"name": name, "kind": "continuous", "range": extremes, "quantiles": quantiles})
        if column := dataset.condition_columns.get(name):
            kept = {key: value for key, value in column.items() if key not in ("kind", "classes")}
            descriptions[-1]["column"] = kept
    if len(descriptions) > 1:
        indices = [
            joint_index(values if rows is None else values[rows], each.get("quantiles", ()))
            for values, each in zip(dataset.conditions.values(), descriptions, strict=True)
        ]
        combinations, counts = np.unique(np.stack(indices, axis=1), axis=0, return_counts=True)
        if len(combinations) <= MAX_COMBINATIONS:
            descriptions[-1]["joint"] = np.column_stack([counts, combinations]).tolist()
    return descriptions


def spec_from(config: dict[str, Any]) -> DataSpec | TableSpec:
    """Rebuild a `DataSpec` or `TableSpec` from its `get_config`."""
    return (TableSpec if "columns" in config else DataSpec).from_config(config)


def spec_of(
    dataset: Dataset,
    likelihood: str = "bernoulli",
    rows: np.ndarray | None = None,
    value_range: tuple[float, float] | None = None,
    numbers: str = "quantile",
) -> DataSpec | TableSpec:
    """Choose the `DataSpec` of a dataset, or the `TableSpec` of a table.

    The range of pixels follows from their values, see `kvae.data.ranges.find`. Under a Gaussian, vectors and sequences
    are scaled by mean and standard deviation of each feature, and images on another scale by the extremes of the
    training data, which do not bound later data. Class indices range from 0 to the highest.

    Args:
        dataset: The data.
        likelihood: Its name in a configuration.
        rows: Indices of the examples that scales are learned from; all by default.
        value_range: Lowest and highest possible value, if the configuration states them.
        numbers: Form of the numbers of a table, `"quantile"` or `"standard"`.

    Raises:
        InputDataError: If the likelihood does not model data in this range.
    """
    defaults.check_likelihood(dataset, likelihood)
    if dataset.columns:
        x = dataset.x if rows is None else dataset.x[rows]
        try:
            return TableSpec.learn(
                dataset.columns, x, dataset.outside, dataset.order, numbers=numbers, delimiter=dataset.delimiter,
                header=dataset.header,
            )  # fmt: skip
        except ValueError as error:
            raise InputDataError(f"{dataset.source}: {error}") from None
    shape = dataset.x.shape[1:]
    if likelihood == "categorical":
        low, high = disk.value_range(dataset.x)
        if low < 0 or high < 1 or high > 255:
            raise InputDataError(
                f"{dataset.source}: x ranges from {low:g} to {high:g}; class indices must range from 0 to at most 255. "
                "Number the classes from 0, or use --likelihood gaussian."
            )
        return DataSpec(shape, (0.0, high))
    if bounds := defaults.find_range(dataset, likelihood, value_range):
        return DataSpec(shape, bounds)
    used_x = dataset.x if rows is None else disk.take(dataset.x, rows)
    if likelihood == "gaussian" and len(shape) < 3 and shape[-1] <= _MAX_FEATURES:
        return DataSpec.learn_features(used_x)
    low, high = disk.value_range(dataset.x)
    if likelihood == "gaussian":
        used = disk.value_range(used_x)
        return DataSpec(shape, used if used[0] < used[1] else (low, high), bounded=False)
    raise InputDataError(
        f"{dataset.source}: x ranges from {low:g} to {high:g}, but {likelihood} needs 0 to 1 or 0 to 255. "
        "Scale x, set --value-range, or use --likelihood gaussian."
    )
