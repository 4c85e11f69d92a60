"""Scores of single examples: reconstruction, kl and elbo, computed from the exported files.

A score depends on the example only. Every example gets the same K noise vectors and, under a Bernoulli likelihood, the
same draw to black and white, so scores are comparable. An anomaly has a low elbo and a high reconstruction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError, ModelFileError, printable
from kvae_serve.inference.densities import LOG_2_PI, Prior, binarize
from kvae_serve.inference.inputs import data_rows
from kvae_serve.inference.sampling import encode
from kvae_serve.numbers import integer
from kvae_serve.readers.checks import check_units
from kvae_serve.readers.column_types import UNSEEN
from kvae_serve.row_stream import count_rows, spans
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.runtime.session import BATCH_SIZE
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import Data

NUM_SAMPLES = 16
"""Default number of draws of z per example."""

SEED = 0

UNSEEN_NATS = 100.0
"""-log p of a class that the training data did not have. Its probability is 0; PyTorch limits such losses to 100."""

WITHOUT_CLASS_NATS = 6 * math.log(10.0)
"""-log p that likelihood.onnx adds for a cell that is not a class of the model (docs/format.md)."""

_CHUNK_ROWS = 256
"""Rows per chunk of scores, and first rows of x that are checked for pixels divided by 255."""


class Scores(NamedTuple):
    """Scores of some examples, float64 `[rows]`, in nats.

    Attributes:
        elbo: -reconstruction - kl. Its expectation over the noise is a lower bound of log p(x). Higher is better.
        reconstruction: Mean of -log p(x|z) over the draws of z. Lower is better.
        kl: KL(q(z|x) || p(z)) in closed form, or its mean over the draws if the prior is a mixture. Lower is better.
    """

    elbo: np.ndarray
    reconstruction: np.ndarray
    kl: np.ndarray


def score(
    model: Graphs,
    x: np.ndarray,
    conditions: Mapping[str, Any] | None = None,
    *,
    num_samples: int = NUM_SAMPLES,
    seed: int = SEED,
    batch_size: int = BATCH_SIZE,
) -> Scores:
    """Compute reconstruction, kl and elbo of each example.

    Args:
        model: A model with encoder and likelihood, and with its prior if that is learned.
        x: `[rows, *shape]` in data units. Under a Bernoulli likelihood each value is first drawn to the lowest or
            highest value of the range, because gray levels have zero probability there. In a table, the likelihood
            skips a missing value (NaN), and a class that the model does not have (-1) costs `UNSEEN_NATS`.
        conditions: Value of each condition, or one value per row.
        num_samples: Draws of z per example.
        seed: Seed of the draws, 0 to 2**64 - 1.
        batch_size: Rows per run of a graph. It does not change the result.

    Raises:
        InputDataError: x has the wrong type, shape or range.
        RequestError: A condition is missing or unknown, or a number is out of range.
        ModelFileError: A graph is missing or invalid.
    """
    parts = list(stream(model, x, conditions, num_samples=num_samples, seed=seed, batch_size=batch_size))
    return Scores(*(np.concatenate(each) for each in zip(*parts, strict=True)))


class Chunk(NamedTuple):
    """Checked rows and everything that their scores need.

    Attributes:
        x: float32 `[rows, *shape]` in data units, black and white under a Bernoulli likelihood.
        columns: Each condition by name, `[rows]`.
        z_noise: float32 `[draws, latent_dim]`, the same for all rows.
        batch_size: Rows per run of a graph.
    """

    x: np.ndarray
    columns: dict[str, np.ndarray]
    z_noise: np.ndarray
    batch_size: int


def stream(
    model: Graphs,
    x: np.ndarray,
    conditions: Mapping[str, Any] | None = None,
    *,
    num_samples: int = NUM_SAMPLES,
    seed: int = SEED,
    batch_size: int = BATCH_SIZE,
    first: int = 0,
    num: int | None = None,
    look_at_units: bool = True,
) -> Iterator[Scores]:
    """Yield the scores of consecutive rows, in chunks. Other arguments as of `score`.

    Args:
        model: As of `score`.
        x: As of `score`. An array on disk is read in chunks.
        conditions: As of `score`.
        num_samples: As of `score`.
        seed: As of `score`.
        batch_size: As of `score`.
        first: Index of the first row.
        num: Number of rows; None for all.
        look_at_units: Whether to refuse pixels that were divided by 255. The first rows of x decide for all rows, so
            that all parts of a job agree.
    """
    options: dict[str, Any] = {"num_samples": num_samples, "seed": seed, "batch_size": batch_size}
    options |= {"first": first, "num": num, "look_at_units": look_at_units}
    for chunk in chunks(model, x, conditions, **options):
        yield score_chunk(model, chunk)


def chunks(
    model: Graphs,
    x: np.ndarray,
    conditions: Mapping[str, Any] | None = None,
    *,
    num_samples: int = NUM_SAMPLES,
    seed: int = SEED,
    batch_size: int = BATCH_SIZE,
    first: int = 0,
    num: int | None = None,
    look_at_units: bool = True,
) -> Iterator[Chunk]:
    """Check the arguments of `stream`, and yield its rows as they are scored."""
    num_samples = integer(num_samples, "num_samples", 1)
    manifest = model.manifest
    x = x if hasattr(x, "shape") else np.asarray(x)
    if not x.shape or x.dtype.kind not in "uifb":
        raise InputDataError(f"x has the type {x.dtype} and the shape {list(x.shape)}; expected rows of numbers.")
    if not len(x):
        raise InputDataError("x is empty; expected at least one row.")
    columns = conditions_of.columns(manifest, conditions, len(x))
    num = count_rows(len(x), first, num)
    if look_at_units:
        check_units(np.asarray(x[:_CHUNK_ROWS]), manifest.data.range, "x")
    for graph in ("likelihood", "encoder"):
        model.need(graph)
    z_noise = noise.latent_noise(seed, 0, num_samples, manifest.latent_dim)[0]
    uniforms = noise.uniforms(seed, noise.STREAM_BINARIZE, 0, 1, manifest.data.num_values)
    for low, high in spans(num, _CHUNK_ROWS):
        rows = slice(first + low, first + high)
        chunk = data_rows(x[rows], manifest.data, rows.start)
        if manifest.likelihood["name"] == "bernoulli":
            chunk = binarize(chunk, manifest, uniforms)
        yield Chunk(chunk, {name: values[rows] for name, values in columns.items()}, z_noise, batch_size)


def posterior(
    model: Graphs, x: np.ndarray, columns: Mapping[str, np.ndarray], batch_size: int
) -> dict[str, np.ndarray]:
    """Return `z_mean`, `z_log_var` and `sigma` of q(z|x), each float32 `[rows, latent_dim]`.

    Raises:
        ModelFileError: A standard deviation is infinite.
    """
    outputs = encode(model, {"x": x} | dict(columns), batch_size)
    with np.errstate(over="ignore"):
        outputs["sigma"] = np.exp(outputs["z_log_var"] / 2)
    if not np.isfinite(outputs["sigma"]).all():
        raise ModelFileError(
            f"The encoder of {printable(model.path)} returns a log variance of {outputs['z_log_var'].max():g}, which "
            "makes z infinite. Check the input, or train the model again."
        )
    return outputs


def log_likelihoods(
    model: Graphs, x: np.ndarray, z: np.ndarray, columns: Mapping[str, np.ndarray], batch_size: int
) -> np.ndarray:
    """Return log p(x|z) for several z per example, float64 `[rows, draws]`, in nats.

    Args:
        model: A model with its likelihood.
        x: float32 `[rows, *shape]`.
        z: float32 `[rows, draws, latent_dim]`.
        columns: Each condition by name, `[rows]`.
        batch_size: Pairs of x and z per run.
    """
    num, draws = z.shape[:2]
    flat = z.reshape(num * draws, -1)
    values = np.empty(len(flat))
    for start, end in spans(len(flat), batch_size):
        # Repeats each x for its draws, but only for the pairs of this run.
        row = np.arange(start, end) // draws
        feeds = {"x": x[row], "z": flat[start:end]} | {name: column[row] for name, column in columns.items()}
        values[start:end] = model.run("likelihood", feeds, batch_size)["log_likelihood"]
    return values.reshape(num, draws) + class_correction(x, model.manifest.data)[:, None]


def class_correction(x: np.ndarray, data: Data) -> np.ndarray:
    """Return what to add to log p(x|z) of likelihood.onnx for the classes of each row of a table, float64 `[rows]`.

    The graph charges `WITHOUT_CLASS_NATS` for a class that the model does not have and for a missing class. Here the
    former costs `UNSEEN_NATS` more, and the latter is skipped.
    """
    columns = [index for index, column in enumerate(data.columns) if column["kind"] == "categorical"]
    if not columns:
        return np.zeros(len(x))
    classes = x[:, columns]
    return WITHOUT_CLASS_NATS * np.isnan(classes).sum(axis=1) - UNSEEN_NATS * (classes == UNSEEN).sum(axis=1)


def score_chunk(model: Graphs, chunk: Chunk) -> Scores:
    """Return the scores of the rows of a chunk."""
    x, columns, z_noise, batch_size = chunk
    q = posterior(model, x, columns, batch_size)
    z = q["z_mean"][:, None] + q["sigma"][:, None] * z_noise
    reconstruction = -log_likelihoods(model, x, z, columns, batch_size).mean(-1)
    prior = Prior(model, columns)
    by_dim = prior.kl(q["z_mean"], q["z_log_var"])
    if by_dim is None:
        log_var = q["z_log_var"].astype(np.float64).sum(-1)
        log_q = -0.5 * (log_var[:, None] + (LOG_2_PI + np.square(z_noise.astype(np.float64))).sum(-1))
        kl = (log_q - prior.log_prob(z)).mean(-1)
    else:
        kl = by_dim.sum(-1)
    return Scores(-reconstruction - kl, reconstruction, kl)
