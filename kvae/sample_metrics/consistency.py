"""Label consistency: does a sample show the label that it was drawn for?"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError


class Consistency(NamedTuple):
    """Shares of samples whose label a classifier reads as asked: `share` of all `num`, and of the worst label."""

    share: float
    num: int
    worst_label: int
    worst_share: float
    worst_num: int


def label_consistency(asked: Any, judged: Any) -> Consistency:
    """Share of samples that a classifier gives the label that was asked for.

    On real images and their labels this is the classifier's accuracy, beyond which no model's share means anything.

    Args:
        asked: int `[num]`, the labels that samples were drawn for.
        judged: int `[num]`, what a classifier says of them.

    Returns:
        `Consistency`; of labels that are equally bad the lowest counts as the worst.
    """
    asked, judged = np.asarray(asked), np.asarray(judged)
    if asked.ndim != 1 or asked.shape != judged.shape or not len(asked):
        raise InputDataError(
            f"asked and judged must be [num] each, a label a sample, got {list(asked.shape)} and {list(judged.shape)}."
        )
    right = asked == judged
    shares = {int(label): float(right[asked == label].mean()) for label in np.unique(asked)}
    worst = min(shares, key=lambda label: shares[label])
    return Consistency(float(right.mean()), len(asked), worst, shares[worst], int((asked == worst).sum()))
