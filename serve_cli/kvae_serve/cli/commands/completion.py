"""`kvae completion`: the script that makes a shell complete verbs, options, models and labels."""

from __future__ import annotations

import os

import click

from kvae_serve.errors import RequestError, printable

SHELLS = ("bash", "zsh", "fish")


@click.command(epilog="Example: kvae completion bash")
@click.argument("shell", required=False, metavar="[bash|zsh|fish]", type=click.Choice(SHELLS))
def completion(shell: str | None) -> None:
    """Print a script that completes verbs, options, shipped models, and the classes of a model behind --label.

    Its first lines tell how to install it. Without a name it is for the shell in $SHELL.
    """
    from kvae_serve.cli import shell_completion as scripts

    if shell is None:
        shell = os.path.basename(os.environ.get("SHELL", ""))  # noqa: PTH119
        if shell not in SHELLS:
            raise RequestError(f"$SHELL is {printable(shell, 40) or 'not set'}. Name one of {', '.join(SHELLS)}.")
    click.echo(scripts.script(shell), nl=False)
