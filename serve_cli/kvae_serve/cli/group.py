"""The click group behind `kvae`: it knows the verbs from their table and imports one when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kvae_serve import __version__
from kvae_serve.cli.commands_table import VERBS
from kvae_serve.errors import printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


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
            verb = printable(args[0], 20)
            ctx.fail(f"There is no verb {verb}.{hint or ' There are ' + ', '.join(VERBS) + '.'}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer verbs from the table, so that no verb is imported for it."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=verb.help) for name, verb in VERBS.items() if name.startswith(incomplete)]

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
