"""The click group behind `kvae`. It lists commands from a table and imports one only when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvae_serve import __version__
from kvae_serve.cli.commands_table import Commands
from kvae_serve.errors import printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SYNONYMS = {
    "sample": {"generate", "draw"},
    "encode": {"embed", "latents"},
    "score": {"anomaly", "anomalies", "detect", "elbo"},
    "evaluate": {"test", "eval", "measure"},
    "interpolate": {"walk", "morph"},
    "info": {"show", "inspect", "describe"},
    "verify": {"check"},
    "models": {"list", "ls"},
    "train": {"fit", "resume"},
    "export": {"convert", "onnx"},
}
"""Names that users try, by the command that they mean."""


class LazyGroup(click.Group):
    """Click group whose help and completion import no command."""

    def __init__(self, *args: Any, table: Commands, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context | None, cmd_name: str) -> click.Command | None:
        """Import a command; None if the table does not have it."""
        return self.table[cmd_name].load() if cmd_name in self.table else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command to run, and suggest the nearest one if the name is unknown."""
        if args and not args[0].startswith("-") and args[0] not in self.table:
            ctx.fail(f"Unknown command {printable(args[0], 20)}. {self._suggestion(args[0])}")
        return super().resolve_command(ctx, args)

    def _suggestion(self, name: str) -> str:
        import difflib

        meant = [each for each, names in SYNONYMS.items() if name.lower() in names and each in self.table]
        near = meant or difflib.get_close_matches(name, self.table, 1, 0.5)
        return f"Did you mean {near[0]}?" if near else f"Commands: {', '.join(self.table)}."

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands from the table."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [
            CompletionItem(name, help=entry.help) for name, entry in self.table.items() if name.startswith(incomplete)
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their help from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.table.items()])


def group(commands: Commands) -> LazyGroup:
    """Return the click group of a table of commands."""

    @click.group(
        cls=LazyGroup,
        table=commands,
        subcommand_metavar="COMMAND [OPTIONS]",
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Start with: kvae sample --label 3",
    )
    @click.version_option(__version__, prog_name="kvae")
    def kvae() -> None:
        """Variational autoencoders as small sealed ONNX files: train, export, sample."""

    return kvae
