"""Table of the commands in `kvae_serve`. A command is imported when it is called, so that `kvae --help` stays fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from kvae_serve.errors import MissingExtraError

if TYPE_CHECKING:
    import click


class Command(NamedTuple):
    """Entry of the table of commands.

    Attributes:
        help: One line for `kvae --help`.
        location: Click command as `module:name`, imported on use.
        extra: Optional extra whose packages the command needs.
    """

    help: str
    location: str
    extra: str = ""

    def load(self) -> click.Command:
        """Import the click command."""
        import importlib

        module, _, name = self.location.partition(":")
        return getattr(importlib.import_module(module), name)


Commands = Mapping[str, Command]

_PACKAGE = "kvae_serve.cli.commands"
COMMANDS: dict[str, Command] = {
    "sample": Command("Draw samples from a model.", f"{_PACKAGE}.sample:sample"),
    "encode": Command("Encode examples as latent vectors.", f"{_PACKAGE}.encode:encode"),
    "decode": Command("Decode latent vectors into data.", f"{_PACKAGE}.decode:decode"),
    "reconstruct": Command("Encode examples and decode them again.", f"{_PACKAGE}.reconstruct:reconstruct"),
    "score": Command("Compute the elbo of each example; flag anomalies.", f"{_PACKAGE}.score:score"),
    "impute": Command("Fill in missing cells of a table.", f"{_PACKAGE}.impute:impute"),
    "traverse": Command("Vary one latent dimension at a time.", f"{_PACKAGE}.traverse:traverse"),
    "interpolate": Command("Interpolate between examples, samples or classes.", f"{_PACKAGE}.interpolate:interpolate"),
    "explore": Command("Write a web page in which a model runs.", f"{_PACKAGE}.explore:explore"),
    "serve": Command("Answer HTTP requests for a model.", f"{_PACKAGE}.serve:serve", "serve"),
    "info": Command("Show a model's metadata.", f"{_PACKAGE}.info:info"),
    "verify": Command("Check that a model reproduces its reference outputs.", f"{_PACKAGE}.verify:verify"),
    "models": Command("List the models that ship with kvae.", f"{_PACKAGE}.models:models"),
    "pull": Command("Download a model from the Hugging Face Hub.", f"{_PACKAGE}.pull:pull", "hub"),
    "push": Command("Upload a model to the Hugging Face Hub.", f"{_PACKAGE}.push:push", "hub"),
    "completion": Command("Print a shell completion script.", f"{_PACKAGE}.completion:completion"),
}


def is_light(name: str, commands: Commands) -> bool:
    """Tell whether a command works without extras. `--help` and unknown names do."""
    return name not in commands or not commands[name].extra


def missing_extra(name: str, commands: Commands, error: ModuleNotFoundError) -> MissingExtraError | None:
    """Return the error that names the extra to install; None if the missing module is part of kvae or not optional."""
    package = (error.name or "").partition(".")[0]
    if is_light(name, commands) or package in {each.location.partition(".")[0] for each in commands.values()}:
        return None
    return MissingExtraError(
        f"`kvae {name}` needs {package or 'a package'}, which is not installed. "
        f"Install it with: pip install 'kvae-onnx[{commands[name].extra}]'"
    )
