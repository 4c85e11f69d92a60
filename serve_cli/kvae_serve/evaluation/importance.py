"""Importance sampling of log p(x) from the posterior, in memory that does not grow with the number of draws.

    log p(x) ~ log 1/K sum_k w_k,   w_k = p(x | z_k) p(z_k) / q(z_k | x),   z_k ~ q(z | x)

Reference: Burda et al. (2016), https://arxiv.org/abs/1509.00519, section 2 and appendix.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from kvae_serve.inference.densities import LOG_2_PI, Prior
from kvae_serve.inference.scoring import log_likelihoods, posterior
from kvae_serve.prefetch import prefetch
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.sealed import noise

ROWS = 128
"""Rows per run of `likelihood.onnx`. Measured: nearly the highest rate, because inputs and results fit into the cache
of a core. Half as many for large examples."""

_LARGE = 4096

MAX_DRAWS = 1024
"""Limit of the draws of z of one example that are in memory, whatever K."""

Progress = Callable[[int], None]
"""Function that is called with the number of draws since its last call."""


class Estimates(NamedTuple):
    """Estimates for some examples, float64 `[rows]`, in nats unless stated otherwise.

    Attributes:
        reconstruction: Mean of -log p(x|z) over the draws.
        kl: KL(q || p) in closed form, or the mean of log q - log p over the draws if the prior is a mixture.
        nll: -log p(x), from the mean of the weights.
        effective: Effective number of draws, (sum w)^2 / sum w^2, from 1 to K.
        kl_per_dim: `[rows, latent_dim]`; None if the prior is a mixture.
    """

    reconstruction: np.ndarray
    kl: np.ndarray
    nll: np.ndarray
    effective: np.ndarray
    kl_per_dim: np.ndarray | None


def estimate(
    model: Graphs,
    x: np.ndarray,
    columns: Mapping[str, np.ndarray],
    start: int,
    *,
    num_samples: int,
    seed: int,
    progress: Progress | None = None,
) -> tuple[Estimates, dict[str, np.ndarray]]:
    """Estimate log p(x) and the terms of the elbo for some examples.

    Args:
        model: A model with encoder and likelihood, and with its prior if that is learned.
        x: float32 `[rows, *shape]`, binarised if necessary.
        columns: Each condition by name, `[rows]`.
        start: Index of the first row, which selects its noise.
        num_samples: K, draws of z per example.
        seed: Seed of the noise.
        progress: Called with the number of new draws.

    Returns:
        The estimates, and `z_mean`, `z_log_var` and `sigma` of the posteriors.
    """
    q = posterior(model, x, columns, ROWS)
    prior = Prior(model, columns)
    rows, dim = q["z_mean"].shape
    weights = _Weights(rows)
    log_var = q["z_log_var"].astype(np.float64).sum(-1)
    batch_size = ROWS if x[0].size <= _LARGE else ROWS // 2
    kl = np.zeros(rows)
    # NumPy makes the noise of the next block while ONNX Runtime works on this one.
    with contextlib.closing(prefetch(_noise_blocks(rows, num_samples, start, seed, dim), 1)) as blocks:  # type: ignore[type-var]
        for part, epsilon in blocks:
            z = q["z_mean"][part, None] + q["sigma"][part, None] * epsilon
            squares = np.einsum("rki,rki->rk", epsilon, epsilon, dtype=np.float64)
            log_q = -0.5 * (log_var[part, None] + dim * LOG_2_PI + squares)
            log_ratio = log_q - prior.take(part).log_prob(z)
            conditions = {name: values[part] for name, values in columns.items()}
            weights.add(part, log_likelihoods(model, x[part], z, conditions, batch_size), log_ratio)
            kl[part] += log_ratio.sum(-1)
            if progress is not None:
                progress(log_ratio.size)
    by_dim = prior.kl(q["z_mean"], q["z_log_var"])
    kl = kl / num_samples if by_dim is None else by_dim.sum(-1)
    nll, effective = weights.summary(num_samples)
    return Estimates(weights.reconstruction / num_samples, kl, nll, effective, by_dim), q


class _Weights:
    """Running log-sum-exp of the weights of each example."""

    def __init__(self, rows: int) -> None:
        self.reconstruction = np.zeros(rows)
        self.highest = np.full(rows, -np.inf)
        self.sum, self.squares = np.zeros(rows), np.zeros(rows)

    def add(self, part: slice, log_likelihood: np.ndarray, log_ratio: np.ndarray) -> None:
        """Add `[rows of part, draws]`."""
        log_weights = log_likelihood - log_ratio
        highest = np.maximum(self.highest[part], log_weights.max(-1))
        shrink = np.exp(self.highest[part] - highest)
        weights = np.exp(log_weights - highest[:, None])
        self.sum[part] = self.sum[part] * shrink + weights.sum(-1)
        self.squares[part] = self.squares[part] * shrink**2 + np.square(weights).sum(-1)
        self.highest[part] = highest
        self.reconstruction[part] -= log_likelihood.sum(-1)

    def summary(self, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Return -log of the mean weight of `num` draws, and the effective number of draws."""
        return np.log(num) - np.log(self.sum) - self.highest, np.square(self.sum) / self.squares


def _noise_blocks(rows: int, num_samples: int, start: int, seed: int, dim: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield some rows and noise of some of their draws, float32 `[rows, draws, dim]`, until all are covered."""
    together = max(1, ROWS // num_samples)
    for first in range(0, rows, together):
        part = slice(first, min(first + together, rows))
        for draw in range(0, num_samples, MAX_DRAWS):
            num = min(MAX_DRAWS, num_samples - draw)
            examples = range(start + part.start, start + part.stop)
            yield part, np.stack([noise.example_normals(seed, each, draw, num, dim) for each in examples])
