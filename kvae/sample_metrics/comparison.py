"""Comparison of a model's samples with real images: all figures, each with its baseline."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kvae.sample_metrics import matched_samples
from kvae.sample_metrics.accuracy_score import Fit, classification_accuracy_score
from kvae.sample_metrics.class_spread import within_class_spread
from kvae.sample_metrics.classifier import Classifier
from kvae.sample_metrics.consistency import label_consistency
from kvae.sample_metrics.frechet import frechet_distance
from kvae.sample_metrics.manifolds import NEIGHBOUR, Manifolds, precision_recall_density_coverage
from kvae.sample_metrics.mmd import squared_mmd
from kvae.sample_metrics.real_images import Real, images_of, needed, num_classes, predicted_condition, take_like
from kvae_serve.errors import InputDataError, RequestError, printable
from kvae_serve.numbers import is_integer
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.sealed.noise import MAX_SEED

#: Default number of samples, and of real images in each set.
NUM = 5000

#: Figures that need a label of the model.
OF_LABELS = ("label_consistency", "label_consistency_worst", "classification_accuracy_score")


class _Set(NamedTuple):
    """Images, their labels, and the output of the classifier."""

    x: np.ndarray
    label: np.ndarray | None
    features: np.ndarray
    predicted: np.ndarray | None


def figures(
    model: Any,
    train: Real,
    test: Real,
    classifier: Classifier,
    num: int | None = None,
    seed: int = 0,
    *,
    temperature: float = 1.0,
    draw: bool = False,
    fit: Fit | None = None,
) -> dict[str, dict[str, Any]]:
    """Compare a model's samples with real test images.

    The seed selects `num` test images. One sample is drawn with the conditions of each. As many training images with
    the same labels give the baseline. All sets therefore have the same size and the same labels.

    Args:
        model: An image model from `kvae.load`.
        train: Real training images for the baseline, see `kvae.sample_metrics.real_images`.
        test: Real test images.
        classifier: Classifier that was trained without the test images.
        num: Images in each set; by default 5,000, or all.
        seed: Seed of the choice and of the samples.
        temperature: Temperature of the prior; 1 is the model.
        draw: Measure draws from p(x given z) instead of its means.
        fit: Function that trains the classifier of the classification accuracy score; by default `network.fitter` if
            Keras is installed.

    Returns:
        A dict `{"value", "floor", "n", ...}` by name: `label_consistency`, `label_consistency_worst` (with the labels),
        `classification_accuracy_score`, `frechet_distance`, `precision`, `recall`, `density`, `coverage`,
        `squared_mmd`, `within_class_spread` (relative to the real test images). `floor` is the baseline: the
        result of real training images in place of the samples. For the label consistency it is that of real test
        images, because the classifier was trained on the former. A skipped figure has the value None and a reason in
        `left_out`.

    Raises:
        RequestError: The model is not an image model, or there are fewer than `num` real images.
        InputDataError: The images lack a condition of the model.
    """
    manifest = model.manifest
    check_image_model(manifest)
    num, seed = check_request(num, seed, train, test)
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))
    chosen = np.sort(rng.permutation(len(test.x))[:num])
    conditions = {each.name: needed(test, each.name)[chosen] for each in manifest.conditions}
    name = predicted_condition(manifest)
    if name is None:
        label, rows = None, rng.permutation(len(train.x))[:num]
    else:
        label, rows = conditions[name], take_like(needed(train, name), conditions[name], rng)
    rows = np.sort(rows)

    def classified(x: Any, labels: np.ndarray | None) -> _Set:
        return _Set(x, labels, *classifier(x))

    real = classified(test.x[chosen], label)
    other = classified(train.x[rows], None if name is None else train.conditions[name][rows])
    samples = classified(matched_samples.like(model, conditions, num, seed, temperature=temperature, draw=draw), label)

    if name is None:
        reason = (
            "the model is unconditional"
            if not manifest.conditions
            else "the model does not have a condition with classes"
        )
        results = {each: _left_out(reason) for each in OF_LABELS}
    else:
        results = _consistency(samples, real, manifest.condition(name).classes, classifier)
        fit = fit or _default_fit(manifest, name, train)
        results["classification_accuracy_score"] = _accuracy_score(samples, other, test, test.conditions[name], fit)
    ours, floor = _against(samples, real), _against(other, real)
    for each, value in ours.items():
        results[each] = {"value": value, "floor": floor[each], "n": num}
    for each in Manifolds._fields:
        results[each]["k"] = NEIGHBOUR
    results["squared_mmd"]["kernel"] = "(a.b / dim + 1)^3"
    results["within_class_spread"]["classes"] = 1 if label is None else len(np.unique(label))
    return results


def check_image_model(manifest: Manifest) -> None:
    """Raise `RequestError` unless a model is an image model."""
    if manifest.data.kind != "image":
        raise RequestError(f"{printable(manifest.name, 60)} models {manifest.data.kind} data; expected an image model.")


def check_request(num: int | None, seed: int, train: Real, test: Real) -> tuple[int, int]:
    """Return the number of images in each set and the seed, or raise `RequestError` if they are invalid."""
    most = min(len(train.x), len(test.x))
    if num is None:
        num = min(NUM, most)
    if not is_integer(seed) or not 0 <= seed <= MAX_SEED:
        raise RequestError(f"The seed is {printable(repr(seed), 40)}; expected an integer from 0 to 2**64 - 1.")
    if not is_integer(num) or num <= 2 * NEIGHBOUR:
        raise RequestError(f"The number of samples is {printable(num, 40)}; expected an integer above {2 * NEIGHBOUR}.")
    if num > most:
        which, there = ("test", test) if len(test.x) == most else ("training", train)
        raise RequestError(
            f"{num} samples need as many real images, but there are {len(there.x)} {which} images. "
            f"Ask for at most {most}."
        )
    return int(num), int(seed)


def _consistency(
    samples: _Set, real: _Set, classes: Sequence[str], classifier: Classifier
) -> dict[str, dict[str, Any]]:
    if samples.predicted is None or real.predicted is None:
        reason = f"{classifier.source} lacks an output with {len(classes)} columns"
        return {each: _left_out(reason) for each in OF_LABELS[:2]}
    one, other = label_consistency(samples.label, samples.predicted), label_consistency(real.label, real.predicted)
    return {
        "label_consistency": {
            "value": one.share,
            "floor": other.share,
            "n": one.num,
            "standard_error": _error(one.share, one.num),
        },
        "label_consistency_worst": {
            "value": one.worst_share,
            "floor": other.worst_share,
            "n": one.worst_num,
            "label": classes[one.worst_label],
            "floor_label": classes[other.worst_label],
            "standard_error": _error(one.worst_share, one.worst_num),
        },
    }


def _accuracy_score(samples: _Set, other: _Set, test: Real, label: np.ndarray, fit: Fit | None) -> dict[str, Any]:
    if fit is None:
        return _left_out("it trains a classifier with Keras: pip install 'kvae-onnx[train]'")
    value, floor = (
        classification_accuracy_score(np.asarray(each.x, np.float32), each.label, test.x, label, fit)
        for each in (samples, other)
    )
    return {
        "value": value,
        "floor": floor,
        "n": len(label),
        "trained_on": len(samples.x),
        "standard_error": _error(value, len(label)),
    }


def _default_fit(manifest: Manifest, name: str, train: Real) -> Fit | None:
    """Return the recipe of kvae's classifier; None if Keras is not installed."""
    if any(importlib.util.find_spec(each) is None for each in ("keras", "tensorflow")):
        return None
    from kvae.backends import startup
    from kvae.sample_metrics.network import fitter

    startup.open_quietly("tensorflow")
    return fitter(images_of(manifest, train.x, num_classes(manifest, name, train)))


