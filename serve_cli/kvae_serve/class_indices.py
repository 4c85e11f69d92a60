"""Class indices that kvae computed, as an array type that differs from the integers of a user."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import Any

import numpy as np


class ClassIndices(np.ndarray):
    """Indices of classes, int64 `[rows]`: the conditions of a `Dataset` or of `Draws`.

    Plain integers may be indices or names of numbered classes, such as the labels 1 to 26 of EMNIST letters.

    Example:
        >>> from kvae_serve.class_indices import ClassIndices
        >>> np.array([2, 0]).view(ClassIndices)[:1]
        array([2])
    """

    def __repr__(self) -> str:
        return repr(np.asarray(self))

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """Return plain arrays from arithmetic, whose results are not indices."""
        return np.asarray(array)[()] if return_scalar else np.asarray(array)


def are_ambiguous(classes: Sequence[str]) -> bool:
    """Return whether all names are integers, but not the indices 0, 1, 2, ..."""
    numbers = all(re.fullmatch(r"-?\d+", name) for name in classes)
    return numbers and any(name != str(index) for index, name in enumerate(classes))


def marked(conditions: dict[str, np.ndarray], categorical: Container[str]) -> dict[str, np.ndarray]:
    """Return the conditions by name, those in `categorical` as `ClassIndices`."""
    return {name: values.view(ClassIndices) if name in categorical else values for name, values in conditions.items()}
