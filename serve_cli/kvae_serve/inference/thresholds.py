"""Thresholds for anomaly detection: an elbo in nats, or a quantile of the elbo of training data.

The exporter scores training data and stores quantiles in the manifest under `score`, with the number of draws and the
seed. A quantile applies only to scores with the same draws and seed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from kvae_serve.errors import RequestError, printable
from kvae_serve.sealed.manifest import Manifest


class Threshold(NamedTuple):
    """Lowest elbo of a normal example, in nats, and the quantile of training data that it is, if any."""

    elbo: float
    quantile: float | None = None


def threshold(text: str, manifest: Manifest, num_samples: int, seed: int) -> Threshold:
    """Parse a threshold: a number of nats, or a quantile such as "q0.01".

    Args:
        text: Text of the user.
        manifest: Manifest of the model.
        num_samples: Draws of z per example in the scores.
        seed: Seed of the scores.

    Raises:
        RequestError: The text is invalid, the quantile is not stored, or it applies to other draws.
    """
    if text[:1] not in ("q", "Q"):
        return Threshold(_number(text, "a quantile of training data such as q0.01, or an elbo in nats"))
    quantile = _number(text[1:], "a quantile such as q0.01")
    known, *stored = _quantiles(manifest)
    if [num_samples, seed] != stored:
        raise RequestError(
            f"The quantiles of {printable(manifest.name, 60)} apply to {stored[0]} draws and seed {stored[1]}, not to "
            f"{num_samples} draws and seed {seed}. Leave out --num-samples and --seed."
        )
    if quantile not in known:
        listed = ", ".join(f"q{each:g}" for each in sorted(known))
        raise RequestError(
            f"{printable(manifest.name, 60)} does not have the quantile {printable(text, 40)}. Use one of {listed}."
        )
    return Threshold(known[quantile], quantile)


def draws(manifest: Manifest) -> tuple[int, int] | None:
    """Return number of draws and seed of the quantiles in the manifest; None if it does not contain any."""
    return _quantiles(manifest)[1:] if manifest.raw.get("score") is not None else None


def _quantiles(manifest: Manifest) -> tuple[dict[float, float], int, int]:
    record: Any = manifest.raw.get("score")
    if record is None:
        raise RequestError(
            f"{printable(manifest.name, 60)} does not include quantiles of training data. Give --threshold as an elbo "
            "in nats, or export the model again while the data of its run are available."
        )
    quantiles = {float(key): float(value) for key, value in record["quantiles"].items()}
    return quantiles, record["num_samples"], record["seed"]


def _number(text: str, expected: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RequestError(f"The threshold is {printable(text, 40)}; expected {expected}.")
    return number
