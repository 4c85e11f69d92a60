"""Model of a run, rebuilt from the run folder."""

from pathlib import Path
from typing import Any

import keras

from kvae.training import checkpoint, factory, run_folder
from kvae_serve.errors import InputDataError, printable


def load(directory: str | Path) -> tuple[keras.Model, dict[str, Any]]:
    """Rebuild the model of a run in code, and load only its weights from the file.

    Args:
        directory: Folder that `kvae train` wrote. If the run was interrupted before it saved a model, the weights come
            from the last checkpoint.

    Returns:
        The model and the metadata of the run.

    Raises:
        InputDataError: If the folder does not contain a run, or if its files do not match.
    """
    directory = Path(directory)
    run_folder.require_run(directory)
    config, metadata = run_folder.read(directory)
    try:
        spec, num_examples = factory.spec_from(metadata["data"]), metadata["training"]["examples"]
        model = factory.model(
            config, spec, metadata["conditions"], metadata["steps_per_epoch"], num_examples=num_examples
        )
        if (directory / run_folder.MODEL).is_file():
            model.load_weights(directory / run_folder.MODEL)
        else:
            last, corrupted = checkpoint.Store(directory / run_folder.CHECKPOINTS).latest()
            if last is None:
                raise ValueError(corrupted[0])
            checkpoint.restore_weights(model, last)
    except Exception as error:  # A tampered file can fail at any place in Keras, NumPy or h5py.
        reason = printable((str(error) or type(error).__name__).splitlines()[0], 100)
        raise InputDataError(
            f"{directory}: cannot rebuild the model from its files ({reason}). Train it again."
        ) from error
    return model, metadata
