"""Start and resume of a training run: from a configuration to a folder that `kvae export` reads."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from kvae.training import checkpoint, run_data, run_folder, saved_run
from kvae.training.callbacks.progress import print_line
from kvae.training.config import Config
from kvae.training.config import read as read_config
from kvae.training.defaults import default_settings, with_axes
from kvae.training.distribution import Distribution
from kvae.training.loop import Run, fit
from kvae.training.setup import check_export, prepare
from kvae_serve.errors import InputDataError, RequestError
from kvae_serve.readers import Dataset

__all__ = ["Run", "resume", "train"]


def train(
    config: Config | str | os.PathLike[str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    *,
    dataset: Dataset | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    force: bool = False,
    quiet: bool = False,
    export_check: bool = True,
    tensorboard: str | os.PathLike[str] | None = None,
    distribution: Distribution | None = None,
    **settings: Any,
) -> Run:
    """Train a model and write the run to a folder, as `kvae train` does.

    Args:
        config: Settings to start from: a `Config` (for example of a preset), or the path of a `config.toml`. By default
            those of `kvae.default_settings` for the data.
        directory: Folder to write, which must be new or empty. Required.
        dataset: The data, if `run_data.read` already read them. By default the setting `data` is read.
        callbacks: Further Keras callbacks. They are called after those of kvae, so their logs contain every metric.
        force: Replace the run in `directory`.
        quiet: Do not print progress.
        export_check: Export the untrained model to a temporary folder first, which takes a few seconds. An architecture
            that cannot be exported fails before training, not after.
        tensorboard: Folder for TensorBoard logs.
        distribution: Devices or workers that train together. Only the chief writes `directory`.
        **settings: Settings to change, with the names of the flags and of `config.toml`: `epochs=3`,
            `encoder_hidden=(256,)`.

    Returns:
        The run: its folder, the trained model and its metadata.

    Raises:
        InputDataError: If the data are missing or invalid. Nothing is written then, nor after a failed export check.
        OutputError: If `directory` contains something else, or cannot be written.
        RequestError: If a setting is invalid, or if a layer of the model does not have an ONNX form.
        VerificationError: If the loss becomes NaN. The checkpoints and the model saved before are kept.

    Example:
        >>> small = {"network": "dense", "encoder_hidden": (16,), "decoder_hidden": (16,)}
        >>> run = kvae.train(data="mnist-sample", directory="run", epochs=1, export_check=False, quiet=True, **small)
        >>> run.metadata["training"]["epochs"]
        1
        >>> kvae.resume("run", epochs=2, quiet=True).metadata["training"]["epochs"]
        2
    """
    if directory is None:
        raise RequestError("No folder for the run. Set `directory` to the folder to write.")
    chosen = read_config(config) if config is not None and not isinstance(config, Config) else config
    config = (chosen or Config()).replace(**settings)
    directory, distribution = Path(directory), distribution or Distribution()
    if distribution.is_chief:
        run_folder.check_new(directory, force)
    dataset = dataset or run_data.read(config)
    config = default_settings(dataset, config) if chosen else default_settings(dataset, **settings)
    dataset = with_axes(config, dataset)
    with distribution.watching():
        setup = prepare(config, dataset, distribution)
        _set_initial_weights(setup.model, config.training.weights_from)
    if export_check and distribution.is_chief:
        check_export(setup, quiet)
    with distribution.watching(directory), distribution.lock(directory):
        if distribution.is_chief:
            run_folder.clear(directory)
            run_folder.write(directory, config, setup.metadata)
        return fit(setup, directory, None, quiet, tensorboard, callbacks)


def resume(
    directory: str | os.PathLike[str],
    *,
    dataset: Dataset | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    quiet: bool = False,
    tensorboard: str | os.PathLike[str] | None = None,
    distribution: Distribution | None = None,
    **changes: Any,
) -> Run:
    """Continue a run after its last valid checkpoint. The result equals the uninterrupted run.

    Args:
        directory: Folder of the run.
        dataset: The data, if they were already read. By default the setting `data` is read.
        callbacks: Further Keras callbacks, as for `train`.
        quiet: Do not print progress.
        tensorboard: Folder for TensorBoard logs.
        distribution: Devices or workers that train together. The result rounds differently if they changed.
        **changes: Settings to change: `data`, `epochs`, `patience`, `checkpoint_every` or `sample_every`.

    Returns:
        The run. A finished run is returned unchanged.

    Raises:
        InputDataError: If the folder does not contain a run, its checkpoints are corrupted, or its data changed.
        RequestError: If a change would make it a different run.
        OutputError: If the folder cannot be written.
        VerificationError: If the loss becomes NaN.

    Example: See `train`.
    """
    directory, distribution = Path(directory), distribution or Distribution()
    config, metadata = run_folder.open_existing(directory, changes)
    if metadata["finished"]:
        return Run(directory, saved_run.load(directory)[0], metadata)
    with distribution.watching(directory), distribution.lock(directory):
        if distribution.is_chief:
            run_folder.clean(directory)
        if dataset is None:
            dataset = run_data.read_again(config, directory, metadata)
        else:
            dataset = with_axes(config, dataset)
            run_data.require_same(directory, metadata, dataset)
        start, corrupted = checkpoint.Store(directory / run_folder.CHECKPOINTS).latest()
        for line in corrupted if distribution.is_chief else ():
            print_line(f"Warning: {line}; " + ("using the one before." if start else "there is no other checkpoint."))
        if corrupted and not start:
            raise InputDataError(
                f"{directory} does not contain a valid checkpoint. Start again with "
                f"`kvae train --config {directory / run_folder.CONFIG} -o NEW_FOLDER`."
            )
        num_done = start.state["epoch"] if start else 0
        if config.training.epochs < num_done:
            raise RequestError(f"{directory} has already trained {num_done} epochs. Set --epochs to at least that.")
        setup = prepare(config, dataset, distribution, metadata["data"])
        if start is None:
            _set_initial_weights(setup.model, config.training.weights_from)
        if distribution.is_chief:
            run_folder.write(directory, config, setup.metadata)
        if not quiet:
            epochs = config.training.epochs
            print_line(f"Resuming after epoch {num_done} of {epochs}." if num_done else "Starting at the first epoch.")
        return fit(setup, directory, start, quiet, tensorboard, callbacks)


def _set_initial_weights(model: keras.Model, directory: str) -> None:
    """Copy the weights of another run or an exported model, if one is named. The optimizer state is not copied."""
    if not directory:
        return
    if run_folder.is_exported(directory):
        from kvae.exporting import sealed_weights  # imports onnx
        from kvae_serve.model import load

        sealed_weights.copy(model, load(directory))
        return
    other = saved_run.load(directory)[0]
    expected, actual = ([tuple(weight.shape) for weight in each.weights] for each in (model, other))
    if expected != actual:
        raise InputDataError(
            f"{directory} has a different network: {len(actual)} weights with {sum(map(math.prod, actual)):,} numbers, "
            f"expected {len(expected)} with {sum(map(math.prod, expected)):,}. Use the same network, likelihood "
            "and prior."
        )
    model.set_weights(other.get_weights())
