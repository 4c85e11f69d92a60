"""Label consistency: share of samples that a classifier assigns to the requested label."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError


class Consistency(NamedTuple):
    """Shares of samples with the requested label: `share` of all `num` samples, and of the worst label.

    Example:
        >>> kvae.sample_metrics.label_consistency([0, 1], [0, 1]).share
        1.0
    """

    share: float
    num: int
    worst_label: int
    worst_share: float
    worst_num: int


def label_consistency(requested: Any, predicted: Any) -> Consistency:
    """Compute the share of samples that a classifier assigns to the requested label.

    For real images and their labels this is the accuracy of the classifier, the upper limit of a meaningful share.

    Args:
        requested: int `[num]`, labels of the request.
        predicted: int `[num]`, labels that the classifier predicts.

    Returns:
        A `Consistency`. Of equally bad labels, the lowest is the worst.

    Example:
        >>> kvae.sample_metrics.label_consistency([0, 0, 1, 1], [0, 0, 1, 0])
        Consistency(share=0.75, num=4, worst_label=1, worst_share=0.5, worst_num=2)
    """
    requested, predicted = np.asarray(requested), np.asarray(predicted)
    if requested.ndim != 1 or requested.shape != predicted.shape or not len(requested):
        raise InputDataError(
            f"Labels have the shapes {list(requested.shape)} and {list(predicted.shape)}; expected [num] for both."
        )
    right = requested == predicted
    shares = {int(label): float(right[requested == label].mean()) for label in np.unique(requested)}
    worst = min(shares, key=lambda label: shares[label])
    return Consistency(float(right.mean()), len(requested), worst, shares[worst], int((requested == worst).sum()))
