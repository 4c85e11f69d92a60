"""Range of the possible values of data, found from the values that occur."""

import math
from typing import Any, NamedTuple

import numpy as np

from kvae.data.disk import chunks, subsample
from kvae_serve.errors import InputDataError

#: Highest values of common scales: bits, n-bit integers, scikit-learn's digits, percent.
_SCALES = frozenset({1, 15, 16, 31, 63, 64, 100, 127, 255, 1023, 4095, 16383, 65535})
#: Whole numbers up to this are not pixels of 0 to 255: all images would be nearly black.
_DARK = 16
#: A highest value of at least this belongs to pixels of 0 to 255.
_BRIGHT = 128
#: Rows of data on disk, and rows of all data whose gray levels are counted.
_NUM_ROWS = 5000
#: Values that are copied at once.
_NUM_VALUES = 2**24


class Values(NamedTuple):
    """Summary of all values of x: lowest, highest, and whether all are whole numbers."""

    low: float
    high: float
    whole: bool


def summarize(x: Any, source: str) -> Values:
    """Find the extremes of `x`, an array or `OnDisk`. Of 8-bit data on disk, only a sample of rows is read.

    Raises:
        InputDataError: If x contains NaN or infinity, or if all of its values are equal.
    """
    is_byte = x.dtype == np.uint8
    lows, highs, whole = [], [], True
    for chunk in chunks(subsample(x, _NUM_ROWS) if is_byte else x):
        lows.append(float(np.min(chunk)))
        highs.append(float(np.max(chunk)))
        whole = whole and (chunk.dtype.kind in "iub" or _is_whole(chunk))
    # numpy.min keeps a NaN at any position; the built-in min does not.
    values = Values(float(np.min(lows)), float(np.max(highs)), whole)
    if not (math.isfinite(values.low) and math.isfinite(values.high)):
        raise InputDataError(f"{source}: x contains NaN or infinity. Remove or replace these values.")
    if values.low == values.high:
        raise InputDataError(f"{source}: every value of x is {values.low:g}. Training needs data that vary.")
    return values


def _is_whole(x: np.ndarray) -> bool:
    rows = max(1, _NUM_VALUES // max(1, x[0].size))
    parts = (x[start : start + rows] for start in range(0, len(x), rows))
    return all(bool((part == np.round(part)).all()) for part in parts)


def find(values: Values, source: str) -> tuple[float, float] | None:
    """Return the lowest and highest possible value of pixels, or None for measurements.

    Whole numbers with the highest value of a common scale, or of at most 16, have that scale: 0 to 1, 0 to 15, 0 to 100
    and so on. Values that reach 128 and not more than 255 are pixels of 0 to 255.

    Raises:
        InputDataError: If the values are either dark pixels of 0 to 255 or have a smaller scale.
    """
    low, high, whole = values
    if low < 0:
        return None
    if high <= 1:
        return 0.0, 1.0
    if high in _SCALES or (whole and high <= _DARK):
        return 0.0, high
    if _BRIGHT <= high <= 255:
        return 0.0, 255.0
    if high > 255 or high <= _DARK:
        return None
    raise InputDataError(
        f"{source}: x ranges from {low:g} to {high:g}, so its values have the scale 0 to {math.ceil(high)} or are dark "
        f"pixels of 0 to 255. Set --value-range to 0,{math.ceil(high)} or 0,255."
    )


def is_black_and_white(x: Any, value_range: tuple[float, float]) -> bool:
    """Return whether fewer than a fifth of all values are between 10 and 90 percent of the range.

    The share is 0.09 for MNIST, 0.35 for scikit-learn's digits and more for photos.
    """
    low, high = value_range
    num = max(1, min(_NUM_ROWS, _NUM_VALUES // math.prod(x.shape[1:])))
    rows = x[:: max(1, len(x) // num)]
    unit = (np.asarray(rows, "float32") - low) / (high - low)
    return float(((unit > 0.1) & (unit < 0.9)).mean()) < 0.2
