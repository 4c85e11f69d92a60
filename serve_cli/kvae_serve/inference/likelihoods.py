"""Draws from p(x|z), given the parameters that the decoder returns. One small class per likelihood.

A draw is a pure function of the parameters and of the random words of the sample (stream 1 of
`kvae_serve.sealed.noise`), so a sample gets the same draw in any batch. To add a likelihood, write a class with
`num_words` and `draw`, and add it to `LIKELIHOODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from kvae_serve.errors import ModelFileError, RequestError, printable
from kvae_serve.inference.decoder_outputs import parameter, pick
from kvae_serve.inference.mixed_autoregressive import MixedAutoregressive
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import Data


class Likelihood(Protocol):
    """Likelihood p(x|z) that x can be drawn from."""

    def num_words(self, data: Data) -> int:
        """Return the number of random words that the draw of one example needs."""

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Return float32 `[batch, *shape]` in data units.

        Args:
            outputs: Outputs of the decoder by name: `x_mean`, and further parameters of the likelihood.
            words: uint64 `[batch, num_words]`.
            data: Description of x.
        """


class _OneWordPerValue:
    """Base of the likelihoods, built from `manifest.likelihood`. By default each value needs one uniform."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self.description = description

    def num_words(self, data: Data) -> int:
        """Return one word per value."""
        return data.num_values


class Bernoulli(_OneWordPerValue):
    """Each value is the highest of the range with probability (x_mean - low) / (high - low), else the lowest."""

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Compare a uniform with the probability."""
        x_mean = outputs["x_mean"]
        low, high = data.range or (0.0, 1.0)
        probability = (x_mean.astype(np.float64) - low) / (high - low)
        uniform = noise.words_to_uniforms(words).reshape(x_mean.shape)
        return _positive_zero(np.where(uniform < probability, high, low))


class ContinuousBernoulli(_OneWordPerValue):
    """A density over the range that rises or falls exponentially, with the rate `x_logits`."""

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Invert the distribution function (e^(t x) - 1) / (e^t - 1), on the side that does not overflow."""
        logits = parameter(outputs, "x_logits", data.shape)
        low, high = data.range or (0.0, 1.0)
        uniform = noise.words_to_uniforms(words).reshape(logits.shape)
        # x of a rising density (t > 0) equals 1 - x of the falling one, with 1 - u in place of u.
        falling = -np.abs(logits)
        safe = np.where(falling == 0, -1.0, falling)
        mirrored = np.where(logits > 0, 1.0 - uniform, uniform)
        with np.errstate(divide="ignore"):
            unit = np.where(falling == 0, mirrored, np.log1p(mirrored * np.expm1(safe)) / safe)
        unit = np.clip(np.where(logits > 0, 1.0 - unit, unit), 0.0, 1.0)
        return _positive_zero(low + unit * (high - low))


class Gaussian(_OneWordPerValue):
    """Each value is normal around `x_mean` with the log variance `x_log_var`, in squared data units; unbounded."""

    def num_words(self, data: Data) -> int:
        """Return the words of one normal per value. Normals are made in pairs."""
        return noise.num_normal_words(data.num_values)

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Scale and shift standard normals."""
        return _normal(outputs, words, data)


class DiscretizedLogistic(_OneWordPerValue):
    """Integers: a logistic around `x_location` with `x_log_scale`, rounded. The ends of the range include its tails.

    Both parameters are in data units.
    """

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Invert the distribution function, round, and clip to the range."""
        location = parameter(outputs, "x_location", data.shape)
        log_scale = parameter(outputs, "x_log_scale", data.shape)
        low, high = data.range or (0.0, 255.0)
        uniform = noise.words_to_uniforms(words).reshape(location.shape)
        with np.errstate(divide="ignore", over="ignore"):
            value = location + np.exp(log_scale) * (np.log(uniform) - np.log1p(-uniform))
        return _positive_zero(np.clip(np.rint(value), low, high))


class Categorical(_OneWordPerValue):
    """Each value is a class index from 0, with the probabilities along the last axis of `x_probability`."""

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Invert the cumulative probabilities."""
        probability = parameter(outputs, "x_probability", (*data.shape, None))
        uniform = noise.words_to_uniforms(words).reshape(probability.shape[:-1])
        return pick(probability, uniform).astype(np.float32)


