"""Thresholds for anomaly detection: an elbo in nats, or a quantile of the elbo of normal data.

The exporter scores rows that the model was not trained on and stores quantiles in the manifest under `score`, with the
number of rows, the number of draws and the seed. A quantile applies only to scores with the same draws and seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.inference.scoring import NUM_SAMPLES, SEED
from kvae_serve.sealed.manifest import Manifest

HELD_OUT = "validation"
"""Value of `score.split` in the manifest if the rows of the quantiles were not trained on."""

SHARES = (
    *(digit * 10.0**power for power in (-3, -2) for digit in (1, 1.5, 2, 3, 4, 5, 6, 8)),
    *(0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999),
)
"""Shares of rows whose quantiles a manifest stores, as far as the number of rows resolves them."""

_CONFIDENCE = 0.95


class Threshold(NamedTuple):
    """Lowest score of a normal example, and how it was found.

    Attributes:
        elbo: Elbo, or the score of another method, in nats.
        quantile: Share of the stored rows below it; None if the elbo was given.
        examples: Number of rows behind the quantile; None if it is not known.
        held_out: Whether the model was not trained on those rows.
    """

    elbo: float
    quantile: float | None = None
    examples: int | None = None
    held_out: bool = False

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the share of normal examples below the threshold, or None if it is not known."""
        if self.quantile is None or not self.examples or not self.held_out:
            return None
        return share_interval(self.quantile, self.examples)

    def document(self) -> dict[str, Any]:
        """Return the threshold as JSON facts."""
        facts: dict[str, Any] = {"elbo": self.elbo, "quantile": self.quantile}
        if self.quantile is not None:
            facts |= {"examples": self.examples, "held_out": self.held_out}
        if self.interval is not None:
            facts["interval"] = list(self.interval)
        return facts

    def description(self) -> str:
        """Return one line about the quantile, such as "the 0.01 quantile of 500 held-out rows", or ""."""
        if self.quantile is None:
            return ""
        rows = "training rows" if not self.held_out else "held-out rows"
        line = f"the {self.quantile:.3g} quantile of {f'{self.examples:,} ' if self.examples else ''}{rows}"
        if self.interval is None:
            return line + ", so more than this share of new normal rows may lie below"
        low, high = self.interval
        return f"{line}; {100 * low:.2g} % to {100 * high:.2g} % of normal rows lie below"


def threshold(text: str, manifest: Manifest, num_samples: int, seed: int, method: str = "elbo") -> Threshold:
    """Parse a threshold: a number of nats, or a quantile such as "q0.01".

    Quantiles between two stored ones are interpolated, linearly in the normal score of the share.

    Args:
        text: Text of the user.
        manifest: Manifest of the model.
        num_samples: Draws of z per example in the scores.
        seed: Seed of the scores.
        method: Score that is compared, one of `kvae_serve.inference.complexity.METHODS`.

    Raises:
        RequestError: The text is invalid, the stored rows do not resolve the quantile, or it applies to other draws.
    """
    if text[:1] not in ("q", "Q"):
        return Threshold(_number(text, "a quantile of normal data such as q0.01, or an elbo in nats"))
    share = _number(text[1:], "a quantile such as q0.01")
    known, *stored = _quantiles(manifest, method)
    name = printable(manifest.name, 60)
    if [num_samples, seed] != stored:
        raise RequestError(
            f"The quantiles of {name} apply to {stored[0]} draws and seed {stored[1]}, not to "
            f"{num_samples} draws and seed {seed}. Leave out --num-samples and --seed."
        )
    record: Any = manifest.raw["score"]
    examples = record.get("examples")
    low, high = min(known), max(known)
    if not low <= share <= high:
        rows = f" of {examples:,} rows" if examples else ""
        raise RequestError(
            f"{name} stores quantiles{rows} from q{low:g} to q{high:g}, got {printable(text, 40)}. Use one between "
            "them, or train with a larger --validation."
        )
    return Threshold(_interpolated(share, known), share, examples, record.get("split") == HELD_OUT)


