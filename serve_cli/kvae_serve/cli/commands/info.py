"""The command `kvae info`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvae_serve.cli import options
from kvae_serve.errors import printable

if TYPE_CHECKING:
    from kvae_serve.sealed.manifest import Condition, Data, Manifest, Range


@click.command(epilog="Example: kvae info -m mnist")
@options.model
@options.as_json
def info(model: str, as_json: bool) -> None:
    """Show a model's metadata, after checking all of its files."""
    from kvae_serve.model import load

    loaded = load(model)
    document = loaded.info()
    if as_json:
        options.echo_json(document)
        return
    lines = [(printable(name, 40), printable(value, 400)) for name, value in _lines(loaded.manifest)]
    for file in document["files"]:
        size = f"{file['bytes'] / 1000:,.0f} kB" if file["bytes"] >= 10_000 else f"{file['bytes']:,} bytes"
        lines.append((file["graph"], f"{size}, {file['parameters']:,} parameters, {file['nodes']} nodes"))
    width = max(len(name) for name, _ in lines) + 2
    for name, value in lines:
        click.echo(f"{name:<{width}}{value}")


def _lines(manifest: Manifest) -> list[tuple[str, str]]:
    data = manifest.data
    lines = [
        ("name", f"{manifest.name}, a {manifest.kind} with {manifest.latent_dim} latent dimensions"),
        ("data", _data(data)),
    ]
    lines += [("column", line) for line in _columns(manifest)]
    lines += [("condition", f"{condition.name}: {_condition(condition)}") for condition in manifest.conditions]
    lines += [("likelihood", _object(manifest.likelihood)), ("prior", _object(manifest.prior))]
    for key, value in (manifest.training or {}).items():
        if value is None:
            lines.append((key, "no validation data" if key == "validation" else "none"))
        else:
            lines.append((key, _object(value) if isinstance(value, dict) else str(value)))
    if manifest.raw.get("weights", "float32") != "float32":
        lines.append(("weights", f"stored as {manifest.raw['weights']}"))
    return [*lines, ("model id", manifest.model_id)]


def _data(data: Data) -> str:
    if data.kind == "table":
        return f"table of {data.shape[0]} column{'s' if data.shape[0] > 1 else ''}"
    return f"{data.kind} {' x '.join(map(str, data.shape))}, {_range(data.range)}"


def _columns(manifest: Manifest) -> list[str]:
    """Describe the columns of a table in the order in which they are written."""
    from kvae_serve import cells

    data = manifest.data
    by_name = {each["name"]: cells.describe(each) for each in (*data.columns, *data.outside)}
    by_name |= {each.column["name"]: f"condition {each.name}" for each in manifest.conditions if each.column}
    return [f"{name or '(no name)'}: {by_name[name]}" for name in data.order or by_name]


def _condition(condition: Condition) -> str:
    if not condition.categorical:
        return _range(condition.range)
    names = ", ".join(f'"{printable(name, 40)}"' for name in condition.classes)
    return f"{len(condition.classes)} classes: {names}"


def _range(value: Range | None) -> str:
    return "unbounded" if value is None else f"{value[0]:g} to {value[1]:g}"


def _object(value: dict[str, Any]) -> str:
    """Return a small JSON object as text: its name, then `key value` pairs."""
    rest = [f"{key} {_short(each)}" for key, each in value.items() if key != "name"]
    return ", ".join([str(value[key]) for key in ("name",) if key in value] + rest)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"({len(value)} values)"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
