"""Densities of z under posterior and prior, the kl between them, and binarisation of data.

Everything is float64 and in nats. Densities of x are computed by `likelihood.onnx` instead.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import numpy as np

from kvae_serve.runtime.graphs import Graphs
from kvae_serve.sealed.manifest import MIXTURE_PRIORS, Manifest

LOG_2_PI = math.log(2.0 * math.pi)

_MAX_CELLS = 2**20
"""Size of the largest intermediate array of a mixture's density: 8 MiB of float64."""


def log_normal(z: np.ndarray, mean: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    """Compute the log density of a diagonal Gaussian, summed over the last axis.

    Args:
        z: `[..., latent_dim]`.
        mean: Mean, of a shape that broadcasts to that of z.
        log_var: Log variance, of a shape that broadcasts to that of z.

    Returns:
        float64 `[...]`, in nats.
    """
    z, mean, log_var = (np.asarray(part, np.float64) for part in (z, mean, log_var))
    return -0.5 * (LOG_2_PI + log_var + np.square(z - mean) * np.exp(-log_var)).sum(-1)


def kl_per_dim(z_mean: np.ndarray, z_log_var: np.ndarray, mean: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    """Compute KL(q || p) between diagonal Gaussians in closed form, dimension by dimension.

    Args:
        z_mean: Mean of q, `[rows, latent_dim]`.
        z_log_var: Log variance of q, same shape.
        mean: Mean of p, of a shape that broadcasts to that of z_mean.
        log_var: Log variance of p, of a shape that broadcasts to that of z_mean.

    Returns:
        float64 `[rows, latent_dim]`, in nats. Exactly zero if q equals p.

    Reference: Kingma and Welling (2014), https://arxiv.org/abs/1312.6114, appendix B, for p = N(0, I).
    """
    z_mean, z_log_var, mean, log_var = (np.asarray(part, np.float64) for part in (z_mean, z_log_var, mean, log_var))
    log_ratio = z_log_var - log_var
    # expm1 is accurate even if the variances are nearly equal.
    return 0.5 * (np.expm1(log_ratio) - log_ratio + np.square(z_mean - mean) * np.exp(-log_var))


class Prior:
    """Prior p(z), or p(z|y) of some rows.

    Args:
        model: A model, with prior.onnx if the prior is learned.
        columns: Each condition by name, `[rows]`, as returned by `kvae_serve.runtime.conditions.columns`.

    Raises:
        ModelFileError: The prior is learned, and prior.onnx is missing or invalid.
    """

    def __init__(self, model: Graphs, columns: Mapping[str, np.ndarray]) -> None:
        kind = model.manifest.prior["name"]
        self.is_standard = kind == "standard_normal"
        self.is_mixture = kind in MIXTURE_PRIORS
        if self.is_mixture:
            self._read_mixture(model, columns)
        elif not self.is_standard:
            outputs = model.run("prior", dict(columns))
            self._mean = outputs["z_mean"].astype(np.float64)
            self._log_var = outputs["z_log_var"].astype(np.float64)

    def take(self, rows: slice) -> Prior:
        """Return the prior of some of the rows."""
        part = copy.copy(self)
        if self.is_mixture:
            part._kinds = self._kinds if len(self._kinds) == 1 else self._kinds[rows]
        elif not self.is_standard:
            part._mean, part._log_var = self._mean[rows], self._log_var[rows]
        return part

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """Compute log p(z).

        Args:
            z: `[rows, latent_dim]`, or `[rows, draws, latent_dim]` for several draws per row.

        Returns:
            float64 `[rows]` or `[rows, draws]`, in nats.
        """
        if self.is_standard:
            z = np.asarray(z, np.float64)
            return -0.5 * (z.shape[-1] * LOG_2_PI + np.einsum("...i,...i->...", z, z))
        if self.is_mixture:
            return self._log_mixture(np.asarray(z, np.float64))
        between = (slice(None), *[None] * (z.ndim - 2))
        return log_normal(z, self._mean[between], self._log_var[between])

    def log_prob_parts(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Split log p(z) of a mixture into one term per dimension, and one for the choice of the component.

        With r, the probabilities of the components given z, and their weights w, log p(z) is the sum over dimensions of
        E_r[log N(z_i)], less KL(r || w).

        Args:
            z: `[rows, draws, latent_dim]`.

        Returns:
            The terms of the dimensions, float64 `[rows, draws, latent_dim]`, and KL(r || w), `[rows, draws]`, in nats.
        """
        z = np.asarray(z, np.float64)
        by_dim, choice = np.empty(z.shape), np.empty(z.shape[:-1])
        for row, kind in enumerate(np.broadcast_to(self._kinds, len(z))):
            away = z[row] - self._center[kind]
            terms = np.square(away) @ self._square[kind].T + away @ self._linear[kind].T + self._constant[kind]
            log_r = terms - log_sum_exp(terms)[:, None]
            r = np.exp(log_r)
            by_dim[row] = np.square(away) * (r @ self._square[kind]) + away * (r @ self._linear[kind])
            by_dim[row] += r @ self._by_dim[kind]
            choice[row] = (r * (log_r - self._log_weights)).sum(-1)
        return by_dim, choice

    def kl(self, z_mean: np.ndarray, z_log_var: np.ndarray) -> np.ndarray | None:
        """Compute KL(q || p) by dimension in closed form, float64 `[rows, latent_dim]` in nats; None for a mixture."""
        if self.is_mixture:
            return None
        if self.is_standard:
            return kl_per_dim(z_mean, z_log_var, np.zeros(()), np.zeros(()))
        return kl_per_dim(z_mean, z_log_var, self._mean, self._log_var)

    def _read_mixture(self, model: Graphs, columns: Mapping[str, np.ndarray]) -> None:
        """Evaluate prior.onnx for every component and every distinct combination of conditions."""
        first, self._kinds = _distinct(columns)
        log_weights, mean, log_var = mixture_components(
            model, {name: values[first] for name, values in columns.items()}, len(first)
        )
        # log N(z) is a quadratic in z, so one matrix product computes it for all components at once. Centering keeps z
        # close to every component, so no digits are lost.
        self._center = mean.mean(axis=1)
        mean = mean - self._center[:, None]
        precision = np.exp(-log_var)
        self._square, self._linear = -0.5 * precision, precision * mean
        self._log_weights, self._by_dim = log_weights, -0.5 * (LOG_2_PI + log_var + precision * mean**2)
        self._constant = log_weights + self._by_dim.sum(-1)

    def _log_mixture(self, z: np.ndarray) -> np.ndarray:
        draws = z[:, None] if z.ndim == 2 else z
        log_prob = np.empty(draws.shape[:2])
        block = max(1, _MAX_CELLS // self._constant.shape[1])
        for row, kind in enumerate(np.broadcast_to(self._kinds, len(draws))):
            # One product per row: BLAS rounds differently for each shape, and a row must not depend on the others.
            for start in range(0, draws.shape[1], block):
                away = draws[row, start : start + block] - self._center[kind]
                terms = np.square(away) @ self._square[kind].T + away @ self._linear[kind].T + self._constant[kind]
                log_prob[row, start : start + block] = log_sum_exp(terms)
        return log_prob.reshape(z.shape[:-1])


def mixture_components(
    model: Graphs, columns: Mapping[str, np.ndarray], rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log weights `[components]`, means and log variances `[rows, components, latent_dim]` of a mixture prior.

    Args:
        model: A model whose prior is a mixture, with prior.onnx.
        columns: Each condition by name, `[rows]`.
        rows: Number of rows.
    """
    log_weights = np.array(model.manifest.prior["log_weights"], np.float64)
    log_weights = log_weights - np.logaddexp.reduce(log_weights)
    num = len(log_weights)
    feeds = {name: np.repeat(values, num) for name, values in columns.items()}
    feeds["component"] = np.tile(np.arange(num, dtype=np.int64), rows)
    outputs = model.run("prior", feeds)
    mean, log_var = (
        outputs[name].astype(np.float64).reshape(rows, num, model.manifest.latent_dim)
        for name in ("z_mean", "z_log_var")
    )
    return log_weights, mean, log_var


def binarize(x: np.ndarray, manifest: Manifest, uniforms: np.ndarray) -> np.ndarray:
    """Draw each value to the lowest or highest value of the range. A value is the probability of the highest.

    Args:
        x: `[rows, *shape]` in data units.
        manifest: Manifest of a model whose data have a range.
        uniforms: float64 in [0, 1), `[values]` for the same draw in every row, or `[rows, values]`.

    Returns:
        float32 `[rows, *shape]`. Values at an end of the range do not change.

    Reference: Burda et al. (2016), https://arxiv.org/abs/1509.00519, section 5.1 (dynamic binarisation).
    """
    low, high = manifest.data.range or (0.0, 1.0)
    probability = (np.asarray(x, np.float64).reshape(len(x), -1) - low) / (high - low)
    drawn = np.where(uniforms < probability, np.float32(high), np.float32(low))
    return drawn.reshape(x.shape)


def log_sum_exp(values: np.ndarray) -> np.ndarray:
    """Compute log(sum(exp(values))) over the last axis, float64; minus infinity if all values are."""
    highest = values.max(axis=-1, keepdims=True)
    shift = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(values - shift).sum(-1)) + shift[..., 0]


def _distinct(columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each distinct combination of conditions, and the number of each row's combination."""
    if not columns:
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    table = np.stack([np.asarray(values, np.float64) for values in columns.values()], axis=1)
    _, first, kinds = np.unique(table, axis=0, return_index=True, return_inverse=True)
    return first, kinds.reshape(-1)
