"""The command `kvae tune`."""

import sys
from pathlib import Path

import click

from kvae.commands.train import settings, starting_point
from kvae_serve.cli import completers, options

_METRICS = ("val_elbo", "val_nll", "val_reconstruction", "val_mig")


def _setting(ctx, param, incomplete):
    """Complete the key of a setting, after the last comma."""
    from kvae.tuning.space import tunable

    done, _, last = incomplete.rpartition(",")
    start = f"{done}," if done else ""
    return [f"{start}{key}=" for key in tunable() if key.startswith(last)]


@click.command(
    epilog="Examples: kvae tune --data mnist-sample --trials 20 -o study; "
    "kvae tune --data sprites.npz --grid objective.beta=1,2,4,8,16 --seeds 5 -o beta"
)
@click.option(
    "-o", "--output", metavar="STUDY", required=True, type=click.Path(path_type=Path),
    help="Folder of the study. If it contains one, the study continues.", shell_complete=completers.path,
)  # fmt: skip
@click.option("--trials", type=options.MIN_1, metavar="N", help="Number of configurations to try.  [default: 30]")
@click.option(
    "--space", metavar="KEY=RANGE,...", shell_complete=_setting,
    help="Settings to search: KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=A|B, such as "
    "model.latent_dim=2:64,model.activation=relu|silu.  [default: ranges around the defaults of the data]",
)  # fmt: skip
@click.option(
    "--grid", metavar="KEY=VALUES,...", shell_complete=_setting,
    help="Settings of which every combination is trained, such as objective.beta=1,2,4,8,16.",
)  # fmt: skip
@click.option(
    "--metric", type=click.Choice(_METRICS), default="val_elbo", show_default=True,
    help="Metric on validation data that decides. val_mig needs data with factors.",
)  # fmt: skip
@click.option(
    "--seeds", type=options.MIN_1, default=1, show_default=True, metavar="N",
    help="Number of runs per configuration, with the seeds --seed, --seed + 1, and so on. Their median counts.",
)  # fmt: skip
@click.option(
    "--storage", metavar="URL|FILE", shell_complete=completers.path,
    help="Optuna storage that several machines share: a database such as postgresql://HOST/NAME or "
    "sqlite:///study.db, or a journal file.  [default: a journal in STUDY]",
)  # fmt: skip
@click.option(
    "--factors", metavar="ARRAY",
    help="Array of an .npz with the factors that generated the data.  [default: z of kvae sprites]",
)  # fmt: skip
@click.option("--preset", metavar="NAME", help="Preset to start from, see kvae presets; other options override it.")
@click.option("--config", type=click.Path(path_type=Path), help="config.toml to start from; other options override it.")
@click.option(
    "--resume", is_flag=True, help="Require that STUDY exists. An interrupted study continues without this option too."
)
@settings
@options.as_json
@options.quiet
def tune(output, trials, space, grid, metric, seeds, storage, factors, preset, config, resume, as_json, quiet, **flags):
    """Choose settings by many training runs, compared on validation data.

    A search (--space) draws settings with Optuna and stops bad trials early. A grid (--grid) trains every combination
    with every seed. STUDY gets the runs, the best configuration as best.toml for `kvae train --config`, a table
    (runs.csv) and a report (report.html).

    Rerun the same command to continue a study that was interrupted, or in several terminals to share its trials.
    """
    from kvae.backends import startup
    from kvae.tuning import study
    from kvae_serve.errors import InputDataError

    flags = {name: value for name, value in flags.items() if value is not None}
    if resume and not (output / "study.json").is_file():
        raise InputDataError(f"{output} does not contain a study to resume. Leave out --resume to start one.")
    request = study.prepare(
        output, starting_point(preset, config) if preset or config else None, flags,
        trials=trials, space=space, grid=grid, metric=metric, seeds=seeds, storage_url=storage, factors=factors,
    )  # fmt: skip
    if not quiet:
        for line in study.describe(request):
            click.echo(line, err=True)
    device = startup.open_quietly(network=request.plan.base.model.network)
    if not quiet:
        click.echo(f"Training on {device}.", err=True)
    done = study.run(request, quiet=quiet)
    if as_json:
        options.echo_json(
            {"study": str(done.directory), "best": done.best, "trials": done.counts, "interrupted": done.interrupted}
        )
    if not quiet:
        click.echo(study.summary(done, request), err=True)
    if done.interrupted:
        sys.exit(130)
