"""Every setting of a training run: written beside the model, and read back to do it again.

A setting is declared once, here: its default, its bounds and its line of help. The flags of `kvae train` and the keys
of `config.toml` are made of these declarations.
"""

import dataclasses
import math
import operator
import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin

from kvae_serve.errors import RequestError, printable

#: The version of this layout; a reader refuses a newer one.
CONFIG_FORMAT = 1


_MOST_BYTES = 2**16
_MOST = 2**31
_MOST_LAYERS = 100

#: Activations that Keras and ONNX both know. Not gelu: its exact form has no ONNX operator of opset 18.
ACTIVATIONS = ("relu", "tanh", "sigmoid", "elu", "selu", "silu", "leaky_relu", "softplus", "mish")


def setting(default, text, *, choices=None, least=None, above=None) -> Any:
    """Declare a setting: its default, one line of help, and what it may be."""
    return field(default=default, metadata={"help": text, "choices": choices, "least": least, "above": above})


Widths = tuple[int, ...]
Names = tuple[str, ...]


@dataclass(frozen=True)
class DataConfig:
    """What to train on."""

    data: str = setting(
        "",
        "File (.npz, .npy, .csv, IDX) or folder (MNIST's four files, images by class), or mnist or fashion_mnist to "
        "download.",
    )
    conditional: bool = setting(False, "Give the model the labels.")
    class_names: Names = setting(
        (),
        "Names of the classes of label, such as cat,dog, in the order of their index; by default those of the data.",
    )
    condition_columns: Names = setting(
        (), "Give the model these: columns of a CSV or arrays of an .npz, such as label,age."
    )
    categorical_columns: Names = setting((), "CSV: columns of numbers that name classes.")
    drop_columns: Names = setting((), "CSV: columns to leave out, such as an id.")
    image_size: str = setting("", "Images: HxW to cut and resize them to; by default all have one size.")
    channels: int = setting(0, "Images: 1 for grey, 3 for RGB; 0 for what they have.", least=0)
    validation: int = setting(
        -1, "Training examples held out; 0 for none, -1 for 5,000 or, of fewer than 50,000, a tenth.", least=-1
    )

    @property
    def condition_names(self):
        """Names of what the model is given beside x, in its order."""
        return (
            *(("label",) if self.conditional and "label" not in self.condition_columns else ()),
            *self.condition_columns,
        )

    @property
    def height_and_width(self):
        """`image_size` as a pair of numbers, or None."""
        return tuple(int(size) for size in self.image_size.split("x")) if self.image_size else None


