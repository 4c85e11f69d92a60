"""Settings of a training run, and the `config.toml` that stores them.

Each setting is declared once, with its default, its bounds and its help text. The flags of `kvae train` and the keys of
`config.toml` are generated from these declarations. This module validates the settings alone; `run_data` and `setup`
validate them against the data.
"""

import dataclasses
import difflib
import math
import operator
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin

from kvae_serve.errors import RequestError, printable

#: Version of the layout of `config.toml`. Other versions are rejected.
CONFIG_FORMAT = 1

_MAX_BYTES = 2**16
_MAX_INTEGER = 2**31
_MAX_LAYERS = 100

#: Activations that exist in both Keras and ONNX. Opset 18 does not have an operator for the exact gelu.
ACTIVATIONS = ("relu", "tanh", "sigmoid", "elu", "selu", "silu", "leaky_relu", "softplus", "mish")


def setting(
    default: Any,
    text: str,
    *,
    choices: tuple[str, ...] | None = None,
    least: float | None = None,
    above: float | None = None,
    auto: int | None = None,
    repeated: bool = False,
) -> Any:
    """Declare a setting: its default, one line of help, and the values that it accepts.

    `auto` is the number that stands for the text "auto": a value that `defaults.resolve` chooses for the data. The flag
    of a `repeated` setting may be given several times.
    """
    bounds = {"choices": choices, "least": least, "above": above, "auto": auto, "repeated": repeated}
    return field(default=default, metadata={"help": text, **bounds})


Widths = tuple[int, ...]
Names = tuple[str, ...]


@dataclass(frozen=True)
class DataConfig:
    """Settings of the data."""

    data: str = setting(
        "",
        "Training data: a file (.npz, .npy, .csv, IDX), a folder (MNIST's four files, or one folder of images per "
        "class), or mnist or fashion_mnist to download.",
    )
    conditional: bool = setting(False, "Train a conditional model on the labels.")
    class_names: Names = setting(
        (),
        "Class names of label in index order, such as cat,dog. By default the names in the data.",
    )
    condition_columns: Names = setting(
        (), "Conditions of the model: columns of a CSV or arrays of an .npz, such as label,age."
    )
    categorical_columns: Names = setting((), "CSV: numeric columns that hold class labels.")
    drop_columns: Names = setting((), "CSV: columns to ignore, such as an id.")
    columns: str = setting(
        "", "CSV: columns.toml with the type of columns. --dry-run -o columns.toml writes the types that were found."
    )
    missing_values: Names = setting(
        (), "CSV: further texts that stand for a missing value, such as -999. Empty cells, NA, NaN, ?, null are known."
    )
    image_size: str = setting(
        "", "Images: size HxW to crop and resize to. By default all images must have the same size."
    )
    channels: int = setting(0, "Images: 1 for gray, 3 for RGB, 0 to keep the channels of the files.", least=0)
    value_range: str = setting(
        "", "Lowest and highest possible value of the data, such as 0,255. By default they follow from the values."
    )
    axes: str = setting(
        "auto",
        "Arrays [num, a, b]: image (height, width), steps-first or features-first (sequences). auto is image for "
        "values of pixels, and else steps-first. Arrays [num, steps] are sequences with steps-first.",
        choices=("auto", "image", "steps-first", "features-first"),
    )
    key: Names = setting(
        (), ".npz: array to read, as NAME=ARRAY, such as x=images or label=y. May be repeated.", repeated=True
    )
    delimiter: str = setting("", "CSV: delimiter, such as ; or tab. By default it is detected.")
    skip_bad: bool = setting(False, "Images: leave out files that cannot be read.")
    validation: int = setting(
        -1,
        "Number of examples held out for validation. 0 for none; auto for 5,000, or a tenth of fewer than 50,000.",
        least=-1,
        auto=-1,
    )

    @property
    def condition_names(self) -> Names:
        """Names of the conditions, in the order in which the model receives them."""
        return (
            *(("label",) if self.conditional and "label" not in self.condition_columns else ()),
            *self.condition_columns,
        )

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        """Pair (height, width) of `image_size`, or None."""
        if not self.image_size:
            return None
        height, width = self.image_size.split("x")
        return int(height), int(width)

    @property
    def lowest_and_highest(self) -> tuple[float, float] | None:
        """Pair (lowest, highest) of `value_range`, or None."""
        if not self.value_range:
            return None
        low, high = self.value_range.split(",")
        return float(low), float(high)


