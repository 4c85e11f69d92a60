"""Parts of scores: the reconstruction of each value of x, and the kl of each dimension of z.

The parts are computed from the outputs of the decoder and add up to the score of `likelihood.onnx`, which is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from kvae_serve.errors import RequestError, VerificationError, printable
from kvae_serve.inference import column_densities, scoring
from kvae_serve.inference.densities import LOG_2_PI, Prior
from kvae_serve.inference.likelihoods import get_likelihood
from kvae_serve.inference.mixed_autoregressive import MixedAutoregressive, Scores
from kvae_serve.readers.column_types import UNSEEN
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.runtime.session import BATCH_SIZE
from kvae_serve.sealed import unseen
from kvae_serve.sealed.manifest import MIXED_LIKELIHOODS, Data, Manifest

_TINY = 1e-300

_TOLERANCE = 1e-3
"""Difference between a sum of parts and the score, in nats and per 100 values."""

_RELATIVE = 5e-5
"""Difference relative to the score."""

_ROUNDING = 2.0**-21
"""Error of a decoder's probability next to 0 or 1, a few roundings of float32 near 1."""

_SATURATED = 2.0**-19
"""Probability of a sigmoid, or of its complement, below which float32 does not determine the log."""

_NEAR = 20.0
"""Nats below the most likely normal of a mixture up to which others are counted in its rounding."""

_UNDERFLOW = 2.0**-120
"""Probability of a softmax below which float32 does not determine the log."""


class ScoreParts(NamedTuple):
    """Scores of some examples with their parts, float64 in nats.

    Attributes:
        elbo: As of `Scores`, `[rows]`.
        reconstruction: As of `Scores`, `[rows]`.
        kl: As of `Scores`, `[rows]`.
        reconstruction_parts: -log p(x|z) of each value, `[rows, *shape]`. It is a column of a table, a feature of a
            vector, or a pixel. Its sum over a row is `reconstruction`.
        kl_parts: kl of each dimension of z, `[rows, latent_dim]`.
        kl_component: kl between the choices of a mixture prior's component, `[rows]`; 0 for other priors. With the sum
            of `kl_parts` it adds up to `kl`.
    """

    elbo: np.ndarray
    reconstruction: np.ndarray
    kl: np.ndarray
    reconstruction_parts: np.ndarray
    kl_parts: np.ndarray
    kl_component: np.ndarray


def score(
    model: Graphs,
    x: np.ndarray,
    conditions: Mapping[str, Any] | None = None,
    *,
    num_samples: int = scoring.NUM_SAMPLES,
    seed: int = scoring.SEED,
    batch_size: int = BATCH_SIZE,
) -> ScoreParts:
    """Compute the scores of examples and their parts. Arguments and errors as of `scoring.score`.

    Raises:
        VerificationError: The parts do not add up to the score, because decoder and likelihood disagree.
    """
    options: dict[str, Any] = {"num_samples": num_samples, "seed": seed, "batch_size": batch_size}
    chunks = list(stream(model, x, conditions, **options))
    return ScoreParts(*(np.concatenate(each) for each in zip(*chunks, strict=True)))


def stream(
    model: Graphs, x: np.ndarray, conditions: Mapping[str, Any] | None = None, **options: Any
) -> Iterator[ScoreParts]:
    """Yield scores and parts of consecutive rows, in chunks. Arguments as of `scoring.stream`."""
    for chunk in scoring.chunks(model, x, conditions, **options):
        yield score_chunk(model, chunk)


