"""Check values against the data that a model accepts: finite, in range, known classes."""

from __future__ import annotations

import numpy as np

from kvae_serve.errors import InputDataError, printable
from kvae_serve.sealed.manifest import Data


def check_data(x: np.ndarray, data: Data, source: str, first: int = 0) -> None:
    """Check that x fits the data of a manifest.

    Args:
        x: `[rows, *shape]` in data units.
        data: Data of the manifest.
        source: Name of x in messages.
        first: Row number of the first row in messages.

    Raises:
        InputDataError: A value is not finite, out of range, or not a class index.
    """
    check_range(x, data.range if data.bounded else None, source)
    for index, column in enumerate(data.columns):
        if column["kind"] != "categorical":
            continue
        values, num = x[:, index], len(column["classes"])
        bad = np.flatnonzero((values < 0) | (values >= num) | (values != np.floor(values)))
        if bad.size:
            raise InputDataError(
                f"{source} has {values[bad[0]]:g} in row {first + bad[0]} of column {printable(column['name'], 60)}; "
                f"expected the index of a class, 0 to {num - 1}."
            )


def check_units(x: np.ndarray, value_range: tuple[float, float] | None, source: str) -> None:
    """Raise `InputDataError` if x looks like pixels divided by 255, and the model expects 0 to 255."""
    if value_range == (0.0, 255.0) and x.dtype.kind == "f" and x.size and 0 < float(x.max()) <= 1:
        raise InputDataError(
            f"{source} has values from {float(x.min()):g} to {float(x.max()):g}, as if they were divided by 255. "
            "Use pixels from 0 to 255."
        )


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
    if low < value_range[0] or high > value_range[1]:
        raise InputDataError(
            f"{source} has values from {low:g} to {high:g}; expected {value_range[0]:g} to {value_range[1]:g}. "
            "Use the units of the training data."
        )


def check_finite(values: np.ndarray, name: str, source: str) -> None:
    """Raise `InputDataError` if a float is NaN or infinite. The message has their number."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        num = int(values.size - np.isfinite(values).sum())
        raise InputDataError(
            f"{source} has {num} values of {printable(name)} that are NaN or infinite. Remove or replace them."
        )
