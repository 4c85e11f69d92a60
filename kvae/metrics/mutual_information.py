"""What is counted in bins: mutual information, in nats, and the figures made of it.

A code is sorted into bins of equal width over its own range; so one outlier can squeeze all else into one bin. The
estimate is the plug-in one (the frequencies taken as probabilities), which is biased upwards by about
(bins - 1)(values - 1) / (2 num) nats where there is no information at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.metrics.protocol import NUM_BINS
from kvae.metrics.validation import check_both, check_codes
from kvae_serve.errors import RequestError


def mutual_information(codes: Any, factors: Any, *, num_bins: int = NUM_BINS) -> np.ndarray:
    """Mutual information of each binned code with each factor.

    Args:
        codes: numbers `[num, num_codes]`.
        factors: classes `[num, num_factors]`: whole numbers, texts, or floats that repeat.
        num_bins: bins of equal width over each code's range.

    Returns:
        float64 `[num_codes, num_factors]`, in nats; exactly 0 for a constant code.
    """
    codes, factors = check_both(codes, factors)
    return _pairwise(discretize(codes, num_bins), factors)


def mig(codes: Any, factors: Any, *, num_bins: int = NUM_BINS) -> float:
    """Mutual information gap: how much more the best code knows of a factor than the second best.

    For each factor the gap is divided by the factor's entropy, then averaged over factors. This is the form of
    Locatello et al.: binned mean codes, every factor given counted, the empirical entropy. That of Chen et al. samples
    z and uses the exact q(z|x), leaves out shape and divides by the log of the factor's size: not comparable. With 20
    bins a factor of more than 20 values cannot reach 1: perfect codes of all five factors of dSprites get 0.90.

    Args:
        codes: numbers `[num, num_codes]`, at least 2 codes. 10,000 rows are the protocol; all rows given are used.
        factors: classes `[num, num_factors]`.
        num_bins: bins of equal width over each code's range.

    Returns:
        0 to 1; 0 where all codes are constant. A constant code knows nothing, and can be the second best.

    Reference: Chen et al. (2018), https://arxiv.org/abs/1802.04942, eq. 6; Locatello et al. (2019), appendix C.
    """
    codes, factors = check_both(codes, factors, min_codes=2)
    information = np.sort(_pairwise(discretize(codes, num_bins), factors), axis=0)
    return float(np.mean((information[-1] - information[-2]) / _entropies(factors)))


def modularity(codes: Any, factors: Any, *, num_bins: int = NUM_BINS, dead_codes: str = "zero") -> float:
    """How far each code knows of one factor only, averaged over codes.

    A code scores 1 - sum of its other squared informations / (largest squared one x (num_factors - 1)). The average
    says nothing about how much a code knows: a code of mere noise gets 0.55 to 0.65 from the bias of its estimates, so
    this figure is no gate by itself.

    Args:
        codes: numbers `[num, num_codes]`. 10,000 rows are the protocol; all rows given are used.
        factors: classes `[num, num_factors]`, at least 2 factors.
        num_bins: bins of equal width over each code's range.
        dead_codes: `"zero"`, as published: a code that knows nothing scores 0, so that perfect codes beside as many
            constant ones get half; `"skip"`, a variant, leaves such codes out of the average.

    Returns:
        0 to 1; 0 where no code knows anything.

    Reference: Ridgeway and Mozer (2018), https://arxiv.org/abs/1802.05312, eq. 2.
    """
    if dead_codes not in ("zero", "skip"):
        raise RequestError(f'dead_codes must be "zero" (as published) or "skip", got {dead_codes!r}.')
    codes, factors = check_both(codes, factors, min_factors=2)
    squared = np.square(_pairwise(discretize(codes, num_bins), factors))
    largest = squared.max(axis=1)
    alive = largest > 0.0
    if not alive.any():
        return 0.0
    others = squared[alive].sum(axis=1) - largest[alive]
    scores = 1.0 - others / (largest[alive] * (factors.shape[1] - 1))
    return float(scores.sum() / (len(alive) if dead_codes == "zero" else len(scores)))


def code_mutual_information(codes: Any, *, num_bins: int = NUM_BINS) -> float:
    """Mutual information between two binned codes, averaged over all pairs; needs no factors.

    Args:
        codes: numbers `[num, num_codes]`, at least 2 codes. 10,000 rows are the protocol; all rows given are used.
        num_bins: bins of equal width over each code's range.

    Returns:
        Nats, at least 0; a pair with a constant code counts as 0.

    Reference: Locatello et al. (2019), section 5.2 and their `mutual_info_score`.
    """
    bins = discretize(check_codes(codes, min_codes=2), num_bins)
    num_codes = bins.shape[1]
    total = sum(_information(bins[:, i], bins[:, j]) for i in range(num_codes) for j in range(i))
    return float(2.0 * total / (num_codes * (num_codes - 1)))


def discretize(codes: np.ndarray, num_bins: int) -> np.ndarray:
    """Sort each code into bins of equal width over its own range, int64 `[num, num_codes]` from 0 on.

    Edges belong to the bin above, the maximum to the last bin; they are computed in the type of the codes, as
    `numpy.histogram` does. A constant code fills one bin.
    """
    if isinstance(num_bins, bool) or not isinstance(num_bins, (int, np.integer)) or num_bins < 2:
        raise RequestError(f"num_bins must be a whole number from 2 on (the protocol has {NUM_BINS}), got {num_bins}.")
    bins = np.zeros(codes.shape, np.int64)
    for axis in range(codes.shape[1]):
        code = codes[:, axis]
        low, high = code.min(), code.max()
        if low < high:
            edges = np.linspace(low, high, num_bins + 1, dtype=codes.dtype)
            bins[:, axis] = np.searchsorted(edges[:-1], code, side="right") - 1
    return bins


def _pairwise(bins: np.ndarray, factors: np.ndarray) -> np.ndarray:
    return np.array([[_information(code, factor) for factor in factors.T] for code in bins.T])


def _information(first: np.ndarray, second: np.ndarray) -> float:
    """Plug-in mutual information of two columns of whole numbers from 0 on, in nats."""
    height, width = int(first.max()) + 1, int(second.max()) + 1
    joint = np.bincount(first * width + second, minlength=height * width)
    table = joint.reshape(height, width).astype(np.float64)
    num = table.sum()
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0)
    seen = table > 0.0
    # A ratio of whole numbers: exactly 1, so exactly 0 nats, where one column is constant.
    ratio = table[seen] * num / expected[seen]
    return max(0.0, float(np.sum(table[seen] * np.log(ratio)) / num))


def _entropies(factors: np.ndarray) -> np.ndarray:
    return np.array([_information(factor, factor) for factor in factors.T])
