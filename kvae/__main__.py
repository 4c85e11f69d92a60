"""The command `kvae`, also run as `python -m kvae`: the table of all commands."""

import os
from typing import NoReturn

from kvae_serve.cli import main as cli
from kvae_serve.cli.commands_table import COMMANDS as SERVE_COMMANDS
from kvae_serve.cli.commands_table import Command

COMMANDS = {
    **SERVE_COMMANDS,
    "evaluate": Command("Measure a model on data: elbo, NLL, latent space.", "kvae.commands.evaluate:evaluate"),
    "train": Command("Train a VAE, beta-VAE or conditional VAE.", "kvae.commands.train:train", "train"),
    "tune": Command("Choose settings by many training runs.", "kvae.commands.tune:tune", "tune"),
    "presets": Command("List tested settings for train --preset.", "kvae.commands.presets:presets"),
    "export": Command("Export a trained model as sealed ONNX files.", "kvae.commands.export:export", "train"),
    "sprites": Command("Render images with known factors, as in dSprites.", "kvae.commands.sprites:sprites"),
}


def run(arguments: list[str]) -> int:
    """Run one command line (without `kvae`); return its exit code."""
    _set_keras_home()
    return cli.run(arguments, COMMANDS)


def main() -> NoReturn:
    """Run the command line of this process, then end the process."""
    _set_keras_home()
    cli.main(COMMANDS)


def _set_keras_home() -> None:
    """Give Keras a folder if the user does not have a home. It would create a folder named ~ in the current folder."""
    if os.path.expanduser("~") == "~" and "KERAS_HOME" not in os.environ:  # noqa: PTH111 - works without a home
        import tempfile

        os.environ["KERAS_HOME"] = os.path.join(tempfile.gettempdir(), "keras")  # noqa: PTH118


if __name__ == "__main__":
    main()
