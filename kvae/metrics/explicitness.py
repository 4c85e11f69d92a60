"""Explicitness: how well a linear classifier of all codes tells the values of a factor apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.metrics.logistic_regression import check_classifier, logistic_regression
from kvae.metrics.validation import need, solver_seed, split


def explicitness(
    codes: Any,
    factors: Any,
    test_codes: Any = None,
    test_factors: Any = None,
    *,
    classifier: str = "multinomial",
    seed: int = 0,
) -> float:
    """Area under the ROC curve of each value against the rest, averaged over values, then over factors.

    The codes are standardised by mean and standard deviation of the rows to fit on.

    Args:
        codes: numbers `[num, num_codes]`.
        factors: classes `[num, num_factors]`.
        test_codes: rows to test on, with `test_factors`. Where not given, rows are drawn by the seed: 10,000 to fit
            on and 5,000 to test on, or two thirds and one third of fewer.
        test_factors: see `test_codes`.
        classifier: logistic regression, `"multinomial"` as scikit-learn fits today or `"one_vs_rest"` as it did when
            the published figures were made; they were seen 0.02 to 0.06 apart.
        seed: of the split and of the solver.

    Returns:
        0 to 1; chance is 0.5, which is what constant codes give (they are set to 0; nothing is divided by their
        standard deviation). A value that the rows to test on lack, or hold alone, has no curve and is left out;
        one that only the rows to test on have counts as chance.

    Reference: Ridgeway and Mozer (2018), https://arxiv.org/abs/1802.05312, section 3.
    """
    check_classifier(classifier)
    rows = split(codes, factors, test_codes, test_factors, seed)
    train = rows.train_codes.astype(np.float64)
    mean, sd = train.mean(axis=0), train.std(axis=0)
    dead = train.min(axis=0) == train.max(axis=0)
    mean, sd = np.where(dead, train[0], mean), np.where(dead, np.inf, sd)
    train, test = (train - mean) / sd, (rows.test_codes.astype(np.float64) - mean) / sd
    scores = []
    for factor in range(rows.train_factors.shape[1]):
        model = logistic_regression(classifier, solver_seed(seed), "Explicitness")
        model.fit(train, rows.train_factors[:, factor])
        probabilities = model.predict_proba(test)
        scores.append(_mean_area(model.classes_, probabilities, rows.test_factors[:, factor]))
    return float(np.mean(scores))


def _mean_area(classes: np.ndarray, probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Average over the values in `truth` of the area under the curve of each against the rest."""
    metrics = need("sklearn.metrics", "Explicitness")
    columns = {int(value): column for column, value in enumerate(classes)}
    areas = []
    for value in np.unique(truth):
        hits = truth == value
        if hits.all():
            continue
        column = columns.get(int(value))
        areas.append(0.5 if column is None else metrics.roc_auc_score(hits, probabilities[:, column]))
    return float(np.mean(areas)) if areas else 0.5
