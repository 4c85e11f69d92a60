"""Cache of trained classifiers: one sealed ONNX file per data set.

The file name contains a digest of the training images, their labels and the recipe, so one folder can hold the
classifiers of many data sets, and a changed data set gets a new one. A cached classifier does not need Keras.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kvae.sample_metrics.classifier import Classifier
from kvae.sample_metrics.network import FEATURES, RECIPE, Images
from kvae_serve.errors import ModelFileError, OutputError, RequestError, printable
from kvae_serve.sealed import file as onnx_file
from kvae_serve.sealed.manifest import GRAPHS
from kvae_serve.writers import atomic


def default_folder() -> Path:
    """Return the user's cache folder, or a new temporary folder if the user does not have a home folder."""
    if not os.environ.get("XDG_CACHE_HOME") and not _has_home():
        return Path(tempfile.mkdtemp(prefix="kvae-"))
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kvae" / "classifiers"


def _has_home() -> bool:
    try:
        return Path.home().is_absolute()
    except RuntimeError:  # HOME is not set, and the user is not in the password database.
        return False


def kept(
    x: Any,
    label: np.ndarray,
    images: Images,
    folder: str | Path | None = None,
    *,
    report: Callable[[str], object] = lambda line: None,
    steps: int | None = None,
) -> Classifier:
    """Return the classifier of a training split, from the cache or newly trained.

    Args:
        x: Real training images `[num, *shape]` in data units.
        label: int `[num]`.
        images: Images that the classifier accepts.
        folder: Cache folder, created if missing; `default_folder()` by default.
        report: Receives a line before a training, which takes a minute or more.
        steps: Training steps, for tests; by default those of the recipe.

    Raises:
        MissingExtraError: It must be trained, and Keras is not installed.
        OutputError: The folder cannot be written.
        RequestError: The folder contains a model.
    """
    key = _key(x, label, images, steps)
    path = Path(folder or default_folder()) / f"classifier-{key[:16]}.onnx"
    if path.exists():
        return _read(path, key, images)
    if any((path.parent / f"{graph}.onnx").exists() for graph in GRAPHS):
        raise RequestError(f"{printable(path.parent)} contains a model. Give --classifier another folder.")
    from kvae.backends import startup

    startup.require()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{printable(path.parent)} cannot be created ({error.strerror}). Give --classifier a writable folder."
        ) from error
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{printable(path.parent)} is not writable. Give --classifier a writable folder.")
    report(f"Training a classifier on {len(x):,} real images, once; saved as {path}")
    startup.open_quietly("tensorflow")
    atomic.write_whole(path, _train(x, label, images, key, steps), force=True)
    return _read(path, key, images)


def _key(x: Any, label: np.ndarray, images: Images, steps: int | None) -> str:
    from kvae.data import disk

    about = {"recipe": RECIPE, "steps": steps, "shape": images.shape, "range": images.range}
    digest = hashlib.sha256(json.dumps({**about, "classes": images.num_classes}).encode())
    for array in (x, np.asarray(label, np.int64)):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        for part in disk.fingerprint_chunks(array):
            digest.update(part)
    return digest.hexdigest()


def _train(x: Any, label: np.ndarray, images: Images, key: str, steps: int | None) -> bytes:
    """Train a classifier and return it as a sealed file."""
    from kvae.sample_metrics.network import trained
    from kvae_export import Graph
    from kvae_export.convert import convert

    both = trained(images, x, label, steps=steps)

    def classifier(x):
        features, logits = both(x, training=False)
        return {"features": features, "logits": logits}

    outputs = {"features": (FEATURES,), "logits": (images.num_classes,)}
    proto = convert(Graph("classifier", classifier, {"x": (tuple(images.shape), "float32")}, outputs))
    about = {"graph": "classifier", "recipe": RECIPE, "key": key, "examples": len(x), "classes": images.num_classes}
    return onnx_file.seal(proto.SerializeToString(deterministic=True), about)


def _read(path: Path, key: str, images: Images) -> Classifier:
    try:
        sealed = onnx_file.read(path)
        if json.loads(sealed.manifest_json).get("key") != key:
            raise ModelFileError(f"{printable(path)} belongs to other data.")
    except ModelFileError as error:
        raise ModelFileError(f"{error} Delete this file to train the classifier again.") from error
    return Classifier(sealed.data, str(path), images.shape, images.num_classes)
