"""Densities of z under the posterior and the prior, the kl between them, and data drawn to black and white.

All in float64 and nats, computed outside of the graphs: what a likelihood says of x is the business of
`likelihood.onnx` alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from kvae_serve.errors import ModelFileError, printable
from kvae_serve.sealed.manifest import MIXTURE_PRIORS, Manifest

if TYPE_CHECKING:
    from kvae_serve.model import Model

LOG_2_PI = math.log(2.0 * math.pi)

# Numbers in the largest intermediate array of a mixture's density: 8 MiB of float64.
_MAX_CELLS = 2**20


def log_normal(z: np.ndarray, mean: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    """Return the log density of a diagonal Gaussian, summed over the last axis.

    Args:
        z: `[..., latent_dim]`.
        mean: of a shape that broadcasts to that of z.
        log_var: log of the variance, likewise.

    Returns:
        float64 `[...]`, in nats.
    """
    z, mean, log_var = (np.asarray(part, np.float64) for part in (z, mean, log_var))
    return -0.5 * (LOG_2_PI + log_var + np.square(z - mean) * np.exp(-log_var)).sum(-1)


def kl_per_dim(z_mean: np.ndarray, z_log_var: np.ndarray, mean: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    """Return KL(q || p) between diagonal Gaussians in closed form, dimension by dimension.

    Args:
        z_mean: mean of q, `[rows, latent_dim]`.
        z_log_var: log variance of q, same shape.
        mean: of p, a shape that broadcasts to that.
        log_var: of p, likewise.

    Returns:
        float64 `[rows, latent_dim]`, in nats; zero exactly where q is p.

    Reference: Kingma and Welling (2014), https://arxiv.org/abs/1312.6114, appendix B, for p = N(0, I).
    """
    z_mean, z_log_var, mean, log_var = (np.asarray(part, np.float64) for part in (z_mean, z_log_var, mean, log_var))
    log_ratio = z_log_var - log_var
    # expm1 keeps its digits where the two variances are near each other.
    return 0.5 * (np.expm1(log_ratio) - log_ratio + np.square(z_mean - mean) * np.exp(-log_var))


class Prior:
    """p(z), or p(z given the conditions) of some rows.

    Args:
        model: a loaded model.
        columns: each condition by name, `[rows]`, as `kvae_serve.runtime.conditions.columns` gives them; none where
        the model
            is unconditional.

    Raises:
        ModelFileError: the prior is learned, and prior.onnx is missing or bad.
    """

    def __init__(self, model: Model, columns: Mapping[str, np.ndarray]) -> None:
        kind = model.manifest.prior["name"]
        self.is_standard = kind == "standard_normal"
        self.is_mixture = kind in MIXTURE_PRIORS
        if self.is_standard:
            return
        if not model.has("prior"):
            raise ModelFileError(
                f"{printable(model.path)} has a learned prior, so p(z) is not known without prior.onnx. "
                "Copy prior.onnx beside it and give the folder."
            )
        if self.is_mixture:
            self._read_mixture(model, columns)
        else:
            outputs = model.run("prior", dict(columns))
            self._mean = outputs["z_mean"].astype(np.float64)
            self._log_var = outputs["z_log_var"].astype(np.float64)

    def take(self, rows: slice) -> Prior:
        """Return the prior of some of the rows."""
        part = copy.copy(self)
        if self.is_mixture:
            part._given = self._given if len(self._given) == 1 else self._given[rows]
        elif not self.is_standard:
            part._mean, part._log_var = self._mean[rows], self._log_var[rows]
        return part

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """Return log p(z) in nats.

        Args:
            z: `[rows, latent_dim]`, or `[rows, draws, latent_dim]` for several draws of each row.

        Returns:
            float64 `[rows]` or `[rows, draws]`.
        """
        if self.is_standard:
            z = np.asarray(z, np.float64)
            return -0.5 * (z.shape[-1] * LOG_2_PI + np.einsum("...i,...i->...", z, z))
        if self.is_mixture:
            return self._log_mixture(np.asarray(z, np.float64))
        between = (slice(None), *[None] * (z.ndim - 2))
        return log_normal(z, self._mean[between], self._log_var[between])

    def kl(self, z_mean: np.ndarray, z_log_var: np.ndarray) -> np.ndarray | None:
        """Return KL(q || p) by dimension in closed form, float64 `[rows, latent_dim]`; None where there is none."""
        if self.is_mixture:
            return None
        if self.is_standard:
            return kl_per_dim(z_mean, z_log_var, np.zeros(()), np.zeros(()))
        return kl_per_dim(z_mean, z_log_var, self._mean, self._log_var)

    def _read_mixture(self, model: Model, columns: Mapping[str, np.ndarray]) -> None:
        """Ask prior.onnx for every component, once for each combination of conditions that is there."""
        weights = np.array(model.manifest.prior["log_weights"], np.float64)
        self._log_weights = weights - np.logaddexp.reduce(weights)
        first, self._given = _distinct(columns)
        num = len(weights)
        feeds = {name: np.repeat(values[first], num) for name, values in columns.items()}
        feeds["component"] = np.tile(np.arange(num, dtype=np.int64), len(first))
        outputs = model.run("prior", feeds)
        shape = (len(first), num, model.manifest.latent_dim)
        mean = outputs["z_mean"].astype(np.float64).reshape(shape)
        log_var = outputs["z_log_var"].astype(np.float64).reshape(shape)
        # log N(z) is a quadratic in z, so that one product of matrices gives it for all components at once. Around
        # their middle, where z is not far from any of them, no digits are lost.
        self._middle = mean.mean(axis=1)
        mean = mean - self._middle[:, None]
        precision = np.exp(-log_var)
        self._square, self._linear = -0.5 * precision, precision * mean
        self._constant = self._log_weights - 0.5 * (LOG_2_PI + log_var + precision * mean**2).sum(-1)

    def _log_mixture(self, z: np.ndarray) -> np.ndarray:
        draws = z[:, None] if z.ndim == 2 else z
        found = np.empty(draws.shape[:2])
        at_a_time = max(1, _MAX_CELLS // len(self._log_weights))
        for row, kind in enumerate(np.broadcast_to(self._given, len(draws))):
            # Each row is a product of its own: BLAS rounds by shape, and a row must not depend on its neighbours.
            for start in range(0, draws.shape[1], at_a_time):
                away = draws[row, start : start + at_a_time] - self._middle[kind]
                each = np.square(away) @ self._square[kind].T + away @ self._linear[kind].T + self._constant[kind]
                found[row, start : start + at_a_time] = log_sum_exp(each)
        return found.reshape(z.shape[:-1])


def binarize(x: np.ndarray, manifest: Manifest, uniforms: np.ndarray) -> np.ndarray:
    """Draw each value to the lowest or highest of the range, the highest with its own height as probability.

    Args:
        x: `[rows, *shape]` in data units.
        manifest: the model's; its data have a range.
        uniforms: float64 in [0, 1), `[values]` for the same draw in every row, or `[rows, values]`.

    Returns:
        float32 `[rows, *shape]`. Values at an end of the range stay there, whatever the uniform.

    Reference: Burda et al. (2016), https://arxiv.org/abs/1509.00519, section 5.1 (dynamic binarisation).
    """
    low, high = manifest.data.range or (0.0, 1.0)
    probability = (np.asarray(x, np.float64).reshape(len(x), -1) - low) / (high - low)
    drawn = np.where(uniforms < probability, np.float32(high), np.float32(low))
    return drawn.reshape(x.shape)


def log_sum_exp(values: np.ndarray) -> np.ndarray:
    """Return log(sum(exp(values))) over the last axis, float64; minus infinity where all of them are."""
    highest = values.max(axis=-1, keepdims=True)
    shift = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(values - shift).sum(-1)) + shift[..., 0]


def _distinct(columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each distinct combination of conditions, and which of these each row has."""
    if not columns:
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    table = np.stack([np.asarray(values, np.float64) for values in columns.values()], axis=1)
    _, first, given = np.unique(table, axis=0, return_index=True, return_inverse=True)
    return first, given.reshape(-1)
