"""Metadata of a run (`run.json`). The part named `training` goes into the manifest of the exported files."""

from pathlib import Path
from typing import Any

import keras

from kvae.exporting.metadata import library_versions, objective_metadata
from kvae.training import run_data
from kvae.training.config import Config
from kvae_serve.readers import Dataset

_METRICS = ("elbo", "reconstruction", "kl")


def describe_start(
    config: Config,
    dataset: Dataset,
    model: keras.Model,
    *,
    conditions: list[dict],
    num_examples: int,
    steps_per_epoch: int,
) -> dict[str, Any]:
    """Describe a run before its first step, as JSON.

    Args:
        config: Settings of the run.
        dataset: All data of the run, validation data included.
        model: The untrained model.
        conditions: Description of the conditions, from `factory.describe_conditions`.
        num_examples: Number of training examples.
        steps_per_epoch: Number of optimizer steps per epoch.
    """
    return {
        "finished": False,
        "engine": keras.backend.backend(),
        "data": model.data.get_config(),
        "conditions": conditions,
        "steps_per_epoch": steps_per_epoch,
        "fingerprint": run_data.fingerprint(dataset),
        "training": {
            "dataset": Path(str(dataset.source)).name,
            "examples": num_examples,
            "epochs": 0,
            **objective_metadata(model),
            "seed": config.training.seed,
            "batch_size": config.training.batch_size,
            "learning_rate": config.training.learning_rate,
            "validation": None,
            "versions": library_versions(),
        },
    }


def describe_end(
    metadata: dict[str, Any],
    model: keras.Model,
    *,
    row: dict[str, float],
    epochs: float,
    num_validation: int,
    complete: bool,
) -> dict[str, Any]:
    """Add the results of a run to its metadata.

    Args:
        metadata: The return value of `describe_start`.
        model: The trained model.
        row: Row of the history for the epoch whose weights are kept; losses in nats per example.
        epochs: Number of epochs up to these weights. A fraction if Ctrl-C interrupted an epoch.
        num_validation: Number of validation examples.
        complete: Whether the run reached its end, so that it cannot be resumed.
    """
    training = {**metadata["training"], "epochs": int(epochs) if epochs == int(epochs) else round(epochs, 2)}
    training["final"] = {name: round(row[name], 4) for name in _METRICS if name in row}
    if "active_units" in row:  # measured on training data in runs without validation data
        training["final"]["active_units"] = row["active_units"]
        if "kl_0" in row:
            training["final"]["kl_per_dim"] = [round(row[f"kl_{i}"], 4) for i in range(model.latent_dim)]
    if num_validation and "val_elbo" in row:
        metrics: dict[str, Any] = {name: round(row[f"val_{name}"], 4) for name in _METRICS}
        metrics |= {"active_units": row["val_active_units"], "examples": num_validation}
        if model.prior.factorises:
            metrics["kl_per_dim"] = [round(row[f"val_kl_{i}"], 4) for i in range(model.latent_dim)]
        training["validation"] = metrics
    training["kl"] = "closed form" if model.prior.factorises else "Monte Carlo estimate"
    return {**metadata, "finished": complete, "training": training}
