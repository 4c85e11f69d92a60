"""`evaluate`: every figure of a model on some data, as one document."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kvae_serve.errors import InputDataError, RequestError, printable
from kvae_serve.evaluation import aggregate, binarization
from kvae_serve.evaluation.importance import ROWS, Estimates, estimate
from kvae_serve.evaluation.metrics import ACTIVE, Reconstruction, Spread, figure, scaled, shifted, units
from kvae_serve.evaluation.over_labels import OverLabels
from kvae_serve.inference.densities import Prior
from kvae_serve.inference.scoring import check_rows, need
from kvae_serve.readers.checks import check_units
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.sealed import noise

if TYPE_CHECKING:
    from kvae_serve.model import Model

NUM_SAMPLES = 100
"""K where nothing else is said: enough to see the order of the NLL, in seconds."""

MAX_SAMPLES = 2**31

# Examples between two looks at the encoder; many runs of importance sampling, yet few megabytes.
_BLOCK = 256


def evaluate(
    model: Model,
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
    """Evaluate a model on examples; the result is plain values, ready for JSON.

    Example i meets noise that is keyed by (seed, i): no figure of an example depends on how many others there are.

    Args:
        model: a loaded model with encoder, decoder and likelihood, and the prior where it is learned.
        x: `[rows, *shape]` in data units; an array on disk is read as it is needed.
        conditions: a value, or one for each row, for each condition.
        importance_samples: K, draws of z for each example.
        seed: of noise and dynamic binarisation, 0 to 2**64 - 1.
        limit: take so many of the first examples only.
        binarize: for a Bernoulli likelihood, "dynamic" (by the seed, the default), "static" (the same draw for every
            seed) or "none" (x is black and white already).
        over_labels: also sum p(x given y) over the classes, with p(y) "uniform" or as in the "data"; as many times the
            work as there are classes.
        source: what to call the data.
        progress: called with the draws done, and all that there are.

    Returns:
        `figures` by name, each with mean, standard_error (of the mean over examples), n, samples (K) and unit;
        `kl_per_dimension`, `active_units` and what was evaluated how. docs/evaluation.md has each.

    Raises:
        InputDataError: x is not what the model takes; gray levels with `binarize="none"`.
        RequestError: a condition is missing or unknown, or an option makes no sense.
        ModelFileError: a graph is missing or bad.
    """
    manifest = model.manifest
    importance_samples = _whole("importance_samples", importance_samples, 1, MAX_SAMPLES)
    seed = _whole("seed", seed, 0, noise.MAX_SEED)
    how = binarization.way(manifest, binarize)
    num = len(x) if limit is None else min(len(x), _whole("limit", limit, 1, noise.MAX_INDEX))
    if not num:
        raise InputDataError("There is nothing to evaluate: x has no rows.")
    for graph in ("likelihood", "encoder", "decoder"):
        need(model, graph)
    columns = {name: values[:num] for name, values in conditions_of.columns(manifest, conditions, len(x)).items()}
    check_units(np.asarray(x[: min(num, _BLOCK)]), manifest.data.range, "x")
    labels = OverLabels(model, over_labels, columns) if over_labels is not None else None
    total = num * importance_samples * (1 + (labels.num if labels else 0))
    told = _Told(progress, total)

    errors, spread = Reconstruction(manifest), Spread()
    estimates: list[Estimates] = []
    encoded: list[dict[str, np.ndarray]] = []
    for start, stop in _blocks(num):
        some = binarization.target(check_rows(x[start:stop], model, start), manifest, how, seed, start)
        given = {name: values[start:stop] for name, values in columns.items()}
        options: dict[str, Any] = {"num_samples": importance_samples, "seed": seed, "progress": told}
        found, posterior = estimate(model, some, given, start, **options)
        estimates.append(found)
        spread.add(posterior["z_mean"])
        if start < aggregate.MOST:
            encoded.append(posterior)
        z = {"z": posterior["z_mean"]}
        errors.add(some, model.run("decoder", z | given, ROWS, ["x_mean"])["x_mean"])
        if labels:
            labels.add(some, start, **options)
    figures = _likelihood(model, estimates, importance_samples)
    figures |= errors.figures()
    figures |= _latent(model, encoded, columns, seed)
    if labels:
        figures |= labels.figures(importance_samples)
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
        "binarize": how,
        "importance_samples": importance_samples,
        "figures": figures,
        "kl_per_dimension": np.concatenate(by_dim).mean(0).tolist() if by_dim else None,
        "active_units": {
            "count": int((spread.variance > ACTIVE).sum()) if num > 1 else None,
            "of": manifest.latent_dim,
            "threshold": ACTIVE,
            "variances": spread.variance.tolist() if num > 1 else None,
        },
        "samples": {},
    }


def _likelihood(model: Model, estimates: list[Estimates], samples: int) -> dict[str, Any]:
    """Return elbo, reconstruction, kl and nll, as they are and in the other units that have a use."""
    manifest = model.manifest
    unit, other = units(manifest)
    rec, kl, nll, effective = (
        np.concatenate([getattr(each, name) for each in estimates])
        for name in ("reconstruction", "kl", "nll", "effective")
    )
    # To first order an estimate has the variance v = 1/effective - 1/K, and lies v/2 too high.
    variance = np.maximum(1 / effective - 1 / samples, 0.0)
    error = math.sqrt(float(variance.sum())) / len(nll)
    closed = estimates[0].kl_per_dim is not None
    found = {
        "elbo": figure(-rec - kl, unit, samples),
        "reconstruction": figure(rec, unit, samples),
        "kl": figure(kl, "nats", None if closed else samples, form="closed form" if closed else "mean over draws"),
        "nll": figure(
            nll,
            unit,
            samples,
            monte_carlo_error=error,
            bias=float(variance.mean() / 2),
            effective_samples=float(effective.mean()),
        ),
    }
    per_dim = 1 / (manifest.data.num_values * math.log(2.0))
    bits = "bits per dimension" + unit.removeprefix("nats")
    found["bits_per_dimension"] = scaled(found["nll"], per_dim, bits)
    if other is not None:
        name, shift = other
        what = "nats, data scaled to [0, 1]" if name == "unit_interval" else "nats, numbers in their scales"
        for key in ("reconstruction", "nll"):
            found[f"{key}_{name}"] = shifted(found[key], shift, what)
        found[f"elbo_{name}"] = shifted(found["elbo"], -shift, what)
    return found


def _latent(
    model: Model, encoded: list[dict[str, np.ndarray]], columns: Mapping[str, np.ndarray], seed: int
) -> dict[str, Any]:
    """Return mutual information and aggregate-posterior gap; None for each where they are not defined."""
    found = {key: np.concatenate([each[key] for each in encoded])[: aggregate.MOST] for key in encoded[0]}
    given = {name: values[: aggregate.MOST] for name, values in columns.items()}
    parts = aggregate.decompose(model.manifest, Prior(model, given), found, given, seed)
    if parts is None:
        return {"mutual_information": None, "aggregate_posterior_gap": None}
    num = len(parts["lower"])
    # kl bounds it as well: the gap is not negative.
    upper = None if parts["upper"] is None else min(float(parts["upper"].mean()), float(parts["kl"].mean()))
    estimator = f"mixture of the posteriors of {num} examples" + (", within each class" if given else "")
    information = figure(
        parts["lower"],
        "nats",
        1,
        estimator=estimator + ", own included: a lower bound",
        ceiling=parts["ceiling"],
        upper_bound=upper,
    )
    gap = figure(parts["gap"], "nats", 1, estimator=estimator + ", own included: an upper bound")
    return {"mutual_information": information, "aggregate_posterior_gap": gap}


class _Told:
    """Adds up draws for `progress`."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, draws: int) -> None:
        self._done += draws
        if self._progress is not None:
            self._progress(self._done, self._total)


def _blocks(num: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num, _BLOCK):
        yield start, min(start + _BLOCK, num)


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise RequestError(
            f"{name} is a whole number from {low} to {high}, got {printable(repr(value), 40)}. Give one of these."
        )
    return int(value)
