"""Data of a run: reading, the split into training and validation data, and the fingerprint that resume compares.

Importing this module does not import Keras, so that errors in the data are reported before the backend starts, which
takes seconds.
"""

import hashlib
from pathlib import Path
from typing import Any

from kvae.data import disk, sources
from kvae.training import defaults, run_folder
from kvae.training.config import Config
from kvae_serve.errors import InputDataError, RequestError
from kvae_serve.readers import Dataset

Split = tuple[Any, dict[str, Any] | None]


def read(config: Config, split: str = "train") -> Dataset:
    """Read the data that `config` names, with the conditions of the model.

    Args:
        config: Settings of the run.
        split: `"train"` or `"test"`, if the data have both.

    Raises:
        RequestError: If the configuration does not name any data.
        InputDataError: If the data are missing or invalid, or lack a condition of the model.
    """
    if not config.data.data:
        raise RequestError("No training data. Set --data to a file, a folder, or mnist.")
    return _read(config, split)


def read_again(config: Config, directory: str | Path, metadata: dict[str, Any]) -> Dataset:
    """Read the data of an existing run, and check that they did not change.

    Raises:
        InputDataError: If the data are missing, or differ from those that the run started with.
    """
    try:
        dataset = read(config)
    except InputDataError as error:
        raise InputDataError(
            f"{error} The run {directory} was trained on --data {config.data.data}. If the data moved, or if the path "
            "is relative to another folder, add --data with their path."
        ) from error
    require_same(directory, metadata, dataset)
    return dataset


def _read(config: Config, split: str = "train") -> Dataset:
    return defaults.with_axes(config, sources.from_config(config.data, split))


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """Return count, shape and SHA-256 of the examples and their conditions, as JSON."""
    digest = hashlib.sha256()
    for array in (dataset.x, *dataset.conditions.values()):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        for part in disk.fingerprint_chunks(array):
            digest.update(part)
    return {"examples": len(dataset.x), "shape": list(dataset.x.shape[1:]), "sha256": digest.hexdigest()}


def require_same(directory: str | Path, metadata: dict[str, Any], dataset: Dataset) -> None:
    """Raise InputDataError unless `dataset` has the fingerprint in the metadata of a run."""
    expected, actual = metadata.get("fingerprint"), fingerprint(dataset)
    if expected != actual:
        before, now = (
            f"{each['examples']} examples of shape {each['shape']}, SHA-256 {each['sha256'][:12]}"
            if each
            else "unknown"
            for each in (expected, actual)
        )
        raise InputDataError(
            f"{dataset.source} differs from the data of {directory}: expected {before}, got {now}. "
            "Set --data to the same data, or start a new run."
        )


def splits(directory: str | Path) -> tuple[Split | None, Split | None]:
    """Read the training and the validation data of a run.

    Returns:
        Two pairs of x in data units and its conditions by name. The second is None if the run does not have validation
        data; both are None if the data are missing or changed.
    """
    from kvae.dataloaders import batches

    config, metadata = run_folder.read(directory)
    try:
        dataset = _read(config)
    except InputDataError:
        return None, None
    if fingerprint(dataset) != metadata.get("fingerprint"):
        return None, None
    train, validation = batches.hold_out(len(dataset.x), config.data.validation, config.training.seed)
    return take(dataset, train), take(dataset, validation) if len(validation) else None


def take(dataset: Dataset, rows: Any) -> Split:
    """Return x and the conditions (or None) of the examples with the indices `rows`."""
    conditions = {name: values[rows] for name, values in dataset.conditions.items()}
    return disk.take(dataset.x, rows), conditions or None
