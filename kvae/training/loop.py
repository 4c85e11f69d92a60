"""Training of one run: `fit` with its callbacks, and the files that are written at the end."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kvae import priors
from kvae.exporting import pictures
from kvae.training import callbacks, checkpoint, run_folder
from kvae.training.callbacks.progress import print_line
from kvae.training.config import Config
from kvae.training.metadata import describe_end
from kvae.training.setup import Setup
from kvae_serve.errors import InputDataError, OutputError
from kvae_serve.writers import atomic

#: Examples per call of the encoder, and least number of draws, when the prior is fitted.
_PRIOR_BATCH, _PRIOR_DRAWS = 5000, 20_000


@dataclass(frozen=True)
class Run:
    """Result of a run.

    Attributes:
        directory: Folder of the run.
        model: The trained model.
        metadata: Metadata of the run, as JSON. The part `training` goes into exported files.
        interrupted: Whether Ctrl-C ended it.
        stopped_early: Whether early stopping ended it.
        resumable: The epoch after which `resume` continues. None if the run is finished.
    """

    directory: Path
    model: keras.Model
    metadata: dict[str, Any]
    interrupted: bool = False
    stopped_early: bool = False
    resumable: int | None = None


def fit(
    setup: Setup,
    directory: Path,
    start: checkpoint.Checkpoint | None,
    quiet: bool,
    tensorboard: Any,
    more_callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Run:
    """Train from a checkpoint (None: from the first step) to the end, and write the results.

    Args:
        setup: The prepared run.
        directory: Folder of the run, which already contains its configuration and metadata.
        start: Checkpoint to start from, or None.
        quiet: Do not print progress.
        tensorboard: Folder for TensorBoard logs, or None.
        more_callbacks: Callbacks of the user, which the chief calls after the others.

    Returns:
        The run.

    Raises:
        InputDataError: If the checkpoint belongs to a different model.
        OutputError: If the folder cannot be written.
        VerificationError: If the loss or a weight becomes infinite or NaN.
    """
    config, model, steps, distribution = setup.config, setup.model, setup.batches.steps, setup.distribution
    is_chief, many_workers = distribution.is_chief, distribution.num_workers > 1
    quiet, folder = quiet or not is_chief, directory if is_chief else None
    epochs, state = config.training.epochs, (start or checkpoint.Checkpoint({"epoch": 0, "history": []}, {})).state
    if start:
        _restore(model, start, config, directory)
    if not quiet and not model.prior.factorises:
        print_line(f"kl is a Monte Carlo estimate, because the prior {model.prior.kind} does not have a closed form.")
    distribution.require_same(config, setup.metadata["fingerprint"], model)
    interrupt = callbacks.StopOnInterrupt(distribution.any if many_workers else None)
    early = None
    if config.training.patience:
        early = callbacks.EarlyStopping(
            config.training.patience, state.get("stop_early"), start.best() if start else None
        )
    history = callbacks.History(folder and folder / run_folder.HISTORY, state["history"])
    save_model = callbacks.SaveModel(folder and folder / run_folder.MODEL, lambda: _updated_saved_model(setup))
    checkpoints = callbacks.SaveCheckpoints(
        checkpoint.Store(folder / run_folder.CHECKPOINTS) if folder else None, history, early,
        seed=config.training.seed, steps=steps, epochs=epochs, every=config.training.checkpoint_every,
    )  # fmt: skip
    latent_usage = callbacks.LatentUsage(
        setup.latent_batches, config.objective.warmup_epochs, print_line if is_chief else None,
        prefix="val_" if setup.num_validation else "",
    )  # fmt: skip
    stop_on_nan = callbacks.StopOnNaN(seconds=0.0 if many_workers else 1.0)
    all_callbacks = [setup.batches.callback, stop_on_nan, interrupt, latent_usage, early, history, checkpoints]
    if config.training.sample_every and folder:
        all_callbacks.append(
            callbacks.SaveSamples(
                folder / run_folder.EPOCH_SAMPLES, config.training.sample_every, lambda: _updated_saved_model(setup)
            )
        )
    all_callbacks += [save_model, None if quiet else callbacks.Progress(epochs, rows=history.rows)]
    if is_chief:
        all_callbacks += [callbacks.TensorBoardScalars(tensorboard) if tensorboard else None, *more_callbacks]
    try:
        if not (early and early.is_over):
            model.fit(
                setup.batches.dataset,
                initial_epoch=state["epoch"],
                epochs=epochs,
                steps_per_epoch=distribution.steps_per_epoch(setup.batches),
                validation_data=setup.validation and setup.validation.dataset,
                validation_steps=setup.validation and setup.validation.steps,
                callbacks=[each for each in all_callbacks if each],
                shuffle=False,
                verbose=0,
            )
        num_epochs, row = int(model.optimizer.iterations.numpy()) / steps, history.rows[-1]
        if early:
            early.restore_best(model)
            num_epochs, row = early.state["epoch"], history.rows[early.state["epoch"] - 1]
        if not early and not quiet and (note := overfitting(history.rows)):
            print_line(note)
        if setup.prior_examples is not None:
            before, row = row, _fit_prior(setup, row)
            if "val_elbo" in row and not quiet:
                change = f"from {before['val_elbo']:.2f} to {row['val_elbo']:.2f} nats"
                print_line(f"The prior was fitted to the codes of the training data: validation elbo {change}.")
        history.write()
        save_model.save()
        stopped_early = bool(early and early.is_over)
        complete = stopped_early or checkpoints.last == epochs
        metadata = describe_end(
            setup.metadata, model, row=row, epochs=num_epochs, num_validation=setup.num_validation, complete=complete
        )
        if folder:
            _write_pictures(folder, setup.saved_model, *setup.examples)
            run_folder.write(folder, metadata=metadata)
        distribution.any(False)  # All workers wait here until the chief has written.
    except OutputError as error:
        raise OutputError(
            f"{error} What was saved before is kept. Make room, then continue with kvae train --resume {directory}"
        ) from error
    finally:
        interrupt.restore()
    interrupted = interrupt.interrupted and not complete
    resumable = None if complete else checkpoints.last
    if interrupt.pending is not None:
        if not quiet:
            print_line(f"Stopped early; the model is saved. Continue with kvae train --resume {directory}")
        signal.raise_signal(interrupt.pending)
    return Run(directory, setup.saved_model, metadata, interrupted, stopped_early, resumable)


def overfitting(rows: Sequence[dict[str, float]]) -> str:
    """Return a note if the validation elbo of the last epoch is far below the best one, otherwise an empty text.

    Args:
        rows: Rows of the history. The note needs a difference of 1 nat and of 5 %, which noise rarely reaches.
    """
    elbos = [row["val_elbo"] for row in rows if "val_elbo" in row]
    if len(elbos) < len(rows) or not rows or max(elbos) - elbos[-1] <= max(1.0, 0.05 * abs(max(elbos))):
        return ""
    return (
        f"The validation elbo was best after epoch {elbos.index(max(elbos)) + 1} ({max(elbos):.2f} nats) and is "
        f"{elbos[-1]:.2f} now. To score new data, train with --patience 30 (in Python: patience=30), which keeps "
        "the best weights."
    )


def _fit_prior(setup: Setup, row: dict[str, Any]) -> dict[str, Any]:
    """Fit the prior to the posteriors of training data, and return the row of the history with new validation metrics.

    A small table gets several draws from each posterior, so that components do not shrink to single examples.
    """
    assert setup.prior_examples is not None
    model, (x, conditions) = setup.model, setup.prior_examples
    posteriors, vectors = [], []
    for start in range(0, len(x), _PRIOR_BATCH):
        part = slice(start, start + _PRIOR_BATCH)
        values = {name: each[part] for name, each in (conditions or {}).items()}
        vector = (model.condition_vector(values),) if values else ()
        posterior = model._encode(model.data.to_unit(x[part]), vector)
        posteriors.append([keras.ops.convert_to_numpy(each) for each in posterior])
        vectors += [keras.ops.convert_to_numpy(each) for each in vector]
    z_mean, z_log_var = (np.concatenate(each) for each in zip(*posteriors, strict=True))
    repeats = max(1, _PRIOR_DRAWS // len(z_mean))
    noise = np.random.default_rng(setup.config.training.seed).standard_normal((repeats, *z_mean.shape))
    z = (z_mean + np.exp(z_log_var / 2) * noise).reshape(-1, model.latent_dim)
    if isinstance(model.prior, priors.ConditionalGaussian):
        model.prior.fit(z, np.tile(np.concatenate(vectors), (repeats, 1)))
    else:
        model.prior.fit(z)
    if setup.validation is None:
        return row
    validation = setup.validation
    metrics = model.evaluate(validation.dataset, steps=validation.steps, verbose=0, return_dict=True)
    return row | {f"val_{name}": float(value) for name, value in metrics.items() if f"val_{name}" in row}


def _restore(model: keras.Model, start: checkpoint.Checkpoint, config: Config, directory: Path) -> None:
    try:
        if start.state["seed"] != config.training.seed:
            raise ValueError(f"its seed is {start.state['seed']}")
        checkpoint.restore(model, start)
    except (KeyError, ValueError) as error:
        raise InputDataError(
            f"The checkpoint in {directory} belongs to a different model ({error}). Start a new run."
        ) from None


def _updated_saved_model(setup: Setup) -> keras.Model:
    """Return the model to save, with the weights and the optimizer state of the model that trains."""
    if setup.saved_model is not setup.model:
        checkpoint.restore(setup.saved_model, checkpoint.Checkpoint({}, checkpoint.capture(setup.model)))
    return setup.saved_model


def _write_pictures(directory: Path, model: keras.Model, x: Any, conditions: dict[str, Any] | None) -> None:
    if (samples := pictures.samples(model)) is None:
        return
    atomic.write_whole(directory / run_folder.SAMPLES, samples, force=True)
    conditions = conditions and {name: values[:20] for name, values in conditions.items()}
    pairs = pictures.reconstructions(model, x[:20], conditions)
    assert pairs is not None
    atomic.write_whole(directory / run_folder.RECONSTRUCTIONS, pairs, force=True)
