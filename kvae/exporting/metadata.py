"""Training metadata for the manifest of exported files: objective, seed, steps and library versions."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import keras


def from_model(model: keras.Model) -> dict[str, Any]:
    """Describe the training of a model that was trained in Python, as JSON."""
    optimizer = getattr(model, "optimizer", None)
    steps = {"steps": int(optimizer.iterations.numpy())} if optimizer is not None else {}
    return {**steps, **objective_metadata(model), "seed": model.seed, "versions": library_versions()}


def objective_metadata(model: keras.Model) -> dict[str, Any]:
    """Return `beta` alone if the objective is the elbo, else the whole objective, as JSON."""
    manifest = model.objective.manifest()
    return {"beta": manifest["beta"]} if manifest["name"] == "elbo" else {"objective": manifest}


def library_versions() -> dict[str, str | None]:
    """Return the versions of kvae-onnx, Keras and the backend."""
    return {name: _version(name) for name in ("kvae-onnx", "keras", keras.backend.backend())}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return version("tensorflow-cpu") if name == "tensorflow" else None
