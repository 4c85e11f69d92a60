"""Settings that follow from the data: network, likelihood, range of the values, validation size and batch size.

This module does not import Keras, because the choices are printed before the backend starts, which takes seconds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kvae.data import disk, ranges
from kvae.training.config import Config, ModelConfig
from kvae_serve import cells
from kvae_serve.errors import InputDataError, RequestError, printable
from kvae_serve.readers import Dataset
from kvae_serve.sealed.manifest import MIXED_LIKELIHOODS

#: Shortest vectors that may be series.
_SERIES_STEPS = 16
#: Side of the smallest images that get convolutions.
_CONV_SIDE = 16
_BATCH_SIZE, _TABLE_BATCH_SIZE, _MIN_STEPS = 128, 256, 20
_MAX_VALIDATION = 5000
_EPOCHS = 30
#: Steps of a table's training, and the bounds of its epochs.
_TABLE_STEPS, _TABLE_EPOCHS = 12_000, (20, 400)
#: Rows of a table from which its columns depend on each other given z. With fewer, this dependence replaces z.
_LEAST_ROWS = 1000
#: Least steps of color images and sequences, and epochs without a better validation elbo until their training stops.
_LEAST_STEPS, _PATIENCE = 3000, 30
#: Channels of the smallest feature map of color images, and its least side.
_LAST_FILTERS, _LAST_SIDE = 128, 4

#: Settings of a table if neither a preset nor a configuration is given: those of the preset `tabular`.
TABLE: dict[str, Any] = {
    "latent_dim": 8,
    "encoder_hidden": (128, 128),
    "decoder_hidden": (128, 128),
    "sigma": "element",
    "prior": "gaussian_mixture",
    "fit_prior": True,
    "prior_components": 100,
    "warmup_epochs": 5.0,
    "epochs": 0,
    "patience": 50,
    "learning_rate": 2e-3,
}

#: Settings of color images under convolutions; measured in benchmarks/RESULTS.md.
COLOR: dict[str, Any] = {
    "latent_dim": 128,
    "encoder_hidden": (),
    "decoder_hidden": (),
    "sigma": "optimal",
    "prior": "gaussian_mixture",
    "fit_prior": True,
    "prior_components": 50,
    "epochs": 0,
    "patience": _PATIENCE,
}

#: Settings of sequences; measured in benchmarks/RESULTS.md.
SEQUENCES: dict[str, Any] = {"epochs": 0, "patience": _PATIENCE}
CONDITIONAL_SEQUENCES: dict[str, Any] = {"prior": "conditional_gaussian", "sigma": "element", "patience": 0}


def starting_config(dataset: Dataset, settings: Mapping[str, Any]) -> Config:
    """Return the configuration of a run without a preset.

    It is that of `tabular` for a table, `COLOR` for color images, `SEQUENCES` for sequences, else the defaults.

    Args:
        dataset: The data.
        settings: Settings to change, with the names of the flags of `kvae train`.

    Raises:
        RequestError: If a setting does not exist or has an invalid value.
    """
    recipe: dict[str, Any] = {}
    if dataset.columns and settings.get("likelihood", "auto") in ("auto", *MIXED_LIKELIHOODS):
        recipe = {**TABLE, "prior_components": max(2, min(TABLE["prior_components"], len(dataset.x) // 4))}
        if len(dataset.x) < _LEAST_ROWS:
            del recipe["learning_rate"]
        if settings.get("objective") == "free_bits":
            recipe["prior"] = "standard_normal"
        if settings.get("prior", recipe["prior"]) != "gaussian_mixture":
            recipe["fit_prior"] = False
    elif _is_color(dataset, config := Config().replace(**settings)):
        recipe = _color_settings(dataset, config, settings)
    elif with_axes(config, dataset).x.ndim == 3:
        recipe = dict(SEQUENCES)
        if config.data.condition_names and settings.get("likelihood", "auto") in ("auto", "gaussian"):
            recipe |= CONDITIONAL_SEQUENCES
            names, model = config.data.condition_names, config.model
            one_class = len(names) == 1 and names[0] in dataset.class_names and not model.condition_embedding
            recipe["fit_prior"] = one_class and not model.prior_hidden
            if settings.get("prior", recipe["prior"]) != recipe["prior"]:
                recipe["fit_prior"] = False
    config = Config().replace(**{**recipe, **settings, "patience": 0})
    patience = recipe.get("patience", 0) if _num_validation(dataset, config) else 0
    return config.replace(patience=settings.get("patience", patience))


def default_settings(dataset: Dataset, config: Config | None = None, **settings: Any) -> Config:
    """Choose every setting that is `auto` for a data set, as `kvae train` does.

    Args:
        dataset: The data, for example of `kvae.data.load`.
        config: Settings to start from; by default those of `starting_config`.
        **settings: Settings to change first, with the names of the flags of `kvae train`.

    Returns:
        The configuration with a network, a likelihood, a range of values, a validation size and a batch size.

    Raises:
        InputDataError: If the data do not vary, are not finite, or have a scale with two readings.
        RequestError: If a setting does not exist or has an invalid value.

    Example:
        >>> import kvae
        >>> chosen = kvae.default_settings(kvae.data.load("mnist-sample"))
        >>> chosen.model.network, chosen.model.likelihood, chosen.data.value_range
        ('conv', 'bernoulli', '0,255')
        >>> chosen.data.validation, chosen.training.batch_size
        (60, 16)
    """
    config = starting_config(dataset, settings) if config is None else config.replace(**settings)
    dataset = with_axes(config, dataset)
    m = config.model
    # Dense networks take images as well, so a resumed run could not tell what these arrays are.
    axes = "steps-first" if dataset.x.ndim == 3 and config.data.axes == "auto" else config.data.axes
    value_range = find_range(dataset, m.likelihood, config.data.lowest_and_highest)
    likelihood = _likelihood(dataset, config, value_range) if m.likelihood == "auto" else m.likelihood
    network = _network(dataset, config) if m.network == "auto" else m.network
    check_likelihood(dataset, likelihood)
    sigma = sigma_of(config.model.sigma, likelihood)
    if likelihood == "mixed_autoregressive" and sigma != "element":
        raise RequestError(
            f"--sigma is {sigma}, but the decoder returns the standard deviations under mixed_autoregressive. Leave "
            "--sigma out, or add --likelihood mixed."
        )
    check_network(m, network, tuple(dataset.x.shape[1:]), bool(dataset.columns))
    validation, batch_size = _validation_and_batch_size(dataset, config)
    epochs = config.training.epochs or _num_epochs(dataset, validation, batch_size, network)
    stored = config.data.value_range
    if value_range and not stored and not _is_measured(dataset, likelihood):
        stored = f"{value_range[0]:.9g},{value_range[1]:.9g}"
    return config.replace(
        network=network,
        likelihood=likelihood,
        sigma=sigma,
        validation=validation,
        batch_size=batch_size,
        epochs=epochs,
        value_range=stored,
        axes=axes,
    )


def check_likelihood(dataset: Dataset, likelihood: str) -> None:
    """Raise InputDataError if a likelihood is for tables and the data are not a table, or the reverse."""
    if dataset.columns and likelihood not in MIXED_LIKELIHOODS:
        raise InputDataError(
            f"{dataset.source} is a table, which a {likelihood} likelihood does not model. Use --likelihood mixed."
        )
    if not dataset.columns and likelihood in MIXED_LIKELIHOODS:
        raise InputDataError(
            f"{dataset.source} is not a table, so a {likelihood} likelihood does not model it. Use another "
            "--likelihood, such as gaussian."
        )


def check_network(m: ModelConfig, network: str, shape: tuple[int, ...], is_table: bool) -> None:
    """Raise RequestError if a network cannot model examples of a shape."""
    if is_table and network != "dense":
        raise RequestError(f"A table needs dense networks, got {network}. Use --network dense.")
    step = _conv_step(m)
    if network in ("conv", "residual") and (len(shape) != 3 or shape[0] % step or shape[1] % step):
        raise RequestError(
            f"{network} needs images with sides divisible by {step}, got {shape}; use fewer filters, --image-size or "
            "--network dense."
        )


def sigma_of(sigma: str, likelihood: str) -> str:
    """Return sigma of a configuration, with its choice if it is `auto`."""
    if sigma != "auto":
        return sigma
    return "element" if likelihood in ("discretized_logistic", "mixed_autoregressive") else "optimal"


def _num_validation(dataset: Dataset, config: Config) -> int:
    """Return the number of examples held out for validation: at most a tenth, so 0 of fewer than 10."""
    return min(_MAX_VALIDATION, len(dataset.x) // 10) if config.data.validation < 0 else config.data.validation


def _validation_and_batch_size(dataset: Dataset, config: Config) -> tuple[int, int]:
    num, validation, batch_size = len(dataset.x), _num_validation(dataset, config), config.training.batch_size
    if validation >= num:
        raise InputDataError(
            f"{dataset.source} has {num} examples, so {validation} cannot be held out for validation. "
            "Set --validation to a smaller number (0 for none)."
        )
    if not batch_size:
        batch_size = _TABLE_BATCH_SIZE if dataset.columns else _BATCH_SIZE
        while batch_size > 1 and (num - validation) // batch_size < _MIN_STEPS:
            batch_size //= 2
    return validation, batch_size


def _num_epochs(dataset: Dataset, validation: int, batch_size: int, network: str = "conv") -> int:
    num = len(dataset.x) - validation
    if dataset.columns:
        return min(max(round(_TABLE_STEPS / -(-num // batch_size)), _TABLE_EPOCHS[0]), _TABLE_EPOCHS[1])
    steps_per_epoch = max(1, num // batch_size)
    is_color = network == "conv" and dataset.x.ndim == 4 and dataset.x.shape[-1] == 3
    is_long = is_color or dataset.x.ndim == 3
    return max(_EPOCHS, -(-_LEAST_STEPS // steps_per_epoch)) if is_long else _EPOCHS


def _is_color(dataset: Dataset, config: Config) -> bool:
    """Return whether the data are color images of convolutional networks."""
    is_color = dataset.x.ndim == 4 and dataset.x.shape[-1] == 3
    return is_color and config.model.network in ("auto", "conv") and _network(dataset, config) == "conv"


def _color_settings(dataset: Dataset, config: Config, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return `COLOR` with what depends on the size of the images, their number, and the settings to change."""
    num, sides = 2, dataset.x.shape[1:3]
    while num < 5 and all(side % 2 ** (num + 1) == 0 and side >> (num + 1) >= _LAST_SIDE for side in sides):
        num += 1
    filters = tuple(_LAST_FILTERS >> index for index in reversed(range(num)))
    recipe = {**COLOR, "encoder_filters": filters, "decoder_filters": filters[::-1]}
    recipe["prior_components"] = max(2, min(COLOR["prior_components"], len(dataset.x) // 20))
    # A mixture is the same for every condition, and does not have a kl per dimension.
    if config.data.condition_names or config.objective.objective == "free_bits":
        recipe["prior"] = "standard_normal"
    if settings.get("prior", recipe["prior"]) != "gaussian_mixture":
        recipe["fit_prior"] = False
    if config.objective.objective == "elbo":
        epochs = config.training.epochs if settings.get("epochs") else 0
        recipe["warmup_epochs"] = 0.1 * (epochs or _num_epochs(dataset, *_validation_and_batch_size(dataset, config)))
    return recipe


def with_axes(config: Config, dataset: Dataset) -> Dataset:
    """Return the data as sequences `[num, steps, features]` if `--axes`, the network or the data require it.

    A file does not contain whether `[num, a, b]` are sequences or gray images, so readers return images.

    Raises:
        InputDataError: If the data cannot be sequences.
    """
    x, network, axes = dataset.x, config.model.network, config.data.axes
    if x.ndim == 3 and not dataset.columns:
        return dataset
    if x.ndim == 2 and not dataset.columns and (axes == "steps-first" or (network, axes) == ("lstm", "auto")):
        note = f"x has the shape {list(x.shape)}; it was read as {x.shape[1]} steps of 1 feature."
        return dataset._replace(x=disk.as_sequences(x), notes=(*dataset.notes, note))
    is_gray = not dataset.columns and x.ndim == 4 and x.shape[-1] == 1
    if axes != "auto" and (dataset.files or not is_gray):
        raise InputDataError(
            f"{dataset.source} contains examples of shape {list(x.shape[1:])}; --axes {axes} does not fit them. "
            "Leave it out."
        )
    if network == "lstm" and (axes == "image" or not is_gray):
        raise InputDataError(
            f"{dataset.source} contains examples of shape {list(x.shape[1:])}; an LSTM needs sequences "
            "[steps, features]. Use --network dense."
        )
    is_sequence = network == "lstm" or axes in ("steps-first", "features-first")
    if not is_sequence and not (
        is_gray and (network, axes) == ("auto", "auto") and _look_like_sequences(x, str(dataset.source))
    ):
        return dataset
    _, first, second, _ = x.shape
    if (network, axes) == ("auto", "auto") and 1 < first < second:
        raise InputDataError(
            f"{dataset.source} has an array of the shape {list(x.shape[:3])}: sequences of {first} steps with {second} "
            f"features, or of {second} steps with {first} features. Set --axes to steps-first or features-first."
        )
    if axes == "features-first" and first == second:
        raise InputDataError(
            f"{dataset.source} has as many features as steps, {first}, so later data could not be recognised as "
            "features-first. Save np.swapaxes(x, 1, 2), and leave out --axes."
        )
    if axes != "features-first" and first == 1 < second:
        note = f"x has the shape {list(x.shape[:3])}; it was read as {second} steps of 1 feature."
        return dataset._replace(x=disk.as_sequences(x, True), notes=(*dataset.notes, note))
    return dataset._replace(x=disk.as_sequences(x, axes == "features-first"))


def _look_like_sequences(x: Any, source: str) -> bool:
    """Return whether `[num, a, b, 1]` are too narrow for images, or neither square nor on the scale of pixels."""
    if x.ndim != 4 or x.shape[-1] != 1 or x.shape[1] == x.shape[2]:
        return False
    short, long = sorted(x.shape[1:3])
    if short < 4 or long > 4 * short:
        return True
    values = ranges.summarize(x, source)
    return values.low < 0 or values.high > 255 or not (values.whole or values.high <= 1)


def find_range(
    dataset: Dataset, likelihood: str, stated: tuple[float, float] | None = None
) -> tuple[float, float] | None:
    """Return the range of the possible values of x, or None if the likelihood or the data do not have one.

    Args:
        dataset: The data.
        likelihood: Its name in a configuration, or `auto`.
        stated: Range in the configuration, which the values must not exceed.

    Raises:
        InputDataError: If the data do not vary, are not finite, or have a scale with two readings.
    """
    source = str(dataset.source)
    if dataset.columns or likelihood in (*MIXED_LIKELIHOODS, "categorical"):
        if stated:
            what = "a table" if dataset.columns else f"data of a {likelihood} likelihood"
            raise InputDataError(f"{source} is {what}, which does not have a range of values. Leave out --value-range.")
        return None
    values = ranges.summarize(dataset.x, source)
    if stated:
        low, high = stated
        if values.low < low or values.high > high:
            raise InputDataError(
                f"{source}: x ranges from {values.low:g} to {values.high:g}, outside --value-range {low:g},{high:g}. "
                "Widen the range, or leave it out."
            )
        return stated
    if dataset.x.ndim < 4 and likelihood in ("auto", "gaussian") and not _is_pixels(dataset, values):
        return None
    return ranges.find(values, source)


def _is_pixels(dataset: Dataset, values: ranges.Values) -> bool:
    """Return whether vectors or sequences are bytes or bits and not measurements."""
    is_byte = dataset.x.dtype == np.uint8 and values.high >= 128
    return is_byte or (values.whole and (values.low, values.high) == (0.0, 1.0))


def _is_measured(dataset: Dataset, likelihood: str) -> bool:
    """Return whether the values are scaled by their statistics: vectors and sequences under a Gaussian."""
    return likelihood in (*MIXED_LIKELIHOODS, "categorical") or (
        likelihood == "gaussian" and dataset.x.ndim < 4 and dataset.x.dtype != np.uint8
    )


def _likelihood(dataset: Dataset, config: Config, value_range: tuple[float, float] | None) -> str:
    if dataset.columns:
        is_large = len(dataset.x) >= _LEAST_ROWS
        return "mixed_autoregressive" if is_large and config.model.sigma in ("auto", "element") else "mixed"
    if value_range is None:
        return "gaussian"
    x, is_gray = dataset.x, dataset.x.ndim < 4 or dataset.x.shape[-1] == 1
    if is_gray and ranges.is_black_and_white(x, value_range):
        return "bernoulli"
    is_byte = value_range == (0.0, 255.0) and (x.dtype == np.uint8 or ranges.summarize(x, str(dataset.source)).whole)
    return "discretized_logistic" if is_byte else "gaussian"


def _network(dataset: Dataset, config: Config) -> str:
    x = dataset.x
    step = _conv_step(config.model)
    is_large = x.ndim == 4 and min(x.shape[1:3]) >= _CONV_SIDE
    return "conv" if is_large and x.shape[1] % step == 0 and x.shape[2] % step == 0 else "dense"


def _conv_step(m: ModelConfig) -> int:
    """Return the number that must divide the sides of an image for conv."""
    return int(2 ** max(len(m.encoder_filters), len(m.decoder_filters)))


def describe(dataset: Dataset, config: Config, wanted: Config) -> list[str]:
    """Describe data and choices: notes of the reader, one line, and for a table one more line per column.

    Args:
        dataset: The data, from `run_data.read`.
        config: Settings of the run, from `default_settings`.
        wanted: Settings before that. Those that were `auto` are named as options to change.
    """
    m = config.model
    chosen = [name for name in ("likelihood", "network") if getattr(wanted.model, name) == "auto"]
    change = f" (--{chosen[0]} to change)" if chosen else ""
    line = f"{_examples(dataset, config)}; network {m.network}, likelihood {m.likelihood}{change}"
    line += f"; {config.data.validation:,} for validation, batch size {config.training.batch_size}"
    is_large = dataset.x.ndim == 4 and min(dataset.x.shape[1:3]) >= _CONV_SIDE
    if is_large and m.network == "dense" and wanted.model.network == "auto":
        line += f"; conv needs sides divisible by {_conv_step(config.model)}, see --image-size"
    if wanted.data.axes == "auto" and _may_be_sequences(dataset):
        line += "; if these are sequences, add --axes steps-first"
    if dataset.class_names.get("label") and not config.data.condition_names:
        line += "; the model ignores the classes, see --conditional"
    return [*dataset.notes, line + ".", *(_column(dataset, index) for index in range(len(dataset.columns)))]


def _may_be_sequences(dataset: Dataset) -> bool:
    """Return whether an array that was read as vectors or gray images has the properties of sequences."""
    x = dataset.x
    if x.ndim == 2:
        return not dataset.columns and x.dtype != np.uint8 and _is_smooth(x)
    is_gray = not dataset.files and x.ndim == 4 and x.shape[-1] == 1
    return is_gray and x.shape[1] != x.shape[2] and x.dtype != np.uint8


def _is_smooth(x: Any) -> bool:
    """Return whether neighbouring values of vectors are nearly equal, compared with all values of all vectors."""
    if x.shape[1] < _SERIES_STEPS:
        return False
    rows = np.asarray(disk.subsample(x, 1000)[:1000], np.float64)
    return bool(np.square(np.diff(rows, axis=1)).mean() < 0.1 * 2 * rows.var())


def _examples(dataset: Dataset, config: Config) -> str:
    x = dataset.x
    num, *shape = x.shape
    if dataset.columns:
        line = f"{num:,} rows of {shape[0]} column{'' if shape[0] == 1 else 's'}"
    elif x.ndim == 4:
        color = {1: "gray", 3: "RGB"}.get(shape[2], f"{shape[2]}-channel")
        line = f"{num:,} {color} images {shape[0]} x {shape[1]}"
    elif x.ndim == 3:
        line = f"{num:,} sequences of {shape[0]} steps x {shape[1]} {'feature' if shape[1] == 1 else 'features'}"
    else:
        line = f"{num:,} vectors of {shape[0]} values"
    if classes := dataset.class_names.get("label"):
        line += f" in {len(classes)} classes"
    if (bounds := config.data.lowest_and_highest) and bounds != (0.0, 255.0):
        line += f" with values from {bounds[0]:g} to {bounds[1]:g}"
    elif config.model.likelihood == "gaussian" and not bounds and x.ndim < 4:
        line += ", each feature in units of its standard deviation" if shape[-1] > 1 else ""
    return line


def _column(dataset: Dataset, index: int) -> str:
    """Describe a column of a table: type, range or classes, missing values, and unusual values."""
    column, values = dataset.columns[index], np.asarray(dataset.x[:, index], "float64")
    line = f"  {printable(column['name'], 40)}: {cells.describe(column)}"
    if column["kind"] == "categorical":
        classes = column["classes"]
        counts = np.bincount(values.astype(int), minlength=len(classes))
        num_missing = int(counts[classes.index(column["missing"])]) if "missing" in column else 0
        odd = [f"{int((counts == 1).sum())} classes occur once"] if (counts == 1).sum() > 1 else []
        if 2 * len(classes) > len(values):
            odd = ["nearly as many classes as rows: an identifier? See --drop-columns"]
    else:
        num_missing, odd = int(np.isnan(values).sum()), _odd_numbers(column, values[~np.isnan(values)])
    if num_missing:
        odd.insert(0, f"{num_missing:,} missing ({num_missing / len(values):.1%})")
    return line + "".join(f"; {each}" for each in odd)


_SENTINELS = (9, 99, 999, 9999, 99999, 999999)


def _odd_numbers(column: Mapping[str, Any], values: np.ndarray) -> list[str]:
    """Return what is unusual about the numbers of a column."""
    distinct, most = np.unique(values, return_counts=True)
    odd = []
    if len(distinct) <= 10 and len(distinct) < len(values) // 4 and (distinct == distinct.round()).all():
        odd.append(f"only {len(distinct)} different values: classes? See --categorical-columns")
    elif most.max() > 0.5 * len(values):
        odd.append(
            f"{most.max() / len(values):.0%} of the rows are {cells.texts(column, distinct[[most.argmax()]])[0]}"
        )
    for value, rest in ((distinct[0], distinct[1:]), (distinct[-1], distinct[:-1])):
        # Such as -999 among temperatures.
        if len(rest) > 2 and abs(value) in _SENTINELS and np.abs(value - rest).min() > np.ptp(rest):
            odd.append(f"{value:g} is far from the rest: a missing value? See --missing-values")
    mean, std = values.mean(), values.std()
    far = max(values.max() - mean, mean - values.min()) / std if std else 0.0
    if far > 10:
        odd.append(f"an extreme value is {far:.0f} standard deviations from the mean")
    return odd
