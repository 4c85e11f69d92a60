"""How kl divides: what z tells of x, and how far the posteriors taken together are from the prior.

    mean KL(q(z | x) || p(z)) = I(x; z) + KL(q(z) || p(z)),   q(z) the mean of the posteriors

The mean of the posteriors is taken over N encodings, without minibatches: one z from each posterior, its density under
all N. With its own posterior among them that is the mutual information of z and the example's number, which cannot
exceed log N and on average is a lower bound on I(x; z); without its own it is an upper bound (for one N). The gap is
the kl of the same encodings less the lower bound, hence on average an upper bound.

A conditional model divides given the condition: each class has an aggregate of its own.

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

MOST = 4096
"""Encodings that are mixed at most: the first of the data."""

_ROWS = 128


def decompose(
    manifest: Manifest, prior: Prior, found: Mapping[str, np.ndarray], columns: Mapping[str, np.ndarray], seed: int
) -> dict[str, Any] | None:
    """Return mutual information and gap, each example's own, and what they were made of.

    Args:
        manifest: the model's.
        prior: of these rows.
        found: z_mean, z_log_var and sigma of N examples, `[N, latent_dim]`.
        columns: their conditions.
        seed: of the draws of z, one an example.

    Returns:
        `lower`, `upper`, `gap` and `kl`, float64 `[N]` in nats (`upper` None where a class has one example only), and
        `ceiling`, the most that `lower` can be; None where the aggregate is not defined here: given a continuous
        condition there is one example for each value.
    """
    if any(not condition.categorical for condition in manifest.conditions):
        return None
    num, dim = found["z_mean"].shape
    mean, log_var = found["z_mean"].astype(np.float64), found["z_log_var"].astype(np.float64)
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
    _, given = np.unique(np.stack(list(columns.values()), axis=1), axis=0, return_inverse=True)
    given = given.reshape(-1)
    return [np.flatnonzero(given == kind) for kind in range(given.max() + 1)]


def _log_aggregate(
    z: np.ndarray, mean: np.ndarray, log_var: np.ndarray, log_q: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return log of the mean posterior at each z, the own posterior among them and left out."""
    num = len(z)
    precision = np.exp(-log_var)
    middle = mean.mean(0)
    linear = precision * (mean - middle)
    constant = -0.5 * (LOG_2_PI + log_var + linear * (mean - middle)).sum(-1)
    with_own, without_own = np.empty(num), np.empty(num)
    for start in range(0, num, _ROWS):
        rows = np.arange(start, min(start + _ROWS, num))
        away = z[rows] - middle
        each = np.square(away) @ (-0.5 * precision).T + away @ linear.T + constant
        own = rows - start, rows
        each[own] = log_q[rows]  # Known exactly, without the rounding of the product.
        with_own[rows] = log_sum_exp(each) - math.log(num)
        if num > 1:
            each[own] = -np.inf
            without_own[rows] = log_sum_exp(each) - math.log(num - 1)
    return with_own, without_own