@dataclass(frozen=True)
class ModelConfig:
    """What is trained."""

    network: str = setting("dense", "Kind of both networks.", choices=("dense", "conv", "residual", "lstm"))
    latent_dim: int = setting(16, "Size of z.", least=1)
    encoder_hidden: Widths = setting((512, 256), "Widths of the encoder's dense layers.", least=1)
    decoder_hidden: Widths = setting((256, 512), "Widths of the decoder's dense layers.", least=1)
    encoder_filters: Widths = setting((32, 64), "conv, residual: channels of the encoder's convolutions.", least=1)
    decoder_filters: Widths = setting((64, 32), "conv, residual: channels of the decoder's feature maps.", least=1)
    lstm_units: int = setting(128, "lstm: width of the LSTM of each network.", least=1)
    condition_embedding: int = setting(
        0, "Width of a learned embedding of each categorical condition; 0 for one-hot.", least=0
    )
    value_embedding: int = setting(
        8,
        "categorical: width of the learned embedding by which the encoder sees a value, at most one for each class; "
        "0 for one-hot.",
        least=0,
    )
    activation: str = setting("relu", "Of the hidden layers.", choices=ACTIVATIONS)
    gated: bool = setting(False, "dense: gated layers in place of the activation.")
    likelihood: str = setting(
        "bernoulli", "What p(x given z) is.",
        choices=("bernoulli", "continuous_bernoulli", "gaussian", "discretized_logistic", "categorical", "mixed"),
    )  # fmt: skip
    binarize: str = setting(
        "dynamic", "bernoulli: draw pixels anew each time, or take them as they are.", choices=("dynamic", "none")
    )
    sigma: str = setting(
        "optimal",
        "gaussian: optimal, shared, element, or a number (1 is the width of the data range); mixed: likewise for each "
        "column, but element (1 is the column's spread).",
    )
    prior: str = setting(
        "standard_normal", "What p(z) is.",
        choices=("standard_normal", "conditional_gaussian", "gaussian_mixture", "vamp"),
    )  # fmt: skip
    prior_hidden: Widths = setting((), "conditional_gaussian: widths of the prior's hidden layers.", least=1)
    prior_components: int = setting(10, "gaussian_mixture and vamp: how many Gaussians are mixed.", least=2)


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised."""

    objective: str = setting(
        "elbo", "What training minimises.",
        choices=("elbo", "capacity", "free_bits", "importance_weighted", "total_correlation"),
    )  # fmt: skip
    beta: float = setting(
        1.0, "Weight of the kl (of the total correlation under total_correlation); 1 is a VAE.", least=0
    )
    initial_beta: float = setting(0.0, "beta at the start of its warm-up.", least=0)
    warmup_epochs: float = setting(0.0, "Epochs in which beta goes to --beta, or the capacity to --capacity.", least=0)
    beta_schedule: str = setting(
        "linear", "Shape of the warm-up; cyclical repeats it.", choices=("linear", "cosine", "cyclical")
    )
    capacity: float = setting(25.0, "capacity: nats that the kl is held at.", least=0)
    gamma: float = setting(1000.0, "capacity: how hard it is held there.", least=0)
    free_bits: float = setting(0.1, "free_bits: nats that each dimension holds at no cost.", least=0)
    num_samples: int = setting(50, "importance_weighted: draws of z for each example.", least=1)


@dataclass(frozen=True)
class TrainingConfig:
    """How it is minimised."""

    epochs: int = setting(30, "Passes over the training data.", least=1)
    batch_size: int = setting(128, "Examples a step.", least=1)
    learning_rate: float = setting(1e-3, "Of Adam, at the start.", above=0)
    learning_rate_schedule: str = setting(
        "cosine", "How the learning rate falls.", choices=("constant", "cosine", "exponential")
    )
    final_learning_rate: float = setting(1e-5, "Where cosine and exponential end.", above=0)
    seed: int = setting(0, "The same seed trains the same model.", least=0)
    weights_from: str = setting("", "Run of the same network whose weights to start from.")
    patience: int = setting(
        0, "Stop after so many epochs without a better validation elbo, and keep the best weights; 0 never.", least=0
    )
    checkpoint_every: int = setting(
        0, "Epochs between checkpoints; 0: every epoch, but at most once in 20 seconds.", least=0
    )
    deterministic: bool = setting(False, "Ask for the same result each time also on a GPU; slower.")
    mixed_precision: bool = setting(False, "Networks compute in bfloat16, for GPUs; weights and objective in float32.")
    steps_per_execution: int = setting(20, "Steps that run without a look at Python.", least=1)


@dataclass(frozen=True)
class Config:
    """A whole run. Keys are unique across the sections, so that one flag names one setting."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def replace(self, **settings):
        """A copy with some settings changed, each named by its key alone; checked."""
        changed = {}
        for section in fields(self):
            part = getattr(self, section.name)
            own = {f.name: settings.pop(f.name) for f in fields(part) if f.name in settings}
            changed[section.name] = dataclasses.replace(part, **own)
        if settings:
            raise RequestError(f"There is no setting named {', '.join(sorted(settings))}.")
        config = Config(**changed)
        config.check()
        return config

    def check(self):
        """Raise RequestError where a setting is out of its bounds, or two do not go together."""
        for section in fields(self):
            part = getattr(self, section.name)
            for declared in fields(part):
                _check(declared.name, getattr(part, declared.name), declared.metadata)
        sigma = self.model.sigma
        if sigma not in ("optimal", "shared", "element") and not _is_positive(sigma):
            raise RequestError(f"sigma must be optimal, shared, element or a positive number, got {sigma!r}.")
        if self.model.likelihood == "mixed" and sigma == "element":
            raise RequestError("sigma of a table must be optimal, shared or a positive number, got element.")
        size = self.data.image_size
        if size and not re.fullmatch(r"[1-9][0-9]{0,3}x[1-9][0-9]{0,3}", size):
            raise RequestError(f"image_size must be height x width such as 64x48, got {size!r}.")
        if self.data.channels not in (0, 1, 3):
            raise RequestError(
                f"channels must be 1 (grey), 3 (RGB) or 0 (as the images are), got {self.data.channels}."
            )
        names = self.data.condition_names
        if len(set(names)) != len(names):
            raise RequestError(f"condition_columns names one twice: {', '.join(names)}.")
        if self.model.prior == "conditional_gaussian" and not names:
            raise RequestError("The prior conditional_gaussian needs conditions; add --conditional.")
        if self.objective.objective == "free_bits" and self.model.prior in ("gaussian_mixture", "vamp"):
            raise RequestError(
                f"free_bits needs a kl for each dimension, which the prior {self.model.prior} does not have."
            )
        if self.training.patience and not self.data.validation:
            raise RequestError("patience needs validation examples to judge by; give --validation a number above 0.")
        self._check_size()

    def _check_size(self):
        """Refuse layers that no memory holds, by the weights between them; those to and from the data come on top."""
        dense = (*self.model.encoder_hidden, self.model.latent_dim, *self.model.decoder_hidden)
        filters = (*self.model.encoder_filters, *self.model.decoder_filters)
        weights = sum(map(operator.mul, dense, dense[1:]))
        if self.model.network == "lstm":
            weights = 4 * self.model.lstm_units**2
        elif self.model.network != "dense":
            weights += 9 * sum(map(operator.mul, filters, filters[1:]))
        if weights >= _MOST:
            raise RequestError(
                f"Layers of these sizes have {weights:,} weights, {weights * 16 / 2**30:,.0f} GiB with what Adam keeps "
                "of each. Make them narrower."
            )

    def to_toml(self):
        """The run as a TOML document that `read` understands."""
        import tomli_w

        sections = {name: _plain(section) for name, section in dataclasses.asdict(self).items()}
        document = {"format": CONFIG_FORMAT, **sections}
        return "# Do it again: kvae train --config THIS_FILE -o NEW_FOLDER\n" + tomli_w.dumps(document)


