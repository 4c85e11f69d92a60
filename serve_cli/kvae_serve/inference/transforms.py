"""Streams of `encode`, `decode` and `reconstruct`, in chunks.

The input can be an array of any size, also one on disk or from a pipe: its rows are read once, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from kvae_serve.inference import sampling
from kvae_serve.inference.inputs import feeds
from kvae_serve.inference.likelihoods import get_likelihood
from kvae_serve.row_stream import (
    Chunk,
    RowStream,
    chunk_rows,
    condition_arrays,
    count_rows,
    data_array,
    latent_array,
    model_metadata,
    spans,
)
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.sealed import noise


def encode(
    model: Graphs,
    x: np.ndarray,
    conditions: Mapping[str, Any],
    *,
    seed: int | None = None,
    draw: bool = False,
    batch_size: int = 64,
    first: int = 0,
    num: int | None = None,
) -> RowStream:
    """Return `z_mean` and `z_log_var` of each example, and with `draw` also a `z` drawn from q(z|x).

    Args:
        model: A model with its encoder.
        x: `[rows, *shape]` in data units.
        conditions: Value of each condition, or one value per row of x.
        seed: Seed of the draws; a random one if None. z of row i depends on (seed, i) and the example only.
        draw: Whether to draw z.
        batch_size: Rows per run.
        first: Index of the first row.
        num: Number of rows; None for all.
    """
    rows = _Rows(model, "x", x, conditions, first, num)
    seed = sampling.checked_seed(seed) if draw else 0
    names = (("z",) if draw else ()) + ("z_mean", "z_log_var")

    def chunks() -> Iterator[Chunk]:
        for start, inputs, columns in rows.chunks(batch_size):
            outputs = sampling.encode(model, inputs, batch_size)
            if draw:
                outputs["z"] = sampling.draw_posterior(outputs["z_mean"], outputs["z_log_var"], seed, start)
            yield outputs | columns

    return RowStream(
        model.manifest,
        rows.num,
        dict.fromkeys(names, latent_array(model.manifest)) | condition_arrays(model.manifest),
        ("z",) if draw else names,
        chunks(),
        sampling.noise_scalars(seed, first) if draw else {},
        group_size=rows.num,
        start=first,
    )


def decode(
    model: Graphs,
    z: np.ndarray,
    conditions: Mapping[str, Any],
    *,
    seed: int | None = None,
    draw: bool = False,
    batch_size: int = 64,
    first: int = 0,
    num: int | None = None,
) -> RowStream:
    """Return the mean of p(x|z) of each latent vector or, with `draw`, a draw from it. Arguments as of `encode`."""
    manifest = model.manifest
    rows = _Rows(model, "z", z, conditions, first, num)
    likelihood = get_likelihood(model) if draw else None
    seed = sampling.checked_seed(seed) if draw else 0

    def chunks() -> Iterator[Chunk]:
        for start, inputs, columns in rows.chunks(batch_size):
            index = np.arange(start, start + len(inputs["z"]))
            x = sampling.decode(model, inputs, batch_size, likelihood, seed, index)
            yield {"x": x, "z": inputs["z"]} | columns

    return RowStream(
        manifest,
        rows.num,
        {"x": data_array(manifest), "z": latent_array(manifest)} | condition_arrays(manifest),
        ("x",),
        chunks(),
        sampling.noise_scalars(seed, first) if draw else {},
        model_metadata(manifest) | ({"kvae seed": str(seed), "kvae scheme": noise.SCHEME} if draw else {}),
        group_size=rows.num,
        start=first,
    )


def reconstruct(
    model: Graphs,
    x: np.ndarray,
    conditions: Mapping[str, Any],
    *,
    batch_size: int = 64,
    first: int = 0,
    num: int | None = None,
) -> RowStream:
    """Return each example `x` and its reconstruction `x_mean`. Arguments as of `encode`."""
    manifest = model.manifest
    rows = _Rows(model, "x", x, conditions, first, num)

    def chunks() -> Iterator[Chunk]:
        for _, inputs, columns in rows.chunks(batch_size):
            yield {"x": inputs["x"], "x_mean": sampling.reconstruct(model, inputs, batch_size)} | columns

    return RowStream(
        manifest,
        rows.num,
        dict.fromkeys(("x", "x_mean"), data_array(manifest)) | condition_arrays(manifest),
        ("x_mean",),
        chunks(),
        metadata=model_metadata(manifest),
        group_size=rows.num,
        start=first,
        pairs=True,
    )


class _Rows:
    """Rows of x or z with their conditions, checked chunk by chunk."""

    def __init__(
        self,
        model: Graphs,
        name: Literal["x", "z"],
        values: np.ndarray,
        conditions: Mapping[str, Any],
        first: int,
        num: int | None,
    ) -> None:
        self.num = count_rows(len(values), first, num)
        self._manifest, self._name, self._values, self._first = model.manifest, name, values, first
        self._columns = conditions_of.columns(model.manifest, conditions, len(values))

    def chunks(self, batch_size: int) -> Iterator[tuple[int, dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """Yield index of the first row, inputs of a graph and conditions of each chunk."""
        for low, high in spans(self.num, chunk_rows(self._manifest.data, batch_size)):
            start, end = self._first + low, self._first + high
            columns = {name: values[start:end] for name, values in self._columns.items()}
            rows = _read(self._values, start, end)
            if self._name == "x":
                yield start, feeds(self._manifest, columns, x=rows, first=start), columns
            else:
                yield start, feeds(self._manifest, columns, z=rows), columns


def _read(values: np.ndarray, first: int, end: int) -> np.ndarray:
    """Return some rows. Rows of an array on disk are copied, and their pages released."""
    if not isinstance(values, np.memmap):
        return values[first:end]
    from kvae_serve.readers.arrays import release

    rows = np.array(values[first:end])
    release(values)
    return rows
