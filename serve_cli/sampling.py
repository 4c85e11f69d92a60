"""Drawing from a model: noise to z under its prior, z to x through its decoder."""

from __future__ import annotations

import contextlib
import math
import operator
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from serve_cli import conditions as conditions_of
from serve_cli import likelihoods, noise
from serve_cli.errors import ModelFileError, RequestError, printable
from serve_cli.manifest import MIXTURE_PRIORS, Manifest

if TYPE_CHECKING:
    from serve_cli.model import Model

MAX_VALUES = 2**31
"""Numbers in one result: 8 GiB of float32."""


@dataclass(frozen=True, eq=False, repr=False)
class Draws:
    """What was drawn, label by label: rows `k * num` to `k * num + num - 1` belong to the k-th label.

    Attributes:
        x: float32 `[rows, *shape]` in data units.
        z: float32 `[rows, latent_dim]`.
        conditions: name to int64 (class index) or float32 `[rows]`.
        seed: what the noise was keyed with.
        start: index of each label's first row.
        num: rows of each label.
        scheme: how (seed, index) becomes noise.
        manifest: the model's.
    """

    x: np.ndarray
    z: np.ndarray
    conditions: dict[str, np.ndarray]
    seed: int
    start: int
    num: int
    manifest: Manifest
    scheme: str = noise.SCHEME

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return (
            f"<{len(self)} draws of {printable(self.manifest.name, 60)}: x {list(self.x.shape)}, "
            f"seed {self.seed}, start {self.start}>"
        )

    def names(self, name: str) -> list[str]:
        """Return a condition's value of each row as a text: its class name, or its number."""
        condition = self.manifest.condition(name)
        if condition is None:
            raise RequestError(f"There is no condition named {printable(name)}.")
        values = self.conditions[name].tolist()
        return [condition.classes[value] if condition.categorical else f"{value:g}" for value in values]


def sample(
    model: Model,
    num: int,
    *,
    conditions: Mapping[str, Any],
    seed: int | None,
    start: int,
    temperature: float,
    draw: bool,
    batch_size: int,
) -> Draws:
    """Draw `num` rows for each combination of conditions; `Model.sample` tells the whole story."""
    manifest = model.manifest
    if not model.has("decoder") and not os.path.isdir(model.path):  # noqa: PTH112
        raise ModelFileError(
            f"{printable(model.path)} is a lone {model.graphs[0]}, which cannot sample. "
            "Give the folder that it is of, or its decoder.onnx."
        )
    num = _whole(num, "The number to draw is a whole number of at least 1", 1)
    start = _whole(start, "The start is a whole number of at least 0", 0)
    batch_size = _whole(batch_size, "A batch has a whole number of rows, at least 1", 1)
    if seed is None:
        seed = noise.random_seed()
    seed = _whole(seed, "A seed is a whole number from 0 to 2**64 - 1", 0, noise.MAX_SEED)
    temperature = _temperature(temperature)
    wanted = conditions_of.combinations(manifest, conditions)
    rows = num * len(wanted)
    if rows * (manifest.data.num_values + manifest.latent_dim) > MAX_VALUES:
        raise RequestError(f"{rows} rows are too many to hold at once. Draw them in parts, by start.")
    likelihood = likelihoods.of(manifest) if draw else None
    columns = {
        condition.name: np.repeat(
            np.array([values[axis] for values in wanted], np.int64 if condition.categorical else np.float32), num
        )
        for axis, condition in enumerate(manifest.conditions)
    }
    normals, uniforms = noise.latent_noise(seed, start, num, manifest.latent_dim)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.tile(np.float32(temperature) * normals, (len(wanted), 1))
    z = _under_prior(model, scaled, np.tile(uniforms, len(wanted)), columns, batch_size)
    if not np.isfinite(z).all():
        raise RequestError(f"At a temperature of {temperature:g} z is no longer finite. Lower it.")
    # Parameters beside the mean are only needed for a draw.
    outputs = model.run("decoder", {"z": z} | columns, batch_size, None if draw else ["x_mean"])
    x = outputs["x_mean"]
    if likelihood is not None:
        x = np.empty_like(outputs["x_mean"])
        for first, last, index in _batches(rows, num, batch_size):
            words = noise.words(
                seed, noise.STREAM_DRAW, start + index, last - first, likelihood.num_words(manifest.data)
            )
            x[first:last] = likelihood.draw(
                {name: values[first:last] for name, values in outputs.items()}, words, manifest.data
            )
    return Draws(x, z, columns, seed, start, num, manifest)


def _whole(value: Any, expected: str, low: int, high: float = math.inf) -> int:
    """Return a whole number as int, numpy's included, or raise `RequestError`: a bool, a fraction or a text is none."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
        if not low <= number <= high:
            raise ValueError
    except (TypeError, ValueError):
        raise RequestError(f"{expected}, got {printable(repr(value), 40)}.") from None
    return number


def _temperature(value: Any) -> float:
    number = math.nan
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise RequestError(
            f"A temperature is a number of at least 0 (1 is the model itself), got {printable(repr(value), 40)}."
        )
    return number


def _under_prior(
    model: Model, scaled: np.ndarray, uniforms: np.ndarray, columns: dict[str, np.ndarray], batch_size: int
) -> np.ndarray:
    """Return z: `scaled` itself under N(0, I), else z_mean + sigma * scaled with both from prior.onnx."""
    prior = model.manifest.prior
    if prior["name"] == "standard_normal":
        return scaled
    if not model.has("prior"):
        raise ModelFileError(
            f"{printable(model.path)} has a learned prior, so it cannot be sampled without prior.onnx. "
            "Copy prior.onnx beside it and give the folder."
        )
    feeds = dict(columns)
    if prior["name"] in MIXTURE_PRIORS:
        log_weights = np.array(prior["log_weights"], np.float64)
        cumulative = np.cumsum(np.exp(log_weights - log_weights.max()))
        component = np.searchsorted(cumulative / cumulative[-1], uniforms, side="right")
        feeds["component"] = np.minimum(component, len(log_weights) - 1).astype(np.int64)
    outputs = model.run("prior", feeds, batch_size)
    with np.errstate(over="ignore", invalid="ignore"):
        return outputs["z_mean"] + np.exp(outputs["z_log_var"] / 2) * scaled


def _batches(rows: int, num: int, batch_size: int) -> Iterator[tuple[int, int, int]]:
    """Cut rows into pieces within one label: first row, end, and the first row's index within its label."""
    for label_start in range(0, rows, num):
        for index in range(0, num, batch_size):
            first = label_start + index
            yield first, min(first + batch_size, label_start + num), index
