"""All figures of a model's samples, each beside the same figure of real images."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kvae.sample_metrics import matched_samples
from kvae.sample_metrics.accuracy_score import Fit, classification_accuracy_score
from kvae.sample_metrics.classifier import Classifier
from kvae.sample_metrics.consistency import label_consistency
from kvae.sample_metrics.frechet import frechet_distance
from kvae.sample_metrics.manifolds import NEIGHBOUR, Manifolds, precision_recall_density_coverage
from kvae.sample_metrics.mmd import squared_mmd
from kvae.sample_metrics.real_images import Real, images_of, judged_condition, needed, num_classes, take_like
from kvae.sample_metrics.spread import within_class_spread
from kvae_serve.errors import InputDataError, RequestError, printable
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.sealed.noise import MAX_SEED

#: Samples, and images of either real set, where the caller does not say and there are as many.
NUM = 5000

#: Figures that need a label that the model is given.
OF_LABELS = ("label_consistency", "label_consistency_worst", "classification_accuracy_score")


class _Set(NamedTuple):
    """Images that are measured, what they should show, and what the classifier says of them."""

    x: np.ndarray
    label: np.ndarray | None
    features: np.ndarray
    judged: np.ndarray | None


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
    """Measure a model's samples against real test images.

    `num` test images are chosen by the seed; the samples are drawn under their conditions, one for each, and as many
    training images with the same labels are chosen for the floor. So all sets are of one size and one mix of labels.

    Args:
        model: a loaded image model, see `kvae.load`.
        train: real training images; for the floor, see `kvae.sample_metrics.real_images`.
        test: real test images.
        classifier: the judge, made without the test images.
        num: images of each set; 5,000 or as many as there are by default.
        seed: of the choices and of the samples.
        temperature: of the prior; 1 is the model itself.
        draw: measure draws from p(x given z) rather than its means.
        fit: trains the classifier of the classification accuracy score; `network.fitter` where None and Keras is
            installed.

    Returns:
        By name `{"value", "floor", "n", ...}`: `label_consistency`, `label_consistency_worst` (with the labels),
        `classification_accuracy_score`, `frechet_distance`, `precision`, `recall`, `density`, `coverage`,
        `squared_mmd`, `within_class_spread` (relative to the real test images). The floor is what the real training
        images get in place of the samples; for the label consistency, whose classifier was trained on those, what the
        real test images get. A figure that cannot be had has the value None, and under `left_out` the reason.

    Raises:
        RequestError: the model makes no images, or there are too few real ones for `num`.
        InputDataError: the images lack a condition that the model needs.
    """
    manifest = model.manifest
    check_image_model(manifest)
    num, seed = check_request(num, seed, train, test)
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))
    chosen = np.sort(rng.permutation(len(test.x))[:num])
    given = {each.name: needed(test, each.name)[chosen] for each in manifest.conditions}
    name = judged_condition(manifest)
    if name is None:
        label, rows = None, rng.permutation(len(train.x))[:num]
    else:
        label, rows = given[name], take_like(needed(train, name), given[name], rng)
    rows = np.sort(rows)

    def judged(x: Any, labels: np.ndarray | None) -> _Set:
        return _Set(x, labels, *classifier(x))

    real = judged(test.x[chosen], label)
    other = judged(train.x[rows], None if name is None else train.conditions[name][rows])
    samples = judged(matched_samples.like(model, given, num, seed, temperature=temperature, draw=draw), label)

    if name is None:
        why = "the model is unconditional" if not manifest.conditions else "the model has no categorical condition"
        found = {each: _left_out(why) for each in OF_LABELS}
    else:
        found = _consistency(samples, real, manifest.condition(name).classes, classifier)
        fit = fit or _default_fit(manifest, name, train)
        found["classification_accuracy_score"] = _accuracy_score(samples, other, test, test.conditions[name], fit)
    ours, floor = _against(samples, real), _against(other, real)
    for each, value in ours.items():
        found[each] = {"value": value, "floor": floor[each], "n": num}
    for each in Manifolds._fields:
        found[each]["k"] = NEIGHBOUR
    found["squared_mmd"]["kernel"] = "(a.b / dim + 1)^3"
    found["within_class_spread"]["classes"] = 1 if label is None else len(np.unique(label))
    return found


def check_image_model(manifest: Manifest) -> None:
    """Raise `RequestError` unless a model makes images."""
    if manifest.data.kind != "image":
        raise RequestError(
            f"{printable(manifest.name, 60)} models a {manifest.data.kind}; samples are measured for images alone."
        )


def check_request(num: int | None, seed: int, train: Real, test: Real) -> tuple[int, int]:
    """Return how many images there are in each set, and the seed; raise `RequestError` where these make no sense."""
    most = min(len(train.x), len(test.x))
    if num is None:
        num = min(NUM, most)
    if not _is_whole(seed) or not 0 <= seed <= MAX_SEED:
        raise RequestError(f"A seed is a whole number from 0 to 2**64 - 1, got {printable(repr(seed), 40)}.")
    if not _is_whole(num) or num <= 2 * NEIGHBOUR:
        raise RequestError(
            f"Figures of samples take a whole number of more than {2 * NEIGHBOUR} images, got {printable(num, 40)}."
        )
    if num > most:
        which, there = ("test", test) if len(test.x) == most else ("training", train)
        raise RequestError(
            f"{num} samples are measured against as many real images, and there are {len(there.x)} {which} images. "
            f"Ask for at most {most}."
        )
    return int(num), int(seed)


def _is_whole(number: Any) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _consistency(
    samples: _Set, real: _Set, classes: Sequence[str], classifier: Classifier
) -> dict[str, dict[str, Any]]:
    if samples.judged is None or real.judged is None:
        why = f"{classifier.source} has no output of {len(classes)} columns"
        return {each: _left_out(why) for each in OF_LABELS[:2]}
    one, other = label_consistency(samples.label, samples.judged), label_consistency(real.label, real.judged)
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
        return _left_out("it trains a classifier, which needs Keras: pip install 'kvae-onnx[train]'")
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
    """The recipe of kvae's own classifier; None where Keras is not installed."""
    if any(importlib.util.find_spec(each) is None for each in ("keras", "tensorflow")):
        return None
    from kvae.backends import startup
    from kvae.sample_metrics.network import fitter

    startup.open_quietly("tensorflow")
    return fitter(images_of(manifest, train.x, num_classes(manifest, name, train)))


