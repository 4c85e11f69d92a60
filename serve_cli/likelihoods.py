"""Draws from p(x given z) out of the parameters that a decoder gives, one small class for each likelihood.

A draw is a pure function of the parameters and of words that belong to the sample (stream 1 of `serve_cli.noise`), so
the same sample gets the same draw in whatever batch. To add a likelihood: a class with `num_words` and `draw`, and its
line in `LIKELIHOODS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from serve_cli import noise
from serve_cli.errors import RequestError
from serve_cli.manifest import Data, Manifest


class Likelihood(Protocol):
    """p(x given z), as far as drawing from it goes."""

    def num_words(self, data: Data) -> int:
        """Return how many random words the draw of one example takes."""

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Return float32 `[batch, *shape]` in data units.

        Args:
            outputs: the decoder's, `x_mean` and whatever parameters the likelihood has beside it.
            words: uint64 `[batch, num_words]`.
            data: what x is.
        """


class Bernoulli:
    """Each value is the highest of its range with probability (x_mean - low) / (high - low), else the lowest."""

    def num_words(self, data: Data) -> int:
        """One a value."""
        return data.num_values

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Hold a uniform against the probability."""
        x_mean = outputs["x_mean"]
        low, high = data.range or (0.0, 1.0)
        probability = (x_mean.astype(np.float64) - low) / (high - low)
        uniform = noise.words_to_uniforms(words).reshape(x_mean.shape)
        return np.where(uniform < probability, high, low).astype(np.float32)


LIKELIHOODS: dict[str, Likelihood] = {"bernoulli": Bernoulli()}


def of(manifest: Manifest) -> Likelihood:
    """Return the likelihood of a model, or raise `RequestError` where this version cannot draw from it."""
    name = manifest.likelihood["name"]
    if name not in LIKELIHOODS:
        raise RequestError(
            f"{manifest.name} has a {name} likelihood, which cannot be drawn from yet. Leave out --draw."
        )
    return LIKELIHOODS[name]
