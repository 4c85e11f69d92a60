"""The command `kvae models`."""

from __future__ import annotations

import click

from kvae_serve.cli import options
from kvae_serve.errors import RequestError, printable


@click.command(epilog="Example: kvae models; kvae models --cached")
@click.option("--cached", is_flag=True, help="List the models that were downloaded from the Hugging Face Hub.")
@click.option(
    "--remove", metavar="ADDRESS", help="Remove a downloaded model, in all its revisions unless one is given."
)
@options.as_json
def models(cached: bool, remove: str | None, as_json: bool) -> None:
    """List the models that ship with kvae. Each name is a valid MODEL for -m."""
    if cached or remove is not None:
        if cached and remove is not None:
            raise RequestError("--cached and --remove exclude each other. Give one.")
        _downloaded(remove, as_json)
        return
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


def _downloaded(removed: str | None, as_json: bool) -> None:
    """List the downloaded models, or remove one and list what was removed."""
    from kvae_serve.hub import download

    found = download.cached_models() if removed is None else download.remove(removed)
    if as_json:
        options.echo_json([{"address": str(m.address), "path": m.path, "bytes": m.num_bytes} for m in found])
        return
    for model in found:
        size = f"{model.num_bytes / 1e6:.1f} MB"
        click.echo(
            f"{'removed ' if removed else ''}{model.address}  {size}  {printable(model.config.get('kind', ''), 40)}"
        )
    if not found:
        click.echo("No model was downloaded yet. Use an address: kvae sample -m hf://owner/repo", err=True)
