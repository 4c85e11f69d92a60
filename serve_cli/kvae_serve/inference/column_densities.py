"""Densities of single values under p(x|z), from the outputs of the decoder, as functions of z."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.inference.densities import LOG_2_PI, log_sum_exp
from kvae_serve.inference.mixed_autoregressive import end_slopes
from kvae_serve.sealed import unseen
from kvae_serve.sealed.columns import missing_class
from kvae_serve.sealed.manifest import MIXED_LIKELIHOODS, Manifest

SUPPORTED = ("gaussian", *MIXED_LIKELIHOODS)
_TINY = 1e-300


def require(manifest: Manifest) -> None:
    """Raise `RequestError` unless `log_probs` supports the likelihood of a model."""
    if manifest.likelihood["name"] not in SUPPORTED:
        raise RequestError(
            f"{printable(manifest.name, 60)} has a {manifest.likelihood['name'].replace('_', ' ')} likelihood; values "
            "can be filled in for tables, and for vectors and sequences under a Gaussian."
        )


def log_probs(outputs: Mapping[str, np.ndarray], x: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Compute log p of each value given z, without terms that do not depend on z.

    Args:
        outputs: Outputs of the decoder by name, `[rows, ...]`; of a mixed_autoregressive likelihood those of
            `MixedAutoregressive.given_columns`.
        x: Values in data units, `[rows, *shape]`. A missing number (NaN) and an unknown class have the density 0 nats.
        manifest: Manifest of the model, whose likelihood is one of `SUPPORTED`.

    Returns:
        float64 `[rows, num_values]`, in nats. A class, an atom or an unseen integer has its log probability, another
        number the log density of its value or of its normal score.
    """
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    if manifest.likelihood["name"] == "gaussian":
        log_prob = _log_normal(flat, outputs["x_mean"].reshape(flat.shape), outputs["x_log_var"].reshape(flat.shape))
        return np.nan_to_num(log_prob, nan=0.0)
    log_prob = np.zeros(flat.shape)
    names = manifest.likelihood["probabilities"]
    for at, (name, column) in enumerate(zip(names, manifest.data.columns, strict=True)):
        values = flat[:, at]
        if name is not None:
            log_prob[:, at] = _log_class(outputs[name], values, column)
        elif "x_weight" in outputs:
            log_prob[:, at] = _log_mixture(outputs, at, values, column)
        elif column.get("form") == "quantile":
            mean, log_var = outputs["x_score"][:, at], outputs["x_log_var"][:, at]
            log_prob[:, at] = _log_score(values, mean.astype(np.float64), log_var.astype(np.float64), column)
        else:
            log_prob[:, at] = _log_normal(values, outputs["x_mean"][:, at], outputs["x_log_var"][:, at])
    if "missing" in manifest.likelihood:  # A value is present with the rest of the probability that it is missing.
        present = 1.0 - np.asarray(outputs[str(manifest.likelihood["missing"])], np.float64)
        log_prob += np.where(np.isnan(flat), 0.0, np.log(np.maximum(present, _TINY)))
    return np.nan_to_num(log_prob, nan=0.0)


def without_missing(outputs: Mapping[str, np.ndarray], manifest: Manifest) -> dict[str, np.ndarray]:
    """Return outputs of the decoder under the condition that no value is missing, for draws."""
    present = dict(outputs)
    if manifest.likelihood["name"] not in MIXED_LIKELIHOODS:
        return present
    if "missing" in manifest.likelihood:
        name = str(manifest.likelihood["missing"])
        present[name] = np.zeros_like(outputs[name])
    for name, column in zip(manifest.likelihood["probabilities"], manifest.data.columns, strict=True):
        at = missing_class(column)
        if name is not None and at is not None and len(column["classes"]) > 1:
            present[name] = np.maximum(outputs[name], np.float32(1e-30))  # Other classes can have probability 0.
            present[name][:, at] = 0.0
    return present


