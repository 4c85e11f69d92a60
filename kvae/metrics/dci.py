"""Disentanglement, completeness and informativeness (DCI), from trees that predict the factors from the codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvae.metrics.validation import import_sklearn, solver_seed, split
from kvae_serve.errors import RequestError

ESTIMATORS = ("gradient_boosting", "random_forest")

# Added to importances before they are normalised; as published.
_EPSILON = 1e-11


class DCI(NamedTuple):
    """Scores of `dci`, and the importances behind them.

    Attributes:
        disentanglement: 0 to 1; 1 if each code is important for one factor.
        completeness: 0 to 1; 1 if one code is important for each factor.
        informativeness: Accuracy of the predictions on the test rows, averaged over factors; higher is better (the
            paper states the error).
        informativeness_train: Accuracy on the training rows.
        importance: float64 `[num_codes, num_factors]`, importance of a code for predicting a factor. Each column sums
            to 1, or is 0 if the trees used no code.

    Example:
        >>> codes = np.random.default_rng(0).integers(0, 3, (60, 2))
        >>> round(kvae.metrics.dci(codes.astype(float), codes).informativeness, 2)
        1.0
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
    """Compute the DCI scores from the feature importances of trees.

    The disentanglement of a code is 1 minus the entropy of its importances over factors, in base num_factors. The
    average over codes is weighted by their total importance. Completeness is the same for factors over codes, in base
    num_codes.

    Args:
        codes: Numbers `[num, num_codes]`, at least 2 codes.
        factors: Classes `[num, num_factors]`, at least 2 factors.
        test_codes: Codes of the test rows, with `test_factors`. By default the rows are split at random: 10,000 to
            fit and 5,000 to test, or two thirds and one third if there are fewer.
        test_factors: Factors of the test rows.
        estimator: `"gradient_boosting"` is the protocol, with the defaults of scikit-learn. It needs about a minute
            for 10,000 rows, 5 codes and 35 classes in total, and several minutes for dSprites. `"random_forest"` is a
            variant that needs seconds: 50 trees that see all codes at each split, with 5 rows in a leaf. Its scores
            are not comparable, so name it with them.
        seed: Seed of the split and of the trees.

    Returns:
        `DCI`. Constant codes have the importance 0, so they do not count in disentanglement; they do count in the base
        of the logarithm of completeness. If all codes are constant, disentanglement and completeness are 0, and
        informativeness is about that of always predicting the most frequent class.

    Raises:
        RequestError: If `estimator` or `seed` is invalid.
        InputDataError: If the arrays are invalid.
        MissingExtraError: If scikit-learn is not installed.

    Example:
        >>> import numpy as np
        >>> import kvae
        >>> factors = np.random.default_rng(0).integers(3, size=(300, 2))
        >>> scores = kvae.metrics.dci(factors + 0.0, factors, estimator="random_forest")
        >>> round(scores.disentanglement, 2), round(scores.completeness, 2)
        (1.0, 1.0)

    Reference: Eastwood and Williams (2018), https://openreview.net/forum?id=By-7dz-AZ, section 2; the trees are those
    of Locatello et al. (2019), appendix C.
    """
    if estimator not in ESTIMATORS:
        raise RequestError(f"estimator must be one of {', '.join(ESTIMATORS)}, got {estimator!r}.")
    rows = split(codes, factors, test_codes, test_factors, seed, min_codes=2, min_factors=2)
    new_model = _factory(estimator, solver_seed(seed))
    importance = np.zeros((rows.train_codes.shape[1], rows.train_factors.shape[1]))
    train, test = [], []
    for factor in range(importance.shape[1]):
        model = new_model()
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
    """Compute 1 minus the entropy of each row, in base of its length, averaged with the rows' sums as weights.

    From importances `[num_codes, num_factors]` this is the disentanglement, from their transpose the completeness. It
    is 0 if all importances are 0.
    """
    total = importance.sum()
    if total == 0.0:
        return 0.0
    shares = importance + _EPSILON
    shares = shares / shares.sum(axis=1, keepdims=True)
    rows = 1.0 + (shares * np.log(shares)).sum(axis=1) / np.log(importance.shape[1])
    return float(np.clip(np.sum(rows * importance.sum(axis=1)) / total, 0.0, 1.0))


def _factory(estimator: str, seed: int) -> Callable[[], Any]:
    ensemble = import_sklearn("sklearn.ensemble", "DCI")
    if estimator == "gradient_boosting":
        return lambda: ensemble.GradientBoostingClassifier(random_state=seed)
    return lambda: ensemble.RandomForestClassifier(
        n_estimators=50, max_features=None, min_samples_leaf=5, random_state=seed
    )
