"""Separated attribute predictability (SAP): gap between the two codes that predict a factor best."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.metrics.protocol import SVC_C
from kvae.metrics.validation import Split, check_codes, import_sklearn, is_constant, solver_seed, split
from kvae_serve.errors import InputDataError

# In the continuous variant, codes with a smaller variance count as constant; as published.
_DEAD_VARIANCE = 1e-12


def sap(
    codes: Any,
    factors: Any,
    test_codes: Any = None,
    test_factors: Any = None,
    *,
    continuous: bool = False,
    seed: int = 0,
) -> float:
    """Compute the SAP score: the score of a factor's best code minus that of the second best, averaged over factors.

    In the discrete variant, the protocol, the score of a code is the test accuracy of a linear support vector machine
    (C = 0.01, balanced classes) on that code. Linear cuts of one code cannot separate many ordered classes, so perfect
    codes of factors with many values score only 0.2 to 0.3. The codes are not standardised, so their scale matters. In
    the continuous variant it is the squared correlation of code and factor over all rows; perfect codes score about 1.

    Args:
        codes: Numbers `[num, num_codes]`, at least 2 codes.
        factors: `[num, num_factors]`; classes, or numbers in the continuous variant.
        test_codes: Codes of the test rows, with `test_factors`; not for the continuous variant. By default the rows are
            split at random: 10,000 to fit and 5,000 to test, or two thirds and one third if there are fewer.
        test_factors: Factors of the test rows.
        continuous: Whether to compute the continuous variant.
        seed: Seed of the split and of the solver.

    Returns:
        0 to 1; 0 if all codes are constant. A constant code scores as a guess does: the test frequency of the class
        that is most frequent in the training rows, or 0 in the continuous variant.

    Raises:
        RequestError: If `seed` is invalid.
        InputDataError: If the arrays are invalid, or the continuous variant gets test rows.
        MissingExtraError: If the discrete variant is computed and scikit-learn is not installed.

    Example:
        >>> import numpy as np
        >>> import kvae
        >>> factors = np.random.default_rng(0).integers(9, size=(1000, 2))
        >>> round(kvae.metrics.sap(factors + 0.0, factors, continuous=True), 1)
        1.0

    Reference: Kumar et al. (2018), https://arxiv.org/abs/1711.00848, section 3; Locatello et al. (2019), appendix C.
    """
    if continuous:
        if test_codes is not None or test_factors is not None:
            raise InputDataError(
                "The continuous variant of SAP has no test rows; leave out test_codes and test_factors."
            )
        scores = _squared_correlations(codes, factors)
    else:
        rows = split(codes, factors, test_codes, test_factors, seed, min_codes=2)
        scores = _accuracies(rows, solver_seed(seed))
    ordered = np.sort(scores, axis=0)
    return float(np.mean(ordered[-1] - ordered[-2]))


def _accuracies(rows: Split, seed: int) -> np.ndarray:
    svm = import_sklearn("sklearn.svm", "The discrete SAP score")
    dead = is_constant(rows.train_codes)
    scores = np.zeros((rows.train_codes.shape[1], rows.train_factors.shape[1]))
    for factor in range(scores.shape[1]):
        target, truth = rows.train_factors[:, factor], rows.test_factors[:, factor]
        scores[dead, factor] = np.mean(truth == np.bincount(target).argmax())
        for code in np.flatnonzero(~dead):
            model = svm.LinearSVC(C=SVC_C, class_weight="balanced", random_state=seed)
            model.fit(rows.train_codes[:, [code]], target)
            scores[code, factor] = np.mean(model.predict(rows.test_codes[:, [code]]) == truth)
    return scores


def _squared_correlations(codes: Any, factors: Any) -> np.ndarray:
    codes = check_codes(codes, min_codes=2).astype(np.float64)
    factors = np.asarray(factors)
    factors = factors[:, None] if factors.ndim == 1 else factors
    if factors.ndim != 2 or factors.dtype.kind not in "fiub" or len(factors) != len(codes) or not factors.shape[1]:
        raise InputDataError(
            f"factors must be numbers [{len(codes)}, num_factors] for the continuous variant of SAP, "
            f"got {factors.dtype} {list(factors.shape)}."
        )
    factors = factors.astype(np.float64)
    if not np.isfinite(factors).all():
        raise InputDataError("factors has values that are NaN or infinite. Leave those examples out.")
    if is_constant(factors).any():
        axis = int(np.flatnonzero(is_constant(factors))[0])
        raise InputDataError(f"Factor {axis} has a single value. Leave that column out.")
    dead = codes.var(axis=0, ddof=1) <= _DEAD_VARIANCE
    codes, factors = codes - codes.mean(axis=0), factors - factors.mean(axis=0)
    factors /= np.abs(factors).max(axis=0)
    covariance = codes.T @ factors
    scale = np.square(codes).sum(axis=0)[:, None] * np.square(factors).sum(axis=0)
    scores = np.square(covariance) / np.where(dead[:, None], 1.0, scale)
    scores[dead] = 0.0
    return scores
