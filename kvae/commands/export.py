"""The command `kvae export`."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from kvae.commands import export_prior
from kvae_serve.cli import options


@click.command(epilog="Example: kvae export runs/mnist -o mnist-onnx")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to create.")
@click.option(
    "--triton",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Model repository of a Triton server to add the model to; created if missing.",
)
@click.option("--name", help="Name of the model.  [default: the name of the folder]")
@click.option(
    "--weights",
    type=click.Choice(["float32", "float16", "int8"]),
    default="float32",
    show_default=True,
    help="Data type of the weights in the files.",
)
@export_prior.prior_args()
@click.option("--force", is_flag=True, help="Replace the output folder if it exists.")
@options.as_json
@options.quiet
def export(
    run: Path,
    output: Path | None,
    triton: Path | None,
    name: str | None,
    weights: str,
    fitted: export_prior.PriorArgs,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Export the model of RUN to ONNX. RUN is the folder that `kvae train` wrote, or a .keras file of a kvae model.

    Every file is run in ONNX Runtime and compared with Keras first. If they disagree, the command fails and writes
    nothing.

    float16 and int8 store the weights in half and about a quarter of the bytes. The weights become float32 when a file
    is opened, so the speed does not change. A table shows the effect on the results; if the files would not become
    smaller, the command fails.

    --prior fits a Gaussian mixture to draws of z of the training data, so that samples resemble the data more. Encoder
    and decoder do not change. The elbo and the nll are printed with both priors; if the nll becomes worse, the command
    fails.

    RUN may also be an exported model (a folder, an .onnx file or a shipped name). --triton does not need TensorFlow
    then. With --data, an exported model is exported again without its run: the same weights, with the graphs of this
    version and the thresholds of kvae score.
    """
    from kvae.training import run_folder
    from kvae_serve.errors import RequestError
    from kvae_serve.writers import atomic

    if output is None and triton is None:
        raise RequestError("The files need a folder. Give -o FOLDER, or --triton DIR for a Triton server.")
    is_exported = run_folder.is_exported(run)
    fitted.check(is_exported, not is_exported and run.suffix != run_folder.KERAS, output)
    if is_exported and (triton is not None or fitted.prior) and weights != "float32":
        raise RequestError(f"{run} is an exported model, whose weights do not change. Leave out --weights.")
    if is_exported and triton is not None and fitted.prior is None:
        if output is not None:
            raise RequestError(f"{run} is an exported model, which --triton does not copy. Leave out -o.")
        _report(_to_triton(run, triton, name, force), triton, as_json, quiet)
        return
    from kvae.backends import startup

    startup.require()
    if is_exported and fitted.prior is None and fitted.data is None:
        raise RequestError(f"{run} is an exported model. Give --data DATA, its training data, to export it again.")
    if not is_exported:
        _require_run(run)
    model_name = name or (output or run).resolve().name
    if triton is not None:
        from kvae_export import triton as repository

        repository.check_target(triton, model_name, force)
    if output is None:
        assert triton is not None
        with tempfile.TemporaryDirectory() as folder:
            _export(run, Path(folder) / "model", model_name, weights, False, quiet)
            _report(_to_triton(Path(folder) / "model", triton, None, force), triton, as_json, quiet)
        return
    atomic.check_target(output, force)
    document: dict[str, Any] = {"output": str(output)}
    prior_lines: list[str] = []
    if fitted.prior is None:
        paths, conditions, table = _export(run, output, name, weights, force, quiet, fitted.data)
    else:
        with tempfile.TemporaryDirectory() as folder:
            source, table = run, []
            if not is_exported:
                source = Path(folder) / "model"
                _, _, table = _export(run, source, model_name, weights, False, quiet)
            result, samples = fitted.fit(
                str(source), run if (run / run_folder.METADATA).is_file() else None, output, model_name, force, quiet
            )
        paths, conditions = result.paths, result.conditions
        document["prior"] = {**result.about, **result.metrics, "samples": samples}
        prior_lines = export_prior.lines(result, samples)
    sizes = {Path(path).name: Path(path).stat().st_size for path in paths}
    if as_json:
        rows = [dict(zip(table[0], row, strict=True)) for row in table[1:]]
        click.echo(json.dumps({**document, "files": sizes, "weights": rows}))
    if not quiet:
        from kvae_export import weight_costs

        for file, size in sizes.items():
            click.echo(f"{output / file}  {size:,} bytes", err=True)
        if table:
            click.echo(f"\n{weight_costs.aligned(table)}\n", err=True)
        if prior_lines:
            click.echo("\n".join(["", *prior_lines, ""]), err=True)
        click.echo(f"Next: kvae sample -m {output}{_example_conditions(conditions)}", err=True)
    if triton is not None:
        _report(_to_triton(output, triton, name, force), triton, False, quiet)


