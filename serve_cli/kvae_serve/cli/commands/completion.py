"""The command `kvae completion`."""

from __future__ import annotations

import os

import click

from kvae_serve.errors import RequestError, printable

SHELLS = ("bash", "zsh", "fish")


@click.command(epilog="Example: kvae completion bash")
@click.argument("shell", required=False, metavar="[bash|zsh|fish]", type=click.Choice(SHELLS))
def completion(shell: str | None) -> None:
    """Print a shell script that completes commands, options, shipped models and, after --label, classes of the model.

    The first lines of the script explain how to install it. The default shell is $SHELL.
    """
    from kvae_serve.cli import shell_completion

    if shell is None:
        shell = os.path.basename(os.environ.get("SHELL", ""))  # noqa: PTH119
        if shell not in SHELLS:
            raise RequestError(f"$SHELL is {printable(shell, 40) or 'not set'}; give one of {', '.join(SHELLS)}.")
    click.echo(shell_completion.script(shell), nl=False)
