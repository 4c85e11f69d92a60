"""Rows of images along paths through the latent space: the common form of traversals and interpolations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvae_serve.errors import RequestError
from kvae_serve.sealed.manifest import Manifest

MAX_VALUES = 2**28
"""Limit of the numbers in one path: 1 GiB of float32."""


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
