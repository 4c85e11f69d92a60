"""Separated attribute predictability: how much better the best single code predicts a factor than the second best."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.metrics.protocol import SVC_C
from kvae.metrics.validation import Split, check_codes, is_constant, need, solver_seed, split
from kvae_serve.errors import InputDataError

# Below this variance a code counts as constant, in the continuous variant; as published.
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
    """SAP score: for each factor the score of its best code less that of the second best, averaged over factors.

    Discrete (the protocol): a code's score is the accuracy, on rows to test on, of a linear support vector machine
    (C = 0.01, balanced classes) that sees that code alone. One code cannot be cut linearly into many ordered
    classes, so perfect codes of factors with many values score only 0.2 to 0.3; compare like with like. The codes
    are taken as they are, and their scale matters. Continuous: the squared correlation of code and factor, of all
    rows given; perfect codes come near 1.

    Args:
        codes: numbers `[num, num_codes]`, at least 2 codes.
        factors: `[num, num_factors]`; classes, or numbers where `continuous`.
        test_codes: rows to test on, with `test_factors`. Where not given, rows are drawn by the seed: 10,000 to fit
            on and 5,000 to test on, or two thirds and one third of fewer. The continuous variant needs none.
        test_factors: see `test_codes`.
        continuous: which variant.
        seed: of the split and of the solver.

    Returns:
        0 to 1. A constant code scores what a guess does: the frequency, in the rows to test on, of the class that is
        commonest in the rows to fit on; 0 in the continuous variant. So 0 where all codes are constant.

    Reference: Kumar et al. (2018), https://arxiv.org/abs/1711.00848, section 3; Locatello et al. (2019), appendix C.
    """
    if continuous:
        if test_codes is not None or test_factors is not None:
            raise InputDataError("The continuous variant of SAP tests nothing: leave test_codes and test_factors out.")
        scores = _squared_correlations(codes, factors)
    else:
        rows = split(codes, factors, test_codes, test_factors, seed, min_codes=2)
        scores = _accuracies(rows, solver_seed(seed))
    ordered = np.sort(scores, axis=0)
    return float(np.mean(ordered[-1] - ordered[-2]))


def _accuracies(rows: Split, seed: int) -> np.ndarray:
    svm = need("sklearn.svm", "The discrete SAP score")
    dead = is_constant(rows.train_codes)
    scores = np.zeros((rows.train_codes.shape[1], rows.train_factors.shape[1]))
    for factor in range(scores.shape[1]):
        target, truth = rows.train_factors[:, factor], rows.test_factors[:, factor]
        scores[dead, factor] = np.mean(truth == np.bincount(target).argmax())
        for code in np.flatnonzero(~dead):
            machine = svm.LinearSVC(C=SVC_C, class_weight="balanced", random_state=seed)
            machine.fit(rows.train_codes[:, [code]], target)
            scores[code, factor] = np.mean(machine.predict(rows.test_codes[:, [code]]) == truth)
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
        raise InputDataError(
            f"Factor {axis} has a single value, so nothing can be said about it. Leave that column out."
        )
    dead = codes.var(axis=0, ddof=1) <= _DEAD_VARIANCE
    codes, factors = codes - codes.mean(axis=0), factors - factors.mean(axis=0)
    factors /= np.abs(factors).max(axis=0)
    covariance = codes.T @ factors
    scale = np.square(codes).sum(axis=0)[:, None] * np.square(factors).sum(axis=0)
    scores = np.square(covariance) / np.where(dead[:, None], 1.0, scale)
    scores[dead] = 0.0
    return scores
