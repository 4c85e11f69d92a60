"""Metrics over examples: mean, standard error, n, number of draws and unit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kvae_serve.sealed.manifest import MIXED_LIKELIHOODS, Manifest

ACTIVE_VARIANCE = 0.01
"""A dimension is active if the variance over x of the mean of q(z|x) exceeds this (Burda et al. 2016)."""

_DENSITIES = ("gaussian", "continuous_bernoulli")


def metric(values: np.ndarray, unit: str, samples: int | None = None, **details: Any) -> dict[str, Any]:
    """Return a metric as plain values, ready for JSON.

    Args:
        values: float64 `[n]`, one per example.
        unit: Unit of the mean.
        samples: Number of draws of z per example, if any.
        **details: Further entries.
    """
    num = len(values)
    error = float(values.std(ddof=1) / math.sqrt(num)) if num > 1 else None
    return {
        "mean": float(values.mean()),
        "standard_error": error,
        "n": num,
        "samples": samples,
        "unit": unit,
        **details,
    }


def shifted(base: dict[str, Any], shift: float, unit: str) -> dict[str, Any]:
    """Return a metric whose values are all higher by a constant."""
    return {**base, "mean": base["mean"] + shift, "unit": unit}


def scaled(base: dict[str, Any], factor: float, unit: str) -> dict[str, Any]:
    """Return a metric multiplied by a positive constant, without further details."""
    error = base["standard_error"]
    counts = {key: base[key] for key in ("n", "samples")}
    error = None if error is None else error * factor
    return {"mean": base["mean"] * factor, "standard_error": error, **counts, "unit": unit}


def units(manifest: Manifest) -> tuple[str, tuple[str, float] | None]:
    """Return the unit of -log p(x); and a second unit with its offset, or None if p is a probability.

    A density is per data unit. Papers report it for data scaled to [0, 1], or to unit standard deviation.
    """
    data, name = manifest.data, manifest.likelihood["name"]
    if name in MIXED_LIKELIHOODS:
        numbers = [column for column in data.columns if column["kind"] == "numeric" and column.get("form") != "classes"]
        if not numbers:
            return "nats", None
        scales = [column.get("scale") for column in numbers]
        if None in scales or "quantile" in [column.get("form") for column in numbers]:  # Atoms do not have a unit.
            return "nats, per data unit", None
        # The density of x / scale is scale times the density of x.
        return "nats, per data unit", ("standardised", -sum(math.log(float(scale or 1)) for scale in scales))
    if name not in _DENSITIES:
        return "nats", None
    if data.scale:
        num_steps = data.num_values // len(data.scale)
        return "nats, per data unit", ("standardised", -num_steps * sum(map(math.log, data.scale)))
    if data.range is None:
        return "nats, per data unit", None
    low, high = data.range
    return "nats, per data unit", ("unit_interval", -data.num_values * math.log(high - low))


class Reconstruction:
    """Errors of x_mean at z_mean per example, in data units. Numbers with a scale are divided by it."""

    def __init__(self, manifest: Manifest) -> None:
        data, name = manifest.data, manifest.likelihood["name"]
        self._scale = np.ones(data.num_values)
        self._classes = np.zeros(data.num_values, bool)
        if name == "categorical":
            self._classes[:] = True
        for index, column in enumerate(data.columns):
            self._classes[index] = column["kind"] == "categorical"
            self._scale[index] = column.get("scale", 1.0)
        self._unit = "scales of the columns" if "scale" in str(data.columns) else "data units"
        if data.scale:
            self._scale = np.tile(data.scale, data.num_values // len(data.scale))
            self._unit = "scales of the features"
        self._square: list[np.ndarray] = []
        self._absolute: list[np.ndarray] = []
        self._wrong: list[np.ndarray] = []

    def add(self, x: np.ndarray, x_mean: np.ndarray) -> None:
        """Add some rows, `[rows, *shape]` each."""
        x, x_mean = (part.reshape(len(x), -1).astype(np.float64) for part in (x, x_mean))
        if not self._classes.all():
            numbers = ~self._classes
            present = ~np.isnan(x[:, numbers])
            away = np.where(present, x_mean[:, numbers] - x[:, numbers], 0.0) / self._scale[numbers]
            num = np.maximum(1, present.sum(-1))
            self._square.append(np.square(away).sum(-1) / num)
            self._absolute.append(np.abs(away).sum(-1) / num)
        if self._classes.any():
            self._wrong.append((x_mean != x)[:, self._classes].mean(-1))

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Return mean squared and mean absolute error of the numbers, and the share of wrong classes."""
        errors = {}
        of = "x_mean at z_mean, against the x that was encoded"
        if self._square:
            squared = f"squared {self._unit}"
            errors["reconstruction_error"] = metric(np.concatenate(self._square), squared, error="mean squared", of=of)
            errors["absolute_error"] = metric(np.concatenate(self._absolute), self._unit, error="mean absolute", of=of)
        if self._wrong:
            errors["class_error"] = metric(np.concatenate(self._wrong), "share of classes that are wrong", of=of)
        return errors


class RunningVariance:
    """Variance over x of each dimension of z_mean, updated chunk by chunk (Chan et al. 1983)."""

    def __init__(self) -> None:
        self.num, self._mean, self._squares = 0, np.zeros(()), np.zeros(())

    def add(self, z_mean: np.ndarray) -> None:
        """Add `[rows, latent_dim]`."""
        values = z_mean.astype(np.float64)
        rows, mean = len(values), values.mean(0)
        away, total = mean - self._mean, self.num + rows
        self._squares = self._squares + np.square(values - mean).sum(0) + away**2 * (self.num * rows / total)
        self._mean = self._mean + away * (rows / total)
        self.num = total

    @property
    def variance(self) -> np.ndarray:
        """Unbiased variance, float64 `[latent_dim]`; zero for a single example."""
        return self._squares / max(1, self.num - 1)