def _require_run(run: Path) -> None:
    """Raise `InputDataError` unless `run` is a run folder or a .keras file."""
    from kvae.training import run_folder

    if run.suffix != run_folder.KERAS:
        run_folder.require_run(run)


def _export(run, output, name, weights, force, quiet, data=None):
    """Export a run, a .keras file or an exported model; return paths, conditions, and the table of weight costs."""
    from kvae.backends import startup
    from kvae.training import run_data, run_folder

    startup.open_quietly("tensorflow")
    from kvae.models.vae import load_model
    from kvae.training import exported_model, saved_run
    from kvae_serve.model import load

    measured: list = []
    shared = {"name": name, "force": force, "weights": weights, "measured": measured}
    if run.suffix == run_folder.KERAS:
        model = load_model(run)
        paths = model.export(output, **shared)
        return paths, [condition.manifest() for condition in getattr(model, "conditions", ())], measured
    folder = run
    if run_folder.is_exported(run):
        exported = load(run)
        folder = Path(exported.path)
        model, *splits = exported_model.load(exported, data)
        facts = {"training": exported.manifest.training, "conditions": exported.manifest.to_dict()["conditions"]}
        # Its weights are rounded already.
        shared |= {"weights": exported.manifest.raw.get("weights", "float32") if weights == "float32" else weights}
        shared |= {"measured": None, "name": name or exported.manifest.name}
    else:
        model, facts = saved_run.load(run)
        splits = [*run_data.splits(run)]
    trained_on, held_out = splits
    if trained_on is None and not quiet:
        click.echo(
            f"{run}: the training data is missing, so the files do not contain thresholds for kvae score.",
            err=True,
        )
    # The configuration and history of the run; `kvae evaluate -o REPORT.html` draws the curves.
    recipe = {
        name: (folder / name).read_bytes()
        for name in (run_folder.CONFIG, run_folder.HISTORY)
        if (folder / name).is_file()
    }
    paths = model.export(
        output,
        training=facts["training"],
        examples=None if trained_on is None else trained_on[0][:64],
        extras=recipe,
        trained_on=trained_on,
        held_out=held_out,
        **shared,
    )
    return paths, facts["conditions"], measured


def _to_triton(path: Path, directory: Path, name: str | None, force: bool) -> list[Path]:
    from kvae_export import triton
    from kvae_serve.model import load

    return triton.write(load(path), directory, name=name, force=force)


def _report(paths: Sequence[Path], directory: Path, as_json: bool, quiet: bool) -> None:
    """Report the files of a model repository."""
    if as_json:
        sizes = {path.relative_to(directory).as_posix(): path.stat().st_size for path in paths}
        click.echo(json.dumps({"output": str(directory), "files": sizes}))
    if not quiet:
        for path in paths:
            click.echo(f"{path}  {path.stat().st_size:,} bytes", err=True)
        click.echo(f"Next: tritonserver --model-repository {shlex.quote(str(directory.absolute()))}", err=True)


def _example_conditions(conditions: Sequence[dict[str, Any]]) -> str:
    """Return example options with a value for each condition."""
    words = ""
    for facts in conditions:
        name, classes = facts["name"], facts.get("classes")
        value = classes[-1] if classes else f"{sum(facts['range']) / 2:.4g}"
        words += (
            f" --label {shlex.quote(value)}" if name == "label" else f" --condition {shlex.quote(f'{name}={value}')}"
        )
    return words
