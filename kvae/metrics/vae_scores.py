"""The beta-VAE and FactorVAE scores, which draw batches on demand.

Both fix one factor in a batch and measure whether it can be identified from the codes. They need a `sampler`: a
function from factors, int64 `[rows, num_factors]` with the class of each, to codes `[rows, num_codes]`. It may render
and encode, or look codes up (`grid_sampler`). It receives the rows of many batches at once, so the result of a row must
not depend on other rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kvae.metrics.logistic_regression import check_classifier, logistic_regression
from kvae.metrics.protocol import BATCH_SIZE, NUM_TEST, NUM_TRAIN, NUM_VARIANCE, PRUNE_SD
from kvae.metrics.validation import check_both, check_codes, check_count, generator, solver_seed
from kvae_serve.errors import InputDataError, RequestError

Sampler = Callable[[np.ndarray], Any]

# Approximate number of rows per call of the sampler.
_ROWS = 8192


def beta_vae_score(
    sampler: Sampler,
    factor_sizes: Sequence[int],
    *,
    batch_size: int = BATCH_SIZE,
    num_train: int = NUM_TRAIN,
    num_test: int = NUM_TEST,
    classifier: str = "multinomial",
    seed: int = 0,
) -> float:
    """Compute the accuracy of a linear classifier that finds the factor shared by pairs, from their mean |difference|.

    The score saturates: rotated codes, each a mixture of all factors, still reach about 0.86. Do not use it as a
    criterion.

    Args:
        sampler: Function from factors to codes, see the module.
        factor_sizes: Number of values of each factor, at least 2 factors; (3, 6, 40, 32, 32) for dSprites.
        batch_size: Pairs per point.
        num_train: Points to fit, enough that at least two factors are drawn.
        num_test: Points to test.
        classifier: Logistic regression: `"multinomial"`, the current default of scikit-learn, or `"one_vs_rest"`, its
            default when the published results were computed.
        seed: Seed of all draws.

    Returns:
        0 to 1. Chance is 1 / the number of factors, about the result for constant codes.

    Raises:
        RequestError: If an argument is invalid, or all training points fix the same factor.
        InputDataError: If the sampler returns invalid codes.
        MissingExtraError: If scikit-learn is not installed.

    Example:
        >>> import kvae
        >>> kvae.metrics.beta_vae_score(lambda factors: factors + 0.0, (3, 6), num_train=200, num_test=200)
        1.0

    Reference: Higgins et al. (2017), https://openreview.net/forum?id=Sy2fzU9gl, section 3; the settings are those of
    Locatello et al. (2019), appendix C.
    """
    check_classifier(classifier)
    draws = _Draws(sampler, factor_sizes, batch_size, seed)
    model = logistic_regression(classifier, solver_seed(seed), "The beta-VAE score")
    points, fixed = draws.differences(check_count(num_train, "num_train"))
    if len(np.unique(fixed)) < 2:
        raise RequestError(f"num_train is {num_train}; all points fix the same factor. Use more points.")
    model.fit(points, fixed)
    points, fixed = draws.differences(check_count(num_test, "num_test"))
    return float(np.mean(model.predict(points) == fixed))


def factor_vae_score(
    sampler: Sampler,
    factor_sizes: Sequence[int],
    *,
    batch_size: int = BATCH_SIZE,
    num_train: int = NUM_TRAIN,
    num_test: int = NUM_TEST,
    num_variance: int = NUM_VARIANCE,
    prune_sd: float = PRUNE_SD,
    seed: int = 0,
) -> float:
    """Compute the accuracy of finding the fixed factor from the code that varies least, relative to its variance.

    Each batch is a vote for its least varying code. A code predicts the factor for which it got most votes.

    Args:
        sampler: Function from factors to codes, see the module.
        factor_sizes: Number of values of each factor, at least 2 factors; (3, 6, 40, 32, 32) for dSprites.
        batch_size: Examples per vote, at least 2.
        num_train: Votes that decide which factor a code predicts.
        num_test: Votes to test.
        num_variance: Examples for the overall variance of each code.
        prune_sd: Codes with a smaller overall standard deviation are left out. 0, the default of disentanglement_lib,
            keeps all codes that are not constant; scores of the two settings differ.
        seed: Seed of all draws.

    Returns:
        0 to 1. Chance is about 1 / the number of factors. As published, it is 0 if all codes are left out. Constant
        codes are always left out, because their relative variance would be 0 / 0.

    Raises:
        RequestError: If an argument is invalid.
        InputDataError: If the sampler returns invalid codes.

    Example:
        >>> import kvae
        >>> kvae.metrics.factor_vae_score(lambda factors: factors + 0.0, (3, 6), num_train=200, num_test=200)
        1.0

    Reference: Kim and Mnih (2018), https://arxiv.org/abs/1802.05983, section 4; the settings are those of Locatello et
    al. (2019), appendix C.
    """
    if not prune_sd >= 0.0:
        raise RequestError(f"prune_sd must be at least 0 (the protocol has {PRUNE_SD}), got {prune_sd}.")
    draws = _Draws(sampler, factor_sizes, check_count(batch_size, "batch_size", 2), seed)
    codes = draws.codes(check_count(num_variance, "num_variance", 2))
    variance = codes.var(axis=0, ddof=1)
    active = np.flatnonzero((np.sqrt(variance) >= prune_sd) & (codes.min(axis=0) < codes.max(axis=0)))
    num_train, num_test = check_count(num_train, "num_train"), check_count(num_test, "num_test")
    if not len(active):
        return 0.0
    votes = draws.votes(num_train, variance, active)
    predicted = votes.argmax(axis=0)
    test = draws.votes(num_test, variance, active)
    return float(test[predicted, np.arange(len(active))].sum() / num_test)


def grid_sampler(codes: Any, factors: Any) -> tuple[Sampler, tuple[int, ...]]:
    """Create a sampler from the codes of a whole grid, every combination of the factors' values exactly once.

    Encoding the grid once and looking codes up is faster than encoding each batch.

    Args:
        codes: Numbers `[num, num_codes]`.
        factors: Classes `[num, num_factors]`, in any order.

    Returns:
        The sampler, and the number of values of each factor.

    Raises:
        InputDataError: If a combination is missing or occurs twice.

    Example:
        >>> import kvae
        >>> sampler, sizes = kvae.metrics.grid_sampler([[0.0], [1.0], [2.0], [3.0]], [[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> sizes
        (2, 2)
    """
    codes, factors = check_both(codes, factors)
    sizes = tuple(int(size) for size in factors.max(axis=0) + 1)
    expected = math.prod(sizes)
    index = np.ravel_multi_index(tuple(factors.T), sizes) if expected == len(codes) else np.zeros(0, np.int64)
    if len(np.unique(index)) != expected:
        raise InputDataError(
            f"codes has {len(codes)} rows, expected each of the {expected} combinations of the factors' values "
            f"({' x '.join(map(str, sizes))}) once. Encode the whole grid, or write a sampler that encodes on demand."
        )
    ordered = np.empty_like(codes)
    ordered[index] = codes

    def sampler(factors: np.ndarray) -> np.ndarray:
        return ordered[np.ravel_multi_index(tuple(np.asarray(factors).T), sizes)]

    return sampler, sizes


class _Draws:
    """Random batches of factors, and their codes."""

    def __init__(self, sampler: Sampler, factor_sizes: Sequence[int], batch_size: int, seed: int) -> None:
        sizes = np.asarray(factor_sizes)
        if sizes.ndim != 1 or len(sizes) < 2 or sizes.dtype.kind not in "iu" or (sizes < 2).any():
            raise RequestError(
                "factor_sizes must be the number of values of each factor, at least 2 factors of at least 2 values, "
                f"got {factor_sizes!r}."
            )
        self._sampler = sampler
        self._sizes = sizes.astype(np.int64)
        self._batch_size = check_count(batch_size, "batch_size")
        self._random = generator(seed)
        self._num_codes: int | None = None

    def codes(self, num: int) -> np.ndarray:
        """Draw `num` examples and return their codes, float64 `[num, num_codes]`."""
        return np.concatenate([self._encode(self._factors(rows)) for rows in _chunk_sizes(num, _ROWS)])

    def differences(self, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean |difference| of pairs that share a factor, float64 `[num, num_codes]`, and the shared factor."""
        points, shared = [], []
        for part in _chunk_sizes(num, max(1, _ROWS // (2 * self._batch_size))):
            fixed = self._random.integers(len(self._sizes), size=part)
            first, second = (self._batches(part) for _ in range(2))
            rows = np.arange(part)
            second[rows, :, fixed] = first[rows, :, fixed]
            codes = self._encode(np.concatenate([first, second]).reshape(-1, len(self._sizes)))
            halves = codes.reshape(2, part, self._batch_size, -1)
            points.append(np.abs(halves[0] - halves[1]).mean(axis=1))
            shared.append(fixed)
        return np.concatenate(points), np.concatenate(shared)

    def votes(self, num: int, variance: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Count for each fixed factor how often each active code varied least, `[num_factors, num_active]`."""
        votes = np.zeros((len(self._sizes), len(active)), np.int64)
        for part in _chunk_sizes(num, max(1, _ROWS // self._batch_size)):
            fixed = self._random.integers(len(self._sizes), size=part)
            factors = self._batches(part)
            rows = np.arange(part)
            factors[rows, :, fixed] = factors[rows, :1, fixed]
            codes = self._encode(factors.reshape(-1, len(self._sizes)))
            local = codes.reshape(part, self._batch_size, -1)[..., active].var(axis=1, ddof=1)
            np.add.at(votes, (fixed, np.argmin(local / variance[active], axis=1)), 1)
        return votes

    def _batches(self, num: int) -> np.ndarray:
        return self._factors(num * self._batch_size).reshape(num, self._batch_size, -1)

    def _factors(self, rows: int) -> np.ndarray:
        return self._random.integers(self._sizes, size=(rows, len(self._sizes)))

    def _encode(self, factors: np.ndarray) -> np.ndarray:
        codes = check_codes(self._sampler(factors.copy()), min_rows=1).astype(np.float64)
        if self._num_codes is None:
            self._num_codes = codes.shape[1]
        if codes.shape != (len(factors), self._num_codes):
            raise InputDataError(
                f"The sampler returned codes {list(codes.shape)} for {len(factors)} rows of factors, "
                f"expected {[len(factors), self._num_codes]}."
            )
        return codes


def _chunk_sizes(num: int, size: int) -> list[int]:
    """Split a count into chunks of at most `size`."""
    return [size] * (num // size) + ([num % size] if num % size else [])
