"""What a run says of itself: the facts in `run.json`, part of which travels in the manifest of the exported files."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import keras

from kvae.training import run_folder

_FIGURES = ("elbo", "reconstruction", "kl")


def begun(config, dataset, model, *, conditions, examples, steps_per_epoch):
    """The facts of a run before its first step, as JSON.

    Args:
        config: `kvae.training.config.Config`.
        dataset: `kvae_serve.readers.Dataset`.
        model: the untrained model.
        conditions: what the model is given, as `build.conditions_of` says it.
        examples: how many are trained on.
        steps_per_epoch: optimiser steps an epoch.
    """
    return {
        "finished": False,
        "engine": keras.backend.backend(),
        "data": model.data.get_config(),
        "conditions": conditions,
        "steps_per_epoch": steps_per_epoch,
        "fingerprint": run_folder.fingerprint(dataset),
        "training": {
            "dataset": Path(str(dataset.source)).name,
            "examples": examples,
            "epochs": 0,
            **_objective(model.objective.manifest()),
            "seed": config.training.seed,
            "batch_size": config.training.batch_size,
            "learning_rate": config.training.learning_rate,
            "validation": None,
            "versions": _versions(),
        },
    }


def ended(facts, model, *, row, epochs, num_validation, finished):
    """The facts of a run with what came of it.

    Args:
        facts: what `begun` returned.
        model: the trained model.
        row: the figures of the epoch whose weights are kept.
        epochs: how many that took.
        num_validation: how many examples were held out.
        finished: whether nothing is left to do.
    """
    training = {**facts["training"], "epochs": int(epochs) if epochs == int(epochs) else round(epochs, 2)}
    training["final"] = {name: round(row[name], 4) for name in _FIGURES if name in row}
    if "active_units" in row:  # measured on training data, there being no other
        training["final"]["active_units"] = row["active_units"]
        if "kl_0" in row:
            training["final"]["kl_per_dim"] = [round(row[f"kl_{i}"], 4) for i in range(model.latent_dim)]
    if num_validation and "val_elbo" in row:
        figures = {name: round(row[f"val_{name}"], 4) for name in _FIGURES}
        figures |= {"active_units": row["val_active_units"], "examples": num_validation}
        if model.prior.factorises:
            figures["kl_per_dim"] = [round(row[f"val_kl_{i}"], 4) for i in range(model.latent_dim)]
        training["validation"] = figures
    training["kl"] = "closed form" if model.prior.factorises else "Monte Carlo estimate"
    return {**facts, "finished": finished, "training": training}


def of_model(model):
    """What a model knows of its own training, as JSON: for one that was trained in Python."""
    optimizer = getattr(model, "optimizer", None)
    steps = {"steps": int(optimizer.iterations.numpy())} if optimizer is not None else {}
    return {**steps, **_objective(model.objective.manifest()), "seed": model.seed, "versions": _versions()}


def _versions():
    return {name: _version(name) for name in ("kvae-onnx", "keras", keras.backend.backend())}


def _objective(manifest):
    return {"beta": manifest["beta"]} if manifest["name"] == "elbo" else {"objective": manifest}


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return version("tensorflow-cpu") if name == "tensorflow" else None
