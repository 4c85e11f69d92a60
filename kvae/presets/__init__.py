"""Settings that work, by name: a TOML file each, laid out as the `config.toml` of a run, with a word about itself."""

import tomllib
from pathlib import Path
from typing import NamedTuple

from kvae.training import config as configs
from kvae_serve.errors import RequestError, printable

_FOLDER = Path(__file__).parent


class Preset(NamedTuple):
    """One preset.

    Attributes:
        name: for `kvae train --preset`.
        line: what it is, in one line.
        expected: what came of it, and how long that took; empty where that was not measured.
        config: `kvae.training.config.Config`.
    """

    name: str
    line: str
    expected: str
    config: configs.Config


def names():
    """All names, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def get(name):
    """The preset of that name.

    Raises:
        RequestError: where there is none; the line has all names.
    """
    if name not in names():
        raise RequestError(f"There is no preset {printable(name)}; there are {', '.join(names())}.")
    path = _FOLDER / f"{name}.toml"
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    about = document.pop("preset")
    return Preset(name, about["line"], about["expected"], configs.from_document(document, path.name))
