"""Drawing from a model: noise to z under its prior, z to x through its decoder."""

from __future__ import annotations

import contextlib
import itertools
import math
import operator
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kvae_serve.errors import ModelFileError, RequestError, printable
from kvae_serve.inference import likelihoods
from kvae_serve.row_stream import (
    RowStream,
    chunk_rows,
    condition_arrays,
    data_array,
    latent_array,
    model_metadata,
    spans,
)
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import MIXTURE_PRIORS, Manifest

if TYPE_CHECKING:
    from kvae_serve.model import Model

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

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every array by name, in the order of an .npz."""
        return {"x": self.x, "z": self.z} | self.conditions

    def row_stream(self) -> RowStream:
        """Return these rows as a stream of one chunk."""
        return _row_stream(self.manifest, len(self), iter([self.arrays()]), self)

    def names(self, name: str) -> list[str]:
        """Return a condition's value of each row as a text: its class name, or its number."""
        condition = self.manifest.condition(name)
        if condition is None:
            raise RequestError(f"There is no condition named {printable(name)}.")
        values = self.conditions[name].tolist()
        return [condition.classes[value] if condition.categorical else f"{value:g}" for value in values]


@dataclass(frozen=True, eq=False)
class Plan:
    """A checked request for draws: any rows of it can be made, and each is the same whichever others are.

    Attributes:
        model: what draws.
        num: rows of each combination of conditions.
        start: index of the first of them.
        seed: keys the noise.
        temperature: factor of the prior's standard deviation.
        likelihood: draws x; None where its mean is wanted.
        batch_size: rows in one run.
        wanted: the combinations, each a value for every condition of the manifest.
    """

    model: Model
    num: int
    start: int
    seed: int
    temperature: float
    likelihood: likelihoods.Likelihood | None
    batch_size: int
    wanted: list[tuple[int | float, ...]]

    @property
    def rows(self) -> int:
        """How many rows all combinations have together."""
        return self.num * len(self.wanted)

    def names(self) -> dict[str, list[str]]:
        """Return the values of each condition that are asked for, as texts: class names, or numbers."""
        return {
            each.name: list(
                dict.fromkeys(
                    each.classes[int(values[axis])] if each.categorical else f"{values[axis]:g}"
                    for values in self.wanted
                )
            )
            for axis, each in enumerate(self.model.manifest.conditions)
        }

    def whole(self) -> Draws:
        """Draw all rows into memory."""
        manifest = self.model.manifest
        if self.rows * (manifest.data.num_values + manifest.latent_dim) > MAX_VALUES:
            raise RequestError(f"{self.rows} rows are too many to hold at once. Draw them in parts, by start.")
        chunks = self.chunks()
        first = next(chunks)
        if len(first) == self.rows:
            return first
        try:
            x = np.empty((self.rows, *first.x.shape[1:]), np.float32)
            z = np.empty((self.rows, manifest.latent_dim), np.float32)
        except MemoryError as error:
            raise RequestError(
                f"{self.rows} rows do not fit into memory. Draw them in parts, by start, or by sample_batches."
            ) from error
        end = 0
        for chunk in itertools.chain([first], chunks):
            end += len(chunk)
            x[end - len(chunk) : end], z[end - len(chunk) : end] = chunk.x, chunk.z
        return Draws(x, z, self._columns(self.wanted, self.num), self.seed, self.start, self.num, manifest)

    def chunks(self) -> Iterator[Draws]:
        """Draw all rows in order, a chunk at a time: part of one combination's rows, or several combinations whole.

        Each chunk is what asking for those rows alone would give, with the start and num to ask for.
        """
        size = chunk_rows(self.model.manifest.data, self.batch_size)
        if self.num < size:
            made = self._noise(self.start, self.num)
            step = size // self.num
            for first in range(0, len(self.wanted), step):
                yield self._chunk(self.wanted[first : first + step], self.start, self.num, made)
            return
        for values in self.wanted:
            for first, end in spans(self.num, size):
                made = self._noise(self.start + first, end - first)
                yield self._chunk([values], self.start + first, end - first, made)

    def at(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Draw some rows by their numbers, in whatever order: what workers do that share a job.

        Args:
            rows: int `[any]`, each 0 to `self.rows - 1`, counted as in `whole`.

        Returns:
            The arrays of `Draws` by name, for these rows.
        """
        numbers = np.asarray(rows)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not numbers.size:
            raise RequestError(
                f"Rows are given as whole numbers, one or more; got {numbers.dtype} of shape {list(numbers.shape)}."
            )
        if numbers.min() < 0 or numbers.max() >= self.rows:
            raise RequestError(
                f"Rows are numbered 0 to {self.rows - 1}, got {numbers.min()} to {numbers.max()}. Ask for more by num."
            )
        which, within = np.divmod(numbers.astype(np.int64), self.num)
        index = self.start + within
        columns = {name: values[which] for name, values in self._columns(self.wanted, 1).items()}
        made = [self._noise(int(index[low]), high - low) for low, high in _neighbours(index)]
        scaled, uniforms = (np.concatenate(each) for each in zip(*made, strict=True))
        z, x = self._draw(columns, scaled, uniforms, index)
        return {"x": x, "z": z} | columns

    def row_stream(self) -> RowStream:
        """Return all rows as a stream for a writer."""
        return _row_stream(self.model.manifest, self.rows, (dict(draws.arrays()) for draws in self.chunks()), self)

    def _columns(self, wanted: list[tuple[int | float, ...]], num: int) -> dict[str, np.ndarray]:
        return {
            condition.name: np.repeat(
                np.array([values[axis] for values in wanted], np.int64 if condition.categorical else np.float32), num
            )
            for axis, condition in enumerate(self.model.manifest.conditions)
        }

    def _noise(self, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        normals, uniforms = noise.latent_noise(self.seed, start, num, self.model.manifest.latent_dim)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.float32(self.temperature) * normals, uniforms

    def _chunk(
        self, wanted: list[tuple[int | float, ...]], start: int, num: int, made: tuple[np.ndarray, np.ndarray]
    ) -> Draws:
        columns = self._columns(wanted, num)
        scaled, uniforms = (
            made if len(wanted) == 1 else (np.tile(made[0], (len(wanted), 1)), np.tile(made[1], len(wanted)))
        )
        index = np.tile(np.arange(start, start + num), len(wanted)) if self.likelihood else None
        z, x = self._draw(columns, scaled, uniforms, index)
        return Draws(x, z, columns, self.seed, start, num, self.model.manifest)

    def _draw(
        self, columns: dict[str, np.ndarray], scaled: np.ndarray, uniforms: np.ndarray, index: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        z = _under_prior(self.model, scaled, uniforms, columns, self.batch_size)
        if not np.isfinite(z).all():
            raise RequestError(f"At a temperature of {self.temperature:g} z is no longer finite. Lower it.")
        return z, decode(self.model, {"z": z} | columns, self.batch_size, self.likelihood, self.seed, index)


def plan(
    model: Model,
    num: int,
    *,
    conditions: Mapping[str, Any],
    seed: int | None,
    start: int,
    temperature: float,
    draw: bool,
    batch_size: int,
) -> Plan:
    """Check a request for `num` rows of each combination of conditions; `Model.sample` tells the whole story."""
    manifest = model.manifest
    if not model.has("decoder") and not os.path.isdir(model.path):  # noqa: PTH112
        raise ModelFileError(
            f"{printable(model.path)} is a lone {model.graphs[0]}, which cannot sample. "
            "Give the folder that it is of, or its decoder.onnx."
        )
    num = whole_number(num, "The number to draw is a whole number of at least 1", 1)
    start = whole_number(start, "The start is a whole number of at least 0", 0)
    if start + num > noise.MAX_INDEX:
        raise RequestError(f"Sample indices run from 0 to 2**63 - 1, got {num} from {start} on.")
    batch_size = whole_number(batch_size, "A batch has a whole number of rows, at least 1", 1)
    return Plan(
        model,
        num,
        start,
        checked_seed(seed),
        _temperature(temperature),
        likelihoods.of(manifest) if draw else None,
        batch_size,
        conditions_of.combinations(manifest, conditions),
    )


def decode(
    model: Model,
    feeds: Mapping[str, np.ndarray],
    batch_size: int,
    likelihood: likelihoods.Likelihood | None = None,
    seed: int = 0,
    index: np.ndarray | None = None,
) -> np.ndarray:
    """Return the mean of p(x given z) or, with a likelihood, a draw from it.

    Args:
        model: what decodes.
        feeds: z and every condition, as `Model.run` takes them.
        batch_size: rows in one run.
        likelihood: draws x; None for the mean.
        seed: keys the draws.
        index: int `[rows]`, which sample each row is: rises by 1 within a batch, or jumps.

    Returns:
        float32 `[rows, *shape]` in data units.
    """
    # Parameters beside the mean are only needed for a draw.
    if likelihood is None or index is None:
        return model.run("decoder", feeds, batch_size, ["x_mean"])["x_mean"]
    data = model.manifest.data
    outputs = model.run("decoder", feeds, batch_size)
    x = np.empty_like(outputs["x_mean"])
    num_words = likelihood.num_words(data)
    # Words are made for neighbours at once, a batch at a time: they take several times the memory of x.
    for low, high in _neighbours(index):
        for first in range(low, high, batch_size):
            end = min(first + batch_size, high)
            words = noise.words(seed, noise.STREAM_DRAW, int(index[first]), end - first, num_words)
            x[first:end] = likelihood.draw({name: each[first:end] for name, each in outputs.items()}, words, data)
    return x


def _neighbours(index: np.ndarray) -> Iterator[tuple[int, int]]:
    """Give first and end of each stretch of an index that rises by 1."""
    jumps = (np.flatnonzero(np.diff(index) != 1) + 1).tolist()
    return itertools.pairwise([0, *jumps, len(index)])


def checked_seed(seed: int | None) -> int:
    """Return a seed as a number, one drawn from the operating system where none is given."""
    if seed is None:
        return noise.random_seed()
    return whole_number(seed, "A seed is a whole number from 0 to 2**64 - 1", 0, noise.MAX_SEED)


def _row_stream(
    manifest: Manifest, rows: int, chunks: Iterator[dict[str, np.ndarray]], drawn: Draws | Plan
) -> RowStream:
    facts = {"kvae seed": str(drawn.seed), "kvae start": str(drawn.start), "kvae scheme": noise.SCHEME}
    return RowStream(
        manifest,
        rows,
        {"x": data_array(manifest), "z": latent_array(manifest)} | condition_arrays(manifest),
        ("x",),
        chunks,
        {
            "seed": np.array(drawn.seed, np.uint64),
            "start": np.array(drawn.start, np.int64),
            "scheme": np.array(noise.SCHEME),
        },
        model_metadata(manifest) | facts,
        drawn.num,
        drawn.start,
    )


def whole_number(value: Any, expected: str, low: int, high: float = math.inf) -> int:
    """Return a whole number as int, numpy's included, or raise `RequestError`: a bool, a fraction or a text is none."""
    try:
        # NumPy before 2.3 takes np.True_ for an index.
        if isinstance(value, bool | np.bool_):
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
