"""Evaluation of a model on data: all metrics as one document."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kvae_serve.errors import InputDataError
from kvae_serve.evaluation import aggregate
from kvae_serve.evaluation.binarization import binarization_mode, binarized
from kvae_serve.evaluation.importance import ROWS, Estimates, estimate
from kvae_serve.evaluation.metrics import (
    ACTIVE_VARIANCE,
    Reconstruction,
    RunningVariance,
    metric,
    scaled,
    shifted,
    units,
)
from kvae_serve.evaluation.over_labels import OverLabels
from kvae_serve.inference.densities import Prior
from kvae_serve.inference.inputs import data_rows
from kvae_serve.inference.sampling import decode
from kvae_serve.numbers import integer
from kvae_serve.readers.checks import check_units
from kvae_serve.row_stream import spans
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.sealed import noise

NUM_SAMPLES = 100
"""Default of K: enough for the order of the NLL, in seconds."""

MAX_SAMPLES = 2**31 - 1

_BLOCK = 256
"""Examples per run of the encoder: many runs of importance sampling, but only a few megabytes."""


def evaluate(
    model: Graphs,
    x: np.ndarray,
    conditions: Mapping[str, Any] | None = None,
    *,
    importance_samples: int = NUM_SAMPLES,
    seed: int = 0,
    limit: int | None = None,
    binarize: str | None = None,
    over_labels: str | None = None,
    source: str = "x",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Evaluate a model on examples. The result consists of plain values, ready for JSON.

    The noise of example i depends on (seed, i), so the metrics of an example do not depend on the number of others.

    Args:
        model: A model with encoder, decoder and likelihood, and with its prior if that is learned.
        x: `[rows, *shape]` in data units. An array on disk is read in parts.
        conditions: Value of each condition, or one value per row.
        importance_samples: K, draws of z per example.
        seed: Seed of noise and dynamic binarisation, 0 to 2**64 - 1.
        limit: Number of examples; None for all. The first ones are used.
        binarize: For a Bernoulli likelihood, "dynamic" (the default, depends on the seed), "static" (the same draw for
            every seed) or "none" (x is black and white).
        over_labels: Also sum p(x|y) over the classes, with p(y) "uniform" or as in the "data". Multiplies the time by
            the number of classes.
        source: Name of the data in the document.
        progress: Called with the number of finished draws and the number of all draws.

    Returns:
        `figures` by name, each with mean, standard_error (of the mean over examples), n, samples (K) and unit;
        `kl_per_dimension`, `active_units` and the settings. docs/evaluation.md describes each.

    Raises:
        InputDataError: x has the wrong type, shape or range, or has gray levels with `binarize="none"`.
        RequestError: A condition is missing or unknown, or an argument is out of range.
        ModelFileError: A graph is missing or invalid.
    """
    manifest = model.manifest
    importance_samples = integer(importance_samples, "importance_samples", 1, MAX_SAMPLES)
    seed = integer(seed, "seed", 0, noise.MAX_SEED)
    mode = binarization_mode(manifest, binarize)
    num = len(x) if limit is None else min(len(x), integer(limit, "limit", 1))
    if not num:
        raise InputDataError("x is empty; expected at least one row.")
    for graph in ("likelihood", "encoder", "decoder"):
        model.need(graph)
    columns = {name: values[:num] for name, values in conditions_of.columns(manifest, conditions, len(x)).items()}
    check_units(np.asarray(x[: min(num, _BLOCK)]), manifest.data.range, "x")
    labels = OverLabels(model, over_labels, columns) if over_labels is not None else None
    total = num * importance_samples * (1 + (labels.num if labels else 0))
    finished = 0

    def advance(draws: int) -> None:
        nonlocal finished
        finished += draws
        if progress is not None:
            progress(finished, total)

    options: dict[str, Any] = {"num_samples": importance_samples, "seed": seed, "progress": advance}
    errors, means = Reconstruction(manifest), RunningVariance()
    estimates: list[Estimates] = []
    posteriors: list[dict[str, np.ndarray]] = []
    for start, stop in spans(num, _BLOCK):
        rows = binarized(data_rows(x[start:stop], manifest.data, start), manifest, mode, seed, start)
        part = {name: values[start:stop] for name, values in columns.items()}
        estimates_of_rows, q = estimate(model, rows, part, start, **options)
        estimates.append(estimates_of_rows)
        means.add(q["z_mean"])
        if start < aggregate.MAX_ENCODINGS:
            posteriors.append(q)
        errors.add(rows, decode(model, {"z": q["z_mean"]} | part, ROWS))
        if labels:
            labels.add(rows, start, **options)
    metrics = _likelihood(model, estimates, importance_samples)
    metrics |= errors.metrics()
    metrics |= _latent(model, posteriors, columns, seed)
    if labels:
        metrics |= labels.metrics(importance_samples)
    by_dim = [each.kl_per_dim for each in estimates if each.kl_per_dim is not None]
    return {
        "model": manifest.name,
        "model_id": manifest.model_id,
        "data": source,
        "n": num,
        "seed": seed,
        "scheme": noise.EVALUATE_SCHEME,
        "likelihood": manifest.likelihood["name"],
        "prior": manifest.prior["name"],
        "conditions": [condition.name for condition in manifest.conditions],
        "binarize": mode,
        "importance_samples": importance_samples,
        "figures": metrics,
        "kl_per_dimension": np.concatenate(by_dim).mean(0).tolist() if by_dim else None,
        "active_units": {
            "count": int((means.variance > ACTIVE_VARIANCE).sum()) if num > 1 else None,
            "of": manifest.latent_dim,
            "threshold": ACTIVE_VARIANCE,
            "variances": means.variance.tolist() if num > 1 else None,
        },
        "samples": {},
    }