@dataclass(frozen=True)
class ModelConfig:
    """Settings of the model."""

    network: str = setting(
        "auto",
        "Type of encoder and decoder. auto is conv for images of 16 pixels and more a side, and dense otherwise.",
        choices=("auto", "dense", "conv", "residual", "lstm"),
    )
    latent_dim: int = setting(16, "Number of latent dimensions (the size of z).", least=1)
    encoder_hidden: Widths = setting((512, 256), "Widths of the dense layers of the encoder.", least=1)
    decoder_hidden: Widths = setting((256, 512), "Widths of the dense layers of the decoder.", least=1)
    encoder_filters: Widths = setting((32, 64), "conv, residual: channels of the convolutions of the encoder.", least=1)
    decoder_filters: Widths = setting((64, 32), "conv, residual: channels of the feature maps of the decoder.", least=1)
    lstm_units: int = setting(128, "lstm: number of LSTM units in each network.", least=1)
    condition_embedding: int = setting(
        0, "Width of a learned embedding of each categorical condition. 0 for one-hot.", least=0
    )
    value_embedding: int = setting(
        8,
        "categorical: width of the learned embedding of each value in the encoder, at most the number of classes. "
        "0 for one-hot.",
        least=0,
    )
    activation: str = setting("relu", "Activation of the hidden layers.", choices=ACTIVATIONS)
    gated: bool = setting(False, "dense: gated layers instead of the activation.")
    likelihood: str = setting(
        "auto",
        "Likelihood p(x given z). auto is mixed_autoregressive for tables of 1,000 rows or more, mixed for others "
        "(columns are independent given z), bernoulli for images that are nearly black and white, discretized_logistic "
        "for other 8-bit images, and gaussian otherwise.",
        choices=(
            "auto", "bernoulli", "continuous_bernoulli", "gaussian", "discretized_logistic", "categorical", "mixed",
            "mixed_autoregressive",
        ),
    )  # fmt: skip
    binarize: str = setting(
        "dynamic",
        "bernoulli: dynamic draws each pixel again at every step; none is for black-and-white data.",
        choices=("dynamic", "none"),
    )
    numbers: str = setting(
        "quantile",
        "Tables: form of numeric columns. quantile maps numbers to normal scores and makes classes of integers with "
        "few values; standard models each number as normal.",
        choices=("quantile", "standard"),
    )
    sigma: str = setting(
        "auto",
        "Standard deviation. gaussian, discretized_logistic: optimal, shared, element, or a number (1 is the width of "
        "the data range, or the standard deviation of a feature). mixed: the same per column, or a number for every "
        "column (1 is the standard deviation of the column). auto is element for discretized_logistic (optimal for RGB "
        "images under conv) and tables, and optimal otherwise. A table with another sigma gets the likelihood mixed.",
    )
    prior: str = setting(
        "standard_normal", "Prior p(z).",
        choices=("standard_normal", "conditional_gaussian", "gaussian_mixture", "vamp"),
    )  # fmt: skip
    prior_hidden: Widths = setting((), "conditional_gaussian: widths of the hidden layers of the prior.", least=1)
    fit_prior: bool = setting(
        False,
        "gaussian_mixture; conditional_gaussian of one class condition: fit the Gaussians to draws from the posteriors "
        "of the training data after the last epoch, so that samples resemble the data more.",
    )
    prior_components: int = setting(10, "gaussian_mixture, vamp: number of Gaussians in the mixture.", least=2)


