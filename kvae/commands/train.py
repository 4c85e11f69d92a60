"""The command `kvae train`."""

import json
import sys
from pathlib import Path

import click

from kvae.training import config as configs
from kvae_serve.cli import options
from kvae_serve.errors import RequestError, printable


class Widths(click.ParamType):
    """Layer widths: `512,256` is (512, 256); an empty text or 0 means zero layers."""

    name = "widths"

    def convert(self, value, param, ctx):
        """Parse the text of an option."""
        if isinstance(value, tuple):
            return value
        if value.strip() in ("", "0"):
            return ()
        try:
            widths = tuple(int(part) for part in value.split(","))
        except ValueError:
            widths = (0,)
        if min(widths) < 1:
            self.fail(f"{value!r} is not a list of layer widths; expected integers such as 512,256.", param, ctx)
        return widths


class Names(click.ParamType):
    """Names: `label,age` is ("label", "age")."""

    name = "names"

    def convert(self, value, param, ctx):
        """Parse the text of an option."""
        return value if isinstance(value, tuple) else tuple(name.strip() for name in value.split(",") if name.strip())


class AutoInteger(click.ParamType):
    """Integer, or `auto`, which `kvae.training.config` converts."""

    name = "integer"

    def convert(self, value, param, ctx):
        """Parse the text of an option."""
        return value if value == "auto" else click.INT.convert(value, param, ctx)


def settings(command):
    """Declare an option for each setting of `kvae.training.config`, with its default and help."""
    for _, declared in reversed(configs.settings()):
        name, default, kind = declared.name.replace("_", "-"), declared.default, declared.type
        auto = declared.metadata["auto"]
        shown = (
            ",".join(map(str, default)) if isinstance(default, tuple) else f"{default:g}" if kind is float else default
        )
        if auto is not None and default == auto:
            shown = "auto"
        text = declared.metadata["help"] + (f"  [default: {shown}]" if shown not in ("", False) else "")
        if declared.metadata["repeated"]:
            option = click.option(
                f"--{name}", multiple=True, help=text, metavar="NAME=ARRAY", callback=lambda _, __, value: value or None
            )
        elif kind is bool:
            option = click.option(f"--{name}/--no-{name}", default=None, help=text)
        elif declared.metadata["choices"]:
            option = click.option(f"--{name}", type=click.Choice(declared.metadata["choices"]), help=text)
        else:
            flag_type = Names() if kind == configs.Names else Widths() if isinstance(default, tuple) else kind
            if auto is not None:
                flag_type = AutoInteger()
            option = click.option(f"--{name}", type=flag_type, help=text)
        command = option(command)
    return command


@click.command(
    context_settings={"allow_extra_args": True},
    epilog="Examples: kvae train --data mnist/ --conditional -o runs/mnist; kvae train --preset gated -o runs/gated; "
    "kvae train --resume runs/gated",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder of the run; with --dry-run, a columns.toml."
)
@click.option("--preset", metavar="NAME", help="Preset to start from, see kvae presets; other options override it.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="config.toml of a run to repeat; other options override it.",
)
@click.option(
    "--resume", metavar="RUN", type=click.Path(path_type=Path),
    help="Run to resume from its last checkpoint. Only --data, --epochs, --patience, --checkpoint-every and "
    "--sample-every may change.",
)  # fmt: skip
@settings
@click.option(
    "--export-check/--no-export-check", default=True,
    help="Test before training that the model can be exported.  [default: yes]",
)  # fmt: skip
@click.option(
    "--devices", metavar="N|all", default="1", callback=lambda _, __, value: _devices(value),
    help="Number of GPUs of this machine to train on; each computes a part of every batch. Without a GPU, parts of the "
    "CPU are used, for testing. For several machines see docs/distributed.md.  [default: 1]",
)  # fmt: skip
@click.option("--tensorboard", metavar="DIR", type=click.Path(path_type=Path), help="Folder for TensorBoard logs.")
@click.option(
    "--callback", "callback_names", metavar="MODULE:CLASS", multiple=True,
    help="Keras callback to add, from a module in the current folder or an installed package. May be repeated.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the data and the settings chosen for them, and stop.")
