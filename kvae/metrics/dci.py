"""Disentanglement, completeness and informativeness: what trees that predict the factors from the codes look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvae.metrics.validation import need, solver_seed, split
from kvae_serve.errors import RequestError

ESTIMATORS = ("gradient_boosting", "random_forest")

# Added to importances before they become distributions; as published.
_EPSILON = 1e-11


class DCI(NamedTuple):
    """The three scores and what they come from.

    Attributes:
        disentanglement: 0 to 1, 1 where each code serves one factor.
        completeness: 0 to 1, 1 where each factor is served by one code.
        informativeness: accuracy of the predictions on the rows to test on, averaged over factors; higher is better
            (the original paper has the error).
        informativeness_train: the same on the rows that were fitted on.
        importance: float64 `[num_codes, num_factors]`, how much of a factor's prediction is due to a code; each
            column sums to 1, or is 0 where no code was of use.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    informativeness_train: float
    importance: np.ndarray


def dci(
    codes: Any,
    factors: Any,
    test_codes: Any = None,
    test_factors: Any = None,
    *,
    estimator: str = "gradient_boosting",
    seed: int = 0,
) -> DCI:
    """DCI scores from the importances of trees.

    A code's disentanglement is 1 less the entropy, in base num_factors, of its importances over factors, weighted by
    the code's share of all importance; completeness the same for each factor over codes, in base num_codes.

    Args:
        codes: numbers `[num, num_codes]`, at least 2 codes.
        factors: classes `[num, num_factors]`, at least 2 factors.
        test_codes: rows to test on, with `test_factors`. Where not given, rows are drawn by the seed: 10,000 to fit
            on and 5,000 to test on, or two thirds and one third of fewer.
        test_factors: see `test_codes`.
        estimator: `"gradient_boosting"`, the protocol: scikit-learn's, with its defaults; about a minute for 10,000
            rows, 5 codes and 35 classes in all, several for dSprites. `"random_forest"`, a variant that takes seconds:
            50 trees that see all codes at each split, with 5 rows in a leaf. Its scores are its own: give its name
            with them.
        seed: of the split and of the trees.

    Returns:
        `DCI`. Constant codes have no importance, so they weigh nothing in disentanglement; completeness still counts
        them in the base of its logarithm. Where all codes are constant disentanglement and completeness are 0 and
        informativeness is about what always naming the commonest class gives.

    Reference: Eastwood and Williams (2018), https://openreview.net/forum?id=By-7dz-AZ, section 2; the trees are those
    of Locatello et al. (2019), appendix C.
    """
    if estimator not in ESTIMATORS:
        raise RequestError(f"estimator must be one of {', '.join(ESTIMATORS)}, got {estimator!r}.")
    rows = split(codes, factors, test_codes, test_factors, seed, min_codes=2, min_factors=2)
    make = _maker(estimator, solver_seed(seed))
    importance = np.zeros((rows.train_codes.shape[1], rows.train_factors.shape[1]))
    train, test = [], []
    for factor in range(importance.shape[1]):
        model = make()
        model.fit(rows.train_codes, rows.train_factors[:, factor])
        importance[:, factor] = np.abs(model.feature_importances_)
        train.append(np.mean(model.predict(rows.train_codes) == rows.train_factors[:, factor]))
        test.append(np.mean(model.predict(rows.test_codes) == rows.test_factors[:, factor]))
    return DCI(
        disentanglement=disentanglement(importance),
        completeness=disentanglement(importance.T),
        informativeness=float(np.mean(test)),
        informativeness_train=float(np.mean(train)),
        importance=importance,
    )


def disentanglement(importance: np.ndarray) -> float:
    """1 less the entropy of each row, in base of its length, averaged by the rows' sums; 0 where all are 0.

    Of importances `[num_codes, num_factors]` this is disentanglement, of their transpose completeness.
    """
    total = importance.sum()
    if total == 0.0:
        return 0.0
    shares = importance + _EPSILON
    shares = shares / shares.sum(axis=1, keepdims=True)
    rows = 1.0 + (shares * np.log(shares)).sum(axis=1) / np.log(importance.shape[1])
    return float(np.clip(np.sum(rows * importance.sum(axis=1)) / total, 0.0, 1.0))


def _maker(estimator: str, seed: int) -> Callable[[], Any]:
    ensemble = need("sklearn.ensemble", "DCI")
    if estimator == "gradient_boosting":
        return lambda: ensemble.GradientBoostingClassifier(random_state=seed)
    return lambda: ensemble.RandomForestClassifier(
        n_estimators=50, max_features=None, min_samples_leaf=5, random_state=seed
    )
