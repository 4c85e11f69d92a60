"""Outputs of a decoder: parameters of p(x|z), checked, and the class that a uniform selects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kvae_serve.errors import ModelFileError, printable


def parameter(
    outputs: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...], dtype: Any = np.float64
) -> np.ndarray:
    """Return an output of the decoder as `[batch, *shape]`. A size of None means any size."""
    values = outputs.get(name)
    expected = ["classes" if size is None else size for size in shape]
    sizes = () if values is None else values.shape[1:]
    fits = len(sizes) == len(shape) and all(want in (None, size) for want, size in zip(shape, sizes, strict=True))
    if values is None or not fits:
        problem = "is missing" if values is None else f"has the shape {list(sizes)}"
        raise ModelFileError(
            f"The decoder's output {printable(name, 60)} {problem}; expected the shape {expected}. "
            "Use means, or export the model again."
        )
    return values.astype(dtype, copy=False)


def pick(probability: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return the class index that each uniform selects; never a class of probability zero."""
    cumulative = np.cumsum(probability, axis=-1)
    below = cumulative[..., :-1] <= (uniform * cumulative[..., -1])[..., None]
    return below.sum(axis=-1)
