"""`kvae export`: from a run to a folder of sealed ONNX files."""

import json
import shlex
from pathlib import Path

import click


@click.command(epilog="Example: kvae export runs/mnist -o mnist-onnx")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@click.option("--name", help="Name of the model.  [default: the folder's]")
@click.option(
    "--weights",
    type=click.Choice(["float32", "float16", "int8"]),
    default="float32",
    show_default=True,
    help="How the files store the weights.",
)
@click.option("--force", is_flag=True, help="Replace the folder at --output.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
def export(run, output, name, weights, force, as_json, quiet):
    """Export the model of RUN (the folder that `kvae train` wrote) to ONNX.

    Every file is first run in ONNX Runtime and compared with Keras; where they disagree there is an error, and no file.
    """
    from kvae import engine, runs
    from serve_cli import files

    engine.require()
    files.refuse_existing(output, force)
    runs.require(run)

    engine.open_quietly()
    from kvae import training

    model, facts = training.load(run)
    recipe = {runs.CONFIG: (run / runs.CONFIG).read_bytes()}
    paths = model.export(
        output,
        name=name,
        training=facts["training"],
        examples=runs.examples(run),
        extras=recipe,
        force=force,
        weights=weights,
    )
    sizes = {Path(path).name: Path(path).stat().st_size for path in paths}
    if as_json:
        click.echo(json.dumps({"output": str(output), "files": sizes}))
    if not quiet:
        for file, size in sizes.items():
            click.echo(f"{output / file}  {size:,} bytes", err=True)
        click.echo(f"Next: kvae sample -m {output}{_asked(facts['conditions'])}", err=True)


def _asked(conditions):
    """Flags that ask for a value of each condition, as an example."""
    words = ""
    for facts in conditions:
        name, classes = facts["name"], facts.get("classes")
        value = classes[-1] if classes else f"{sum(facts['range']) / 2:.4g}"
        words += (
            f" --label {shlex.quote(value)}" if name == "label" else f" --condition {shlex.quote(f'{name}={value}')}"
        )
    return words
