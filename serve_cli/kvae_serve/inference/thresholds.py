"""From what threshold on an example counts as an anomaly: an elbo below a number, or below a quantile of training.

The exporter scores training data and keeps quantiles of the elbo in the manifest's key `score`, with the draws and the
seed that they hold for. Scores of other draws are not held against them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from kvae_serve.errors import ModelFileError, RequestError, printable
from kvae_serve.sealed.manifest import Manifest


class Threshold(NamedTuple):
    """Examples with an elbo below `elbo` (nats) are anomalies; `quantile` of training data, where it is one."""

    elbo: float
    quantile: float | None = None


def threshold(text: str, manifest: Manifest, num_samples: int, seed: int) -> Threshold:
    """Return what a text stands for: a number of nats, or a quantile such as "q0.01".

    Args:
        text: as the user gave it.
        manifest: the model's.
        num_samples: draws of z that the examples are scored with.
        seed: likewise.

    Raises:
        RequestError: it is neither, the model does not know that quantile, or it holds for other draws.
        ModelFileError: what the manifest says of its scores is no proper record.
    """
    if text[:1] not in ("q", "Q"):
        return Threshold(_number(text, "q0.01 for a quantile of the training data, or an elbo in nats"))
    wanted = _number(text[1:], "a quantile such as q0.01")
    known, kept_samples, kept_seed = _quantiles(manifest)
    if (num_samples, seed) != (kept_samples, kept_seed):
        raise RequestError(
            f"The quantiles of {printable(manifest.name, 60)} hold for {kept_samples} draws and seed {kept_seed}, "
            f"not for {num_samples} and seed {seed}. Leave out --num-samples and --seed."
        )
    if wanted not in known:
        listed = ", ".join(f"q{quantile:g}" for quantile in sorted(known))
        raise RequestError(f"{printable(manifest.name, 60)} knows the quantiles {listed}; got {printable(text, 40)}.")
    return Threshold(known[wanted], wanted)


def draws(manifest: Manifest) -> tuple[int, int] | None:
    """Return draws and seed that the manifest's quantiles hold for; None where it has none."""
    return _quantiles(manifest)[1:] if manifest.raw.get("score") is not None else None


def _quantiles(manifest: Manifest) -> tuple[dict[float, float], int, int]:
    record: Any = manifest.raw.get("score")
    name = printable(manifest.name, 60)
    if record is None:
        raise RequestError(
            f"{name} has no quantiles of training data. Give --threshold as an elbo in nats, or export the model "
            "again, with the data of its run at hand."
        )
    try:
        quantiles = {float(key): float(value) for key, value in record["quantiles"].items()}
        samples, seed = record["num_samples"], record["seed"]
        whole = all(isinstance(each, int) and not isinstance(each, bool) for each in (samples, seed))
        finite = all(map(math.isfinite, quantiles.values()))
        if not (whole and finite and quantiles and samples > 0 and all(0 <= key <= 1 for key in quantiles)):
            raise ValueError
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        raise ModelFileError(
            f"{name} has a manifest whose score is {printable(record, 60)}, expected num_samples, seed and quantiles."
        ) from None
    return quantiles, samples, seed


def _number(text: str, expected: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RequestError(f"A threshold is {expected}; got {printable(text, 40)}.")
    return number
