"""Check values against the data that a model accepts: finite, in range, known classes."""

from __future__ import annotations

import numpy as np

from kvae_serve.errors import InputDataError, printable
from kvae_serve.sealed.manifest import Data

_WHOLE_SCALES = (16, 100, 255, 65535)
"""Highest values of scikit-learn's digits, of percentages, and of pixels of 8 and 16 bits."""
_MANY = 10
"""So many 8-bit images without a pixel above 16 are not dark: their scale is 0 to 15 or 16."""


def check_data(x: np.ndarray, data: Data, source: str, first: int = 0) -> None:
    """Check that x fits the data of a manifest.

    Args:
        x: `[rows, *shape]` in data units.
        data: Data of the manifest.
        source: Name of x in messages.
        first: Row number of the first row in messages.

    Raises:
        InputDataError: A value is not finite, out of range, or not a class index. In a table, NaN is a missing value
            of a class, or of a number that has missing values in the training data.
    """
    if not data.columns:
        check_range(x, data.range if data.bounded else None, source)
    for index, column in enumerate(data.columns):
        if column["kind"] != "categorical":
            known = x[:, index] if "missing" not in column else x[~np.isnan(x[:, index]), index]
            check_finite(known, f"column {printable(column['name'], 60)}", source)
            continue
        values, num = x[:, index], len(column["classes"])
        # NaN is a missing cell, and -1 a class that the model does not have.
        bad = np.flatnonzero(~np.isnan(values) & ((values < -1) | (values >= num) | (values != np.floor(values))))
        if bad.size:
            raise InputDataError(
                f"{source} has {values[bad[0]]:g} in row {first + bad[0]} of column {printable(column['name'], 60)}; "
                f"expected the index of a class, 0 to {num - 1}."
            )


def check_units(x: np.ndarray, value_range: tuple[float, float] | None, source: str) -> None:
    """Raise `InputDataError` if x has a smaller scale than the model, such as pixels divided by 255."""
    if value_range is None or not x.size or not has_smaller_scale(x.dtype, float(x.max()), value_range, len(x)):
        return
    low, high, highest = float(x.min()), value_range[1], float(x.max())
    scale = f"divided by {high:g}" if highest <= 1 else f"on the scale 0 to {highest:g}"
    dark = "" if x.dtype == np.uint8 or high != 255 else ", and uint8 for images that are dark"
    raise InputDataError(
        f"{source} has values from {low:g} to {highest:g}, as if they were {scale}. "
        f"Use pixels from 0 to {high:g}{dark}."
    )


def has_smaller_scale(dtype: np.dtype, highest: float, value_range: tuple[float, float], num: int) -> bool:
    """Return whether values with that maximum have a smaller scale than a model whose range starts at 0.

    A few of `num` 8-bit images may be dark, so only the values 0 and 1 are refused for them.
    """
    low, high = value_range
    if low != 0 or high <= 1 or highest <= 0:
        return False
    if dtype == np.uint8:
        return high >= 15 and (highest == 1 or (high == 255 and highest <= 16 and num >= _MANY))
    if highest <= 1:
        return dtype.kind == "f" or high >= 15
    return high == 255 and (highest <= 16 or highest in (31, 63, 64, 100, 127))


def check_outcomes(x: np.ndarray, value_range: tuple[float, float] | None, source: str) -> None:
    """Raise `InputDataError` if x has values that are not an outcome of a Bernoulli: an end of the range."""
    low, high = value_range or (0.0, 1.0)
    between = (x != low) & (x != high)
    if between.any():
        raise InputDataError(
            f"{source} has gray values such as {float(x[between][0]):g}; a Bernoulli likelihood expects {low:g} or "
            f"{high:g}. Binarize the data first."
        )


def check_range(x: np.ndarray, value_range: tuple[float, float] | None, source: str) -> None:
    """Raise `InputDataError` if a value is not finite or outside the data range of a model."""
    check_finite(x, "x", source)
    if value_range is None or not x.size:
        return
    low, high = float(x.min()), float(x.max())
    # Means of p(x given z) can exceed the range by the rounding of float32.
    rounding = 1e-6 * (value_range[1] - value_range[0])
    if low < value_range[0] - rounding or high > value_range[1] + rounding:
        advice = "Use the units of the training data."
        scale = next((each for each in _WHOLE_SCALES if each >= high and each > value_range[1]), None)
        if low >= 0 and value_range[0] == 0 and scale is not None and bool((x == np.round(x)).all()):
            advice = f"Divide them by {scale / value_range[1]:g} if their scale is 0 to {scale}."
        raise InputDataError(
            f"{source} has values from {low:g} to {high:g}; expected {value_range[0]:g} to {value_range[1]:g}. {advice}"
        )


def check_finite(values: np.ndarray, name: str, source: str) -> None:
    """Raise `InputDataError` if a float is NaN or infinite. The message has their number."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        num = int(values.size - np.isfinite(values).sum())
        raise InputDataError(
            f"{source} has {num} values of {printable(name)} that are NaN or infinite. Remove or replace them."
        )
