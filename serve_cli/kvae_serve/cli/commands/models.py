"""The command `kvae models`."""

from __future__ import annotations

import click

from kvae_serve.cli import options
from kvae_serve.errors import printable


@click.command(epilog="Example: kvae models")
@options.as_json
def models(as_json: bool) -> None:
    """List the models that ship with kvae. Each name is a valid MODEL for -m."""
    from kvae_serve.model import load
    from kvae_serve.runtime.locate import DEFAULT, shipped

    shipped_models = []
    for name, path in shipped().items():
        manifest = load(path).manifest
        shipped_models.append({"name": name, "path": path, "kind": manifest.kind, "data": manifest.raw["data"]})
    if as_json:
        options.echo_json(shipped_models)
        return
    for model in shipped_models:
        shape = " x ".join(map(str, model["data"]["shape"]))
        default = " (default)" if model["name"] == DEFAULT else ""
        click.echo(
            f"{printable(model['name'], 40):<16}{printable(model['kind'])}, {model['data']['kind']} {shape}{default}"
        )
    if not shipped_models:
        click.echo("This installation has no models. Export your own with `kvae export`.", err=True)