def score_chunk(model: Graphs, chunk: scoring.Chunk) -> ScoreParts:
    """Return the scores of the rows of a chunk with their parts."""
    density = value_log_probs(model.manifest)
    model.need("decoder")
    likelihood = get_likelihood(model)
    scores = scoring.score_chunk(model, chunk)
    q = scoring.posterior(model, chunk.x, chunk.columns, chunk.batch_size)
    z = q["z_mean"][:, None] + q["sigma"][:, None] * chunk.z_noise
    manifest, draws = model.manifest, z.shape[1]
    values, unknown = np.zeros((2, len(z), manifest.data.num_values))
    for draw in range(draws):
        outputs = model.run("decoder", {"z": z[:, draw]} | dict(chunk.columns), chunk.batch_size)
        lost: Any = 0.0
        if isinstance(likelihood, MixedAutoregressive):
            lost = _rounding(outputs, chunk.x, manifest, density(outputs, chunk.x, manifest))
            outputs = likelihood.given_columns(outputs, np.asarray(chunk.x, np.float64))
        log_prob = density(outputs, chunk.x, manifest)
        values -= log_prob / draws
        unknown += np.maximum(lost, _rounding(outputs, chunk.x, manifest, log_prob)) / draws
    rest = scores.reconstruction - values.sum(-1)
    # A log of a probability that float32 does not determine can have any size, but is not below 0.
    room = np.where(rest > 0, unknown.sum(-1), np.minimum(unknown, np.abs(values)).sum(-1))
    _check(manifest, "reconstruction", scores.reconstruction, values.sum(-1), manifest.data.num_values, room)
    values += rest[:, None] * _shares(unknown)
    prior = Prior(model, chunk.columns)
    by_dim = prior.kl(q["z_mean"], q["z_log_var"])
    component = np.zeros(len(z))
    if by_dim is None:
        log_var = q["z_log_var"].astype(np.float64)[:, None]
        log_q = -0.5 * (LOG_2_PI + log_var + np.square(chunk.z_noise.astype(np.float64)))
        log_p, choice = prior.log_prob_parts(z)
        by_dim, component = (log_q - log_p).mean(1), choice.mean(1)
    parts = ScoreParts(*scores, values.reshape(len(z), *manifest.data.shape), by_dim, component)
    _check(manifest, "kl", parts.kl, by_dim.sum(-1) + component, manifest.latent_dim)
    return parts


def _rounding(outputs: Mapping[str, np.ndarray], x: np.ndarray, manifest: Manifest, log_prob: np.ndarray) -> np.ndarray:
    """Return a bound on the nats that log p of each value lost when the decoder's outputs were rounded to float32.

    It is infinite if a probability is so close to 0 or 1 that float32 does not determine its log.

    Args:
        outputs: Outputs of the decoder.
        x: Values in data units.
        manifest: Manifest of the model.
        log_prob: log p of each value, `[rows, num_values]`.
    """
    name, flat = manifest.likelihood["name"], _flat(x)
    if name == "bernoulli":
        return _of_sigmoid(np.exp(log_prob))
    if name == "categorical":
        return _of_softmax(log_prob)
    bound = np.zeros(log_prob.shape)
    if name == "gaussian":
        mean, log_var = _flat(outputs["x_mean"]), _flat(outputs["x_log_var"])
        bound = _ROUNDING * np.abs(mean) * np.abs(flat - mean) * np.exp(-log_var)
    if name in MIXED_LIKELIHOODS:
        log_prob = log_prob + _unknown(flat, manifest.data, np.isnan(flat))
        for at, (probability, column) in enumerate(
            zip(manifest.likelihood["probabilities"], manifest.data.columns, strict=True)
        ):
            if probability is not None:
                bound[:, at] = _of_softmax(log_prob[:, at])
                continue
            if "x_weight" in outputs:
                bound[:, at] = _of_mixture(outputs, at, flat[:, at], column)
                continue
            log_var = np.asarray(outputs["x_log_var"][:, at], np.float64)
            slope = 1.0
            if column.get("form") == "quantile":
                slope = np.exp(column_densities.log_slope(flat[:, at], column))
                away = np.sqrt(np.maximum(0.0, 2 * (np.log(slope) - log_prob[:, at]) - LOG_2_PI - log_var))
                size = np.abs(flat[:, at]) * slope
            else:
                mean = np.asarray(outputs["x_mean"][:, at], np.float64)
                away, size = np.abs(flat[:, at] - mean) * np.exp(-log_var / 2), np.abs(mean)
            bound[:, at] = _ROUNDING * size * away * np.exp(-log_var / 2)
        bound = np.where(np.isnan(flat), 0.0, bound)
        if "missing" in manifest.likelihood:
            is_missing = np.asarray(outputs[str(manifest.likelihood["missing"])], np.float64)
            picked = np.where(np.isnan(flat), is_missing, 1 - is_missing)
            bound += np.where(is_missing > 0, _of_sigmoid(picked), 0.0)
    return bound


