"""The verbs of the command, in one table; what a verb needs is imported when it is called."""

from __future__ import annotations

from typing import NamedTuple

import click

from serve_cli import __version__
from serve_cli.errors import MissingExtraError, printable

OUR_PACKAGES = ("serve_cli", "export", "kvae")


class Verb(NamedTuple):
    """One verb: its line of help, the click command that does it, and the extra whose packages it needs."""

    help: str
    command: str
    extra: str = ""


VERBS = {
    "sample": Verb("Draw from a model; show it as text or write it.", "serve_cli.commands.sample:sample"),
    "info": Verb("Tell all that a model says about itself.", "serve_cli.commands.info:info"),
    "verify": Verb("Check that a model does here what it did where it was made.", "serve_cli.commands.verify:verify"),
    "models": Verb("List the models that ship with kvae.", "serve_cli.commands.models:models"),
    "train": Verb("Train a VAE, beta-VAE or conditional VAE.", "kvae.commands.train:train", "train"),
    "export": Verb("Turn a trained model into sealed ONNX files.", "kvae.commands.export:export", "train"),
}


class LazyGroup(click.Group):
    """A group that knows its verbs from the table, so that its help imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's command."""
        if cmd_name not in VERBS:
            return None
        import importlib

        module, name = VERBS[cmd_name].command.split(":")
        return getattr(importlib.import_module(module), name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest verb where there is none of that name."""
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, 1, 0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"There is no verb {printable(args[0], 40)}; there are {', '.join(VERBS)}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs with their lines from the table."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])


@click.group(
    cls=LazyGroup,
    subcommand_metavar="VERB [OPTIONS]",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: kvae sample --label 3",
)
@click.version_option(__version__, prog_name="kvae")
def group() -> None:
    """Variational autoencoders as small sealed ONNX files: train, export, sample."""


def missing_extra(verb: str, error: ModuleNotFoundError) -> MissingExtraError | None:
    """Return the error that names the extra to install, or None where a missing package is a bug of ours."""
    package = (error.name or "").partition(".")[0]
    if verb not in VERBS or not VERBS[verb].extra or package in OUR_PACKAGES:
        return None
    return MissingExtraError(
        f"`kvae {verb}` needs {package or 'a package'}, which is not installed. "
        f"Install it with: pip install 'kvae-onnx[{VERBS[verb].extra}]'"
    )