def _against(images: _Set, real: _Set) -> dict[str, float]:
    """The figures that compare two sets: in features, but for the spread."""
    manifolds = precision_recall_density_coverage(real.features, images.features)
    return {
        "frechet_distance": frechet_distance(real.features, images.features),
        **manifolds._asdict(),
        "squared_mmd": squared_mmd(real.features, images.features),
        "within_class_spread": _relative_spread(images, real),
    }


def _relative_spread(images: _Set, real: _Set) -> float:
    """Within-class spread in pixels over that of the real images, in the classes that have two of them."""
    label = np.zeros(len(real.x), np.int64) if real.label is None else real.label
    several = np.bincount(label)[label] > 1
    whole = within_class_spread(real.x[several], label[several]) if several.any() else 0.0
    if not whole:
        raise InputDataError("The chosen real images of a class do not differ, so no spread is measured. Take more.")
    label = np.zeros(len(images.x), np.int64) if images.label is None else images.label
    several = np.bincount(label)[label] > 1  # the labels are those of the real images, in another order maybe
    return within_class_spread(images.x[several], label[several]) / whole


def _left_out(why: str) -> dict[str, Any]:
    return {"value": None, "floor": None, "left_out": why}


def _error(share: float, num: int) -> float:
    """Standard error of a share of `num` independent trials."""
    return float(np.sqrt(share * (1.0 - share) / num))
