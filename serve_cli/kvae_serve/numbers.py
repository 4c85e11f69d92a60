"""Checks and rounding of numbers that a user or a file gives."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from kvae_serve.errors import RequestError, printable

LARGEST = 1e300
"""Limit of the magnitude of a number: a float can store it, and twice as much."""


def is_integer(value: object) -> bool:
    """Return whether `value` is an integer of Python or NumPy. A bool is not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether `value` is a finite real number of Python or NumPy, below `LARGEST`. A bool is not."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return abs(float(value)) < LARGEST
    except OverflowError:  # A large int.
        return False


def rounded(values: Iterable[float]) -> list[float]:
    """Return numbers with six significant digits, which keep a sum of 1 to 1e-6.

    Example:
        >>> rounded([2 / 3, 1 / 3])
        [0.666667, 0.333333]
    """
    return [float(f"{each:.6g}") for each in values]


def integer(value: Any, name: str, low: int, high: int | None = None) -> int:
    """Return `value` as an int. NumPy scalars, and floats without a fraction, are accepted.

    Args:
        value: The value.
        name: Name of the argument in the error message.
        low: Lowest allowed value.
        high: Highest allowed value; None for any.

    Raises:
        RequestError: The value is not an integer, or is out of range.
    """
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not is_integer(value) or value < low or (high is not None and value > high):
        limits = f"of at least {low}" if high is None else f"from {low} to {_power(high)}"
        raise RequestError(f"{name} is {printable(repr(value), 40)}; expected an integer {limits}.")
    return int(value)


def _power(limit: int) -> str:
    """Return a limit as text; a large one such as 2**64 - 1 as a power of two."""
    bits = limit.bit_length()
    return f"2**{bits} - 1" if bits > 30 and limit == 2**bits - 1 else str(limit)