def _likelihood(model: Graphs, estimates: list[Estimates], samples: int) -> dict[str, Any]:
    """Return elbo, reconstruction, kl and nll, in all units that are in use."""
    manifest = model.manifest
    unit, other = units(manifest)
    rec, kl, nll, effective = (
        np.concatenate([getattr(each, name) for each in estimates])
        for name in ("reconstruction", "kl", "nll", "effective")
    )
    # To first order an estimate has the variance v = 1/effective - 1/K, and is v/2 too high. One draw does not show it.
    variance = np.maximum(1 / effective - 1 / samples, 0.0)
    error = math.sqrt(float(variance.sum())) / len(nll) if samples > 1 else None
    closed = estimates[0].kl_per_dim is not None
    metrics = {
        "elbo": metric(-rec - kl, unit, samples),
        "reconstruction": metric(rec, unit, samples),
        "kl": metric(kl, "nats", None if closed else samples, form="closed form" if closed else "mean over draws"),
        "nll": metric(
            nll,
            unit,
            samples,
            monte_carlo_error=error,
            bias=float(variance.mean() / 2) if samples > 1 else None,
            effective_samples=float(effective.mean()),
        ),
    }
    per_dim = 1 / (manifest.data.num_values * math.log(2.0))
    bits = "bits per dimension" + unit.removeprefix("nats")
    metrics["bits_per_dimension"] = scaled(metrics["nll"], per_dim, bits)
    if other is not None:
        name, shift = other
        unit = "nats, data scaled to [0, 1]" if name == "unit_interval" else "nats, numbers in their scales"
        for key in ("reconstruction", "nll"):
            metrics[f"{key}_{name}"] = shifted(metrics[key], shift, unit)
        metrics[f"elbo_{name}"] = shifted(metrics["elbo"], -shift, unit)
    return metrics


def _latent(
    model: Graphs, posteriors: list[dict[str, np.ndarray]], columns: Mapping[str, np.ndarray], seed: int
) -> dict[str, Any]:
    """Return mutual information and the gap of the aggregate posterior; None if they are not defined."""
    first = slice(aggregate.MAX_ENCODINGS)
    q = {key: np.concatenate([each[key] for each in posteriors])[first] for key in posteriors[0]}
    conditions = {name: values[first] for name, values in columns.items()}
    parts = aggregate.decompose(model.manifest, Prior(model, conditions), q, conditions, seed)
    if parts is None:
        return {"mutual_information": None, "aggregate_posterior_gap": None}
    num = len(parts["lower"])
    # kl is another upper bound, because the gap is not negative.
    upper = None if parts["upper"] is None else min(float(parts["upper"].mean()), float(parts["kl"].mean()))
    estimator = f"mixture of the posteriors of {num} examples" + (", within each class" if conditions else "")
    information = metric(
        parts["lower"],
        "nats",
        1,
        estimator=estimator + ", own included: a lower bound",
        ceiling=parts["ceiling"],
        upper_bound=upper,
    )
    gap = metric(parts["gap"], "nats", 1, estimator=estimator + ", own included: an upper bound")
    return {"mutual_information": information, "aggregate_posterior_gap": gap}
