"""How likely a model finds each example: reconstruction, kl and elbo, from the exported files alone.

A score depends on the example alone: every example meets the same K noise vectors and, under a Bernoulli, the same
draw to black and white. So scores can be compared and thresholds kept. Low elbo, high reconstruction: an anomaly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError, ModelFileError, RequestError, printable
from kvae_serve.inference.densities import LOG_2_PI, Prior, binarize
from kvae_serve.readers.checks import check_data, check_units
from kvae_serve.row_stream import count_rows
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime.session import BATCH_SIZE
from kvae_serve.sealed import noise

if TYPE_CHECKING:
    from kvae_serve.model import Model

NUM_SAMPLES = 16
"""Draws of z for each example."""

SEED = 0

# Rows that tell whether pixels were divided by 255, and rows scored between two yields.
_FEW_ROWS = 256


class Scores(NamedTuple):
    """What a model says of each example, float64 `[rows]`, nats.

    Attributes:
        elbo: -reconstruction - kl, a lower bound on log p(x) in expectation over the noise; higher is better.
        reconstruction: -log p(x given z), its mean over the draws of z; lower is better.
        kl: KL(q(z given x) || p(z)) in closed form, under a mixture prior its mean over the draws; lower is better.
    """

    elbo: np.ndarray
    reconstruction: np.ndarray
    kl: np.ndarray


def score(
    model: Model,
    x: np.ndarray,
    conditions: Mapping[str, Any] | None = None,
    *,
    num_samples: int = NUM_SAMPLES,
    seed: int = SEED,
    batch_size: int = BATCH_SIZE,
) -> Scores:
    """Return reconstruction, kl and elbo of each example; `stream` does it in parts.

    Args:
        model: a loaded model with encoder and likelihood, and the prior where it is learned.
        x: `[rows, *shape]` in data units. Under a Bernoulli likelihood each value is drawn to the lowest or highest of
            the range first, by its height: gray levels have no likelihood there.
        conditions: a value, or one for each row, for each condition.
        num_samples: draws of z for each example.
        seed: of the draws, 0 to 2**64 - 1.
        batch_size: rows in one run of a graph; no result depends on it.

    Raises:
        InputDataError: x is not what the model takes.
        RequestError: a condition is missing or unknown, or a number is out of range.
        ModelFileError: a graph is missing or bad.
    """
    parts = list(stream(model, x, conditions, num_samples=num_samples, seed=seed, batch_size=batch_size))
    return Scores(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def stream(
    model: Model,
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
    """Score in order, some hundred examples at a time, so that x may be an array on disk.

    Args:
        model: as of `score`.
        x: as of `score`.
        conditions: as of `score`, for all rows of x.
        num_samples: as of `score`.
        seed: as of `score`.
        batch_size: as of `score`.
        first: row to start from.
        num: rows to take; all that there are where None.
        look_at_units: ask whether pixels were divided by 255, by the first rows of x, whichever are scored: parts of
            a job are to be refused together.
    """
    if not isinstance(num_samples, int | np.integer) or isinstance(num_samples, bool) or num_samples < 1:
        raise RequestError(f"A score takes a whole number of draws of z, at least 1; got {num_samples!r}.")
    manifest = model.manifest
    if not len(x):
        raise InputDataError("There is nothing to score: x has no rows.")
    end = first + count_rows(len(x), first, num)
    columns = conditions_of.columns(manifest, conditions, len(x))
    if look_at_units:
        check_units(np.asarray(x[:_FEW_ROWS]), manifest.data.range, "x")
    for graph in ("likelihood", "encoder"):
        need(model, graph)
    z_noise = noise.latent_noise(seed, 0, num_samples, manifest.latent_dim)[0]
    uniforms = noise.uniforms(seed, noise.STREAM_BINARIZE, 0, 1, manifest.data.num_values)
    for start in range(first, end, _FEW_ROWS):
        rows = slice(start, min(start + _FEW_ROWS, end))
        some = check_rows(x[rows], model, start)
        if manifest.likelihood["name"] == "bernoulli":
            some = binarize(some, manifest, uniforms)
        yield _score(model, some, {name: values[rows] for name, values in columns.items()}, z_noise, batch_size)


def need(model: Model, graph: str) -> None:
    """Raise `ModelFileError` where a graph is missing, with the way to get it."""
    if not model.has(graph):
        raise ModelFileError(
            f"{printable(model.path)} has no {graph}.onnx, which this needs. `kvae export` writes it beside "
            "decoder.onnx; give the folder that holds them all."
        )


def check_rows(x: np.ndarray, model: Model, start: int = 0) -> np.ndarray:
    """Return float32 `[rows, *shape]` in data units, checked; an axis of one channel may be left out.

    Args:
        x: some rows.
        model: what they are for.
        start: index of the first of them, for messages.
    """
    data = model.manifest.data
    x = np.asarray(x)
    if x.dtype.kind not in "uifb":
        raise InputDataError(f"x has the type {x.dtype}, expected numbers.")
    if len(data.shape) > 1 and data.shape[-1] == 1 and x.shape[1:] == data.shape[:-1]:
        x = x[..., None]
    if x.shape[1:] != data.shape:
        raise InputDataError(f"x has the shape {list(x.shape)}, expected {['rows', *data.shape]}.")
    x = x.astype(np.float32)
    check_data(x, data, f"x from row {start} on" if start else "x")
    return x


def posterior(model: Model, x: np.ndarray, columns: Mapping[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
    """Return the encoder's z_mean and z_log_var, and sigma beside them, each float32 `[rows, latent_dim]`."""
    outputs = model.run("encoder", {"x": x} | dict(columns), batch_size)
    with np.errstate(over="ignore"):
        outputs["sigma"] = np.exp(outputs["z_log_var"] / 2)
    if not np.isfinite(outputs["sigma"]).all():
        raise ModelFileError(
            f"{printable(model.path)} has an encoder that gives a log variance of {outputs['z_log_var'].max():g}, so "
            "its z is not finite. Train it anew, or look at its input."
        )
    return outputs


