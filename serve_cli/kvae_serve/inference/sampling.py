"""Sampling: noise to z under the prior, z to x through the decoder; also encoding and reconstruction of rows."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvae_serve.class_indices import marked
from kvae_serve.errors import RequestError, printable
from kvae_serve.inference.likelihoods import Likelihood, get_likelihood
from kvae_serve.numbers import integer, is_number
from kvae_serve.row_stream import (
    Dtype,
    RowStream,
    chunk_rows,
    condition_arrays,
    data_array,
    latent_array,
    model_metadata,
    spans,
)
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.runtime.session import BATCH_SIZE
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import MIXTURE_PRIORS, Condition, Manifest
from kvae_serve.writers.notebook import MAX_COLUMNS, MAX_ROWS, View, picture

MAX_VALUES = 2**31
"""Limit of the numbers in one result: 8 GiB of float32."""

DRAWN = ("table", "sequence")
"""Kinds of data whose samples are draws by default, because a mean is not a likely row. So are vectors with a scale per
feature. Samples of other data, such as pixels, are means."""


@dataclass(frozen=True, eq=False, repr=False)
class Draws(View):
    """Samples, label by label: rows `k * num` to `k * num + num - 1` belong to the k-th label.

    Attributes:
        x: float32 `[rows, *shape]` in data units.
        z: float32 `[rows, latent_dim]`.
        conditions: Each condition by name, int64 (class index) or float32 `[rows]`.
        seed: Seed of the noise.
        start: Index of the first row of each label.
        num: Number of rows of each label.
        manifest: Manifest of the model.
        scheme: Version of the function from (seed, index) to noise.
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

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        dtype: Dtype = "float32",
        scale: int | None = None,
        plain: bool = False,
        force: bool = False,
    ) -> None:
        """Write the samples.

        Args:
            path: Output: .png, .npz, .npy, .csv, or a folder for one PNG per image.
            dtype: "float32", or "uint8" for rounded pixels.
            scale: Factor that enlarges pictures; by default each image of a .png has at least 56 x 56 pixels.
            plain: Write a .png without captions, enlarged only by `scale`.
            force: Replace an existing output.

        Raises:
            RequestError: The suffix is unknown, or does not fit the data.
            OutputError: The path exists or cannot be written.
        """
        from kvae_serve.writers import dispatch

        style = dispatch.PictureStyle(scale, plain)
        dispatch.write(os.fspath(path), self, dtype=dtype, style=style, force=force)

    def to_frame(self) -> Any:
        """Return the rows of a table as a pandas DataFrame like the training table; a dict of arrays without pandas.

        Raises:
            RequestError: The data are not a table.
        """
        from kvae_serve.writers import frames

        if self.manifest.data.kind != "table":
            raise RequestError(f"{self.manifest.name} is a model of {self.manifest.data.kind} data, not of a table.")
        return frames.to_frame(frames.to_arrays(self.manifest, self.x, self.conditions, self.start))

    def _caption(self) -> str:
        shown = [
            f"{name} {', '.join(map(str, dict.fromkeys(self.names(name)[:: self.num])))}" for name in self.conditions
        ]
        rows = "; ".join([f"{len(self)} samples of {printable(self.manifest.name, 60)}", *shown, f"seed {self.seed}"])
        return printable(rows, 400)

    def _picture(self) -> np.ndarray | None:
        columns = min(self.num, MAX_COLUMNS)
        if len(self) == self.num:  # one label, so all rows of the picture are of it
            return picture(self.x[: MAX_COLUMNS * MAX_ROWS], columns, self.manifest.data.range)
        rows = np.arange(len(self)).reshape(-1, self.num)[:MAX_ROWS, :columns].ravel()
        return picture(self.x[rows], columns, self.manifest.data.range)

    def _table(self) -> dict[str, list[Any]]:
        from kvae_serve.writers import csv

        names = csv.column_names(self.manifest.data)
        if self.manifest.data.order:
            from kvae_serve.writers import frames

            shown = {name: values[:MAX_ROWS] for name, values in self.conditions.items()}
            arrays = frames.to_arrays(self.manifest, self.x[:MAX_ROWS], shown, self.start)
            return {name: values.tolist() for name, (values, _) in list(arrays.items())[:MAX_COLUMNS]}
        values = self.x[:MAX_ROWS].reshape(len(self.x[:MAX_ROWS]), -1)
        return {name: self.names(name)[:MAX_ROWS] for name in self.conditions} | {
            name: values[:, index].tolist() for index, name in enumerate(names[:MAX_COLUMNS])
        }

    def _show_text(self) -> None:
        from kvae_serve.writers import dispatch

        dispatch.show(self)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every array by name, in the order of an .npz."""
        return {"x": self.x, "z": self.z} | self.conditions

    def row_stream(self) -> RowStream:
        """Return these rows as a stream of one chunk."""
        return _row_stream(self.manifest, len(self), iter([self.arrays()]), self)

    def names(self, name: str) -> list[str]:
        """Return a condition of each row as text: its class name, or its number.

        Raises:
            RequestError: The condition does not exist.
        """
        condition = self.manifest.condition(name)
        if condition is None:
            raise RequestError(f"There is no condition named {printable(name)}.")
        values = self.conditions[name].tolist()
        return [condition.classes[value] if condition.categorical else f"{value:g}" for value in values]


@dataclass(frozen=True, eq=False)
class Plan:
    """A checked request for samples. A row does not depend on the other rows that are drawn.

    Attributes:
        model: The model to sample.
        num: Number of rows of each combination of conditions.
        start: Index of the first of them.
        seed: Seed of the noise.
        temperature: Factor of the prior's standard deviation.
        likelihood: Distribution to draw x from; None for its mean.
        batch_size: Rows per run.
        combinations: Combinations of conditions, each a value for every condition of the manifest.
        drawn: Conditions that are drawn for each row, as often as they occur in the training data.
    """

    model: Graphs
    num: int
    start: int
    seed: int
    temperature: float
    likelihood: Likelihood | None
    batch_size: int
    combinations: list[tuple[int | float, ...]]
    drawn: tuple[Condition, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows of all combinations together."""
        return self.num * len(self.combinations)

    def names(self) -> dict[str, list[str]]:
        """Return the requested values of each condition as text: class names, or numbers."""
        return {
            each.name: [conditions_of.DATA]
            if each in self.drawn
            else list(
                dict.fromkeys(
                    each.classes[int(values[axis])] if each.categorical else f"{values[axis]:g}"
                    for values in self.combinations
                )
            )
            for axis, each in enumerate(self.model.manifest.conditions)
        }

    def draw_all(self) -> Draws:
        """Draw all rows into memory.

        Raises:
            RequestError: The rows do not fit into memory.
        """
        manifest = self.model.manifest
        if self.rows * (manifest.data.num_values + manifest.latent_dim) > MAX_VALUES:
            raise RequestError(f"{self.rows} rows are too many for one array. Draw them in parts, with start.")
        chunks = self.chunks()
        first = next(chunks)
        if len(first) == self.rows:
            return first
        try:
            x = np.empty((self.rows, *first.x.shape[1:]), np.float32)
            z = np.empty((self.rows, manifest.latent_dim), np.float32)
        except MemoryError as error:
            raise RequestError(
                f"{self.rows} rows do not fit into memory. Draw them in parts, with start or sample_batches."
            ) from error
        end = 0
        for chunk in itertools.chain([first], chunks):
            end += len(chunk)
            x[end - len(chunk) : end], z[end - len(chunk) : end] = chunk.x, chunk.z
        conditions = self._columns(*self._places(0, len(self.combinations), self.start, self.num))
        return Draws(x, z, conditions, self.seed, self.start, self.num, manifest)

    def chunks(self) -> Iterator[Draws]:
        """Draw all rows in order, in chunks: part of one combination's rows, or several complete combinations.

        Each chunk equals a separate request for its rows, with its start and num.
        """
        size = chunk_rows(self.model.manifest.data, self.batch_size)
        if self.num < size:
            scaled = self._scaled_noise(self.start, self.num)
            for first, end in spans(len(self.combinations), size // self.num):
                yield self._chunk(first, end, self.start, self.num, scaled)
            return
        for number in range(len(self.combinations)):
            for first, end in spans(self.num, size):
                scaled = self._scaled_noise(self.start + first, end - first)
                yield self._chunk(number, number + 1, self.start + first, end - first, scaled)

    def at(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Draw some rows by number, in any order, for example the share of one worker.

        Args:
            rows: int `[any]`, each 0 to `self.rows - 1`, counted as in `draw_all`.

        Returns:
            The arrays of `Draws` by name, limited to these rows.

        Raises:
            RequestError: A row does not exist.
        """
        numbers = np.asarray(rows)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not numbers.size:
            raise RequestError(
                f"rows is {numbers.dtype} of shape {list(numbers.shape)}; expected a list of at least one integer."
            )
        if numbers.min() < 0 or numbers.max() >= self.rows:
            raise RequestError(
                f"Rows {numbers.min()} to {numbers.max()} do not all exist; expected 0 to {self.rows - 1}. Raise num."
            )
        combination, within = np.divmod(numbers.astype(np.int64), self.num)
        index = self.start + within
        columns = self._columns(combination, index)
        parts = [self._scaled_noise(int(index[low]), high - low) for low, high in _consecutive(index)]
        normals, uniforms = (np.concatenate(each) for each in zip(*parts, strict=True))
        z, x = self._draw(columns, normals, uniforms, index)
        return {"x": x, "z": z} | columns

    def row_stream(self) -> RowStream:
        """Return all rows as a stream for a writer."""
        return _row_stream(self.model.manifest, self.rows, (draws.arrays() for draws in self.chunks()), self)

    def _columns(self, combination: np.ndarray, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return each condition of rows with these combinations and sample indices, both `[rows]`."""
        values = np.array(self.combinations, np.float64).reshape(len(self.combinations), -1)
        columns = {}
        manifest = self.model.manifest
        for axis, condition in enumerate(manifest.conditions):
            if condition not in self.drawn:
                dtype = np.int64 if condition.categorical else np.float32
                columns[condition.name] = values[:, axis].astype(dtype)[combination]
        if self.drawn:
            columns |= conditions_of.from_data(manifest, columns, self.drawn, self._uniforms(index))
        in_order = {each.name: columns[each.name] for each in manifest.conditions}
        return marked(in_order, {each.name for each in manifest.conditions if each.categorical})

    def _uniforms(self, index: np.ndarray) -> np.ndarray:
        """Return a uniform for each condition of rows with these sample indices, `[rows, conditions]`."""
        num = len(self.model.manifest.conditions)
        parts = [
            noise.uniforms(self.seed, noise.STREAM_CONDITIONS, int(index[low]), high - low, num)
            for low, high in _consecutive(index)
        ]
        return np.concatenate(parts)

    @staticmethod
    def _places(first: int, end: int, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Return combination and sample index of `num` rows of each combination from `first` to `end`."""
        return np.repeat(np.arange(first, end), num), np.tile(np.arange(start, start + num), end - first)

    def _scaled_noise(self, start: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Return normals times the temperature `[num, latent_dim]`, and uniforms `[num]`."""
        normals, uniforms = noise.latent_noise(self.seed, start, num, self.model.manifest.latent_dim)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.float32(self.temperature) * normals, uniforms

    def _chunk(self, first: int, end: int, start: int, num: int, scaled: tuple[np.ndarray, np.ndarray]) -> Draws:
        combination, index = self._places(first, end, start, num)
        columns = self._columns(combination, index)
        repeats = end - first
        normals, uniforms = scaled if repeats == 1 else (np.tile(scaled[0], (repeats, 1)), np.tile(scaled[1], repeats))
        z, x = self._draw(columns, normals, uniforms, index if self.likelihood else None)
        return Draws(x, z, columns, self.seed, start, num, self.model.manifest)

    def _draw(
        self, columns: dict[str, np.ndarray], normals: np.ndarray, uniforms: np.ndarray, index: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        z = under_prior(self.model, normals, uniforms, columns, self.batch_size)
        if not np.isfinite(z).all():
            raise RequestError(f"temperature is {self.temperature:g}, which makes z infinite. Lower it.")
        return z, decode(self.model, {"z": z} | columns, self.batch_size, self.likelihood, self.seed, index)


def plan(
    model: Graphs,
    num: int,
    *,
    conditions: Mapping[str, Any],
    seed: int | None = None,
    start: int = 0,
    temperature: float = 1.0,
    draw: bool | None = None,
    batch_size: int = BATCH_SIZE,
) -> Plan:
    """Check a request for `num` rows of each combination of conditions. `Model.sample` describes the arguments."""
    model.need("decoder")
    num = integer(num, "num", 1, noise.MAX_INDEX)
    if not (is_number(temperature) and temperature >= 0):
        raise RequestError(
            f"temperature is {printable(repr(temperature), 40)}; expected a number of at least 0 (1 is the prior "
            "itself)."
        )
    if draw is None:
        data = model.manifest.data
        draw = data.kind in DRAWN or bool(data.scale)
    requested, drawn = conditions_of.split_data(model.manifest, conditions)
    return Plan(
        model,
        num,
        first_index(start, num),
        checked_seed(seed),
        float(temperature),
        get_likelihood(model) if draw else None,
        integer(batch_size, "batch_size", 1),
        conditions_of.combinations(model.manifest, requested),
        drawn,
    )


def decode(
    model: Graphs,
    feeds: Mapping[str, np.ndarray],
    batch_size: int,
    likelihood: Likelihood | None = None,
    seed: int = 0,
    index: np.ndarray | None = None,
) -> np.ndarray:
    """Return the mean of p(x|z) or, with a likelihood, a draw from it.

    Args:
        model: A model with its decoder.
        feeds: z and every condition, checked.
        batch_size: Rows per run.
        likelihood: Distribution to draw x from; None for its mean.
        seed: Seed of the draw.
        index: int `[rows]`, the sample index of each row. Runs of consecutive indices are fast.

    Returns:
        float32 `[rows, *shape]` in data units.
    """
    if likelihood is None or index is None:
        return model.run("decoder", feeds, batch_size, ["x_mean"])["x_mean"]
    data = model.manifest.data
    outputs = model.run("decoder", feeds, batch_size)
    x = np.empty_like(outputs["x_mean"])
    num_words = likelihood.num_words(data)
    # Words are generated for one batch of consecutive rows at a time: they need several times the memory of x.
    for low, high in _consecutive(index):
        for first in range(low, high, batch_size):
            end = min(first + batch_size, high)
            words = noise.words(seed, noise.STREAM_DRAW, int(index[first]), end - first, num_words)
            x[first:end] = likelihood.draw({name: each[first:end] for name, each in outputs.items()}, words, data)
    return x


def encode(model: Graphs, feeds: Mapping[str, np.ndarray], batch_size: int = BATCH_SIZE) -> dict[str, np.ndarray]:
    """Return `z_mean` and `z_log_var` of q(z|x), each float32 `[rows, latent_dim]`."""
    return model.run("encoder", feeds, batch_size, ["z_mean", "z_log_var"])


def reconstruct(model: Graphs, feeds: Mapping[str, np.ndarray], batch_size: int) -> np.ndarray:
    """Return the mean of p(x|z) at the mean of q(z|x), float32 `[rows, *shape]` in data units."""
    z_mean = model.run("encoder", feeds, batch_size, ["z_mean"])["z_mean"]
    conditions = {name: values for name, values in feeds.items() if name != "x"}
    return decode(model, {"z": z_mean} | conditions, batch_size)


def draw_posterior(z_mean: np.ndarray, z_log_var: np.ndarray, seed: int, start: int) -> np.ndarray:
    """Return a draw from q(z|x) for each row, float32 `[rows, latent_dim]`. Row i depends on (seed, start + i)."""
    normals, _ = noise.latent_noise(seed, start, *z_mean.shape)
    return z_mean + np.exp(z_log_var / 2) * normals


def checked_seed(seed: int | None) -> int:
    """Return a seed as an int; a random one if it is None."""
    return noise.random_seed() if seed is None else integer(seed, "seed", 0, noise.MAX_SEED)


def first_index(start: int, num: int) -> int:
    """Return the index of the first of `num` rows as an int, checked so that the last index exists."""
    return integer(start, "start", 0, noise.MAX_INDEX - num)


def noise_scalars(seed: int, start: int) -> dict[str, np.ndarray]:
    """Return the scalars of an .npz that describe the noise."""
    return {
        "seed": np.array(seed, np.uint64),
        "start": np.array(start, np.int64),
        "scheme": np.array(noise.SCHEME),
    }


def _row_stream(
    manifest: Manifest, rows: int, chunks: Iterator[dict[str, np.ndarray]], source: Draws | Plan
) -> RowStream:
    return RowStream(
        manifest,
        rows,
        {"x": data_array(manifest), "z": latent_array(manifest)} | condition_arrays(manifest),
        ("x",),
        chunks,
        noise_scalars(source.seed, source.start),
        model_metadata(manifest)
        | {"kvae seed": str(source.seed), "kvae start": str(source.start), "kvae scheme": noise.SCHEME},
        source.num,
        source.start,
    )


def _consecutive(index: np.ndarray) -> Iterator[tuple[int, int]]:
    """Return first and end of each run of consecutive indices."""
    jumps = (np.flatnonzero(np.diff(index) != 1) + 1).tolist()
    return itertools.pairwise([0, *jumps, len(index)])


def under_prior(
    model: Graphs, normals: np.ndarray, uniforms: np.ndarray, columns: dict[str, np.ndarray], batch_size: int
) -> np.ndarray:
    """Return z: the normals themselves under N(0, I), else z_mean + sigma * normals with both from prior.onnx.

    Args:
        model: A model, with prior.onnx if the prior is learned.
        normals: Standard normals, float32 `[rows, latent_dim]`.
        uniforms: float64 `[rows]`, which select the component of a mixture.
        columns: Each condition by name, `[rows]`.
        batch_size: Rows per run.
    """
    prior = model.manifest.prior
    if prior["name"] == "standard_normal":
        return normals
    feeds = dict(columns)
    if prior["name"] in MIXTURE_PRIORS:
        log_weights = np.array(prior["log_weights"], np.float64)
        cumulative = np.cumsum(np.exp(log_weights - log_weights.max()))
        component = np.searchsorted(cumulative / cumulative[-1], uniforms, side="right")
        feeds["component"] = np.minimum(component, len(log_weights) - 1).astype(np.int64)
    outputs = model.run("prior", feeds, batch_size)
    with np.errstate(over="ignore", invalid="ignore"):
        return outputs["z_mean"] + np.exp(outputs["z_log_var"] / 2) * normals
