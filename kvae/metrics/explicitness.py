"""Explicitness: how well a linear classifier of all codes separates the values of a factor."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.metrics.logistic_regression import check_classifier, logistic_regression
from kvae.metrics.validation import import_sklearn, is_constant, solver_seed, split


def explicitness(
    codes: Any,
    factors: Any,
    test_codes: Any = None,
    test_factors: Any = None,
    *,
    classifier: str = "multinomial",
    seed: int = 0,
) -> float:
    """Compute the area under the ROC curve of each value against the rest, averaged over values, then over factors.

    The codes are standardised by the mean and standard deviation of the training rows.

    Args:
        codes: Numbers `[num, num_codes]`.
        factors: Classes `[num, num_factors]`.
        test_codes: Codes of the test rows, with `test_factors`. By default the rows are split at random: 10,000 to
            fit and 5,000 to test, or two thirds and one third if there are fewer.
        test_factors: Factors of the test rows.
        classifier: Logistic regression: `"multinomial"`, the current default of scikit-learn, or `"one_vs_rest"`, its
            default when the published results were computed. They differ by 0.02 to 0.06.
        seed: Seed of the split and of the solver.

    Returns:
        0 to 1. Chance is 0.5, which is also the result for constant codes (they are set to 0 and not divided by their
        standard deviation). A value that is missing in the test rows, or is the only one there, is left out. A value
        that is missing in the training rows counts as chance.

    Raises:
        RequestError: If `classifier` or `seed` is invalid.
        InputDataError: If the arrays are invalid.
        MissingExtraError: If scikit-learn is not installed.

    Example:
        >>> import numpy as np
        >>> import kvae
        >>> factors = np.random.default_rng(0).integers(3, size=(300, 2))
        >>> round(kvae.metrics.explicitness(factors + 0.0, factors), 2)
        1.0

    Reference: Ridgeway and Mozer (2018), https://arxiv.org/abs/1802.05312, section 3.
    """
    check_classifier(classifier)
    rows = split(codes, factors, test_codes, test_factors, seed)
    train = rows.train_codes.astype(np.float64)
    mean, sd = train.mean(axis=0), train.std(axis=0)
    dead = is_constant(train)
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
    """Average the area under the curve of each value in `truth` against the rest."""
    metrics = import_sklearn("sklearn.metrics", "Explicitness")
    columns = {int(value): column for column, value in enumerate(classes)}
    areas = []
    for value in np.unique(truth):
        hits = truth == value
        if hits.all():
            continue
        column = columns.get(int(value))
        areas.append(0.5 if column is None else metrics.roc_auc_score(hits, probabilities[:, column]))
    return float(np.mean(areas)) if areas else 0.5
