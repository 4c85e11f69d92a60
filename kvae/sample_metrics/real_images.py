"""The real images that samples are set beside: read as the model takes them, chosen by their labels."""

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
    """Real images.

    Attributes:
        x: `[num, height, width, channels]` in data units.
        conditions: name to values `[num]`; a categorical one as int64 indices of the model's classes. `label` may be
            there for a model that is not given it too: the classifier learns from it.
        class_names: of the categorical ones.
        source: where they come from, for messages.
    """

    x: Any
    conditions: Mapping[str, np.ndarray]
    class_names: Mapping[str, tuple[str, ...]]
    source: str


def read(source: str | Path, manifest: Manifest, split: str) -> Real:
    """Read real images as a model takes them: its classes by name, pictures cut and resized to its size.

    Args:
        source: as for `kvae.data.load`.
        manifest: the model's.
        split: `"train"`, or `"test"` where the source has two.

    Raises:
        InputDataError: there are no such images, or they are not the model's.
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


def judged_condition(manifest: Manifest) -> str | None:
    """Name of the condition that a classifier reads off a sample: `label`, else the first categorical one."""
    categorical = [each.name for each in manifest.conditions if each.categorical]
    return "label" if "label" in categorical else next(iter(categorical), None)


def learned_label(manifest: Manifest, train: Real) -> str | None:
    """Name of what a classifier learns to read off real images: the judged condition, else the label they have."""
    return judged_condition(manifest) or ("label" if "label" in train.class_names else None)


def num_classes(manifest: Manifest, name: str, train: Real) -> int:
    """How many classes there are of a condition, or of a label that the model does not have."""
    condition = manifest.condition(name)
    return len(condition.classes) if condition else len(train.class_names[name])


def images_of(manifest: Manifest, x: Any, classes: int) -> Images:
    """What a classifier of the model's images is made for; where their range is unbounded that of `x` is taken."""
    low, high = manifest.data.range or (float(np.min(x)), float(np.max(x)))
    if not high > low:
        raise InputDataError(f"All values of the images are {low:g}, from which nothing is learned.")
    height, width, channels = manifest.data.shape
    return Images((height, width, channels), (low, high), classes)


def needed(real: Real, name: str) -> np.ndarray:
    """The values of a condition that a model needs."""
    if name not in real.conditions:
        raise InputDataError(
            f"{real.source} has no {printable(name, 40)}, which the model is conditioned on. Give images with it."
        )
    return real.conditions[name]


def take_like(label: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Choose rows by chance so that each label is there as often as in `wanted`.

    Args:
        label: int `[num]`, to choose from.
        wanted: int `[other]`.
        rng: the chance.

    Returns:
        int64 `[other]`, rows in an order of their own.
    """
    order = rng.permutation(len(label))
    rows = []
    for one, count in zip(*np.unique(wanted, return_counts=True), strict=True):
        having = order[label[order] == one]
        if len(having) < count:
            raise RequestError(
                f"The training images hold {len(having)} of class {one}, the chosen test images {count}. "
                "Ask for fewer samples, so that as many real ones can be set beside them."
            )
        rows.append(having[:count])
    return np.concatenate(rows)