def _against(images: _Set, real: _Set) -> dict[str, float]:
    """Return the figures that compare two sets: in features, except the spread."""
    manifolds = precision_recall_density_coverage(real.features, images.features)
    return {
        "frechet_distance": frechet_distance(real.features, images.features),
        **manifolds._asdict(),
        "squared_mmd": squared_mmd(real.features, images.features),
        "within_class_spread": _relative_spread(images, real),
    }


def _relative_spread(images: _Set, real: _Set) -> float:
    """Return the within-class spread in pixels relative to real images, for classes with at least two of them."""
    label = np.zeros(len(real.x), np.int64) if real.label is None else real.label
    several = np.bincount(label)[label] > 1
    whole = within_class_spread(real.x[several], label[several]) if several.any() else 0.0
    if not whole:
        raise InputDataError(
            "The chosen real images of each class are equal, so the spread is undefined. Take more images."
        )
    label = np.zeros(len(images.x), np.int64) if images.label is None else images.label
    several = np.bincount(label)[label] > 1  # the same labels as the real images, possibly in another order
    return within_class_spread(images.x[several], label[several]) / whole


def _left_out(reason: str) -> dict[str, Any]:
    return {"value": None, "floor": None, "left_out": reason}


def _error(share: float, num: int) -> float:
    """Return the standard error of a share of `num` independent trials."""
    return float(np.sqrt(share * (1.0 - share) / num))