def _of_mixture(
    outputs: Mapping[str, np.ndarray], at: int, values: np.ndarray, column: Mapping[str, Any]
) -> np.ndarray:
    mean, log_var = (np.asarray(outputs[name][:, :, at], np.float64) for name in ("x_score", "x_log_var"))
    score = Scores(column)(np.nan_to_num(values))[:, None]
    away = np.abs(score - mean)
    # Only normals near the best one matter. Scores of about 1 are rounded to float32.
    log_prob = -0.5 * (log_var + np.square(away) * np.exp(-log_var))
    near = log_prob > log_prob.max(axis=1, keepdims=True) - _NEAR
    return np.where(near, _ROUNDING * (1.0 + np.abs(score)) * (away * np.exp(-log_var) + np.exp(-log_var / 2)), 0).max(
        axis=1
    )


def _of_sigmoid(picked: np.ndarray) -> np.ndarray:
    return np.where(picked < _SATURATED, np.inf, _ROUNDING / np.maximum(picked, _SATURATED))


def _of_softmax(log_prob: np.ndarray) -> np.ndarray:
    return np.where(log_prob < math.log(_UNDERFLOW), np.inf, 0.0)


def _shares(unknown: np.ndarray) -> np.ndarray:
    """Return the share of each value in the nats that rounding lost, `[rows, num_values]`."""
    lost = np.isinf(unknown)
    weights = np.where(lost.any(-1, keepdims=True), lost, unknown)
    return weights / np.maximum(weights.sum(-1, keepdims=True), _TINY)


def _check(
    manifest: Manifest, name: str, total: np.ndarray, sums: np.ndarray, num: int, room: np.ndarray | float = 0.0
) -> None:
    """Raise `VerificationError` unless the parts add up to the total, up to `room` and the rounding of float32."""
    wrong = np.abs(sums - total) > _TOLERANCE * (1 + 0.01 * num) + _RELATIVE * np.abs(total) + room
    if wrong.any():
        at = int(wrong.argmax())
        raise VerificationError(
            f"The parts of the {name} of {printable(manifest.name, 60)} add up to {sums[at]:.6g} nats, expected "
            f"{total[at]:.6g}. The decoder and the likelihood disagree; export the model again."
        )


def value_log_probs(manifest: Manifest) -> Callable[[Mapping[str, np.ndarray], np.ndarray, Manifest], np.ndarray]:
    """Return the function that computes log p of each value given z, with all constants.

    It maps outputs of the decoder, x `[rows, *shape]` and the manifest to float64 `[rows, num_values]`, in nats.

    Raises:
        RequestError: The likelihood is not known.
    """
    known = {
        "bernoulli": _bernoulli,
        "continuous_bernoulli": _continuous_bernoulli,
        "gaussian": column_densities.log_probs,
        "discretized_logistic": _discretized_logistic,
        "categorical": _categorical,
        "mixed": _mixed,
        "mixed_autoregressive": _mixed,
    }
    name = manifest.likelihood["name"]
    if name not in known:
        raise RequestError(f"{printable(manifest.name, 60)} has a {name} likelihood, whose parts are not known.")
    return known[name]


def _flat(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64).reshape(len(values), -1)


def _bernoulli(outputs: Mapping[str, np.ndarray], x: np.ndarray, manifest: Manifest) -> np.ndarray:
    low, high = manifest.data.range or (0.0, 1.0)
    probability = (_flat(outputs["x_mean"]) - low) / (high - low)
    picked = np.where(_flat(x) > (low + high) / 2, probability, 1 - probability)
    return np.log(np.maximum(picked, 2.0**-25))


