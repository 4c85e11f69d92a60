"""Sample quality from paths, as in `kvae evaluate --sample-metrics`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvae.sample_metrics import real_images
from kvae.sample_metrics.cached_classifier import kept
from kvae.sample_metrics.classifier import Classifier
from kvae.sample_metrics.classifier import read as read_classifier
from kvae.sample_metrics.comparison import check_image_model, check_request, figures
from kvae_serve.errors import InputDataError, RequestError, printable
from kvae_serve.readers import MissingSplitError
from kvae_serve.sealed.manifest import Manifest


class Measured(NamedTuple):
    """Result of `measure`: `figures` as from `kvae.sample_metrics.figures`, and `about`, its settings as JSON."""

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
    report: Callable[[str], object] = lambda line: None,
) -> Measured:
    """Compare the samples of an image model with real images.

    Args:
        model: A model from `kvae.load`.
        data: Real images: the test split if there is one, else all.
        split: Split of `data`; "test" by default.
        num: Number of samples, and of real images in each set; by default 5,000, or all.
        train_data: Real images for the classifier and the baseline; the training split of `data` by default.
        classifier: An .onnx file, see `kvae.sample_metrics.classifier`, or the cache folder of trained classifiers.
        seed: Seed of the samples and of the choice of images.
        draw: Measure draws from p(x given z) instead of its means.
        temperature: Temperature of the prior.
        report: Receives a line before each long step.

    Raises:
        RequestError: The model is not an image model, or there are too few real images.
        InputDataError: The images are missing or bad, or lack labels to train a classifier on.
        MissingExtraError: A classifier must be trained, and Keras is not installed.
        ModelFileError: The given classifier does not fit.
    """
    manifest = model.manifest
    check_image_model(manifest)
    train, test = _both(data, split, train_data, manifest)
    num, seed = check_request(num, seed, train, test)  # before minutes of training
    judge = _classifier(classifier, manifest, train, report)
    report(f"Comparing samples with real images of {test.source}")
    results = figures(model, train, test, judge, num, seed, draw=draw, temperature=temperature)
    return Measured(
        results,
        {
            "n": results["coverage"]["n"],
            "seed": seed,
            "temperature": float(temperature),
            "images": "draws from p(x given z)" if draw else "means of p(x given z)",
            "condition": real_images.predicted_condition(manifest),
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
    """Return training and test images."""
    try:
        test = real_images.read(data, manifest, split or "test")
    except MissingSplitError as error:
        if train_data is None:
            raise RequestError(
                f"{printable(data)} is not split into training and test images. Give training images with --train-data."
            ) from error
        test = real_images.read(data, manifest, "train")
    return real_images.read(data if train_data is None else train_data, manifest, "train"), test


def _accuracy(judge: Classifier, manifest: Manifest, train: real_images.Real, test: real_images.Real) -> float | None:
    """Return the accuracy on real test images; None if the classifier or the images lack labels."""
    name = real_images.learned_label(manifest, train)
    if name is None or not judge.names_labels or train.class_names.get(name) != test.class_names.get(name):
        return None
    return float(np.mean(judge(test.x).label == test.conditions[name]))


def _classifier(
    path: str | Path | None, manifest: Manifest, train: real_images.Real, report: Callable[[str], object]
) -> Classifier:
    """Return the given classifier, or the one trained on the real training images."""
    if path is not None and (Path(path).suffix == ".onnx" or Path(path).is_file()):
        name = real_images.predicted_condition(manifest)
        classes = 0 if name is None else real_images.num_classes(manifest, name, train)
        return read_classifier(path, manifest.data.shape, classes)
    name = real_images.learned_label(manifest, train)
    label = train.conditions.get(name) if name is not None else None
    if name is None or label is None or len(np.unique(label)) < 2:
        raise InputDataError(
            f"{train.source} lacks labels to train a classifier on. "
            "Give labelled images with --train-data, or a classifier with --classifier FILE.onnx."
        )
    images = real_images.images_of(manifest, train.x, real_images.num_classes(manifest, name, train))
    return kept(train.x, label, images, path, report=report)
