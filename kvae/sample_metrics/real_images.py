"""Real images to compare samples with: read in the model's form, selected by their labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvae.data import sources
from kvae.sample_metrics.network import Images
from kvae_serve.errors import InputDataError, RequestError, printable
from kvae_serve.readers.checks import check_range, check_units
from kvae_serve.readers.dispatch import fit_to
from kvae_serve.sealed.manifest import Manifest


class Real(NamedTuple):
    """A set of real images.

    Attributes:
        x: `[num, height, width, channels]` in data units.
        conditions: Values `[num]` by name; categorical ones as int64 indices of the model's classes. `label` can be
            present for an unconditional model as well; the classifier is trained on it.
        class_names: Class names of categorical conditions.
        source: Name of the source, for messages.
    """

    x: Any
    conditions: Mapping[str, np.ndarray]
    class_names: Mapping[str, tuple[str, ...]]
    source: str


def read(source: str | Path, manifest: Manifest, split: str) -> Real:
    """Read real images in a model's form: classes matched by name, pictures cropped and resized.

    Args:
        source: Path or name, as for `kvae.data.load`.
        manifest: The model's manifest.
        split: `"train"`, or `"test"` if the source has splits.

    Raises:
        InputDataError: The images are missing, or do not fit the model.
    """
    height, width, channels = manifest.data.shape
    dataset = sources.load(source, split, image_size=(height, width), channels=channels)
    fitted = fit_to(dataset, manifest)
    conditions, class_names = dict(fitted.conditions), dict(fitted.class_names)
    if manifest.condition("label") is None and "label" in dataset.class_names:
        conditions["label"], class_names["label"] = dataset.conditions["label"], dataset.class_names["label"]
    check_range(fitted.x, manifest.data.range, fitted.source)
    check_units(fitted.x, manifest.data.range, fitted.source)
    return Real(fitted.x, conditions, class_names, printable(fitted.source))


def predicted_condition(manifest: Manifest) -> str | None:
    """Return the condition that the classifier predicts: `label`, else the first categorical one, else None."""
    categorical = [each.name for each in manifest.conditions if each.categorical]
    return "label" if "label" in categorical else next(iter(categorical), None)


def learned_label(manifest: Manifest, train: Real) -> str | None:
    """Return the name of the labels to train a classifier on: the predicted condition, else `label`, else None."""
    return predicted_condition(manifest) or ("label" if "label" in train.class_names else None)


def num_classes(manifest: Manifest, name: str, train: Real) -> int:
    """Return the number of classes of a condition, or of a label that the model does not receive."""
    condition = manifest.condition(name)
    return len(condition.classes) if condition else len(train.class_names[name])


def images_of(manifest: Manifest, x: Any, classes: int) -> Images:
    """Return the images that a classifier accepts; an unbounded range is replaced by that of `x`."""
    low, high = manifest.data.range or (float(np.min(x)), float(np.max(x)))
    if not high > low:
        raise InputDataError(f"All image values are {low:g}; a classifier needs images that differ.")
    height, width, channels = manifest.data.shape
    return Images((height, width, channels), (low, high), classes)


def needed(real: Real, name: str) -> np.ndarray:
    """Return the values of a condition that the model needs, or raise InputDataError."""
    if name not in real.conditions:
        raise InputDataError(
            f"{real.source} lacks {printable(name, 40)}, a condition of the model. Give images that have it."
        )
    return real.conditions[name]


def take_like(label: np.ndarray, requested: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Choose random rows so that each label occurs as often as in `requested`.

    Args:
        label: int `[num]`, labels to choose from.
        requested: int `[other]`.
        rng: Random generator.

    Returns:
        int64 `[other]`, rows grouped by label.
    """
    order = rng.permutation(len(label))
    rows = []
    for one, count in zip(*np.unique(requested, return_counts=True), strict=True):
        having = order[label[order] == one]
        if len(having) < count:
            raise RequestError(
                f"Class {one} has {len(having)} training images, but {count} of the chosen test images. "
                "Ask for fewer samples."
            )
        rows.append(having[:count])
    return np.concatenate(rows)
