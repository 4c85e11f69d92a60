"""`kvae presets`: settings that work, by name."""

import json
from dataclasses import asdict

import click


@click.command(epilog="Example: kvae train --preset gated -o runs/gated")
@click.option("--json", "as_json", is_flag=True, help="Print all of them, settings included, as one JSON document.")
def presets(as_json):
    """List the presets of kvae train, with what they give and how long they take where that was measured."""
    from kvae import presets as known

    found = [known.get(name) for name in known.names()]
    if as_json:
        click.echo(json.dumps([{**preset._asdict(), "config": asdict(preset.config)} for preset in found]))
        return
    width = max(len(preset.name) for preset in found)
    for preset in found:
        click.echo(f"{preset.name:{width}}  {preset.line}")
        if preset.expected:
            click.echo(f"{'':{width}}  {preset.expected}")
