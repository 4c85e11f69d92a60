"""`kvae train`: from data to a run that `kvae export` understands."""

import json
import sys
from pathlib import Path

import click

from kvae import config as configs


class Widths(click.ParamType):
    """`512,256` as (512, 256); nothing, or 0, as no layer."""

    name = "widths"

    def convert(self, value, param, ctx):
        """Read the text of a flag."""
        if isinstance(value, tuple):
            return value
        if value.strip() in ("", "0"):
            return ()
        try:
            widths = tuple(int(part) for part in value.split(","))
        except ValueError:
            widths = (0,)
        if min(widths) < 1:
            self.fail(f"{value!r} is no list of widths such as 512,256.", param, ctx)
        return widths


def settings(command):
    """Decorator: a flag for each setting of `kvae.config`, with its default and help."""
    for _, declared in reversed(configs.settings()):
        name, default, kind = declared.name.replace("_", "-"), declared.default, declared.type
        shown = (
            ",".join(map(str, default)) if isinstance(default, tuple) else f"{default:g}" if kind is float else default
        )
        text = declared.metadata["help"] + (f"  [default: {shown}]" if shown not in ("", False) else "")
        if kind is bool:
            option = click.option(f"--{name}/--no-{name}", default=None, help=text)
        elif declared.metadata["choices"]:
            option = click.option(f"--{name}", type=click.Choice(declared.metadata["choices"]), help=text)
        else:
            flag_type = Widths() if isinstance(default, tuple) else kind
            option = click.option(f"--{name}", type=flag_type, help=text)
        command = option(command)
    return command


@click.command(epilog="Example: kvae train --data mnist/ --conditional --epochs 30 -o runs/mnist")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="config.toml of a run, to do it again; other flags override."
)
@settings
@click.option("--force", is_flag=True, help="Replace the run at --output.")
@click.option("--json", "as_json", is_flag=True, help="Print the run's facts as one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def train(output, config, force, as_json, quiet, **flags):
    """Train a VAE, beta-VAE or conditional VAE.

    The folder at --output then holds the model, its configuration, the history of its figures, and pictures of
    reconstructions and samples. Ctrl-C ends training early and keeps what was learned.
    """
    from kvae import engine, runs

    # Asked before TensorFlow is opened: a wrong flag should not take ten seconds.
    engine.require()
    wanted = configs.read(config) if config else configs.Config()
    wanted = wanted.replace(**{name: value for name, value in flags.items() if value is not None})
    runs.refuse(output, force)
    dataset = runs.read_data(wanted)
    device = engine.open_quietly()
    if not quiet:
        click.echo(f"Training on {device}.", err=True)
    from kvae import training

    run = training.train(wanted, output, dataset=dataset, force=force, quiet=quiet)
    if as_json:
        click.echo(json.dumps({"run": str(run.directory), "interrupted": run.interrupted, **run.facts["training"]}))
    if not quiet:
        click.echo(_closing_words(run), err=True)
    if run.interrupted:
        sys.exit(130)


def _closing_words(run):
    facts = run.facts["training"]
    words = "Stopped early; what was learned is saved." if run.interrupted else "Done."
    figures = facts["validation"] or facts["final"]
    if "elbo" in figures:
        words += f" {'Validation' if facts['validation'] else 'Training'} elbo {figures['elbo']:.2f} nats an example."
    return f"{words}\nNext: kvae export {run.directory} -o {run.directory.name}-onnx"