def _score(model: Model, x: np.ndarray, columns: dict[str, np.ndarray], z_noise: np.ndarray, batch_size: int) -> Scores:
    found = posterior(model, x, columns, batch_size)
    z = found["z_mean"][:, None] + found["sigma"][:, None] * z_noise
    log_likelihood = _log_likelihoods(model, x, z, columns, batch_size)
    prior = Prior(model, columns)
    by_dim = prior.kl(found["z_mean"], found["z_log_var"])
    if by_dim is None:
        log_var = found["z_log_var"].astype(np.float64).sum(-1)
        log_q = -0.5 * (log_var[:, None] + (LOG_2_PI + np.square(z_noise.astype(np.float64))).sum(-1))
        kl = (log_q - prior.log_prob(z)).mean(-1)
    else:
        kl = by_dim.sum(-1)
    reconstruction = -log_likelihood.mean(-1)
    return Scores(-reconstruction - kl, reconstruction, kl)


def _log_likelihoods(
    model: Model, x: np.ndarray, z: np.ndarray, columns: Mapping[str, np.ndarray], batch_size: int
) -> np.ndarray:
    """Return log p(x given z) of several z for each x, float64 `[rows, draws]` from z `[rows, draws, latent_dim]`."""
    rows, draws = z.shape[:2]
    found = np.empty(rows * draws)
    flat = z.reshape(rows * draws, -1)
    for start in range(0, len(flat), batch_size):
        part = slice(start, min(start + batch_size, len(flat)))
        # Each x stands there once for each of its draws; only these few are copied.
        of = np.arange(part.start, part.stop) // draws
        feeds = {"x": x[of], "z": flat[part]} | {name: values[of] for name, values in columns.items()}
        found[part] = model.run("likelihood", feeds, batch_size)["log_likelihood"]
    return found.reshape(rows, draws)
