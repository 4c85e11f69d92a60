"""Labels for the colours of the latent space, including labels that the model does not receive."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError
from kvae_serve.sealed.manifest import Manifest


class Labels(NamedTuple):
    """A class per example: the `name` of the label, `values` int64 `[rows]`, and `names` of the classes.

    Example:
        >>> kvae.report.Labels("digit", np.array([0, 1]), ("zero", "one")).names
        ('zero', 'one')
    """

    name: str
    values: np.ndarray
    names: tuple[str, ...]


def read_labels(path: str, manifest: Manifest, split: str | None) -> Labels | None:
    """Read the labels of data whose model is unconditional.

    Args:
        path: The data.
        manifest: The model's manifest.
        split: Split of the data, by default the test split if there is one.

    Returns:
        The labels. None if the data have none, the model is conditional, or the data are a table.

    Example:
        >>> labels = kvae.report.read_labels("mnist-sample", kvae.load("mnist-vae").manifest, "test")
        >>> labels.name, len(labels.values)
        ('label', 200)
    """
    from kvae_serve.readers import ReadOptions, read_dataset

    if manifest.conditions or manifest.data.kind == "table":
        return None
    options = ReadOptions(in_memory=2**28)
    for part in (split,) if split else ("test", None):
        try:
            dataset: Any = read_dataset(path, part, options)
        except InputDataError:
            continue
        for name, values in dataset.conditions.items():
            if values.dtype.kind in "iu" and name in dataset.class_names:
                return Labels(name, values, tuple(dataset.class_names[name]))
        return None
    return None


def choose_labels(
    manifest: Manifest, x: np.ndarray, columns: dict[str, np.ndarray], labels: Labels | None
) -> Labels | None:
    """Return the labels to colour by: `labels` if long enough, a categorical condition, or a column of a table."""
    if labels is not None and len(labels.values) >= len(x):
        return labels._replace(values=np.asarray(labels.values[: len(x)], np.int64))
    for condition in manifest.conditions:
        if condition.categorical:
            return Labels(condition.name, columns[condition.name], condition.classes)
    for index, column in enumerate(manifest.data.columns):
        if column["kind"] == "categorical":
            return Labels(column["name"], x[:, index].astype(np.int64), tuple(column["classes"]))
    return None
