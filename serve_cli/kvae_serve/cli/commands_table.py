"""The verbs of the command, in one table; what a verb needs is imported when it is called."""

from __future__ import annotations

from typing import NamedTuple

from kvae_serve.errors import MissingExtraError

OUR_PACKAGES = ("kvae_serve", "kvae_export", "kvae")


class Verb(NamedTuple):
    """One verb: its line of help, the click command that does it, and the extra whose packages it needs."""

    help: str
    command: str
    extra: str = ""


VERBS = {
    "sample": Verb("Draw from a model; show it as text or write it.", "kvae_serve.cli.commands.sample:sample"),
    "encode": Verb("Turn examples into codes.", "kvae_serve.cli.commands.encode:encode"),
    "decode": Verb("Turn codes into data.", "kvae_serve.cli.commands.decode:decode"),
    "reconstruct": Verb(
        "Encode examples and decode them again: what a model keeps.", "kvae_serve.cli.commands.reconstruct:reconstruct"
    ),
    "score": Verb("Tell how likely a model finds each example; flag anomalies.", "kvae_serve.cli.commands.score:score"),
    "evaluate": Verb(
        "Compute a model's figures on data: elbo, NLL, latent space.", "kvae_serve.cli.commands.evaluate:evaluate"
    ),
    "traverse": Verb("Walk along one latent axis after another.", "kvae_serve.cli.commands.traverse:traverse"),
    "interpolate": Verb(
        "Walk between two examples, draws or classes.", "kvae_serve.cli.commands.interpolate:interpolate"
    ),
    "info": Verb("Tell all that a model says about itself.", "kvae_serve.cli.commands.info:info"),
    "verify": Verb(
        "Check that a model does here what it did where it was made.", "kvae_serve.cli.commands.verify:verify"
    ),
    "models": Verb("List the models that ship with kvae.", "kvae_serve.cli.commands.models:models"),
    "completion": Verb("Print a script for completion in a shell.", "kvae_serve.cli.commands.completion:completion"),
    "train": Verb("Train a VAE, beta-VAE or conditional VAE.", "kvae.commands.train:train", "train"),
    "presets": Verb("List settings that work, for train --preset.", "kvae.commands.presets:presets"),
    "export": Verb("Turn a trained model into sealed ONNX files.", "kvae.commands.export:export", "train"),
    "sprites": Verb("Render images whose factors are known, those of dSprites.", "kvae.commands.sprites:sprites"),
}


def is_light(verb: str) -> bool:
    """Tell whether a verb runs on the light runtime alone; so do `--help` and whatever is no verb."""
    return verb not in VERBS or not VERBS[verb].extra


def missing_extra(verb: str, error: ModuleNotFoundError) -> MissingExtraError | None:
    """Return the error that names the extra to install, or None where a missing package is a bug of ours."""
    package = (error.name or "").partition(".")[0]
    if verb not in VERBS or not VERBS[verb].extra or package in OUR_PACKAGES:
        return None
    return MissingExtraError(
        f"`kvae {verb}` needs {package or 'a package'}, which is not installed. "
        f"Install it with: pip install 'kvae-onnx[{VERBS[verb].extra}]'"
    )
