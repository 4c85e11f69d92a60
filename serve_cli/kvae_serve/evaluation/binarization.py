"""Binarisation of the examples of an evaluation, if the likelihood is Bernoulli."""

from __future__ import annotations

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.inference.densities import binarize
from kvae_serve.readers.checks import check_outcomes
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import Manifest

MODES = ("dynamic", "static", "none")
STATIC_SEED = 0


def binarization_mode(manifest: Manifest, requested: str | None) -> str | None:
    """Return the mode of binarisation: "dynamic" by default; None if the likelihood is not Bernoulli.

    Raises:
        RequestError: The mode does not exist, or the likelihood uses data as they are.
    """
    if requested is not None and requested not in MODES:
        raise RequestError(f"binarize is {printable(repr(requested), 40)}; expected one of {', '.join(MODES)}.")
    if manifest.likelihood["name"] == "bernoulli":
        return requested or "dynamic"
    if requested not in (None, "none"):
        raise RequestError(
            f"{printable(manifest.name, 60)} has a {manifest.likelihood['name']} likelihood, which uses data as is. "
            f"Leave out --binarize {requested}."
        )
    return None


def binarized(x: np.ndarray, manifest: Manifest, mode: str | None, seed: int, start: int) -> np.ndarray:
    """Return the rows that encoder and likelihood receive, float32 `[rows, *shape]`.

    Args:
        x: float32 `[rows, *shape]` in data units.
        manifest: Manifest of the model.
        mode: "dynamic" for a draw that depends on the seed, "static" for the same draw with every seed, "none" if x is
            black and white; None if the likelihood is not Bernoulli.
        seed: Seed of the evaluation.
        start: Index of the first row. The draw of an example depends on its index only.

    Raises:
        InputDataError: The mode is "none" and x has gray levels.
    """
    if mode is None:
        return x
    if mode == "none":
        check_outcomes(x, manifest.data.range, "x")
        return x
    key = seed if mode == "dynamic" else STATIC_SEED
    return binarize(x, manifest, noise.uniforms(key, noise.STREAM_BINARIZE, start, len(x), manifest.data.num_values))
