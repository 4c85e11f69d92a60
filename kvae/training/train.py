"""One run of training, from a configuration to a folder that `kvae export` understands, through every interruption."""

import math
from pathlib import Path
from zipfile import BadZipFile

from kvae.training import checkpoint, factory, run_folder
from kvae.training import setup as setups
from kvae.training.callbacks.progress import say
from kvae.training.distribution import Distribution
from kvae.training.loop import Run, fit
from kvae_serve.errors import InputDataError, RequestError

__all__ = ["Run", "load", "resume", "train"]


def train(
    config, directory, *, dataset=None, force=False, quiet=False, export_check=True, tensorboard=None, distribution=None
):
    """Train the model that `config` describes and write the run.

    Args:
        config: `kvae.training.config.Config`.
        directory: the folder to write.
        dataset: what `runs.read_data(config)` returned, where it is at hand.
        force: replace the run that `directory` holds.
        quiet: no progress.
        export_check: first export the untrained model to a temporary folder, a matter of seconds, so that nobody
            trains for an hour what cannot ship.
        tensorboard: a folder for TensorBoard's figures, or None.
        distribution: `Distribution` over several devices or workers, of which the chief alone writes `directory`.

    Returns:
        `Run`.

    Raises:
        InputDataError: where the data are missing or bad. Nothing is written then, nor by a failed export check.
        OutputError: where `directory` exists, holds what is not a run's, or cannot be written.
        RequestError: where a layer of the model has no ONNX form.
        VerificationError: where the loss becomes NaN; the checkpoints and the model saved before are kept.
    """
    directory, distribution = Path(directory), distribution or Distribution()
    if distribution.is_chief:
        run_folder.refuse(directory, force)
    dataset = dataset or run_folder.read_data(config)
    config = run_folder.settled(config, len(dataset.x))
    with distribution.watching():
        setup = setups.set_up(config, dataset, distribution)
        _start_from(setup.model, config.training.weights_from)
    if export_check and distribution.is_chief:
        setups.check_export(setup, quiet)
    with distribution.watching(directory), distribution.held(directory):
        if distribution.is_chief:
            run_folder.clear(directory)
            run_folder.write(directory, config, setup.facts)
        return fit(setup, directory, None, quiet, tensorboard)


def resume(directory, *, dataset=None, quiet=False, tensorboard=None, distribution=None, **changes):
    """Go on with a run after its last whole checkpoint, to where it would have come without the interruption.

    Args:
        directory: the folder of the run.
        dataset: what `runs.read_data` returned, where it is at hand.
        quiet: no progress.
        tensorboard: a folder for TensorBoard's figures, or None.
        distribution: as for `train`; another than before is another path to the same goal.
        **changes: settings of `runs.RESUMABLE` to change.

    Returns:
        `Run`.

    Raises:
        InputDataError: where the folder is no run, its checkpoints are damaged, or its data are no longer the same.
        RequestError: where a change would make it another run.
        OutputError, VerificationError: as for `train`.
    """
    directory, distribution = Path(directory), distribution or Distribution()
    config, facts = run_folder.reopen(directory, changes)
    if facts["finished"]:
        return Run(directory, load(directory)[0], facts)
    with distribution.watching(directory), distribution.held(directory):
        if distribution.is_chief:
            run_folder.tidy(directory)
        dataset = dataset or run_folder.read_data(config)
        run_folder.require_same_data(directory, facts, dataset)
        start, damaged = checkpoint.Store(directory / run_folder.CHECKPOINTS).latest()
        for line in damaged if distribution.is_chief else ():
            say(f"Warning: {line}; " + ("going on from the one before." if start else "no other is left."))
        if damaged and not start:
            raise InputDataError(f"{directory} has no whole checkpoint; do it again from its {run_folder.CONFIG}.")
        done = start.state["epoch"] if start else 0
        if config.training.epochs < done:
            raise RequestError(f"{directory} has {done} epochs behind it; give --epochs at least that.")
        setup = setups.set_up(config, dataset, distribution)
        if start is None:
            _start_from(setup.model, config.training.weights_from)
        if distribution.is_chief:
            run_folder.write(directory, config, setup.facts)
        if not quiet:
            say(f"Going on after epoch {done} of {config.training.epochs}." if done else "Starting at the first epoch.")
        return fit(setup, directory, start, quiet, tensorboard)


def load(directory):
    """Rebuild a run's model in code and load its weights, and nothing else, from its file.

    Args:
        directory: the folder that `kvae train` wrote. Where the run was cut off before its first model was saved, the
            weights are those of the last checkpoint.

    Returns:
        The pair (model, facts).

    Raises:
        InputDataError: where the folder is no run, or its files do not belong together.
    """
    directory = Path(directory)
    run_folder.require(directory)
    config, facts = run_folder.read(directory)
    try:
        spec, examples = factory.spec_from(facts["data"]), facts["training"]["examples"]
        model = factory.model(config, spec, facts["conditions"], facts["steps_per_epoch"], num_examples=examples)
        if (directory / run_folder.MODEL).is_file():
            model.load_weights(directory / run_folder.MODEL)
        else:
            last, damaged = checkpoint.Store(directory / run_folder.CHECKPOINTS).latest()
            if last is None:
                raise ValueError(damaged[0])
            checkpoint.restore_weights(model, last)
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, BadZipFile, RequestError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputDataError(f"{directory}: its files do not make a model ({reason}); train it again.") from error
    return model, facts


def _start_from(model, directory):
    """Give a model the weights of another run, where one is named; its optimiser starts anew."""
    if not directory:
        return
    other = load(directory)[0]
    shapes, found = ([tuple(weight.shape) for weight in each.weights] for each in (model, other))
    if shapes != found:
        raise InputDataError(
            f"{directory} has another network: {len(found)} weights, {sum(map(math.prod, found)):,} numbers, expected "
            f"{len(shapes)} and {sum(map(math.prod, shapes)):,}. Give this run its network, likelihood and prior."
        )
    model.set_weights(other.get_weights())
