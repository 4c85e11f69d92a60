"""The two scores that draw batches of their own: beta-VAE and FactorVAE.

Both hold one factor fixed, look at the codes of a batch, and ask whether one can tell which factor it was. They take a
`sampler`: a function from factors, int64 `[rows, num_factors]` with the class of each, to codes `[rows, num_codes]`.
It may render and encode, or look codes up (`grid_sampler`). It is called with the rows of many batches at once, so it
must treat rows one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kvae.metrics.logistic_regression import check_classifier, logistic_regression
from kvae.metrics.protocol import BATCH_SIZE, NUM_TEST, NUM_TRAIN, NUM_VARIANCE, PRUNE_SD
from kvae.metrics.validation import check_both, check_codes, generator, solver_seed
from kvae_serve.errors import InputDataError, RequestError

Sampler = Callable[[np.ndarray], Any]

# So many rows the sampler gets at once, about.
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
    """Accuracy of naming the factor that pairs of examples share, by a linear classifier of their mean |difference|.

    It saturates: codes that are rotated altogether, each a mixture of all factors, still get about 0.86. Never a gate.

    Args:
        sampler: factors to codes, see the module.
        factor_sizes: number of values of each factor, at least 2 factors; (3, 6, 40, 32, 32) for dSprites.
        batch_size: pairs behind each point.
        num_train: points to fit on.
        num_test: points to test on.
        classifier: logistic regression, `"multinomial"` as scikit-learn fits today or `"one_vs_rest"` as it did when
            the published figures were made.
        seed: of all draws.

    Returns:
        0 to 1; chance is 1 / the number of factors, which is about what constant codes give.

    Reference: Higgins et al. (2017), https://openreview.net/forum?id=Sy2fzU9gl, section 3; the settings are those of
    Locatello et al. (2019), appendix C.
    """
    check_classifier(classifier)
    draws = _Draws(sampler, factor_sizes, batch_size, seed)
    model = logistic_regression(classifier, solver_seed(seed), "The beta-VAE score")
    model.fit(*draws.differences(_count(num_train, "num_train")))
    points, fixed = draws.differences(_count(num_test, "num_test"))
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
    """Accuracy of naming the fixed factor from the code that varies least, relative to its overall variance.

    Each batch votes with its least varying code; each code then stands for the factor it got most votes for.

    Args:
        sampler: factors to codes, see the module.
        factor_sizes: number of values of each factor, at least 2 factors; (3, 6, 40, 32, 32) for dSprites.
        batch_size: examples behind each vote, at least 2.
        num_train: votes that decide which factor a code stands for.
        num_test: votes to test on.
        num_variance: examples that overall variances are taken from.
        prune_sd: codes with an overall standard deviation below this take no part. 0 keeps all but constant ones,
            as the default of disentanglement_lib itself does; scores of the two settings differ.
        seed: of all draws.

    Returns:
        0 to 1; chance is about 1 / the number of factors. 0, as published, where every code is left out. A constant
        code is left out whatever `prune_sd`, for its relative variance would be 0 / 0.

    Reference: Kim and Mnih (2018), https://arxiv.org/abs/1802.05983, section 4; the settings are those of Locatello et
    al. (2019), appendix C.
    """
    if not prune_sd >= 0.0:
        raise RequestError(f"prune_sd must be at least 0 (the protocol has {PRUNE_SD}), got {prune_sd}.")
    draws = _Draws(sampler, factor_sizes, _count(batch_size, "batch_size", 2), seed)
    codes = draws.codes(_count(num_variance, "num_variance", 2))
    variance = codes.var(axis=0, ddof=1)
    active = np.flatnonzero((np.sqrt(variance) >= prune_sd) & (codes.min(axis=0) < codes.max(axis=0)))
    num_train, num_test = _count(num_train, "num_train"), _count(num_test, "num_test")
    if not len(active):
        return 0.0
    votes = draws.votes(num_train, variance, active)
    stands_for = votes.argmax(axis=0)
    test = draws.votes(num_test, variance, active)
    return float(test[stands_for, np.arange(len(active))].sum() / num_test)


def grid_sampler(codes: Any, factors: Any) -> tuple[Sampler, tuple[int, ...]]:
    """Make a sampler of the codes of a whole grid: every combination of the factors' values, once each.

    Encoding the grid once and looking codes up costs less than encoding each batch.

    Args:
        codes: numbers `[num, num_codes]`.
        factors: classes `[num, num_factors]`, in any order.

    Returns:
        The sampler, and the number of values of each factor.

    Raises:
        InputDataError: a combination is missing or there twice.
    """
    codes, factors = check_both(codes, factors)
    sizes = tuple(int(size) for size in factors.max(axis=0) + 1)
    expected = 1
    for size in sizes:
        expected *= size
    found = np.ravel_multi_index(tuple(factors.T), sizes) if expected == len(codes) else np.zeros(0, np.int64)
    if len(np.unique(found)) != expected:
        raise InputDataError(
            f"codes has {len(codes)} rows, expected each of the {expected} combinations of the factors' values "
            f"({' x '.join(map(str, sizes))}) once. Encode the whole grid, or write a sampler that encodes on demand."
        )
    place = np.empty(expected, np.int64)
    place[found] = np.arange(expected)

    def sampler(wanted: np.ndarray) -> np.ndarray:
        return codes[place[np.ravel_multi_index(tuple(np.asarray(wanted).T), sizes)]]

    return sampler, sizes


class _Draws:
    """Draws factors and asks for their codes."""

    def __init__(self, sampler: Sampler, factor_sizes: Sequence[int], batch_size: int, seed: int) -> None:
        sizes = np.asarray(factor_sizes)
        if sizes.ndim != 1 or len(sizes) < 2 or sizes.dtype.kind not in "iu" or (sizes < 2).any():
            raise RequestError(
                "factor_sizes must be the number of values of each factor, at least 2 factors of at least 2 values, "
                f"got {factor_sizes!r}."
            )
        self._sampler = sampler
        self._sizes = sizes.astype(np.int64)
        self._batch_size = _count(batch_size, "batch_size")
        self._random = generator(seed)
        self._num_codes: int | None = None

    def codes(self, num: int) -> np.ndarray:
        """Return the codes of so many examples, float64 `[num, num_codes]`."""
        return np.concatenate([self._encode(self._factors(rows)) for rows in _parts(num, _ROWS)])

    def differences(self, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean |difference| of pairs that share a factor, float64 `[num, num_codes]`, and which it was."""
        points, shared = [], []
        for part in _parts(num, max(1, _ROWS // (2 * self._batch_size))):
            fixed = self._random.integers(len(self._sizes), size=part)
            first, second = (self._batches(part) for _ in range(2))
            which = np.arange(part)
            second[which, :, fixed] = first[which, :, fixed]
            codes = self._encode(np.concatenate([first, second]).reshape(-1, len(self._sizes)))
            halves = codes.reshape(2, part, self._batch_size, -1)
            points.append(np.abs(halves[0] - halves[1]).mean(axis=1))
            shared.append(fixed)
        return np.concatenate(points), np.concatenate(shared)

    def votes(self, num: int, variance: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Return how often each active code varied least when each factor was fixed, `[num_factors, num_active]`."""
        votes = np.zeros((len(self._sizes), len(active)), np.int64)
        for part in _parts(num, max(1, _ROWS // self._batch_size)):
            fixed = self._random.integers(len(self._sizes), size=part)
            factors = self._batches(part)
            which = np.arange(part)
            factors[which, :, fixed] = factors[which, :1, fixed]
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
                f"The sampler gave codes {list(codes.shape)} for {len(factors)} rows of factors, "
                f"expected {[len(factors), self._num_codes]}."
            )
        return codes


def _parts(num: int, most: int) -> list[int]:
    """Cut a count into parts of at most so many."""
    return [most] * (num // most) + ([num % most] if num % most else [])


def _count(value: int, name: str, lowest: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < lowest:
        raise RequestError(f"{name} must be a whole number from {lowest} on, got {value!r}.")
    return int(value)
