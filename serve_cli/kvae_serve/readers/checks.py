"""Values held against what a model takes: finite, in range, classes that exist."""

from __future__ import annotations

import numpy as np

from kvae_serve.errors import InputDataError, printable
from kvae_serve.sealed.manifest import Data


def check_data(x: np.ndarray, data: Data, source: str, first: int = 0) -> None:
    """Raise `InputDataError` where x `[rows, *shape]`, from row `first` on, is not what a manifest says of its data."""
    check_range(x, data.range if data.bounded else None, source)
    for index, column in enumerate(data.columns):
        if column["kind"] != "categorical":
            continue
        values, num = x[:, index], len(column["classes"])
        bad = np.flatnonzero((values < 0) | (values >= num) | (values != np.floor(values)))
        if bad.size:
            raise InputDataError(
                f"{source} has {values[bad[0]]:g} in row {first + bad[0]} of column {printable(column['name'], 60)}, "
                f"expected the index of a class, 0 to {num - 1}."
            )


def check_units(x: np.ndarray, value_range: tuple[float, float] | None, source: str) -> None:
    """Raise `InputDataError` where x looks like pixels that were divided by 255, for a model that takes 0 to 255."""
    if value_range == (0.0, 255.0) and x.dtype.kind == "f" and x.size and 0 < float(x.max()) <= 1:
        raise InputDataError(
            f"{source} goes from {float(x.min()):g} to {float(x.max()):g}, as if it were divided by 255. "
            "Give pixels as they are, 0 to 255."
        )


def check_outcomes(x: np.ndarray, value_range: tuple[float, float] | None, source: str) -> None:
    """Raise `InputDataError` where x has values that a Bernoulli cannot give: any but the two ends of its range."""
    low, high = value_range or (0.0, 1.0)
    between = (x != low) & (x != high)
    if between.any():
        raise InputDataError(
            f"{source} has gray levels such as {float(x[between][0]):g}, which are no outcomes of a Bernoulli. "
            f"Draw each to {low:g} or {high:g} first."
        )


def check_range(x: np.ndarray, value_range: tuple[float, float] | None, source: str) -> None:
    """Raise `InputDataError` where a value is not finite or lies outside the range of a model's data."""
    check_finite(x, "x", source)
    if value_range is None or not x.size:
        return
    low, high = float(x.min()), float(x.max())
    if low < value_range[0] or high > value_range[1]:
        raise InputDataError(
            f"{source} has values from {low:g} to {high:g}, expected {value_range[0]:g} to {value_range[1]:g}. "
            "Give data in the units that the model was trained on."
        )


def check_finite(values: np.ndarray, name: str, source: str) -> None:
    """Raise `InputDataError` where a float is NaN or infinite, with how many are."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        num = int(values.size - np.isfinite(values).sum())
        raise InputDataError(f"{source} holds {num} values of {printable(name)} that are NaN or infinite.")
