"""Checks of numbers: accepted types, limits, and the error message."""

from __future__ import annotations

import numpy as np
import pytest

from kvae_serve.errors import RequestError
from kvae_serve.numbers import integer, is_integer, is_number


@pytest.mark.parametrize("value", [0, -3, 2**80, np.int8(5), np.uint64(2**64 - 1)])
def test_integers_of_python_and_numpy_are_integers_and_numbers(value):
    assert is_integer(value)
    assert is_number(value)


@pytest.mark.parametrize("value", [True, np.True_, 1.0, "1", None, 1j, [1]])
def test_other_values_are_not_integers(value):
    assert not is_integer(value)


@pytest.mark.parametrize("value", [True, np.True_, "1", None, 1j, float("nan"), float("inf"), -1e300, 10**400])
def test_other_and_infinite_values_are_not_numbers(value):
    assert not is_number(value)


def test_float32_is_a_number():
    assert is_number(np.float32(0.5))
    assert not is_number(np.float32("inf"))


@pytest.mark.parametrize("value", [3, 3.0, np.float64(3), np.array(3), np.uint8(3)])
def test_integer_accepts_values_without_a_fraction(value):
    result = integer(value, "num", 1)
    assert (result, type(result)) == (3, int)


@pytest.mark.parametrize(
    ("value", "high", "message"),
    [
        (0, None, "num is 0; expected an integer of at least 1."),
        (2.5, None, "num is 2.5; expected an integer of at least 1."),
        (True, 9, "num is True; expected an integer from 1 to 9."),
        (2**64, 2**64 - 1, "num is 18446744073709551616; expected an integer from 1 to 2**64 - 1."),
    ],
)
def test_integer_error_states_value_and_limits(value, high, message):
    with pytest.raises(RequestError) as error:
        integer(value, "num", 1, high)
    assert str(error.value) == message