class Mixed(_OneWordPerValue):
    """Columns of a table: numbers or their scores are normal, classes have the probabilities of their column.

    `probabilities` of the manifest contains the output of each column with classes, and null for a number. The words of
    a row are one normal per column, used by the numbers, then one uniform per column, used by the classes, and then, if
    numbers may be missing, one uniform per column for that. A missing number is NaN.
    """

    def num_words(self, data: Data) -> int:
        """Return the words of a normal and a uniform per column, so that a draw ignores the kind of other columns."""
        uniforms = 2 if "missing" in self.description else 1
        return noise.num_normal_words(data.num_values) + uniforms * data.num_values

    def draw(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
        """Draw column by column."""
        names = self.description.get("probabilities")
        forms = [_form(column) for column in data.columns]
        has_classes = [form == "classes" for form in forms]
        if not isinstance(names, list) or [isinstance(name, str) for name in names] != has_classes:
            raise ModelFileError(
                f"likelihood.probabilities of the manifest is {printable(names, 60)}; expected the name of an output "
                "for each column with classes, and null for each number."
            )
        num = data.num_values
        split = noise.num_normal_words(num)
        x = outputs["x_mean"].copy() if all(has_classes) else _normal(outputs, words[:, :split], data)
        scores = None
        if "quantile" in forms:
            scores = _normal({**outputs, "x_mean": parameter(outputs, "x_score", data.shape)}, words[:, :split], data)
        uniform = noise.words_to_uniforms(words[:, split:])
        for index, (name, form, column) in enumerate(zip(names, forms, data.columns, strict=True)):
            if form == "quantile" and scores is not None:
                x[:, index] = np.interp(scores[:, index], column["scores"], column["knots"])
            elif form == "classes":
                values = np.array(column.get("atoms", range(len(column.get("classes", ())))), np.float32)
                x[:, index] = values[pick(parameter(outputs, name, (len(values),)), uniform[:, index])]
        if "missing" in self.description:
            missing = parameter(outputs, str(self.description["missing"]), data.shape)
            x[uniform[:, num:] < missing] = np.nan
        return _positive_zero(x)


def _form(column: Mapping[str, Any]) -> str:
    return str(column.get("form", "standard")) if column["kind"] == "numeric" else "classes"


LIKELIHOODS: dict[str, Callable[[Mapping[str, Any]], Likelihood]] = {
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "gaussian": Gaussian,
    "discretized_logistic": DiscretizedLogistic,
    "categorical": Categorical,
    "mixed": Mixed,
}


def get_likelihood(model: Graphs) -> Likelihood:
    """Return the likelihood of a model, or raise `RequestError` if this version cannot draw from it."""
    manifest = model.manifest
    name = manifest.likelihood["name"]
    if name == "mixed_autoregressive":
        return MixedAutoregressive(model)
    if name not in LIKELIHOODS:
        raise RequestError(f"{manifest.name} has a {name} likelihood, and this version cannot draw from it. Use means.")
    return LIKELIHOODS[name](manifest.likelihood)


def _positive_zero(x: np.ndarray) -> np.ndarray:
    """Return x as float32 with every zero positive. NumPy's `clip(-0.0, 0, 1)` differs between versions."""
    return x.astype(np.float32) + np.float32(0)


def _normal(outputs: Mapping[str, np.ndarray], words: np.ndarray, data: Data) -> np.ndarray:
    log_var = parameter(outputs, "x_log_var", data.shape)
    normal = noise.words_to_normals(words, data.num_values).reshape(log_var.shape)
    return _positive_zero(outputs["x_mean"] + np.exp(log_var / 2) * normal)
