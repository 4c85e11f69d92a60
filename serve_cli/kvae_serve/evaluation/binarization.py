"""What is evaluated: the examples as they are, or drawn to black and white where the likelihood is a Bernoulli."""

from __future__ import annotations

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.inference.densities import binarize
from kvae_serve.readers.checks import check_outcomes
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import Manifest

WAYS = ("dynamic", "static", "none")
STATIC_SEED = 0


def way(manifest: Manifest, asked: str | None) -> str | None:
    """Return how x becomes black and white: as asked, "dynamic" by default; None for other likelihoods.

    Raises:
        RequestError: another likelihood than a Bernoulli takes x as it is.
    """
    if asked is not None and asked not in WAYS:
        raise RequestError(f"binarize is one of {', '.join(WAYS)}; got {printable(repr(asked), 40)}.")
    if manifest.likelihood["name"] == "bernoulli":
        return asked or "dynamic"
    if asked not in (None, "none"):
        raise RequestError(
            f"{printable(manifest.name, 60)} has a {manifest.likelihood['name']} likelihood, which takes data as they "
            f"are. Leave --binarize {asked} out."
        )
    return None


def target(x: np.ndarray, manifest: Manifest, how: str | None, seed: int, start: int) -> np.ndarray:
    """Return what encoder and likelihood are to see of rows `start` on, float32 `[rows, *shape]`.

    "dynamic" draws each value anew for each seed; "static" draws them once and for all, by a seed of its own. The
    draw of an example depends on its index alone.

    Raises:
        InputDataError: with "none", x has gray levels, which are no outcomes of a Bernoulli.
    """
    if how is None:
        return x
    if how == "none":
        check_outcomes(x, manifest.data.range, "x")
        return x
    key = seed if how == "dynamic" else STATIC_SEED
    uniforms = noise.uniforms(key, noise.STREAM_BINARIZE, start, len(x), manifest.data.num_values)
    return binarize(x, manifest, uniforms)
