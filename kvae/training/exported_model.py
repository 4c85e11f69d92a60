"""Keras model of an exported one, rebuilt from its config.toml, its training data and the weights in its files."""

from pathlib import Path
from typing import Any

import keras

from kvae.dataloaders import batches
from kvae.exporting import sealed_weights
from kvae.training import factory, run_data, run_folder
from kvae.training.config import read as read_config
from kvae.training.setup import spec_of
from kvae_serve.errors import InputDataError, printable
from kvae_serve.model import Model
from kvae_serve.readers import MissingSplitError

# Learned from the training data, and absent from the manifests of early files.
_LEARNED = ("shares", "quantiles", "column", "joint")


def load(exported: Model, data: str) -> tuple[keras.Model, run_data.Split, run_data.Split | None]:
    """Rebuild the Keras model of an exported one.

    Args:
        exported: A model whose folder contains the config.toml of its run.
        data: Its training data, as for `kvae train --data`.

    Returns:
        The model, the rows that it was trained on, and rows that it was not trained on: the validation rows of the run,
        or the test split of the data, or None.

    Raises:
        InputDataError: If the folder lacks config.toml, if the data differ from the training data, or if the files
            contain another network.
    """
    path = Path(exported.path) / run_folder.CONFIG
    if not path.is_file():
        raise InputDataError(f"{exported.path} lacks {run_folder.CONFIG}, which describes the network. Export its run.")
    config = read_config(path).replace(data=data)
    dataset = run_data.read(config)
    expected = (exported.manifest.training or {}).get("examples")
    if expected != len(dataset.x) - config.data.validation:
        raise InputDataError(
            f"{printable(data)} has {len(dataset.x):,} rows; {printable(exported.manifest.name, 60)} was trained on "
            f"{expected} of {'unknown' if expected is None else f'{expected + config.data.validation:,}'}. Give the "
            "same data."
        )
    rows, held_out_rows = batches.hold_out(len(dataset.x), config.data.validation, config.training.seed)
    spec, conditions = spec_of(config, dataset, rows), factory.describe_conditions(dataset, rows)
    manifest = exported.manifest.to_dict()
    if spec.manifest() != manifest["data"] or _known(conditions) != _known(manifest["conditions"]):
        raise InputDataError(
            f"{printable(data)} has another shape, range or conditions than the training data of "
            f"{printable(exported.manifest.name, 60)}. Give the same data."
        )
    model = factory.model(config, spec, conditions, num_examples=len(rows))
    sealed_weights.copy(model, exported)
    if len(held_out_rows):
        return model, run_data.take(dataset, rows), run_data.take(dataset, held_out_rows)
    try:
        test = run_data.read(config, "test")
    except MissingSplitError:
        return model, (dataset.x, dataset.conditions or None), None
    return model, (dataset.x, dataset.conditions or None), (test.x, test.conditions or None)


def _known(conditions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in each.items() if key not in _LEARNED} for each in conditions]
