"""Rows of images along paths through the latent space, as `traverse` and `interpolate` make them."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.sealed.manifest import Manifest

MAX_VALUES = 2**28
"""Most numbers in one path: 1 GiB of float32."""


@dataclass(frozen=True, eq=False)
class LatentPath:
    """Rows of images.

    Attributes:
        x: float32 `[rows, steps, *shape]` in data units.
        z: float32 `[rows, steps, latent_dim]`.
        conditions: Each condition by name, `[rows, steps]`.
        positions: Position of each image, by name, `[rows, steps]`.
        metadata: Text for a picture, by keyword: how to make it again.
        manifest: Manifest of the model.
    """

    x: np.ndarray
    z: np.ndarray
    conditions: dict[str, np.ndarray]
    positions: dict[str, np.ndarray]
    metadata: dict[str, str]
    manifest: Manifest


def check_size(manifest: Manifest, num: int) -> None:
    """Raise `RequestError` if `num` images do not fit in memory."""
    if num * (manifest.data.num_values + manifest.latent_dim) > MAX_VALUES:
        raise RequestError(f"{num} images are too many to hold in memory at once. Use fewer steps, dimensions or rows.")


def whole(value: Any, what: str, low: int) -> int:
    """Return an integer of at least `low` as int, or raise a `RequestError` that begins with `what`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool | np.bool_) or not low <= number < 2**31:
        raise RequestError(f"{what} a whole number of at least {low}, got {printable(repr(value), 40)}.")
    return number
