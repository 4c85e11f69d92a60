"""log p(x) by importance sampling from the posterior, streamed: any number of draws in a bounded room.

    log p(x) ~ log 1/K sum_k w_k,   w_k = p(x | z_k) p(z_k) / q(z_k | x),   z_k ~ q(z | x)

Reference: Burda et al. (2016), https://arxiv.org/abs/1509.00519, section 2 and appendix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kvae_serve.inference.densities import LOG_2_PI, Prior
from kvae_serve.inference.scoring import posterior
from kvae_serve.sealed import noise

if TYPE_CHECKING:
    from kvae_serve.model import Model

ROWS = 128
"""Rows in one run of `likelihood.onnx`: measured to be near the best rate, for what is fed and made stays in the cache
of a core. Half as many where an example is large."""

_LARGE = 4096

DRAWS_AT_A_TIME = 1024
"""Draws of z for one example that are held at once, whatever K."""

Progress = Callable[[int], None]
"""Called with the number of draws that were done since the last time."""


class Estimates(NamedTuple):
    """What importance sampling says of each example, float64 `[rows]`, nats where not said otherwise.

    Attributes:
        reconstruction: mean over the draws of -log p(x given z).
        kl: KL(q || p) in closed form, or the mean over the draws of log q - log p where there is none.
        nll: -log p(x), by the mean of the weights.
        effective: draws that count, (sum w)^2 / sum w^2, from 1 to K.
        kl_per_dim: `[rows, latent_dim]`, or None where the prior is a mixture.
    """

    reconstruction: np.ndarray
    kl: np.ndarray
    nll: np.ndarray
    effective: np.ndarray
    kl_per_dim: np.ndarray | None


def estimate(
    model: Model,
    x: np.ndarray,
    columns: Mapping[str, np.ndarray],
    start: int,
    *,
    num_samples: int,
    seed: int,
    progress: Progress | None = None,
) -> tuple[Estimates, dict[str, np.ndarray]]:
    """Return estimates of some examples, and what the encoder says of them.

    Args:
        model: with encoder, likelihood and, where it is learned, prior.
        x: float32 `[rows, *shape]`, as encoder and likelihood are to see it.
        columns: each condition, `[rows]`.
        start: index of the first row, which keys its noise.
        num_samples: K.
        seed: of the noise.
        progress: told of draws done.
    """
    found = posterior(model, x, columns, ROWS)
    prior = Prior(model, columns)
    rows, dim = found["z_mean"].shape
    running = _Running(rows)
    log_var = found["z_log_var"].astype(np.float64).sum(-1)
    kl = np.zeros(rows)
    with ThreadPoolExecutor(1) as pool:
        for part, draws, epsilon in _ahead(pool, _pieces(rows, num_samples), start, seed, dim):
            z = found["z_mean"][part, None] + found["sigma"][part, None] * epsilon
            squares = np.einsum("rki,rki->rk", epsilon, epsilon, dtype=np.float64)
            log_q = -0.5 * (log_var[part, None] + dim * LOG_2_PI + squares)
            log_ratio = log_q - prior.take(part).log_prob(z)
            log_likelihood = _log_likelihoods(model, x[part], z, {name: v[part] for name, v in columns.items()})
            running.add(part, log_likelihood, log_ratio)
            kl[part] += log_ratio.sum(-1)
            if progress is not None:
                progress(epsilon.shape[0] * draws)
    by_dim = prior.kl(found["z_mean"], found["z_log_var"])
    kl = kl / num_samples if by_dim is None else by_dim.sum(-1)
    nll, effective = running.figures(num_samples)
    return Estimates(running.reconstruction / num_samples, kl, nll, effective, by_dim), found


class _Running:
    """A log-sum-exp of the weights of each example that takes them a few at a time."""

    def __init__(self, rows: int) -> None:
        self.reconstruction = np.zeros(rows)
        self.highest = np.full(rows, -np.inf)
        self.sum, self.squares = np.zeros(rows), np.zeros(rows)

    def add(self, part: slice, log_likelihood: np.ndarray, log_ratio: np.ndarray) -> None:
        """Take `[rows of part, draws]`."""
        log_weights = log_likelihood - log_ratio
        highest = np.maximum(self.highest[part], log_weights.max(-1))
        shrink = np.exp(self.highest[part] - highest)
        weights = np.exp(log_weights - highest[:, None])
        self.sum[part] = self.sum[part] * shrink + weights.sum(-1)
        self.squares[part] = self.squares[part] * shrink**2 + np.square(weights).sum(-1)
        self.highest[part] = highest
        self.reconstruction[part] -= log_likelihood.sum(-1)

    def figures(self, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Return -log of the mean weight, and how many of the draws count."""
        return np.log(num) - np.log(self.sum) - self.highest, np.square(self.sum) / self.squares


def _pieces(rows: int, num_samples: int) -> Iterator[tuple[slice, int, int]]:
    """Cut rows and draws into pieces: which rows, the first draw, how many draws."""
    together = max(1, ROWS // num_samples)
    for first in range(0, rows, together):
        for draw in range(0, num_samples, DRAWS_AT_A_TIME):
            yield slice(first, min(first + together, rows)), draw, min(DRAWS_AT_A_TIME, num_samples - draw)


def _ahead(
    pool: ThreadPoolExecutor, pieces: Iterator[tuple[slice, int, int]], start: int, seed: int, dim: int
) -> Iterator[tuple[slice, int, np.ndarray]]:
    """Give each piece with its noise, made while ONNX Runtime runs the piece before: both let other threads run."""

    def make(piece: tuple[slice, int, int]) -> tuple[slice, int, np.ndarray]:
        part, draw, num = piece
        examples = range(start + part.start, start + part.stop)
        return part, num, np.stack([noise.example_normals(seed, each, draw, num, dim) for each in examples])

    waiting = None
    for piece in pieces:
        following = pool.submit(make, piece)
        if waiting is not None:
            yield waiting.result()
        waiting = following
    if waiting is not None:
        yield waiting.result()


def _log_likelihoods(model: Model, x: np.ndarray, z: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return log p(x given z), float64 `[rows, draws]` from z `[rows, draws, latent_dim]`."""
    rows, draws = z.shape[:2]
    session = model.session("likelihood")
    flat = z.reshape(rows * draws, -1)
    found = np.empty(len(flat))
    size = min(ROWS if x[0].size <= _LARGE else ROWS // 2, len(flat))
    given = {"x": x, **columns}
    # Several rows have few draws each; one row is repeated once, and serves every run.
    repeated = {name: np.repeat(values, draws if rows > 1 else size, axis=0) for name, values in given.items()}
    for start in range(0, len(flat), size):
        part = slice(start, min(start + size, len(flat)))
        of = part if rows > 1 else slice(0, part.stop - start)
        feeds = {name: values[of] for name, values in repeated.items()}
        found[part] = session.run(feeds | {"z": flat[part]}, ROWS)["log_likelihood"]
    return found.reshape(rows, draws)
