"""Figures of a detector of anomalies: AUROC, average precision, precision at the known rate, with intervals."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError

NUM_RESAMPLES = 1000
"""Default number of bootstrap resamples."""

_MOST_POINTS = 200


class Curves(NamedTuple):
    """ROC and precision-recall curve of one score, float64 `[points]`, from the strictest threshold on.

    Attributes:
        false_positive_rate: Share of normal examples above the threshold.
        recall: Share of anomalies above it, the true positive rate.
        precision: Share of anomalies among the examples above it.
    """

    false_positive_rate: np.ndarray
    recall: np.ndarray
    precision: np.ndarray


class _Sorted(NamedTuple):
    """Numbers of anomalies and normal examples with each distinct score, the highest first."""

    anomalies: np.ndarray
    normal: np.ndarray


def detection_figures(
    scores: Any, labels: Any, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Compute how well a score separates anomalies from normal examples.

    Args:
        scores: float `[num]`. A higher score means more anomalous, for example -elbo.
        labels: `[num]`, 1 for an anomaly and 0 for a normal example.
        num_resamples: Bootstrap resamples behind the intervals. Anomalies and normal examples are resampled apart.
        seed: Seed of the resamples.

    Returns:
        `auroc`, `average_precision` and `precision_at_rate` (of as many highest scores as there are anomalies), each
        with `value`, and `low` and `high` of its 95 % interval.

    Raises:
        InputDataError: The arguments have different lengths, are not finite, or do not have both labels.

    Example:
        >>> figures = kvae.metrics.detection_figures([3.0, 1.0, 2.0, 0.0], [1, 0, 1, 0])
        >>> figures["auroc"]["value"]
        1.0
    """
    scores, labels = _checked(scores, labels)
    ordered = _by_score(scores, labels)
    rng = np.random.default_rng(seed)
    resampled = []
    for _ in range(num_resamples):
        drawn = (rng.multinomial(int(part.sum()), part / part.sum()) for part in ordered)
        resampled.append(_figures(_Sorted(*drawn)))
    values = _figures(ordered)
    if not resampled:
        return {name: {"value": value} for name, value in values.items()}
    found = {}
    for name, value in values.items():
        low, high = np.quantile([each[name] for each in resampled], (0.025, 0.975))
        found[name] = {"value": value, "low": float(low), "high": float(high)}
    return found


def detection_curves(scores: Any, labels: Any) -> Curves:
    """Compute the ROC and the precision-recall curve of a score, with at most about 200 points.

    Args:
        scores: float `[num]`. A higher score means more anomalous.
        labels: `[num]`, 1 for an anomaly and 0 for a normal example.
    """
    ordered = _by_score(*_checked(scores, labels))
    found, false = np.cumsum(ordered.anomalies), np.cumsum(ordered.normal)
    recall, rate = found / found[-1], false / false[-1]
    # Points at equal steps along both axes.
    steps = np.unique(np.searchsorted(recall + rate, np.linspace(0, 2, _MOST_POINTS)).clip(0, len(recall) - 1))
    precision = found / (found + false)
    return Curves(
        np.concatenate([[0.0], rate[steps]]),
        np.concatenate([[0.0], recall[steps]]),
        np.concatenate([[precision[steps[0]]], precision[steps]]),
    )


def _checked(scores: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise InputDataError(
            f"scores and labels have the shapes {scores.shape} and {labels.shape}; expected [num] each."
        )
    if not np.isfinite(scores).all():
        raise InputDataError("scores contain values that are not finite.")
    if set(np.unique(labels).tolist()) != {0, 1}:
        raise InputDataError("labels must contain both 0 (normal) and 1 (anomaly), and nothing else.")
    return scores, labels.astype(np.int64)


def _by_score(scores: np.ndarray, labels: np.ndarray) -> _Sorted:
    _, place = np.unique(-scores, return_inverse=True)
    anomalies, total = np.bincount(place, labels), np.bincount(place)
    return _Sorted(anomalies.astype(np.int64), (total - anomalies).astype(np.int64))


def _figures(ordered: _Sorted) -> dict[str, float]:
    anomalies, normal = ordered
    found, false = np.cumsum(anomalies), np.cumsum(normal)
    num, num_normal = found[-1], false[-1]
    # Pairs of an anomaly and a normal example in the right order; ties count half.
    pairs = (anomalies * (num_normal - false + 0.5 * normal)).sum()
    above = np.maximum(found + false, 1)
    average_precision = (anomalies / num * found / above).sum()
    # The last of the highest scores may be tied: then the expected number of anomalies among them.
    highest = np.interp(num, np.concatenate([[0], found + false]), np.concatenate([[0], found]))
    return {
        "auroc": float(pairs / (num * num_normal)),
        "average_precision": float(average_precision),
        "precision_at_rate": float(highest / num),
    }
