"""Data to codes, codes to data, data to data: what `encode`, `decode` and `reconstruct` make, chunk by chunk.

Each takes arrays of any size, also ones that stay on disk or come out of a pipe: rows are asked for once, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kvae_serve.inference import likelihoods, sampling
from kvae_serve.row_stream import (
    Array,
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
from kvae_serve.sealed import noise

if TYPE_CHECKING:
    from kvae_serve.model import Model


def encode(
    model: Model,
    x: np.ndarray,
    conditions: Mapping[str, Any],
    *,
    seed: int | None = None,
    draw: bool = False,
    batch_size: int = 64,
    first: int = 0,
    num: int | None = None,
) -> RowStream:
    """Return `z_mean` and `z_log_var` of each example, with `draw` also a `z` drawn from there.

    Args:
        model: a loaded model.
        x: `[rows, *shape]` in data units.
        conditions: a value, or one for each row of x, for each condition.
        seed: keys the draws: z of row i depends on (seed, i) and the example alone. One is drawn where None.
        draw: draw z.
        batch_size: rows in one run.
        first: row to start from.
        num: rows to take; all that there are where None.
    """
    manifest = model.manifest
    latent = latent_array(manifest)
    rows, columns = _chosen(model, x, conditions, first, num)
    arrays = {"z": latent} if draw else {}
    arrays |= {"z_mean": latent, "z_log_var": latent} | condition_arrays(manifest)
    seed = sampling.checked_seed(seed) if draw else 0

    def chunks() -> Iterator[Chunk]:
        for start, end in spans(rows, chunk_rows(manifest.data, batch_size)):
            here = {name: values[start:end] for name, values in columns.items()}
            feeds = model.feeds(here, None, x=_taken(x, first + start, first + end), first=first + start)
            made = model.run("encoder", feeds, batch_size, ["z_mean", "z_log_var"])
            if draw:
                normals, _ = noise.latent_noise(seed, first + start, end - start, manifest.latent_dim)
                made["z"] = made["z_mean"] + np.exp(made["z_log_var"] / 2) * normals
            yield made | here

    main = ("z",) if draw else ("z_mean", "z_log_var")
    return RowStream(manifest, rows, arrays, main, chunks(), _scalars(seed, first, draw), group_size=rows, start=first)


def decode(
    model: Model,
    z: np.ndarray,
    conditions: Mapping[str, Any],
    *,
    seed: int | None = None,
    draw: bool = False,
    batch_size: int = 64,
    first: int = 0,
    num: int | None = None,
) -> RowStream:
    """Return the mean of p(x given z) at each code or, with `draw`, a draw from it; arguments as of `encode`."""
    manifest = model.manifest
    rows, columns = _chosen(model, z, conditions, first, num)
    likelihood = likelihoods.of(manifest) if draw else None
    seed = sampling.checked_seed(seed) if draw else 0

    def chunks() -> Iterator[Chunk]:
        for start, end in spans(rows, chunk_rows(manifest.data, batch_size)):
            here = {name: values[start:end] for name, values in columns.items()}
            feeds = model.feeds(here, None, z=_taken(z, first + start, first + end))
            index = np.arange(first + start, first + end)
            yield {"x": sampling.decode(model, feeds, batch_size, likelihood, seed, index), "z": feeds["z"]} | here

    arrays = {"x": data_array(manifest), "z": latent_array(manifest)} | condition_arrays(manifest)
    facts = model_metadata(manifest) | ({"kvae seed": str(seed), "kvae scheme": noise.SCHEME} if draw else {})
    return RowStream(
        manifest, rows, arrays, ("x",), chunks(), _scalars(seed, first, draw), facts, group_size=rows, start=first
    )


def reconstruct(
    model: Model,
    x: np.ndarray,
    conditions: Mapping[str, Any],
    *,
    batch_size: int = 64,
    first: int = 0,
    num: int | None = None,
) -> RowStream:
    """Return each example `x`, and `x_mean`: the decoder's mean at the encoder's mean; arguments as of `encode`."""
    manifest = model.manifest
    rows, columns = _chosen(model, x, conditions, first, num)

    def chunks() -> Iterator[Chunk]:
        for start, end in spans(rows, chunk_rows(manifest.data, batch_size)):
            here = {name: values[start:end] for name, values in columns.items()}
            feeds = model.feeds(here, None, x=_taken(x, first + start, first + end), first=first + start)
            given = feeds.pop("x")
            feeds["z"] = model.run("encoder", feeds | {"x": given}, batch_size, ["z_mean"])["z_mean"]
            yield {"x": given, "x_mean": sampling.decode(model, feeds, batch_size)} | here

    data: Array = data_array(manifest)
    arrays = {"x": data, "x_mean": data} | condition_arrays(manifest)
    return RowStream(
        manifest,
        rows,
        arrays,
        ("x_mean",),
        chunks(),
        {},
        model_metadata(manifest),
        group_size=rows,
        start=first,
        pairs=True,
    )


def _chosen(
    model: Model, values: np.ndarray, conditions: Mapping[str, Any], first: int, num: int | None
) -> tuple[int, dict[str, np.ndarray]]:
    """Return how many rows are wanted, and the conditions of those."""
    rows = count_rows(len(values), first, num)
    columns = conditions_of.columns(model.manifest, conditions, len(values))
    return rows, {name: each[first : first + rows] for name, each in columns.items()}


def _taken(values: np.ndarray, first: int, end: int) -> np.ndarray:
    """Return some rows; of an array on disk a copy, whose pages are let go of."""
    if not isinstance(values, np.memmap):
        return values[first:end]
    from kvae_serve.readers.arrays import release

    taken = np.array(values[first:end])
    release(values)
    return taken


def _scalars(seed: int, first: int, drawn: bool) -> dict[str, np.ndarray]:
    if not drawn:
        return {}
    return {
        "seed": np.array(seed, np.uint64),
        "start": np.array(first, np.int64),
        "scheme": np.array(noise.SCHEME),
    }