@click.option("--force", is_flag=True, help="Replace the run at --output.")
@click.option("--json", "as_json", is_flag=True, help="Print the metadata of the run as one JSON document.")
@options.quiet
def train(
    output,
    preset,
    config,
    resume,
    export_check,
    devices,
    tensorboard,
    callback_names,
    dry_run,
    force,
    as_json,
    quiet,
    **flags,
):
    """Train a VAE, beta-VAE or conditional VAE.

    The folder at --output holds the model, its configuration, checkpoints, the training history, and images of
    reconstructions and samples. Ctrl-C ends training early and saves the model. --resume continues a run that was
    interrupted by Ctrl-C, a crash or a full disk; the result is that of an uninterrupted run.
    """
    from kvae.backends import startup
    from kvae.training import cluster as clusters
    from kvae.training import custom_callbacks, defaults, run_data, run_folder

    flags = {name: value for name, value in flags.items() if value is not None}
    if extra := click.get_current_context().args:
        raise RequestError(f"Unexpected argument {printable(extra[0])}. Did you mean --data {printable(extra[0])}?")
    if dry_run:
        _refuse_beside("--dry-run", resume=resume)
        wanted = starting_point(preset, config).replace(**flags)
        dataset = run_data.read(wanted)
        wanted = wanted if preset or config else defaults.starting_config(dataset, flags)
        click.echo("\n".join(defaults.describe(dataset, defaults.default_settings(dataset, wanted), wanted)))
        if output and output.suffix == ".toml":  # Another path is the folder of the run, which is not made.
            _write_columns(output, dataset, force)
        return
    # Checked before the backend starts, which takes seconds.
    startup.require_to_train(tensorboard)
    for name in callback_names:
        custom_callbacks.check(name)
    cluster = clusters.from_environment()
    if cluster and devices != 1:
        raise RequestError(
            "--devices cannot be combined with TF_CONFIG, because each worker uses all of its GPUs. "
            "Set CUDA_VISIBLE_DEVICES to choose them."
        )
    if resume:
        _refuse_beside("--resume", output=output, preset=preset, config=config, force=force)
        wanted, facts = run_folder.open_existing(resume, flags)
        if facts["finished"]:
            _say_finished(resume, facts, as_json, quiet)
            return
        dataset = run_data.read_again(wanted, resume, facts)
    else:
        if not output:
            raise RequestError("The run needs a folder. Give -o FOLDER, or --resume RUN to continue a run.")
        wanted = starting_point(preset, config).replace(**flags)
        if not cluster or cluster.is_chief:
            run_folder.check_new(output, force)
        dataset = run_data.read(wanted)
        wanted = wanted if preset or config else defaults.starting_config(dataset, flags)
        chosen = defaults.default_settings(dataset, wanted)
        if not quiet and (not cluster or cluster.is_chief):
            click.echo("\n".join(defaults.describe(dataset, chosen, wanted)), err=True)
        wanted = chosen
    distribution = _open(cluster, devices, tensorboard, quiet, wanted.model.network)
    from kvae.training import train as training

    common = {
        "dataset": dataset,
        "callbacks": [custom_callbacks.load(name) for name in callback_names] if distribution.is_chief else (),
        "quiet": quiet,
        "tensorboard": tensorboard,
        "distribution": distribution,
    }
    if resume:
        run = training.resume(resume, **common, **flags)
    else:
        run = training.train(wanted, output, force=force, export_check=export_check, **common)
    if as_json and distribution.is_chief:
        _print_facts(run.directory, run.metadata, interrupted=run.interrupted)
    if not quiet and distribution.is_chief:
        click.echo(_closing_words(run), err=True)
    if run.interrupted:
        sys.exit(130)


def _write_columns(path, dataset, force):
    """Write the types of the columns of a table."""
    from kvae.data import column_file
    from kvae_serve.writers import atomic

    if not dataset.order:
        raise RequestError(f"{dataset.source} is not a table. -o writes the types of columns of a table; leave it out.")
    atomic.check_target(str(path), force)
    atomic.write_text(str(path), lambda file: file.write(column_file.text(dataset)), force)
    click.echo(f"Wrote {path}; edit it, and pass it with --columns {path}.", err=True)


def _devices(value):
    """Parse `--devices`; `all` gives None."""
    if value == "all":
        return None
    if not value.isdecimal() or not 1 <= int(value) <= 1024:
        raise click.BadParameter(f"{value!r} is not a number of devices; expected 1, 2, ... or all.")
    return int(value)


def _open(cluster, devices, tensorboard, quiet, network):
    """Start the backend, print its device, and return the `Distribution` to train with."""
    from kvae.backends import startup

    if cluster and not quiet:
        words = f"Worker {cluster.index} of {cluster.num_workers} ({cluster.addresses[cluster.index]})"
        rest = "waits for the other workers." if cluster.is_chief else f"joins the chief at {cluster.addresses[0]}."
        click.echo(f"{words} {rest}", err=True)
    found = []

    def prepare():
        from kvae.training import distribution

        if tensorboard:
            import tensorflow  # noqa: F401 - needed under JAX as well; its start-up log is suppressed here
        found.append(distribution.start(cluster, devices))

    device = startup.open_quietly(prepare=prepare, network=network)
    if not quiet and found[0].is_chief:
        several = f", on {found[0].num_replicas} devices" if found[0].num_replicas > 1 else ""
        click.echo(f"Training on {device}{several}.", err=True)
    return found[0]


def starting_point(preset, config):
    """Return the configuration of a preset or a file; the defaults if neither is given."""
    if preset and config:
        raise RequestError("--preset and --config both set the configuration. Give one of them.")
    if preset:
        from kvae import presets

        return presets.get(preset).config
    return configs.read(config) if config else configs.Config()


def _refuse_beside(option, **flags):
    if given := [name for name, value in flags.items() if value]:
        raise RequestError(f"--{given[0]} cannot be combined with {option}: the run has its own folder and settings.")


def _print_facts(directory, facts, **more):
    click.echo(json.dumps({"run": str(directory), "finished": facts["finished"], **more, **facts["training"]}))


def _say_finished(directory, facts, as_json, quiet):
    if as_json:
        _print_facts(directory, facts, interrupted=False)
    if not quiet:
        epochs = facts["training"]["epochs"]
        click.echo(f"{directory} is finished ({epochs:g} epochs). Give a larger --epochs to train longer.", err=True)


def _closing_words(run):
    facts = run.metadata["training"]
    words = "Stopped early; the model is saved." if run.interrupted else "Done."
    if run.stopped_early:
        words = f"Stopped early: the validation elbo no longer improves. Weights of epoch {facts['epochs']:g}."
    figures = facts["validation"] or facts["final"]
    if "elbo" in figures:
        words += f" {'Validation' if facts['validation'] else 'Training'} elbo {figures['elbo']:.2f} nats per example."
    if run.interrupted:
        after = f"after epoch {run.resumable}" if run.resumable else "at the first epoch"
        words += f"\nContinue {after}: kvae train --resume {run.directory}"
    return f"{words}\nNext: kvae export {run.directory} -o {run.directory.name}-onnx"
