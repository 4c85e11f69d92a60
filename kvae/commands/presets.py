"""The command `kvae presets`."""

import json
import shutil
import sys
import textwrap
from dataclasses import asdict

import click


@click.command(epilog="Example: kvae train --preset gated -o runs/gated")
@click.option("--json", "as_json", is_flag=True, help="Print all presets and their settings as one JSON document.")
def presets(as_json: bool) -> None:
    """List the presets of kvae train, with the measured result and training time if known."""
    from kvae import presets as known

    found = [known.get(name) for name in known.names()]
    if as_json:
        click.echo(json.dumps([{**preset._asdict(), "config": asdict(preset.config)} for preset in found]))
        return
    width = max(len(preset.name) for preset in found)
    for preset in found:
        click.echo(_wrap(preset.line, f"{preset.name:{width}}  "))
        if preset.expected:
            click.echo(_wrap(preset.expected, " " * (width + 2)))


def _wrap(text: str, start: str) -> str:
    """Wrap a text between words to the width of the terminal; leave it on one line elsewhere."""
    if not sys.stdout.isatty():
        return start + text
    return textwrap.fill(
        text,
        max(shutil.get_terminal_size().columns, len(start) + 20),
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