@dataclass(frozen=True)
class ObjectiveConfig:
    """Settings of the objective."""

    objective: str = setting(
        "elbo", "Training objective.",
        choices=("elbo", "capacity", "free_bits", "importance_weighted", "total_correlation"),
    )  # fmt: skip
    beta: float = setting(
        1.0, "Weight of the kl (total_correlation: of the total correlation). 1 is a plain VAE.", least=0
    )
    initial_beta: float = setting(0.0, "beta at the start of the warm-up.", least=0)
    warmup_epochs: float = setting(
        0.0, "Number of epochs in which beta rises to --beta, or the capacity to --capacity.", least=0
    )
    beta_schedule: str = setting(
        "linear", "Shape of the warm-up. cyclical repeats it.", choices=("linear", "cosine", "cyclical")
    )
    capacity: float = setting(25.0, "capacity: target value of the kl, in nats.", least=0)
    gamma: float = setting(1000.0, "capacity: weight of the penalty on |kl - capacity|.", least=0)
    free_bits: float = setting(0.1, "free_bits: nats per dimension of z that are not penalised.", least=0)
    num_samples: int = setting(50, "importance_weighted: number of samples of z per example.", least=1)


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the optimisation."""

    epochs: int = setting(
        30,
        "Number of passes over the training data. auto is 30; for tables the number that makes about 12,000 steps, and "
        "for sequences and for RGB images under conv one that makes at least 3,000.",
        least=0,
        auto=0,
    )
    batch_size: int = setting(
        0,
        "Number of examples per step. auto is 128, or less if an epoch would have fewer than 20 steps.",
        least=0,
        auto=0,
    )
    learning_rate: float = setting(1e-3, "Initial learning rate of Adam.", above=0)
    learning_rate_schedule: str = setting(
        "cosine", "Schedule of the learning rate.", choices=("constant", "cosine", "exponential")
    )
    final_learning_rate: float = setting(1e-5, "Final learning rate of cosine and exponential.", above=0)
    seed: int = setting(0, "Seed of everything random. The same seed trains the same model.", least=0)
    weights_from: str = setting(
        "", "Run or exported model with the same network, whose weights are the initial weights."
    )
    patience: int = setting(
        0,
        "Epochs without a better validation elbo before training stops and keeps the best weights. 0: never.",
        least=0,
    )
    checkpoint_every: int = setting(
        0, "Number of epochs between checkpoints. 0: every epoch, but at most once in 20 seconds.", least=0
    )
    sample_every: int = setting(
        0, "Number of epochs between pictures of samples in samples/, always of the same draws. 0: none.", least=0
    )
    deterministic: bool = setting(False, "Reproducible results on a GPU too. Slower.")
    mixed_precision: bool = setting(False, "bfloat16 networks, for GPUs. Weights and objective stay in float32.")
    steps_per_execution: int = setting(
        20, "Training steps per call into the backend (Keras steps_per_execution).", least=1
    )


@dataclass(frozen=True)
class Config:
    """All settings of a run. Keys are unique across the sections, so each flag names one setting."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def replace(self, **settings: Any) -> "Config":
        """Copy the configuration with some settings changed, each named by its key, and validate the copy.

        Raises:
            RequestError: If a setting does not exist or has an invalid value.

        Example:
            >>> Config().replace(epochs=3, latent_dim=2).model.latent_dim
            2
        """
        changed = {}
        for section in fields(self):
            part = getattr(self, section.name)
            values = {f.name: _from_python(f, settings.pop(f.name)) for f in fields(part) if f.name in settings}
            changed[section.name] = dataclasses.replace(part, **values)
        if settings:
            name = sorted(settings)[0]
            raise RequestError(f"Unknown setting {printable(name, 60)}.{_suggestion(name)}")
        config = Config(**changed)
        config.check()
        return config

    def check(self) -> None:
        """Raise RequestError if a setting is out of bounds, or if two settings contradict each other."""
        for section in fields(self):
            part = getattr(self, section.name)
            for declared in fields(part):
                _check(declared.name, getattr(part, declared.name), declared.metadata)
        sigma = self.model.sigma
        if sigma not in ("auto", "optimal", "shared", "element") and not _is_positive(sigma):
            raise RequestError(f"sigma must be optimal, shared, element or a positive number, got {sigma!r}.")
        size = self.data.image_size
        if size and not re.fullmatch(r"[1-9][0-9]{0,3}x[1-9][0-9]{0,3}", size):
            raise RequestError(f"image_size must be HEIGHTxWIDTH such as 64x48, got {size!r}.")
        if self.data.value_range and not _is_range(self.data.value_range):
            raise RequestError(
                f"value_range must be LOWEST,HIGHEST such as 0,255, got {printable(self.data.value_range, 60)}."
            )
        if self.data.channels not in (0, 1, 3):
            raise RequestError(
                f"channels must be 1 (gray), 3 (RGB) or 0 (the channels of the files), got {self.data.channels}."
            )
        if invalid := [key for key in self.data.key if not re.fullmatch(r"[^=]+=.+", key)]:
            raise RequestError(f"key must be NAME=ARRAY such as x=images, got {printable(invalid[0], 60)}.")
        names = self.data.condition_names
        if len(set(names)) != len(names):
            raise RequestError(f"condition_columns contains a name twice: {', '.join(names)}.")
        if self.model.prior == "conditional_gaussian" and not names:
            raise RequestError("The prior conditional_gaussian needs conditions; add --conditional.")
        if self.model.fit_prior and self.model.prior not in ("gaussian_mixture", "conditional_gaussian"):
            raise RequestError(
                f"fit_prior needs the prior gaussian_mixture or conditional_gaussian, got {self.model.prior}."
            )
        if self.model.fit_prior and self.model.prior_hidden and self.model.prior == "conditional_gaussian":
            raise RequestError("fit_prior cannot fit hidden layers of the prior. Leave out --prior-hidden.")
        if self.objective.objective == "free_bits" and self.model.prior in ("gaussian_mixture", "vamp"):
            raise RequestError(
                f"free_bits needs a kl per dimension, which the prior {self.model.prior} does not have. Use another "
                "--objective or --prior."
            )
        if self.training.patience and not self.data.validation:
            raise RequestError("patience needs validation data. Set --validation to a number above 0.")
        self._check_size()

    def _check_size(self) -> None:
        """Reject layers that do not fit into memory. The weights to and from the data are not counted."""
        dense = (*self.model.encoder_hidden, self.model.latent_dim, *self.model.decoder_hidden)
        filters = (*self.model.encoder_filters, *self.model.decoder_filters)
        weights = sum(map(operator.mul, dense, dense[1:]))
        if self.model.network == "lstm":
            weights = 4 * self.model.lstm_units**2
        elif self.model.network in ("conv", "residual"):
            weights += 9 * sum(map(operator.mul, filters, filters[1:]))
        if weights >= _MAX_INTEGER:
            raise RequestError(
                f"Layers of these sizes have {weights:,} weights, or {weights * 16 / 2**30:,.0f} GiB with the state of "
                "Adam. Make the layers narrower."
            )

    def to_toml(self) -> str:
        """Format the settings as the TOML document that `read` parses."""
        import tomli_w

        sections = {name: _plain(section) for name, section in dataclasses.asdict(self).items()}
        document = {"format": CONFIG_FORMAT, **sections}
        return "# Rerun with: kvae train --config THIS_FILE -o NEW_FOLDER\n" + tomli_w.dumps(document)


