"""`fit` of one run: with what watches over it, and what is written when it ends."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from kvae.exporting import graphs
from kvae.training import callbacks, checkpoint, run_folder
from kvae.training import metadata as run_facts
from kvae.training.callbacks.progress import say
from kvae_serve.errors import InputDataError, OutputError
from kvae_serve.writers import atomic, grid, png


@dataclass(frozen=True)
class Run:
    """What came of a run.

    Attributes:
        directory: where it lies.
        model: the trained model.
        facts: what the exported files will say of it, as JSON.
        interrupted: whether Ctrl-C ended it early.
        stopped_early: whether its patience ended it.
        resumable: the epoch that `resume` would go on after; None where nothing is left to do.
    """

    directory: Path
    model: keras.Model
    facts: dict
    interrupted: bool = False
    stopped_early: bool = False
    resumable: int | None = None


def fit(setup, directory, start, quiet, tensorboard):
    """Train from the checkpoint `start` (None: from the first step) to the end, and write what came of it.

    Args:
        setup: `setups.Setup`.
        directory: the folder of the run, which holds its configuration and facts.
        start: `checkpoint.Checkpoint`, or None.
        quiet: no progress.
        tensorboard: a folder for TensorBoard's figures, or None.

    Returns:
        `Run`.

    Raises:
        InputDataError: where the checkpoint is of another model.
        OutputError: where the folder cannot be written.
        VerificationError: where the loss or a weight is no finite number.
    """
    config, model, steps, distribution = setup.config, setup.model, setup.batches.steps, setup.distribution
    quiet, written = quiet or not distribution.is_chief, directory if distribution.is_chief else None
    epochs, state = config.training.epochs, start.state if start else {"epoch": 0, "history": []}
    if start:
        _restore(model, start, config, directory)
    if not quiet and not model.prior.factorises:
        say(f"kl is a Monte Carlo estimate: under the prior {model.prior.kind} it has no closed form.")
    distribution.require_same(config, setup.facts["fingerprint"], model)
    stop = callbacks.StopOnInterrupt(distribution.any if distribution.num_workers > 1 else None)
    early = None
    if config.training.patience:
        early = callbacks.StopEarly(config.training.patience, state.get("stop_early"), start and start.best())
    history = callbacks.History(written and written / run_folder.HISTORY, state["history"])
    keep = callbacks.KeepModel(written and written / run_folder.MODEL, lambda: _ship(setup))
    checkpoints = callbacks.KeepCheckpoints(
        written and checkpoint.Store(written / run_folder.CHECKPOINTS), history, early,
        seed=config.training.seed, steps=steps, epochs=epochs, every=config.training.checkpoint_every,
    )  # fmt: skip
    latents = callbacks.Latents(
        setup.measured, config.objective.warmup_epochs, say if distribution.is_chief else None,
        prefix="val_" if setup.num_validation else "",
    )  # fmt: skip
    no_number = callbacks.StopOnNaN(seconds=0.0 if distribution.num_workers > 1 else 1.0)
    watching = [setup.batches.callback, no_number, stop, latents, early, history, checkpoints, keep]
    watching += [
        None if quiet else callbacks.Progress(epochs),
        callbacks.Board(Path(tensorboard)) if tensorboard and distribution.is_chief else None,
    ]
    try:
        if not (early and early.is_over):
            model.fit(
                setup.batches.dataset,
                initial_epoch=state["epoch"],
                epochs=epochs,
                steps_per_epoch=distribution.steps_per_epoch(setup.batches),
                validation_data=setup.validation and setup.validation.dataset,
                validation_steps=setup.validation and setup.validation.steps,
                callbacks=[one for one in watching if one],
                shuffle=False,
                verbose=0,
            )
        took, row = int(model.optimizer.iterations.numpy()) / steps, history.rows[-1]
        if early:
            early.take_best(model)
            took, row = early.state["epoch"], history.rows[early.state["epoch"] - 1]
        history.write()
        keep.save()
        stopped = bool(early and early.is_over)
        finished = stopped or checkpoints.last == epochs
        facts = run_facts.ended(
            setup.facts, model, row=row, epochs=took, num_validation=setup.num_validation, finished=finished
        )
        if written:
            _write_pictures(written, setup.shipped, *setup.shown)
            run_folder.write(written, facts=facts)
        distribution.any(False)  # nobody leaves before the chief has written
    except OutputError as error:
        go_on = f"go on with kvae train --resume {directory}"
        raise OutputError(f"{error} What was saved before is kept: make room, then {go_on}.") from error
    finally:
        stop.restore()
    interrupted = stop.interrupted and not finished
    return Run(directory, setup.shipped, facts, interrupted, stopped, None if finished else checkpoints.last)


def _restore(model, start, config, directory):
    try:
        if start.state["seed"] != config.training.seed:
            raise ValueError(f"its seed is {start.state['seed']}")
        checkpoint.restore(model, start)
    except (KeyError, ValueError) as error:
        raise InputDataError(f"{directory}: its checkpoint is of another model ({error}); start a new run.") from None


def _ship(setup):
    """The model to save, with the weights and the optimiser's state of the one that trains."""
    if setup.shipped is not setup.model:
        checkpoint.restore(setup.shipped, checkpoint.Checkpoint({}, checkpoint.capture(setup.model)))
    return setup.shipped


def _write_pictures(directory, model, x, given):
    if (samples := graphs.preview(model)) is None:
        return
    atomic.write_whole(directory / run_folder.SAMPLES, samples, force=True)
    x, columns = np.asarray(x[:20], "float32"), 10
    given = given and {name: values[:20] for name, values in given.items()}
    reconstructed = keras.ops.convert_to_numpy(model((x, given) if given else (x,)))
    # Rows in pairs: originals, and what the model makes of them below.
    pairs = [(x[i : i + columns], reconstructed[i : i + columns]) for i in range(0, len(x), columns)]
    picture = grid.grid(np.concatenate([row for pair in pairs for row in pair]), min(columns, len(x)), model.data.range)
    atomic.write_whole(directory / run_folder.RECONSTRUCTIONS, png.encode(picture), force=True)