def _continuous_bernoulli(outputs: Mapping[str, np.ndarray], x: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Return t x - softplus(t) + log C(t) on the unit interval, less the log of the range."""
    low, high = manifest.data.range or (0.0, 1.0)
    logits = _flat(outputs["x_logits"])
    unit = (_flat(x) - low) / (high - low)
    near = np.abs(logits) < 1e-3
    size = np.abs(np.where(near, 1.0, logits))
    # log C = log(t / tanh(t / 2)), about log 2 + t^2 / 12.
    far = np.log(size) + np.log1p(np.exp(-size)) - np.log(-np.expm1(-size))
    normalizer = np.where(near, math.log(2.0) + logits**2 / 12, far)
    return logits * unit - np.logaddexp(0, logits) + normalizer - math.log(high - low)


def _discretized_logistic(outputs: Mapping[str, np.ndarray], x: np.ndarray, manifest: Manifest) -> np.ndarray:
    low, high = manifest.data.range or (0.0, 255.0)
    values, location = _flat(x), _flat(outputs["x_location"])
    inverse = np.exp(-_flat(outputs["x_log_scale"]))
    half = 0.5 * (high - low) / 255
    upper, lower = (values - location + half) * inverse, (values - location - half) * inverse
    below, above = -np.logaddexp(0, -upper), -np.logaddexp(0, lower)
    inner = below + above + np.log(-np.expm1(-2 * half * inverse))
    return np.where(values < low + half, below, np.where(values > high - half, above, inner))


def _categorical(outputs: Mapping[str, np.ndarray], x: np.ndarray, manifest: Manifest) -> np.ndarray:
    probability = np.asarray(outputs["x_probability"], np.float64)
    probability = probability.reshape(len(probability), -1, probability.shape[-1])
    index = np.rint(_flat(x)).astype(np.int64)[..., None]
    return np.log(np.maximum(np.take_along_axis(probability, index, -1)[..., 0], 2.0**-149))


def _mixed(outputs: Mapping[str, np.ndarray], x: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Return the densities of columns with what `log_probs` leaves out: slopes, missing and unknown values."""
    log_prob = column_densities.log_probs(outputs, x, manifest)
    values, data = _flat(x), manifest.data
    missing, unit = np.isnan(values), np.zeros(len(data.columns))
    for at, column in enumerate(data.columns):
        if column.get("form") == "quantile":
            log_prob[:, at] += np.where(missing[:, at], 0.0, column_densities.log_slope(values[:, at], column))
        elif column["kind"] == "numeric" and "atoms" not in column:
            # The graph divides a density by its unit also if the number is missing; this does not depend on z.
            unit[at] = math.log(float(column.get("scale", 1.0)))
    if "missing" in manifest.likelihood:
        is_missing = np.asarray(outputs[str(manifest.likelihood["missing"])], np.float64)
        log_prob = np.where(missing & (is_missing > 0), np.log(np.maximum(is_missing, _TINY)), log_prob)
    return log_prob - np.where(missing, unit, 0.0) - _unknown(values, data, missing)


def _unknown(values: np.ndarray, data: Data, missing: np.ndarray) -> np.ndarray:
    """Return the nats added for values that are impossible under the model (docs/format.md), 0 for others."""
    cost = np.zeros(values.shape)
    for at, column in enumerate(data.columns):
        each = values[:, at]
        if column["kind"] == "categorical":
            cost[:, at] = np.where(each == UNSEEN, scoring.WITHOUT_CLASS_NATS + scoring.UNSEEN_NATS, 0.0)
        elif "atoms" in column:
            possible = unseen.closeness(each.astype(np.float32), column).max(axis=1) > 0
            cost[:, at] = np.where(possible | missing[:, at], 0.0, scoring.WITHOUT_CLASS_NATS)
    return cost