def quantiles(scores: np.ndarray) -> dict[str, float]:
    """Compute the quantiles of scores that a manifest stores.

    Args:
        scores: float `[rows]`, in nats.

    Returns:
        Share to quantile. The lowest share is 1 / (rows + 1), below which a fresh row falls with the probability of
        the lowest score, or 0.001.
    """
    num = len(scores)
    ends = (1 / (num + 1), num / (num + 1))
    shares = sorted({*(share for share in SHARES if ends[0] <= share <= ends[1]), *(() if num >= 999 else ends)})
    return {f"{share:.6g}": round(quantile(scores, share), 4) for share in shares}


def quantile(scores: np.ndarray, share: float) -> float:
    """Estimate the score below which a share of fresh examples falls, from scores of examples like them.

    The r-th lowest of n scores has rank r / (n + 1), the expected share of fresh scores below it; ranks between are
    interpolated. `numpy.quantile` has the rank (r - 1) / (n - 1) by default, which flags too many if n is small.

    Args:
        scores: float `[rows]`.
        share: 1 / (rows + 1) to rows / (rows + 1).
    """
    return float(np.quantile(scores, share, method="weibull"))


def share_interval(share: float, num: int, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Compute the interval of the share of normal examples below a quantile that was estimated from held-out ones.

    The share below the r-th lowest of n scores has the distribution Beta(r, n + 1 - r), whatever the distribution of
    the scores; r = share * (n + 1) need not be an integer.

    Args:
        share: Share of the quantile, above 0 and below 1.
        num: Number of held-out examples.
        confidence: Probability of the interval, with equal tails.

    Reference: David and Nagaraja (2003), Order Statistics, section 2.1; Hutson (1999) for fractions of a rank.

    Example:
        >>> from kvae_serve.inference.thresholds import share_interval
        >>> low, high = share_interval(0.01, 1000)
        >>> print(f"{low:.4f} {high:.4f}")
        0.0048 0.0170
    """
    below, above = share * (num + 1), (1 - share) * (num + 1)
    # The density of the logit of the share, so that both ends have enough points.
    logit = np.linspace(-40.0, 40.0, 80_001)
    log_density = -below * np.logaddexp(0, -logit) - above * np.logaddexp(0, logit)
    cumulative = np.cumsum(np.exp(log_density - log_density.max()))
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    low, high = 1 / (1 + np.exp(-np.interp(tails, cumulative / cumulative[-1], logit)))
    return float(low), float(high)


def draws(manifest: Manifest) -> tuple[int, int]:
    """Return number of draws and seed of the quantiles in the manifest; the defaults if it does not contain any."""
    return _quantiles(manifest)[1:] if manifest.raw.get("score") is not None else (NUM_SAMPLES, SEED)


def _quantiles(manifest: Manifest, method: str = "elbo") -> tuple[dict[float, float], int, int]:
    record: Any = manifest.raw.get("score")
    stored = None if record is None else record["quantiles"] if method == "elbo" else record.get(f"{method}_quantiles")
    if stored is None:
        raise RequestError(
            f"{printable(manifest.name, 60)} does not include quantiles of normal data. Give --threshold in nats, "
            "or export the model again while the data of its run are available."
        )
    quantiles = {float(key): float(value) for key, value in stored.items()}
    return quantiles, record["num_samples"], record["seed"]


def _interpolated(share: float, known: Mapping[float, float]) -> float:
    """Return the quantile of a share between the lowest and the highest known one."""
    if share in known:
        return known[share]
    from statistics import NormalDist

    # The shares 0 and 1 do not have a normal score, but a stored file may contain them.
    score = NormalDist().inv_cdf
    shares = sorted(known)
    inner = [min(max(each, 1e-12), 1 - 1e-12) for each in shares]
    return float(np.interp(score(share), [score(each) for each in inner], [known[each] for each in shares]))


def _number(text: str, expected: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RequestError(f"The threshold is {printable(text, 40).strip() or 'empty'}; expected {expected}.")
    return number
