"""Classifier two-sample test: can a classifier tell samples from real rows?"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kvae.sample_metrics.tables.columns import Columns, checked, one_thread, tree_inputs
from kvae_serve.errors import InputDataError

FOLDS = 3


class TwoSample(NamedTuple):
    """Result of `two_sample_auc`: mean area under the ROC curve over the folds, and its standard error over rows."""

    auc: float
    standard_error: float


def two_sample_auc(real: Any, samples: Any, columns: Columns, seed: int = 0) -> TwoSample:
    """Compute the AUC of gradient boosting that separates samples from real rows, by cross-validation in 3 folds.

    Args:
        real: Real rows that no part of the model was trained on, `[rows, columns]`.
        samples: Other rows, `[any, columns]`.
        columns: Description of the columns, see `kvae.sample_metrics.tables`.
        seed: Seed of the folds and the classifier.

    Returns:
        `TwoSample`. The AUC is about 0.5 if the classifier cannot tell them apart, and 1 if it always can.

    Raises:
        InputDataError: The rows do not fit the columns, or there are fewer than 3 of a kind.
        ModuleNotFoundError: scikit-learn, part of the extra `evaluate`, is not installed.

    Reference: Lopez-Paz and Oquab (2017), https://arxiv.org/abs/1610.06545; Hanley and McNeil (1982),
    https://doi.org/10.1148/radiology.143.1.7063747, for the standard error.

    Example:
        >>> columns = [{"name": "age", "kind": "numeric"}]
        >>> rng = np.random.default_rng(0)
        >>> far = kvae.sample_metrics.two_sample_auc(rng.normal(size=(99, 1)), 9 + rng.normal(size=(99, 1)), columns)
        >>> round(far.auc, 2)
        1.0
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    real, samples = checked(real, columns, "real"), checked(samples, columns, "samples")
    if min(len(real), len(samples)) < FOLDS:
        raise InputDataError(
            f"There are {len(real)} real rows and {len(samples)} samples; expected at least {FOLDS} of each."
        )
    x = np.concatenate([real, samples])
    is_sample = np.repeat([0, 1], [len(real), len(samples)])
    areas = []
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, is_sample):
        model = HistGradientBoostingClassifier(categorical_features=tree_inputs(columns), random_state=seed)
        with one_thread():
            probability = model.fit(x[train], is_sample[train]).predict_proba(x[test])[:, 1]
        areas.append(roc_auc_score(is_sample[test], probability))
    auc = float(np.mean(areas))
    return TwoSample(auc, _standard_error(auc, len(real), len(samples)))


def _standard_error(auc: float, num: int, other: int) -> float:
    """Return the standard error of an AUC, given the number of rows of each kind."""
    one, two = auc / (2.0 - auc), 2.0 * auc**2 / (1.0 + auc)
    spread = auc * (1.0 - auc) + (num - 1) * (two - auc**2) + (other - 1) * (one - auc**2)
    return float(np.sqrt(max(spread, 0.0) / (num * other)))
