"""`kvae train`: from data to a run that `kvae export` understands."""

import json
import sys
from pathlib import Path

import click


def _widths(ctx, parameter, value):
    """Read `512,256` as (512, 256)."""
    if value is None:
        return None
    try:
        widths = tuple(int(part) for part in value.split(",") if part.strip())
    except ValueError:
        widths = ()
    if any(width < 1 for width in widths) or (not widths and value.strip() not in ("", "0")):
        raise click.BadParameter(f"{value!r} is no list of widths such as 512,256.")
    return widths


@click.command(epilog="Example: kvae train --data mnist/ --conditional --epochs 30 -o runs/mnist")
@click.option(
    "--data", help="File or folder (MNIST's four IDX files, .npz, .npy), or mnist or fashion_mnist to download."
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="config.toml of a run, to do it again; other flags override."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option(
    "--conditional/--unconditional", default=None, help="Give the model the labels.  [default: unconditional]"
)
@click.option("--network", type=click.Choice(["dense", "conv"]), help="Kind of both networks.  [default: dense]")
@click.option("--latent-dim", type=click.IntRange(min=1), help="Size of z.  [default: 16]")
@click.option("--encoder-hidden", callback=_widths, help="Widths of the encoder's dense layers.  [default: 512,256]")
@click.option("--decoder-hidden", callback=_widths, help="Widths of the decoder's dense layers.  [default: 256,512]")
@click.option("--encoder-filters", callback=_widths, help="Channels of the encoder's convolutions.  [default: 32,64]")
@click.option("--decoder-filters", callback=_widths, help="Channels of the decoder's feature maps.  [default: 64,32]")
@click.option("--activation", help="Of the hidden layers.  [default: relu]")
@click.option("--gated/--no-gated", default=None, help="Gated dense layers in place of the activation.")
@click.option(
    "--binarize", type=click.Choice(["dynamic", "none"]), help="Draw pixels anew each time, or take them as they are."
)
@click.option("--beta", type=float, help="Weight of the kl; 1 is a plain VAE.  [default: 1]")
@click.option("--initial-beta", type=float, help="beta at the start of its warm-up.  [default: 0]")
@click.option(
    "--warmup-epochs", type=float, help="Epochs in which beta goes from --initial-beta to --beta.  [default: 0]"
)
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training data.  [default: 30]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Examples a step.  [default: 128]")
@click.option("--learning-rate", type=float, help="Of Adam, at the start.  [default: 0.001]")
@click.option(
    "--learning-rate-schedule", type=click.Choice(["constant", "cosine", "exponential"]), help="[default: cosine]"
)
@click.option("--final-learning-rate", type=float, help="Where the schedule ends.  [default: 0.00001]")
@click.option(
    "--validation", type=click.IntRange(min=0), help="Training examples held out for validation.  [default: 5000]"
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="The same seed trains the same model.  [default: 0]")
@click.option("--force", is_flag=True, help="Replace the run at --output.")
@click.option("--json", "as_json", is_flag=True, help="Print the run's facts as one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def train(output, config, force, as_json, quiet, **settings):
    """Train a VAE, beta-VAE or conditional VAE.

    The folder at --output then holds the model, its configuration, the history of its figures, and pictures of
    reconstructions and samples. Ctrl-C ends training early and keeps what was learned.
    """
    from kvae import config as configs
    from kvae import runs

    # Asked before TensorFlow is opened: a wrong flag should not take ten seconds.
    wanted = configs.read(config) if config else configs.Config()
    wanted = wanted.replace(**{name: value for name, value in settings.items() if value is not None})

    runs.refuse(output, force)
    dataset = runs.read_data(wanted)
    from kvae import engine

    device = engine.open_quietly()
    if not quiet:
        click.echo(f"Training on {device}.", err=True)
    from kvae import training

    run = training.train(wanted, output, dataset=dataset, force=force, quiet=quiet)
    if as_json:
        click.echo(json.dumps({"run": str(run.directory), "interrupted": run.interrupted, **run.facts["training"]}))
    if not quiet:
        figures = run.facts["training"]["validation"] or run.facts["training"]["final"]
        words = "Stopped early; what was learned is saved." if run.interrupted else "Done."
        where = "validation" if run.facts["training"]["validation"] else "training"
        if "elbo" in figures:
            words += f" {where.capitalize()} elbo {figures['elbo']:.2f} nats an example."
        click.echo(f"{words}\nNext: kvae export {run.directory} -o {run.directory.name}-onnx", err=True)
    if run.interrupted:
        sys.exit(130)
