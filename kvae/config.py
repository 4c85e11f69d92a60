"""Every setting of a training run: written beside the model, and read back to do it again."""

import dataclasses
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from serve_cli.errors import RequestError

#: The version of this layout; a reader refuses a newer one.
CONFIG_FORMAT = 1


@dataclass(frozen=True)
class DataConfig:
    """What to train on."""

    data: str = ""  # file or folder, or the name of a set that keras.datasets fetches
    conditional: bool = False  # whether the model is given the labels
    validation: int = 5000  # examples held out of the training split


@dataclass(frozen=True)
class ModelConfig:
    """What is trained."""

    network: str = "dense"  # dense or conv
    latent_dim: int = 16
    encoder_hidden: tuple[int, ...] = (512, 256)  # dense: widths; conv: the dense layers after the convolutions
    decoder_hidden: tuple[int, ...] = (256, 512)  # dense: widths; conv: the dense layers before the first feature map
    encoder_filters: tuple[int, ...] = (32, 64)  # conv only
    decoder_filters: tuple[int, ...] = (64, 32)  # conv only
    activation: str = "relu"
    gated: bool = False  # dense only: gated layers in place of the activation
    binarize: str = "dynamic"  # dynamic or none


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised."""

    beta: float = 1.0
    initial_beta: float = 0.0  # beta at the first step of the warm-up; above beta, the class moves out of z first
    warmup_epochs: float = 0.0  # epochs over which beta goes from initial_beta to beta


@dataclass(frozen=True)
class TrainingConfig:
    """How it is minimised."""

    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 1e-3
    learning_rate_schedule: str = "cosine"  # constant, cosine or exponential
    final_learning_rate: float = 1e-5  # where cosine and exponential end
    seed: int = 0
    steps_per_execution: int = 20


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
        """Raise RequestError where a setting is out of its range."""
        m, o, t = self.model, self.objective, self.training
        _one_of("network", m.network, ("dense", "conv"))
        _one_of("binarize", m.binarize, ("dynamic", "none"))
        _one_of("learning_rate_schedule", t.learning_rate_schedule, ("constant", "cosine", "exponential"))
        for name, value, least in (
            ("latent_dim", m.latent_dim, 1),
            ("epochs", t.epochs, 1),
            ("batch_size", t.batch_size, 1),
            ("steps_per_execution", t.steps_per_execution, 1),
            ("validation", self.data.validation, 0),
            ("beta", o.beta, 0),
            ("initial_beta", o.initial_beta, 0),
            ("warmup_epochs", o.warmup_epochs, 0),
        ):
            if not least <= value < float("inf"):
                raise RequestError(f"{name} must be at least {least} and finite, got {value}.")
        for name, value in (("learning_rate", t.learning_rate), ("final_learning_rate", t.final_learning_rate)):
            if not 0 < value < float("inf"):
                raise RequestError(f"{name} must be a positive number, got {value}.")
        for name in ("encoder_hidden", "decoder_hidden", "encoder_filters", "decoder_filters"):
            if any(width < 1 for width in getattr(m, name)):
                raise RequestError(f"{name} must be widths of at least 1, got {list(getattr(m, name))}.")
        if not 0 <= t.seed < 2**31:
            raise RequestError(f"seed must be from 0 to 2^31 - 1, got {t.seed}.")

    def to_toml(self):
        """The run as a TOML document that `read` understands."""
        import tomli_w

        sections = {name: _plain(section) for name, section in dataclasses.asdict(self).items()}
        return "# Do it again: kvae train --config THIS_FILE -o NEW_FOLDER\n" + tomli_w.dumps(
            {"format": CONFIG_FORMAT, **sections}
        )


def read(path):
    """Read a run's `config.toml`.

    Raises:
        RequestError: where the file is missing, is no TOML, or has unknown or ill-typed keys; the line names them.
    """
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror}); give the config.toml of a run.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is no TOML file: {error}.") from None
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
    if isinstance(kind, UnionType):
        kind = next(k for k in get_args(kind) if k is not type(None))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RequestError(f"{where} must be of type {kind.__name__}, got {value!r}.")
    return value


def _plain(section):
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in section.items() if value is not None
    }


def _one_of(name, value, choices):
    if value not in choices:
        raise RequestError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
