"""What every metric does to its arrays first: check them, split them, derive seeds."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np

from kvae.metrics.protocol import NUM_TEST, NUM_TRAIN
from kvae_serve.errors import InputDataError, MissingExtraError, RequestError

MAX_SEED = 2**64 - 1


def check_codes(codes: Any, min_codes: int = 1, min_rows: int = 2) -> np.ndarray:
    """Return codes as float32 or float64 `[num, num_codes]`.

    float32 and float64 stay what they are, so that bins fall where they fall in anyone's array.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.dtype.kind not in "fiub":
        raise InputDataError(
            f"codes must be numbers [num, num_codes], got {codes.dtype} {list(codes.shape)}. "
            "Give one row for each example."
        )
    if len(codes) < min_rows:
        raise InputDataError(f"codes has {len(codes)} rows, expected at least {min_rows}. Give more examples.")
    if codes.shape[1] < min_codes:
        raise InputDataError(f"codes has {codes.shape[1]} codes, expected at least {min_codes} for this figure.")
    if codes.dtype.kind != "f":
        codes = codes.astype(np.float64)
    elif codes.dtype not in (np.float32, np.float64):
        codes = codes.astype(np.float32 if codes.dtype.itemsize < 4 else np.float64)
    if not np.isfinite(codes).all():
        bad = int(codes.size - np.isfinite(codes).sum())
        raise InputDataError(f"codes has {bad} values that are NaN or infinite. Leave those examples out.")
    largest = float(np.abs(codes).max())
    if largest > np.sqrt(np.finfo(codes.dtype).max) / 2:
        raise InputDataError(f"codes has values up to {largest:g}, too large to square. Scale them down.")
    return codes


def check_factors(factors: Any, num: int, min_factors: int = 1, min_values: int = 2) -> np.ndarray:
    """Return factors as int64 `[num, num_factors]`, the values of each numbered from 0 in their order.

    Raises:
        InputDataError: another length than codes, a factor of one value (nothing can be said about it), or one of
            floats that hardly repeat (it has no classes).
    """
    return _number(_plain_factors(factors, num, min_factors), min_values)


def check_both(codes: Any, factors: Any, min_codes: int = 1, min_factors: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Check codes and factors that belong together, row by row."""
    codes = check_codes(codes, min_codes)
    return codes, check_factors(factors, len(codes), min_factors)


class Split(NamedTuple):
    """Rows to fit on and rows to test on; the classes of factors are numbered over both."""

    train_codes: np.ndarray
    train_factors: np.ndarray
    test_codes: np.ndarray
    test_factors: np.ndarray


def split(
    codes: Any, factors: Any, test_codes: Any, test_factors: Any, seed: int, min_codes: int = 1, min_factors: int = 1
) -> Split:
    """Return rows to fit on and rows to test on.

    Where no rows to test on are given, the rows are put into an order drawn from the seed; 10,000 train and the next
    5,000 test, or two thirds and one third where there are fewer than 15,000.
    """
    codes = check_codes(codes, min_codes)
    plain = _plain_factors(factors, len(codes), min_factors)
    if (test_codes is None) != (test_factors is None):
        raise RequestError("Give test_codes and test_factors together, or neither.")
    if test_codes is None:
        if len(codes) < 3:
            raise InputDataError(f"codes has {len(codes)} rows, expected at least 3 to fit on and to test on.")
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
                f"The rows to test on have {test_codes.shape[1]} codes and {test_plain.shape[1]} factors, "
                f"the rows to fit on {codes.shape[1]} and {plain.shape[1]}. Give the same columns."
            )
    both = _number(np.concatenate([plain, test_plain]), min_values=2)
    numbered = Split(codes, both[: len(plain)], test_codes, both[len(plain) :])
    for axis in range(numbered.train_factors.shape[1]):
        if len(np.unique(numbered.train_factors[:, axis])) < 2:
            raise InputDataError(
                f"Factor {axis} has a single value in the rows to fit on. Give more rows, or leave that column out."
            )
    return numbered


def is_constant(codes: np.ndarray) -> np.ndarray:
    """Tell which codes are dead: the same value in every row, bool `[num_codes]`."""
    return codes.min(axis=0) == codes.max(axis=0)


def generator(seed: int) -> np.random.Generator:
    """Return a generator of its own for a seed."""
    check_seed(seed)
    return np.random.default_rng(seed)


def check_seed(seed: int) -> None:
    """Raise `RequestError` where a seed is none."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= int(seed) <= MAX_SEED:
        raise RequestError(f"A seed is a whole number from 0 to 2**64 - 1, got {seed!r}.")


def solver_seed(seed: int) -> int:
    """Return the seed that scikit-learn takes, which has 32 bits, for one of ours, which has 64."""
    check_seed(seed)
    return int(np.random.SeedSequence(int(seed)).generate_state(1)[0])


def need(module: str, what: str) -> Any:
    """Import a module of scikit-learn, or name the extra to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{what} needs scikit-learn, which is not installed. Install it with: pip install 'kvae-onnx[evaluate]'"
        ) from error


def _plain_factors(factors: Any, num: int, min_factors: int) -> np.ndarray:
    factors = np.asarray(factors)
    if factors.ndim == 1:
        factors = factors[:, None]
    if factors.ndim != 2 or factors.dtype.kind not in "fiubU":
        raise InputDataError(
            f"factors must be values [num, num_factors], got {factors.dtype} {list(factors.shape)}. "
            "Give one column for each factor."
        )
    if len(factors) != num:
        raise InputDataError(f"factors has {len(factors)} rows, codes has {num}. Give one row of each an example.")
    if factors.shape[1] < min_factors:
        raise InputDataError(
            f"factors has {factors.shape[1]} factors, expected at least {min_factors} for this figure."
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
            raise InputDataError(
                f"Factor {axis} has a single value, so nothing can be said about it. Leave that column out."
            )
        fractions = column.dtype.kind == "f" and bool((column != np.floor(column)).any())
        if fractions and len(values) > max(2, len(column) // 2):
            raise InputDataError(
                f"Factor {axis} has {len(values)} values in {len(column)} rows, expected classes that repeat. "
                "Sort it into bins first; `sap(..., continuous=True)` takes it as it is."
            )
    return numbered
