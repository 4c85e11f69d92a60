"""Classification accuracy score: accuracy on real images of a classifier trained on samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvae_serve.errors import InputDataError

#: Trains on images `[num, ...]` and labels int `[num]`; returns a function of images to labels.
Fit = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def classification_accuracy_score(
    samples: np.ndarray, sample_labels: Any, test: np.ndarray, test_labels: Any, fit: Fit
) -> float:
    """Compute the accuracy on real test images of a classifier trained on samples and their labels.

    It drops if samples are wrong, and if they cover only part of the real images. Compare it with the score of as many
    real training images and the same `fit`.

    Args:
        samples: Images to train on, `[num, ...]`.
        sample_labels: int `[num]`.
        test: Real images to test on, `[other, ...]`.
        test_labels: int `[other]`.
        fit: Function that trains the classifier, for example from `kvae.sample_metrics.network.fitter`.

    Returns:
        A share from 0 to 1.

    Reference: Ravuri and Vinyals (2019), https://arxiv.org/abs/1905.10887, section 3.

    Example:
        >>> def nearest_mean(x, label):
        ...     means = np.stack([x[label == each].mean(axis=0) for each in np.unique(label)])
        ...     return lambda other: np.abs(other[:, None] - means).sum(axis=-1).argmin(axis=1)
        >>> samples, test = np.array([[0.0], [1.0]]), np.array([[0.2], [0.7], [0.6]])
        >>> round(kvae.sample_metrics.classification_accuracy_score(samples, [0, 1], test, [0, 1, 0], nearest_mean), 2)
        0.67
    """
    sample_labels, test_labels = np.asarray(sample_labels), np.asarray(test_labels)
    for x, label, name in ((samples, sample_labels, "samples"), (test, test_labels, "test")):
        if not len(x) or label.shape != (len(x),):
            raise InputDataError(f"{name} has {len(x)} images and labels {list(label.shape)}, expected one label each.")
    return float(np.mean(fit(samples, sample_labels)(test) == test_labels))
