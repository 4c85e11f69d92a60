"""Draws from p(x given z) out of the parameters that a decoder gives, one small class for each likelihood.

A draw is a pure function of the parameters and of words that belong to the sample (stream 1 of
`kvae_serve.sealed.noise`), so
the same sample gets the same draw in whatever batch. To add a likelihood: a class with `num_words` and `draw`, and its
line in `LIKELIHOODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from kvae_serve.errors import ModelFileError, RequestError, printable
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import Data, Manifest


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


class _OneWordAValue:
    """What most likelihoods share: they are made from the manifest's facts, and one uniform makes one value."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = facts

    def num_words(self, data: Data) -> int:
        """One a value."""
        return data.num_values


class Bernoulli(_OneWordAValue):
    """Each value is the highest of its range with probability (x_mean - low) / (high - low), else the lowest."""

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Hold a uniform against the probability."""
        x_mean = outputs["x_mean"]
        low, high = data.range or (0.0, 1.0)
        probability = (x_mean.astype(np.float64) - low) / (high - low)
        uniform = noise.words_to_uniforms(words).reshape(x_mean.shape)
        return np.where(uniform < probability, high, low).astype(np.float32)


class ContinuousBernoulli(_OneWordAValue):
    """A density over the range that grows or falls exponentially, at the rate that `x_logits` gives."""

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Invert the distribution function (e^(t x) - 1) / (e^t - 1), from the side where nothing overflows."""
        logits = _parameter(outputs, "x_logits", data.shape)
        low, high = data.range or (0.0, 1.0)
        uniform = noise.words_to_uniforms(words).reshape(logits.shape)
        # x of a rising density (t > 0) is 1 - x of the falling one, with 1 - u for u.
        falling = -np.abs(logits)
        safe = np.where(falling == 0, -1.0, falling)
        mirrored = np.where(logits > 0, 1.0 - uniform, uniform)
        with np.errstate(divide="ignore"):
            unit = np.where(falling == 0, mirrored, np.log1p(mirrored * np.expm1(safe)) / safe)
        unit = np.clip(np.where(logits > 0, 1.0 - unit, unit), 0.0, 1.0)
        return (low + unit * (high - low)).astype(np.float32)


class Gaussian(_OneWordAValue):
    """Each value is normal around `x_mean` with the log variance `x_log_var`, in squared data units; unbounded."""

    def num_words(self, data: Data) -> int:
        """Normals are made in pairs."""
        return noise.num_normal_words(data.num_values)

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Scale and shift standard normals."""
        return _normal(outputs, words, data)


class DiscretizedLogistic(_OneWordAValue):
    """Whole numbers: a logistic around `x_location` with `x_log_scale`, rounded; the ends of the range take its tails.

    Both parameters are in data units.
    """

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Invert the distribution function, round, and keep within the range."""
        location = _parameter(outputs, "x_location", data.shape)
        log_scale = _parameter(outputs, "x_log_scale", data.shape)
        low, high = data.range or (0.0, 255.0)
        uniform = noise.words_to_uniforms(words).reshape(location.shape)
        with np.errstate(divide="ignore", over="ignore"):
            value = location + np.exp(log_scale) * (np.log(uniform) - np.log1p(-uniform))
        return np.clip(np.rint(value), low, high).astype(np.float32)


class Categorical(_OneWordAValue):
    """Each value is a class index from 0, with the probabilities along the last axis of `x_probability`."""

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Invert the cumulative probabilities."""
        probability = _parameter(outputs, "x_probability", (*data.shape, None))
        uniform = noise.words_to_uniforms(words).reshape(probability.shape[:-1])
        return _pick(probability, uniform)


class Mixed(_OneWordAValue):
    """The columns of a table: numbers normal around `x_mean`, classes by the probabilities that each column has.

    The manifest's `probabilities` names the output of each categorical column, null for a number. A row takes the
    words of as many normals as there are columns, of which the numbers use their own, and then a word a column, which
    the classes use.
    """

    def num_words(self, data: Data) -> int:
        """A normal and a uniform for each column, so that a column's draw does not depend on the kind of others."""
        return noise.num_normal_words(data.num_values) + data.num_values

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Draw column by column."""
        names = self.facts.get("probabilities")
        kinds = [column["kind"] == "categorical" for column in data.columns]
        if not isinstance(names, list) or [isinstance(name, str) for name in names] != kinds:
            raise ModelFileError(
                f"The manifest's likelihood.probabilities is {printable(names, 60)}, expected the name of an output "
                "for each categorical column, null for each number."
            )
        split = noise.num_normal_words(data.num_values)
        x = outputs["x_mean"].copy() if all(kinds) else _normal(outputs, words[:, :split], data)
        uniform = noise.words_to_uniforms(words[:, split:])
        for index, (name, column) in enumerate(zip(names, data.columns, strict=True)):
            if name is not None:
                x[:, index] = _pick(_parameter(outputs, name, (len(column["classes"]),)), uniform[:, index])
        return x


LIKELIHOODS: dict[str, Callable[[Mapping[str, Any]], Likelihood]] = {
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "gaussian": Gaussian,
    "discretized_logistic": DiscretizedLogistic,
    "categorical": Categorical,
    "mixed": Mixed,
}


def of(manifest: Manifest) -> Likelihood:
    """Return the likelihood of a model, or raise `RequestError` where this version cannot draw from it."""
    name = manifest.likelihood["name"]
    if name not in LIKELIHOODS:
        raise RequestError(
            f"{manifest.name} has a {name} likelihood, which cannot be drawn from yet. Leave out --draw."
        )
    return LIKELIHOODS[name](manifest.likelihood)


def _parameter(outputs: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return one of the decoder's outputs as float64 `[batch, *shape]`; None stands for any size."""
    found = outputs.get(name)
    if (
        found is None
        or found.ndim != 1 + len(shape)
        or any(want not in (None, size) for want, size in zip(shape, found.shape[1:], strict=True))
    ):
        what = "none" if found is None else str(list(found.shape[1:]))
        wanted = ["classes" if size is None else size for size in shape]
        raise ModelFileError(
            f"A draw needs the decoder's output {printable(name, 60)} of shape {wanted}, found {what}. "
            "Leave out --draw, or export the model again."
        )
    return found.astype(np.float64)


def _normal(outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
    log_var = _parameter(outputs, "x_log_var", data.shape)
    normal = noise.words_to_normals(words, data.num_values).reshape(log_var.shape)
    return (outputs["x_mean"] + np.exp(log_var / 2) * normal).astype(np.float32)


def _pick(probability: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return the index of the class that each uniform falls to; never one of probability zero."""
    cumulative = np.cumsum(probability, axis=-1)
    below = cumulative[..., :-1] <= (uniform * cumulative[..., -1])[..., None]
    return below.sum(axis=-1).astype(np.float32)