def _log_normal(x: np.ndarray, mean: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    mean, log_var = mean.astype(np.float64), log_var.astype(np.float64)
    return -0.5 * (LOG_2_PI + log_var + np.square(x - mean) * np.exp(-log_var))


def _log_mixture(
    outputs: Mapping[str, np.ndarray], at: int, values: np.ndarray, column: Mapping[str, Any]
) -> np.ndarray:
    """Return log p of a number whose score, or standard number, is a mixture of normals."""
    mean, log_var, weight = (
        outputs[name][:, :, at].astype(np.float64) for name in ("x_score", "x_log_var", "x_weight")
    )
    log_prob = np.log(np.maximum(weight, _TINY))
    for each in range(mean.shape[1]):
        if column.get("form") == "quantile":
            log_prob[:, each] += _log_score(values, mean[:, each], log_var[:, each], column)
        else:
            scale = column.get("scale", 1.0)
            standard = (values - column.get("mean", 0.0)) / scale
            log_prob[:, each] += _log_normal(standard, mean[:, each], log_var[:, each]) - math.log(scale)
    return log_sum_exp(log_prob)


def _log_class(probability: np.ndarray, values: np.ndarray, column: Mapping[str, Any]) -> np.ndarray:
    """Return log probabilities of classes, given as indices or, for a number of few values, as atoms."""
    if "atoms" in column:
        return unseen.log_probs(probability, values.astype(np.float32), column)
    known = np.isfinite(values) & (values >= 0) & (values < probability.shape[1])
    chosen = np.where(known, values, 0).astype(np.int64)
    picked = probability[np.arange(len(values)), chosen].astype(np.float64)
    return np.where(known, np.log(np.maximum(picked, _TINY)), np.nan)


def _log_score(values: np.ndarray, mean: np.ndarray, log_var: np.ndarray, column: Mapping[str, Any]) -> np.ndarray:
    """Return the log probability of an atom's interval of scores, or the log density of the score of another number."""
    knots, scores = np.array(column["knots"], np.float32), np.array(column["scores"], np.float64)
    rounded = values.astype(np.float32)
    low = np.minimum(np.searchsorted(knots, rounded, side="left"), len(knots) - 1)
    high = np.maximum(np.searchsorted(knots, rounded, side="right") - 1, 0)
    is_atom = (knots[low] == rounded) & (high > low)
    deviation = np.exp(log_var / 2)
    score = np.interp(values, knots, scores)
    # Beyond the outermost knots the map continues as a line.
    first, last = end_slopes(knots.astype(np.float64), scores)
    score = score + first * np.minimum(values - knots[0], 0.0) + last * np.maximum(values - knots[-1], 0.0)
    density = _log_normal(score, mean, log_var)
    ends = (scores[low] - mean) / deviation, (scores[high] - mean) / deviation
    return np.where(np.isnan(values), np.nan, np.where(is_atom, _log_interval(*ends), density))


def log_slope(values: np.ndarray, column: Mapping[str, Any]) -> np.ndarray:
    """Return the log of scores per value of a column in quantile form, `[rows]`; 0 for an atom.

    With it the density of a score becomes that of the value.
    """
    knots, scores = np.array(column["knots"], np.float32).astype(np.float64), np.array(column["scores"], np.float64)
    rounded = values.astype(np.float32).astype(np.float64)
    rise = np.diff(knots)
    is_atom = np.isin(rounded, knots[:-1][rise == 0])
    first, last = end_slopes(knots, scores)
    slopes = np.concatenate([[first], np.diff(scores) / np.where(rise == 0, 1.0, rise), [last]])
    return np.where(is_atom, 0.0, np.log(slopes[np.searchsorted(knots, rounded, side="right")]))


def _log_interval(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return log(Phi(high) - Phi(low)), in the tail where both are small."""
    # Mirrored so that the interval is below 0, where Phi keeps its digits.
    flip = low + high > 0
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    mass = _phi(high) - _phi(low)
    # Beyond 37 deviations Phi has few digits in float64: the density at an end, divided by its distance from 0.
    tail = -0.5 * (LOG_2_PI + np.square(high)) - np.log(np.maximum(-high, 1.0))
    ratio = np.minimum(0.5 * (high - low) * (high + low), -_TINY)
    tail += np.log(-np.expm1(ratio))
    return np.where(mass > 1e-290, np.log(np.maximum(mass, _TINY)), tail)


_ERFC = np.vectorize(math.erfc, otypes=[np.float64])


def _phi(x: np.ndarray) -> np.ndarray:
    return 0.5 * _ERFC(-x / math.sqrt(2.0))
