"""What codes are coloured by: the labels that data have, whether the model is given them or not."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError
from kvae_serve.sealed.manifest import Manifest


class Labels(NamedTuple):
    """A class for each example: `name` of what they are, `values` int64 `[rows]`, `names` of the classes."""

    name: str
    values: np.ndarray
    names: tuple[str, ...]


def read_labels(path: str, manifest: Manifest, split: str | None) -> Labels | None:
    """Return the labels that a file has and an unconditional model is not given; None where there are none.

    Args:
        path: the data.
        manifest: the model's.
        split: half of data that have two, the test half where None.
    """
    from kvae_serve.readers import ReadOptions, read_dataset

    if manifest.conditions or manifest.data.kind == "table":
        return None
    how = ReadOptions(in_memory=2**28)
    for half in (split,) if split else ("test", None):
        try:
            found: Any = read_dataset(path, half, how)
        except InputDataError:
            continue
        for name, values in found.conditions.items():
            if values.dtype.kind in "iu" and name in found.class_names:
                return Labels(name, values, tuple(found.class_names[name]))
        return None
    return None


def labels_of(manifest: Manifest, x: np.ndarray, columns: dict[str, np.ndarray], given: Labels | None) -> Labels | None:
    """Return what to colour by: labels that are given, a categorical condition, or a column of a table."""
    if given is not None and len(given.values) >= len(x):
        return given._replace(values=np.asarray(given.values[: len(x)], np.int64))
    for condition in manifest.conditions:
        if condition.categorical:
            return Labels(condition.name, columns[condition.name], condition.classes)
    for index, column in enumerate(manifest.data.columns):
        if column["kind"] == "categorical":
            return Labels(column["name"], x[:, index].astype(np.int64), tuple(column["classes"]))
    return None
