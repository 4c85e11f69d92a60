"""Complexity of images, which corrects the elbo for out-of-distribution detection.

A likelihood is high for simple images, whatever they show: a model of clothes gives digits a higher elbo than clothes.
The size of the losslessly compressed image measures how simple it is.

Reference: Serra et al. (2020), https://arxiv.org/abs/1909.11480, eq. 2.
"""

from __future__ import annotations

import math

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.sealed.manifest import Manifest

METHODS = ("elbo", "complexity")
"""Scores by which examples are ranked: the elbo, or the elbo plus the complexity."""

COMPRESSOR = "bz2"
"""Name of the compressor in a manifest. bzip2 has one implementation, so sizes do not depend on its version."""


def check(method: str, manifest: Manifest) -> str:
    """Return the method, or raise `RequestError` if it does not exist or does not fit the data of a model."""
    if method not in METHODS:
        raise RequestError(f"The method is {printable(method, 40)}; expected {' or '.join(METHODS)}.")
    if method == "complexity" and not applies(manifest):
        raise RequestError(
            f"{printable(manifest.name, 60)} models {manifest.data.kind} data; complexity is for images of 8 bits, or "
            "black and white. Use --method elbo."
        )
    return method


def applies(manifest: Manifest) -> bool:
    """Return whether a model is one of images of 8 bits, or black and white."""
    is_bits = manifest.likelihood["name"] == "bernoulli"
    return manifest.data.kind == "image" and (is_bits or manifest.data.range == (0.0, 255.0))


def complexity(x: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Compute the size of each image after compression with bzip2, float64 `[rows]`, in nats.

    Args:
        x: `[rows, height, width, channels]` in data units, black and white under a Bernoulli likelihood.
        manifest: Manifest of the model.
    """
    import bz2

    # One channel after the other, because a compressor finds the similarity of neighbors in the same channel.
    planes = np.moveaxis(np.asarray(x), -1, 1).reshape(len(x), -1)
    if manifest.likelihood["name"] == "bernoulli":
        low, high = manifest.data.range or (0.0, 1.0)
        stored = np.packbits(planes > (low + high) / 2, axis=1)
    else:
        stored = np.rint(planes).astype(np.uint8)
    return np.array([8 * math.log(2.0) * len(bz2.compress(row.tobytes(), 9)) for row in stored], np.float64)
