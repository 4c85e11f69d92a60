"""Mutual information of binned codes, in nats, and the metrics that use it.

Each code is sorted into bins of equal width over its range, so one outlier can move all other values into one bin. The
estimate uses frequencies as probabilities. Its bias is upwards, about (bins - 1)(values - 1) / (2 num) nats for
independent variables.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.metrics.protocol import NUM_BINS
from kvae.metrics.validation import check_both, check_codes, check_count
from kvae_serve.errors import RequestError


def mutual_information(codes: Any, factors: Any, *, num_bins: int = NUM_BINS) -> np.ndarray:
    """Compute the mutual information of each binned code with each factor.

    Args:
        codes: Numbers `[num, num_codes]`.
        factors: Classes `[num, num_factors]`: integers, text, or floats that repeat.
        num_bins: Number of bins of equal width over the range of each code.

    Returns:
        float64 `[num_codes, num_factors]`, in nats; exactly 0 for a constant code.

    Raises:
        RequestError: If `num_bins` is invalid.
        InputDataError: If the arrays are invalid.

    Example:
        >>> import kvae
        >>> kvae.metrics.mutual_information([[0.0], [0.0], [1.0], [1.0]], [[0], [0], [1], [1]]).round(4)  # log 2
        array([[0.6931]])
    """
    codes, factors = check_both(codes, factors)
    return _pairwise(discretize(codes, num_bins), factors)


def mig(codes: Any, factors: Any, *, num_bins: int = NUM_BINS) -> float:
    """Compute the mutual information gap: information about a factor in the best code minus that in the second best.

    The gap is divided by the entropy of the factor and averaged over factors. This is the form of Locatello et al.,
    with binned mean codes, all factors and the empirical entropy. The form of Chen et al. is not comparable: it samples
    z, uses the exact q(z|x), leaves out shape and divides by the log of the factor's size. With 20 bins a factor of
    more than 20 values cannot reach 1; perfect codes of all five factors of dSprites reach 0.90.

    Args:
        codes: Numbers `[num, num_codes]`, at least 2 codes. The protocol has 10,000 rows; all rows are used.
        factors: Classes `[num, num_factors]`.
        num_bins: Number of bins of equal width over the range of each code.

    Returns:
        0 to 1; 0 if all codes are constant. A constant code has 0 and can be the second best.

    Raises:
        RequestError: If `num_bins` is invalid.
        InputDataError: If the arrays are invalid.

    Example:
        >>> import numpy as np
        >>> import kvae
        >>> factors = np.random.default_rng(0).integers((3, 6), size=(1000, 2))
        >>> round(kvae.metrics.mig(factors + 0.0, factors), 1)
        1.0

    Reference: Chen et al. (2018), https://arxiv.org/abs/1802.04942, eq. 6; Locatello et al. (2019), appendix C.
    """
    codes, factors = check_both(codes, factors, min_codes=2)
    information = np.sort(_pairwise(discretize(codes, num_bins), factors), axis=0)
    return float(np.mean((information[-1] - information[-2]) / _entropies(factors)))


def modularity(codes: Any, factors: Any, *, num_bins: int = NUM_BINS, dead_codes: str = "zero") -> float:
    """Compute how exclusively each code is informative about one factor, averaged over codes.

    The score of a code is 1 - sum of its other squared mutual informations / (largest squared one x (num_factors - 1)).
    It does not measure how informative a code is: noise scores 0.55 to 0.65 because of the bias of the estimates. Do
    not use this metric alone as a criterion.

    Args:
        codes: Numbers `[num, num_codes]`. The protocol has 10,000 rows; all rows are used.
        factors: Classes `[num, num_factors]`, at least 2 factors.
        num_bins: Number of bins of equal width over the range of each code.
        dead_codes: `"zero"`, as published: a code without information scores 0, so perfect codes and as many constant
            codes score 0.5. `"skip"`, a variant, leaves such codes out of the average.

    Returns:
        0 to 1; 0 if no code is informative.

    Raises:
        RequestError: If `num_bins` or `dead_codes` is invalid.
        InputDataError: If the arrays are invalid.

    Example:
        >>> import numpy as np
        >>> import kvae
        >>> factors = np.random.default_rng(0).integers((3, 6), size=(1000, 2))
        >>> round(kvae.metrics.modularity(factors + 0.0, factors), 2)
        1.0

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
    """Compute the mutual information between two binned codes, averaged over all pairs.

    Args:
        codes: Numbers `[num, num_codes]`, at least 2 codes. The protocol has 10,000 rows; all rows are used.
        num_bins: Number of bins of equal width over the range of each code.

    Returns:
        float of at least 0, in nats; a pair with a constant code counts as 0.

    Raises:
        RequestError: If `num_bins` is invalid.
        InputDataError: If the codes are invalid.

    Example:
        >>> import kvae
        >>> round(kvae.metrics.code_mutual_information([[0.0, 1.0], [1.0, 0.0]]), 4)  # log 2
        0.6931

    Reference: Locatello et al. (2019), section 5.2 and their `mutual_info_score`.
    """
    bins = discretize(check_codes(codes, min_codes=2), num_bins)
    num_codes = bins.shape[1]
    total = sum(_information(bins[:, i], bins[:, j]) for i in range(num_codes) for j in range(i))
    return float(2.0 * total / (num_codes * (num_codes - 1)))


def discretize(codes: np.ndarray, num_bins: int) -> np.ndarray:
    """Sort each code into bins of equal width over its range: int64 `[num, num_codes]`, from 0.

    A value on an edge belongs to the bin above, the maximum to the last bin. Edges are computed in the type of the
    codes, as in `numpy.histogram`. A constant code fills one bin.
    """
    num_bins = check_count(num_bins, "num_bins", 2)
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
    """Return the plug-in estimate of the mutual information of two columns of integers from 0, in nats."""
    height, width = int(first.max()) + 1, int(second.max()) + 1
    joint = np.bincount(first * width + second, minlength=height * width)
    table = joint.reshape(height, width).astype(np.float64)
    num = table.sum()
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0)
    observed = table > 0.0
    # A ratio of integers: exactly 1, so the sum is exactly 0 nats, if one column is constant.
    ratio = table[observed] * num / expected[observed]
    return max(0.0, float(np.sum(table[observed] * np.log(ratio)) / num))


def _entropies(factors: np.ndarray) -> np.ndarray:
    return np.array([_information(factor, factor) for factor in factors.T])
