"""From paths to figures: what `kvae evaluate --sample-metrics` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvae.sample_metrics import real_images
from kvae.sample_metrics.cached_classifier import kept
from kvae.sample_metrics.classifier import Classifier
from kvae.sample_metrics.classifier import read as read_classifier
from kvae.sample_metrics.figures import check_image_model, check_request, figures
from kvae_serve.errors import InputDataError, RequestError, printable
from kvae_serve.readers import MissingSplitError
from kvae_serve.sealed.manifest import Manifest


class Measured(NamedTuple):
    """`figures` as `kvae.sample_metrics.figures` gives them, and `about`: what they were measured with, as JSON."""

    figures: dict[str, dict[str, Any]]
    about: dict[str, Any]


def measure(
    model: Any,
    data: str | Path,
    *,
    split: str | None = None,
    num: int | None = None,
    train_data: str | Path | None = None,
    classifier: str | Path | None = None,
    seed: int = 0,
    draw: bool = False,
    temperature: float = 1.0,
    say: Callable[[str], object] = lambda line: None,
) -> Measured:
    """Measure the samples of a model of images against real ones.

    Args:
        model: a loaded model, see `kvae.load`.
        data: real images to measure against: the test split where there are two, else all of it.
        split: which half of `data` where there are two; "test" by default.
        num: samples, and images of either real set; 5,000 or as many as there are by default.
        train_data: real images that the classifier learns from and the floor is made of; the training split of `data`
            by default.
        classifier: an .onnx file to judge with, see `kvae.sample_metrics.classifier`; or a folder that keeps the one
            that is trained here, by default in the user's folder of caches.
        seed: of samples and of the choice of images.
        draw: measure draws from p(x given z) rather than its means.
        temperature: of the prior.
        say: hears what takes long.

    Raises:
        RequestError: the model makes no images, or there are too few real ones.
        InputDataError: the images are missing or bad, or have no labels to train a classifier on.
        MissingExtraError: a classifier is to be trained, and Keras is not installed.
        ModelFileError: the classifier that was given does not fit.
    """
    manifest = model.manifest
    check_image_model(manifest)
    train, test = _both(data, split, train_data, manifest)
    num, seed = check_request(num, seed, train, test)  # before a classifier is trained for minutes
    judge = _judge(classifier, manifest, train, say)
    say(f"Measuring samples against real images of {test.source}")
    found = figures(model, train, test, judge, num, seed, draw=draw, temperature=temperature)
    return Measured(
        found,
        {
            "n": found["coverage"]["n"],
            "seed": seed,
            "temperature": float(temperature),
            "images": "draws from p(x given z)" if draw else "means of p(x given z)",
            "condition": real_images.judged_condition(manifest),
            "train": train.source,
            "test": test.source,
            "classifier": {
                "digest": judge.digest,
                "accuracy": _accuracy(judge, manifest, train, test),
                "kept": judge.source,
            },
        },
    )


def _both(
    data: str | Path, split: str | None, train_data: str | Path | None, manifest: Manifest
) -> tuple[real_images.Real, real_images.Real]:
    """Training and test images."""
    try:
        test = real_images.read(data, manifest, split or "test")
    except MissingSplitError as error:
        if train_data is None:
            raise RequestError(
                f"{printable(data)} has no splits for training and testing. Give real training images by --train-data."
            ) from error
        test = real_images.read(data, manifest, "train")
    return real_images.read(data if train_data is None else train_data, manifest, "train"), test


def _accuracy(judge: Classifier, manifest: Manifest, train: real_images.Real, test: real_images.Real) -> float | None:
    """Share of all real test images that the classifier reads right; None where it or they have no labels."""
    name = real_images.learned_label(manifest, train)
    if name is None or not judge.names_labels or train.class_names.get(name) != test.class_names.get(name):
        return None
    return float(np.mean(judge(test.x).label == test.conditions[name]))


def _judge(
    path: str | Path | None, manifest: Manifest, train: real_images.Real, say: Callable[[str], object]
) -> Classifier:
    """The classifier that the user gives, or the one that is trained on the real training images."""
    if path is not None and (Path(path).suffix == ".onnx" or Path(path).is_file()):
        name = real_images.judged_condition(manifest)
        classes = 0 if name is None else real_images.num_classes(manifest, name, train)
        return read_classifier(path, manifest.data.shape, classes)
    name = real_images.learned_label(manifest, train)
    label = train.conditions.get(name) if name is not None else None
    if name is None or label is None or len(np.unique(label)) < 2:
        raise InputDataError(
            f"{train.source} has no labels to train a classifier on, in whose features samples are measured. "
            "Give images with labels by --train-data, or a classifier of your own by --classifier FILE.onnx."
        )
    images = real_images.images_of(manifest, train.x, real_images.num_classes(manifest, name, train))
    return kept(train.x, label, images, path, say=say)
