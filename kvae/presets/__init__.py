"""Presets: tested configurations by name. Each is a TOML file in the layout of `config.toml`, with a description."""

import tomllib
from pathlib import Path
from typing import NamedTuple

from kvae.training.config import Config, from_document
from kvae_serve.errors import RequestError, printable

__all__ = ["Preset", "get", "names"]

_FOLDER = Path(__file__).parent


class Preset(NamedTuple):
    """A configuration with a description.

    Attributes:
        name: Name for `kvae train --preset`.
        line: Description in one line.
        expected: Measured result and duration. Empty if they were not measured.
        config: The settings.

    Example:
        >>> kvae.presets.get("mnist-cvae").name
        'mnist-cvae'
    """

    name: str
    line: str
    expected: str
    config: Config


def names() -> list[str]:
    """Return the names of all presets, sorted.

    Example:
        >>> import kvae
        >>> "mnist-cvae" in kvae.presets.names()
        True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def get(name: str) -> Preset:
    """Return the preset with that name.

    Raises:
        RequestError: If it does not exist. The message lists all names.

    Example:
        >>> import kvae
        >>> kvae.presets.get("mnist-cvae").config.model.latent_dim
        16
    """
    if name not in names():
        raise RequestError(f"Unknown preset {printable(name)}. The presets are {', '.join(names())}.")
    path = _FOLDER / f"{name}.toml"
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    about = document.pop("preset")
    return Preset(name, about["line"], about["expected"], from_document(document, path.name))
