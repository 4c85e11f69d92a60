"""One run of training, from a configuration to a folder that `kvae export` understands, through every interruption."""

import contextlib
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np

from kvae import backends, build, callbacks, checkpoint, graphs, runs
from kvae import export_check as exportable
from kvae import facts as run_facts
from kvae.callbacks.progress import say
from kvae.data import disk, pipeline
from kvae.distribution import Distribution
from serve_cli import files, grid, png
from serve_cli.errors import InputDataError, OutputError, RequestError, VerificationError

_VALIDATION_BATCH = 500
_MEASURED = 5000


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


def train(
    config, directory, *, dataset=None, force=False, quiet=False, export_check=True, tensorboard=None, distribution=None
):
    """Train the model that `config` describes and write the run.

    Args:
        config: `kvae.config.Config`.
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
        runs.refuse(directory, force)
    dataset = dataset or runs.read_data(config)
    config = runs.settled(config, len(dataset.x))
    with distribution.watching():
        setup = _set_up(config, dataset, distribution)
        _start_from(setup.model, config.training.weights_from)
    if export_check and distribution.is_chief:
        _check_export(setup, quiet)
    with distribution.watching(directory), distribution.held(directory):
        if distribution.is_chief:
            runs.clear(directory)
            runs.write(directory, config, setup.facts)
        return _fit(setup, directory, None, quiet, tensorboard)


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
    config, facts = runs.reopen(directory, changes)
    if facts["finished"]:
        return Run(directory, load(directory)[0], facts)
    with distribution.watching(directory), distribution.held(directory):
        if distribution.is_chief:
            runs.tidy(directory)
        dataset = dataset or runs.read_data(config)
        runs.require_same_data(directory, facts, dataset)
        start, damaged = checkpoint.Store(directory / runs.CHECKPOINTS).latest()
        for line in damaged if distribution.is_chief else ():
            say(f"Warning: {line}; " + ("going on from the one before." if start else "no other is left."))
        if damaged and not start:
            raise InputDataError(f"{directory} has no whole checkpoint; do it again from its {runs.CONFIG}.")
        done = start.state["epoch"] if start else 0
        if config.training.epochs < done:
            raise RequestError(f"{directory} has {done} epochs behind it; give --epochs at least that.")
        setup = _set_up(config, dataset, distribution)
        if start is None:
            _start_from(setup.model, config.training.weights_from)
        if distribution.is_chief:
            runs.write(directory, config, setup.facts)
        if not quiet:
            say(f"Going on after epoch {done} of {config.training.epochs}." if done else "Starting at the first epoch.")
        return _fit(setup, directory, start, quiet, tensorboard)


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
    runs.require(directory)
    config, facts = runs.read(directory)
    try:
        spec, examples = build.spec_from(facts["data"]), facts["training"]["examples"]
        model = build.model(config, spec, facts["conditions"], facts["steps_per_epoch"], num_examples=examples)
        if (directory / runs.MODEL).is_file():
            model.load_weights(directory / runs.MODEL)
        else:
            last, damaged = checkpoint.Store(directory / runs.CHECKPOINTS).latest()
            if last is None:
                raise ValueError(damaged[0])
            checkpoint.restore_weights(model, last)
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, BadZipFile, RequestError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputDataError(f"{directory}: its files do not make a model ({reason}); train it again.") from error
    return model, facts


@dataclass(frozen=True)
class _Setup:
    """What a run is made of: the same for its beginning and for every resumption."""

    config: Any
    distribution: Distribution
    model: keras.Model
    #: The model that is saved and exported: the one that trains, or its twin in float32 on one device.
    shipped: keras.Model
    batches: pipeline.Batches
    validation: Any
    num_validation: int
    #: Batches that tell which dimensions of z are in use: of the validation data where there are any.
    measured: Any
    facts: dict
    #: A few examples and their labels for pictures and the export check.
    shown: tuple


def _set_up(config, dataset, distribution):
    distribution.require_even(config.training.batch_size)
    train_rows, validation_rows = pipeline.hold_out(len(dataset.x), config.data.validation, config.training.seed)
    spec, conditions = _spec(config, dataset, train_rows), build.conditions_of(dataset, train_rows)

    def rows_of(rows):
        given = {name: values[rows] for name, values in dataset.conditions.items()}
        return disk.take(dataset.x, rows), given or None

    def in_order(rows):
        x, given = rows_of(rows)
        return distribution.validation_batches(x, given, _VALIDATION_BATCH)

    _seed(config)
    x, given = rows_of(train_rows) if len(validation_rows) else (dataset.x, dataset.conditions or None)
    batches = distribution.training_batches(x, given, config.training.batch_size, config.training.seed)
    mean = spec.unit_mean(disk.some(x, _MEASURED))
    pseudo_inputs = None
    if config.model.prior == "vamp":
        pseudo_inputs = _pseudo_inputs(spec, x, given, config.model.prior_components)

    def compiled():
        model = build.model(config, spec, conditions, batches.steps, mean, len(x), pseudo_inputs)
        model.compile(build.optimizer(config, batches.steps), steps_per_execution=config.training.steps_per_execution)
        model.optimizer.build(model.trainable_variables)  # in the scope of the strategy, if there is one
        return model

    with distribution.scope(), _bfloat16() if config.training.mixed_precision else contextlib.nullcontext():
        model = compiled()
    shipped = compiled() if config.training.mixed_precision or distribution.strategy else model
    _check_likelihood(shipped, dataset.x, dataset.source)
    validation = None
    if len(validation_rows):
        validation = in_order(validation_rows)
    some = train_rows[:: max(1, len(train_rows) // _MEASURED)]
    measured = validation or in_order(some)
    facts = run_facts.begun(
        config, dataset, shipped, conditions=conditions, examples=len(x), steps_per_epoch=batches.steps
    )
    if distribution.num_replicas > 1:
        facts["devices"] = distribution.num_replicas
    shown = (validation_rows if len(validation_rows) else train_rows)[:64]
    shown = (dataset.x[shown], rows_of(shown)[1])
    return _Setup(
        config, distribution, model, shipped, batches, validation, len(validation_rows), measured, facts, shown
    )


def _pseudo_inputs(spec, x, given, num):
    """Examples for a VampPrior to start at, in unit data, and their conditions.

    They are evenly spaced, for data often lie class by class.
    """
    if num > len(x):
        raise InputDataError(
            f"The prior vamp starts at {num} examples, there are {len(x)}; give --prior-components {max(2, len(x))}."
        )
    rows = np.linspace(0, len(x) - 1, num).astype(int)
    return spec.unit_array(x[rows]), {name: values[rows] for name, values in (given or {}).items()}


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


def _seed(config):
    keras.utils.set_random_seed(config.training.seed)
    backends.settle(config.training.deterministic)


@contextlib.contextmanager
def _bfloat16():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _spec(config, dataset, rows):
    spec = build.spec_of(dataset, config.model.likelihood, rows)
    try:
        spec.check(dataset.x, str(dataset.source))
    except ValueError as error:
        raise InputDataError(str(error)) from None
    return spec


def _check_likelihood(model, x, source):
    try:
        model.likelihood.check(x, model.data, str(source))
    except ValueError as error:
        raise InputDataError(str(error)) from None


def _check_export(setup, quiet):
    live = sys.stderr.isatty() and not quiet
    if live:
        sys.stderr.write("Checking that the model can be exported ...")
        sys.stderr.flush()
    try:
        warn = (lambda line: None) if quiet else say
        exportable.check(setup.shipped, setup.config, setup.facts, setup.shown[0], warn)
    except (RequestError, VerificationError) as error:
        raise type(error)(f"{error} Nothing was trained; --no-export-check trains it all the same.") from error
    finally:
        if live:
            sys.stderr.write("\r\x1b[K")


def _fit(setup, directory, start, quiet, tensorboard):
    """Train from the checkpoint `start` (None: from the first step) to the end, and write what came of it."""
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
    history = callbacks.History(written and written / runs.HISTORY, state["history"])
    keep = callbacks.KeepModel(written and written / runs.MODEL, lambda: _ship(setup))
    checkpoints = callbacks.KeepCheckpoints(
        written and checkpoint.Store(written / runs.CHECKPOINTS), history, early,
        seed=config.training.seed, steps=steps, epochs=epochs, every=config.training.checkpoint_every,
    )  # fmt: skip
    latents = callbacks.Latents(
        setup.measured, config.objective.warmup_epochs, say if distribution.is_chief else None,
        prefix="val_" if setup.num_validation else "",
    )  # fmt: skip
    watching = [setup.batches.callback, callbacks.StopOnNaN(), stop, latents, early, history, checkpoints, keep]
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
            runs.write(written, facts=facts)
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
    files.write_whole(directory / runs.SAMPLES, samples, force=True)
    x, columns = np.asarray(x[:20], "float32"), 10
    given = given and {name: values[:20] for name, values in given.items()}
    reconstructed = keras.ops.convert_to_numpy(model((x, given) if given else (x,)))
    # Rows in pairs: originals, and what the model makes of them below.
    pairs = [(x[i : i + columns], reconstructed[i : i + columns]) for i in range(0, len(x), columns)]
    picture = grid.grid(np.concatenate([row for pair in pairs for row in pair]), min(columns, len(x)), model.data.range)
    files.write_whole(directory / runs.RECONSTRUCTIONS, png.encode(picture), force=True)