def settings() -> list[tuple[str, dataclasses.Field]]:
    """List every setting as its section and its `dataclasses.Field` with default, type and metadata."""
    return [(section.name, declared) for section in fields(Config) for declared in fields(section.default_factory)]  # type: ignore[arg-type]


def read(path: str | os.PathLike[str]) -> Config:
    """Read the `config.toml` of a run.

    Raises:
        RequestError: If the file is missing, is not TOML, or has unknown keys or invalid values.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise RequestError(f"{path} has more than {_MAX_BYTES} bytes. Expected the config.toml of a run.")
        document = tomllib.loads(data.decode())
    except OSError as error:
        raise RequestError(f"Cannot read {path} ({error.strerror}). Expected the config.toml of a run.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is not a TOML file: {error}.") from None
    except RecursionError:
        raise RequestError(f"{path} is nested too deeply. Expected the config.toml of a run.") from None
    return from_document(document, path)


def from_document(document: dict[str, Any], path: str | Path) -> Config:
    """Convert a parsed TOML document to a `Config`. The error messages contain `path`.

    Raises:
        RequestError: If the document has unknown keys or invalid values.
    """
    if (version := document.pop("format", CONFIG_FORMAT)) != CONFIG_FORMAT:
        raise RequestError(
            f"{path} has format {version}; this version of kvae reads {CONFIG_FORMAT}. Upgrade kvae-onnx."
        )
    sections = {}
    for section in fields(Config):
        table = document.pop(section.name, {})
        if not isinstance(table, dict):
            raise RequestError(f"{path}: {section.name} must be a table of settings.")
        if section.name == "model":
            table = _completed(table)
        sections[section.name] = _section(path, section.name, section.default_factory, table)
    if document:
        raise RequestError(f"{path}: unknown section {', '.join(sorted(document))}; known: {', '.join(sections)}.")
    config = Config(**sections)
    config.check()
    return config


def _completed(table: dict[str, Any]) -> dict[str, Any]:
    """Add what an earlier version meant to the [model] that it wrote: all keys of then, thus never `numbers`."""
    if "numbers" in table or not {"sigma", "decoder_filters", "lstm_units", "binarize"} <= table.keys():
        return table
    earlier = {"numbers": "standard"}
    if table.get("likelihood") == "discretized_logistic":
        earlier["sigma"] = "element"  # sigma did not concern this likelihood
    return {**table, **earlier}


def _section(path: str | Path, name: str, kind: Any, table: dict[str, Any]) -> Any:
    known = {f.name: f for f in fields(kind)}
    if unknown := sorted(set(table) - set(known)):
        raise RequestError(f"{path}: unknown key {', '.join(unknown)} in [{name}]; known: {', '.join(known)}.")
    return kind(
        **{key: _typed(f"{path}: {key}", _number(known[key], value), known[key].type) for key, value in table.items()}
    )


def _number(declared: dataclasses.Field, value: Any) -> Any:
    """Return the number that stands for "auto" if the setting has one, else the value."""
    number = declared.metadata["auto"]
    return number if value == "auto" and number is not None else value


def _typed(name: str, value: Any, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise RequestError(f"{name} must be a list, got {value!r}.")
        return tuple(_typed(name, item, get_args(kind)[0]) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 10**300 else math.inf
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RequestError(f"{name} must be of type {kind.__name__}, got {value!r}.")
    return value


def _check(name: str, value: Any, bounds: Mapping[str, Any]) -> None:
    if bounds["choices"] and value not in bounds["choices"]:
        raise RequestError(f"{name} must be one of {', '.join(bounds['choices'])}, got {value!r}.")
    numbers = value if isinstance(value, tuple) else (value,)
    if any(isinstance(number, int) and number >= _MAX_INTEGER for number in numbers):
        raise RequestError(f"{name} must be less than 2^31, got {printable(value, 60)}.")
    if isinstance(value, tuple) and len(value) > _MAX_LAYERS and not isinstance(value[0], str):
        raise RequestError(f"{name} must be a list of at most {_MAX_LAYERS}, got {len(value)}.")
    if bounds["least"] is not None and not all(bounds["least"] <= number < math.inf for number in numbers):
        raise RequestError(f"{name} must be at least {bounds['least']} and finite, got {value}.")
    if bounds["above"] is not None and not all(bounds["above"] < number < math.inf for number in numbers):
        raise RequestError(f"{name} must be a positive number, got {value}.")


def _plain(section: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in section.items()}


def _from_python(declared: dataclasses.Field, value: Any) -> Any:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    value = _number(declared, value)
    return _typed(declared.name, list(value) if isinstance(value, tuple) else value, declared.type)


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, [declared.name for _, declared in settings()], n=1)
    return f" Did you mean {close[0]}?" if close else " `kvae train --help` lists all settings."


def _is_positive(text):
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _is_range(text: str) -> bool:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        return False
    return -math.inf < low < high < math.inf