def settings():
    """Every setting: its section, and its `dataclasses.Field` with default, type and metadata."""
    return [(section.name, declared) for section in fields(Config) for declared in fields(section.default_factory)]  # type: ignore[arg-type]


def read(path):
    """Read a run's `config.toml`.

    Raises:
        RequestError: where the file is missing, is no TOML, or has unknown or ill-typed keys; the line names them.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise RequestError(f"{path} has more than {_MOST_BYTES} bytes, so it is no config.toml of a run.")
        document = tomllib.loads(data.decode())
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror}); give the config.toml of a run.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is no TOML file: {error}.") from None
    except RecursionError:
        raise RequestError(f"{path} is no config.toml of a run: it is nested too deeply.") from None
    return from_document(document, path)


def from_document(document, path):
    """The configuration that a TOML document holds; `path` is for the line of an error.

    Raises:
        RequestError: where it has unknown or ill-typed keys; the line names them.
    """
    if (version := document.pop("format", CONFIG_FORMAT)) != CONFIG_FORMAT:
        raise RequestError(f"{path} has format {version}, this kvae reads {CONFIG_FORMAT}; upgrade kvae-onnx.")
    parts = {}
    for section in fields(Config):
        table = document.pop(section.name, {})
        if not isinstance(table, dict):
            raise RequestError(f"{path}: {section.name} must be a table of settings.")
        parts[section.name] = _section(path, section.name, section.default_factory, table)
    if document:
        raise RequestError(f"{path}: unknown section {', '.join(sorted(document))}; known: {', '.join(parts)}.")
    config = Config(**parts)
    config.check()
    return config


def _section(path, name, kind, table):
    known = {f.name: f for f in fields(kind)}
    if unknown := sorted(set(table) - set(known)):
        raise RequestError(f"{path}: [{name}] knows no {', '.join(unknown)}; known: {', '.join(known)}.")
    return kind(**{key: _typed(f"{path}: {key}", value, known[key].type) for key, value in table.items()})


def _typed(where, value, kind) -> Any:
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise RequestError(f"{where} must be a list, got {value!r}.")
        return tuple(_typed(where, item, get_args(kind)[0]) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 10**300 else math.inf
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RequestError(f"{where} must be of type {kind.__name__}, got {value!r}.")
    return value


def _check(name, value, bounds):
    if bounds["choices"] and value not in bounds["choices"]:
        raise RequestError(f"{name} must be one of {', '.join(bounds['choices'])}, got {value!r}.")
    numbers = value if isinstance(value, tuple) else (value,)
    if any(isinstance(number, int) and number >= _MOST for number in numbers):
        raise RequestError(f"{name} must be less than 2^31, got {printable(value, 60)}.")
    if isinstance(value, tuple) and len(value) > _MOST_LAYERS and not isinstance(value[0], str):
        raise RequestError(f"{name} must be a list of at most {_MOST_LAYERS}, got {len(value)}.")
    if bounds["least"] is not None and not all(bounds["least"] <= number < math.inf for number in numbers):
        raise RequestError(f"{name} must be at least {bounds['least']} and finite, got {value}.")
    if bounds["above"] is not None and not all(bounds["above"] < number < math.inf for number in numbers):
        raise RequestError(f"{name} must be a positive number, got {value}.")


def _plain(section):
    return {key: list(value) if isinstance(value, tuple) else value for key, value in section.items()}


def _is_positive(text):
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False
