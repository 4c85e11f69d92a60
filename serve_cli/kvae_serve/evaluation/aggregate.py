"""Decomposition of kl into mutual information and the distance of the aggregate posterior from the prior.

    mean KL(q(z | x) || p(z)) = I(x; z) + KL(q(z) || p(z)),   q(z) = mean of the posteriors

The mean is over all N encodings, without minibatches: one z from each posterior, and its density under all N. If its
own posterior is included, the result is the mutual information of z and the index of the example. It cannot exceed log
N, and on average it is a lower bound of I(x; z). Without its own posterior it is an upper bound (for a single N). The
gap is the kl of the same encodings minus the lower bound, so on average it is an upper bound.

For a conditional model the decomposition is per class: each class has a separate aggregate posterior.

References: Hoffman and Johnson (2016), ELBO surgery; Poole et al. (2019), https://arxiv.org/abs/1905.06922, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kvae_serve.inference.densities import LOG_2_PI, Prior, log_sum_exp
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import Manifest

MAX_ENCODINGS = 4096
"""Limit of the number of encodings in the mixture. The first ones of the data are used."""

_ROWS = 128


def decompose(
    manifest: Manifest, prior: Prior, q: Mapping[str, np.ndarray], columns: Mapping[str, np.ndarray], seed: int
) -> dict[str, Any] | None:
    """Compute mutual information and gap for each example.

    Args:
        manifest: Manifest of the model.
        prior: Prior of these rows.
        q: `z_mean` and `z_log_var` of N examples, `[N, latent_dim]`.
        columns: Conditions of the examples.
        seed: Seed of the draws of z, one per example.

    Returns:
        `lower`, `upper`, `gap` and `kl`, float64 `[N]` in nats (`upper` is None if a class has only one example), and
        `ceiling`, the highest possible value of `lower`. None if the model has a continuous condition, because then
        each value has only one example.
    """
    if any(not condition.categorical for condition in manifest.conditions):
        return None
    num, dim = q["z_mean"].shape
    mean, log_var = q["z_mean"].astype(np.float64), q["z_log_var"].astype(np.float64)
    epsilon = noise.normals(seed, noise.STREAM_AGGREGATE, 0, num, dim).astype(np.float64)
    z = mean + np.exp(log_var / 2) * epsilon
    log_q = -0.5 * (log_var + LOG_2_PI + np.square(epsilon)).sum(-1)
    with_own, without_own = np.empty(num), np.empty(num)
    sizes = np.empty(num)
    for rows in _groups(columns, num):
        with_own[rows], without_own[rows] = _log_aggregate(z[rows], mean[rows], log_var[rows], log_q[rows])
        sizes[rows] = len(rows)
    log_p = prior.log_prob(z[:, None])[:, 0]
    return {
        "lower": log_q - with_own,
        "upper": log_q - without_own if sizes.min() > 1 else None,
        "gap": with_own - log_p,
        "kl": log_q - log_p,
        "ceiling": float(np.log(sizes).mean()),
    }


def _groups(columns: Mapping[str, np.ndarray], num: int) -> list[np.ndarray]:
    """Return the rows of each combination of conditions."""
    if not columns:
        return [np.arange(num)]
    _, kinds = np.unique(np.stack(list(columns.values()), axis=1), axis=0, return_inverse=True)
    kinds = kinds.reshape(-1)
    return [np.flatnonzero(kinds == kind) for kind in range(kinds.max() + 1)]


def _log_aggregate(
    z: np.ndarray, mean: np.ndarray, log_var: np.ndarray, log_q: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log density of the mean posterior at each z, with and without its own posterior."""
    num = len(z)
    precision = np.exp(-log_var)
    center = mean.mean(0)
    linear = precision * (mean - center)
    constant = -0.5 * (LOG_2_PI + log_var + linear * (mean - center)).sum(-1)
    with_own, without_own = np.empty(num), np.empty(num)
    for start in range(0, num, _ROWS):
        rows = np.arange(start, min(start + _ROWS, num))
        away = z[rows] - center
        terms = np.square(away) @ (-0.5 * precision).T + away @ linear.T + constant
        own = rows - start, rows
        terms[own] = log_q[rows]  # Known exactly, without the rounding errors of the product.
        with_own[rows] = log_sum_exp(terms) - math.log(num)
        if num > 1:
            terms[own] = -np.inf
            without_own[rows] = log_sum_exp(terms) - math.log(num - 1)
    return with_own, without_own
