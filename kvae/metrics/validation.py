"""Validation of codes, factors, counts and seeds, and the split into training and test rows."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np

from kvae.metrics.protocol import NUM_TEST, NUM_TRAIN
from kvae_serve.errors import InputDataError, MissingExtraError, RequestError

MAX_SEED = 2**64 - 1


def check_codes(codes: Any, min_codes: int = 1, min_rows: int = 2) -> np.ndarray:
    """Return codes as float32 or float64 `[num, num_codes]`, or raise `InputDataError`.

    float32 and float64 are kept, so that the edges of bins do not move.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.dtype.kind not in "fiub":
        raise InputDataError(
            f"codes must be numbers [num, num_codes], got {codes.dtype} {list(codes.shape)}. Give one row per example."
        )
    if len(codes) < min_rows:
        raise InputDataError(f"codes has {len(codes)} rows, expected at least {min_rows}. Give more examples.")
    if codes.shape[1] < min_codes:
        raise InputDataError(f"codes has {codes.shape[1]} codes, expected at least {min_codes} for this metric.")
    if codes.dtype.kind != "f":
        codes = codes.astype(np.float64)
    elif codes.dtype not in (np.float32, np.float64):
        codes = codes.astype(np.float32 if codes.dtype.itemsize < 4 else np.float64)
    if not np.isfinite(codes).all():
        num = int(codes.size - np.isfinite(codes).sum())
        raise InputDataError(f"codes has {num} values that are NaN or infinite. Leave those examples out.")
    largest = float(np.abs(codes).max())
    if largest > np.sqrt(np.finfo(codes.dtype).max) / 2:
        raise InputDataError(f"codes has values up to {largest:g}, too large to square. Scale them down.")
    return codes


def check_factors(factors: Any, num: int, min_factors: int = 1, min_values: int = 2) -> np.ndarray:
    """Return factors as int64 `[num, num_factors]`; the sorted values of each factor are numbered from 0.

    Raises:
        InputDataError: If the length differs from that of the codes, or a factor has one value only, or a factor of
            floats hardly repeats.
    """
    return _number(_plain_factors(factors, num, min_factors), min_values)


def check_both(codes: Any, factors: Any, min_codes: int = 1, min_factors: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and factors as `check_codes` and `check_factors` do."""
    codes = check_codes(codes, min_codes)
    return codes, check_factors(factors, len(codes), min_factors)


class Split(NamedTuple):
    """Training rows and test rows; the classes of factors are numbered over both."""

    train_codes: np.ndarray
    train_factors: np.ndarray
    test_codes: np.ndarray
    test_factors: np.ndarray


def split(
    codes: Any, factors: Any, test_codes: Any, test_factors: Any, seed: int, min_codes: int = 1, min_factors: int = 1
) -> Split:
    """Return training rows and test rows.

    Without `test_codes` the rows are shuffled by the seed. 10,000 are for training and the next 5,000 for testing, or
    two thirds and one third if there are fewer than 15,000.
    """
    codes = check_codes(codes, min_codes)
    plain = _plain_factors(factors, len(codes), min_factors)
    if (test_codes is None) != (test_factors is None):
        raise RequestError("Give test_codes and test_factors together, or neither.")
    if test_codes is None:
        if len(codes) < 3:
            raise InputDataError(f"codes has {len(codes)} rows, expected at least 3 for training and testing.")
        order = generator(seed).permutation(len(codes))
        num_train = min(NUM_TRAIN, len(codes) - max(1, len(codes) // 3))
        rows, test_rows = order[:num_train], order[num_train : num_train + NUM_TEST]
        codes, test_codes, test_plain = codes[rows], codes[test_rows], plain[test_rows]
        plain = plain[rows]
    else:
        test_codes = check_codes(test_codes, min_codes, min_rows=1)
        test_plain = _plain_factors(test_factors, len(test_codes), min_factors)
        if test_codes.shape[1] != codes.shape[1] or test_plain.shape[1] != plain.shape[1]:
            raise InputDataError(
                f"The test rows have {test_codes.shape[1]} codes and {test_plain.shape[1]} factors, the training rows "
                f"{codes.shape[1]} and {plain.shape[1]}. Give the same columns."
            )
    both = _number(np.concatenate([plain, test_plain]), min_values=2)
    numbered = Split(codes, both[: len(plain)], test_codes, both[len(plain) :])
    for axis in range(numbered.train_factors.shape[1]):
        if len(np.unique(numbered.train_factors[:, axis])) < 2:
            raise InputDataError(
                f"Factor {axis} has a single value in the training rows. Give more rows, or leave that column out."
            )
    return numbered


def is_constant(codes: np.ndarray) -> np.ndarray:
    """Return the mask of dead codes, which have the same value in every row: bool `[num_codes]`."""
    return codes.min(axis=0) == codes.max(axis=0)


def generator(seed: int) -> np.random.Generator:
    """Return a new random generator for a seed."""
    check_seed(seed)
    return np.random.default_rng(seed)


def check_seed(seed: int) -> None:
    """Raise `RequestError` if `seed` is not an integer from 0 to 2**64 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= int(seed) <= MAX_SEED:
        raise RequestError(f"seed must be an integer from 0 to 2**64 - 1, got {seed!r}.")


def solver_seed(seed: int) -> int:
    """Reduce a seed of 64 bits to the 32 bits that scikit-learn accepts."""
    check_seed(seed)
    return int(np.random.SeedSequence(int(seed)).generate_state(1)[0])


def check_count(value: int, name: str, minimum: int = 1) -> int:
    """Return a count as int, or raise `RequestError` if it is not an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise RequestError(f"{name} must be an integer of at least {minimum}, got {value!r}.")
    return int(value)


def import_sklearn(module: str, metric: str) -> Any:
    """Import a module of scikit-learn, or raise `MissingExtraError`, which names the extra to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{metric} needs scikit-learn, which is not installed. Install it with: pip install 'kvae-onnx[evaluate]'"
        ) from error


def _plain_factors(factors: Any, num: int, min_factors: int) -> np.ndarray:
    factors = np.asarray(factors)
    if factors.ndim == 1:
        factors = factors[:, None]
    if factors.ndim != 2 or factors.dtype.kind not in "fiubU":
        raise InputDataError(
            f"factors must be values [num, num_factors], got {factors.dtype} {list(factors.shape)}. "
            "Give one column per factor."
        )
    if len(factors) != num:
        raise InputDataError(f"factors has {len(factors)} rows, codes has {num}. Give one row of each per example.")
    if factors.shape[1] < min_factors:
        raise InputDataError(
            f"factors has {factors.shape[1]} factors, expected at least {min_factors} for this metric."
        )
    if factors.dtype.kind == "f" and not np.isfinite(factors).all():
        raise InputDataError("factors has values that are NaN or infinite. Leave those examples out.")
    return factors


def _number(factors: np.ndarray, min_values: int) -> np.ndarray:
    numbered = np.empty(factors.shape, np.int64)
    for axis in range(factors.shape[1]):
        column = factors[:, axis]
        values, numbered[:, axis] = np.unique(column, return_inverse=True)
        if len(values) < min_values:
            raise InputDataError(f"Factor {axis} has a single value. Leave that column out.")
        fractions = column.dtype.kind == "f" and bool((column != np.floor(column)).any())
        if fractions and len(values) > max(2, len(column) // 2):
            raise InputDataError(
                f"Factor {axis} has {len(values)} values in {len(column)} rows, expected classes that repeat. "
                "Sort it into bins first, or use `sap(..., continuous=True)`."
            )
    return numbered
