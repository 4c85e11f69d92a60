"""Values of columns that are given by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from kvae_serve import cells
from kvae_serve.errors import RequestError
from kvae_serve.readers.partial import given_values
from kvae_serve.sealed.manifest import Manifest
from support import make_linear_table

INTEGERS = {"name": "age", "kind": "numeric", "type": "integer", "decimals": 0, "minimum": 1, "maximum": 9}
ATOMS = INTEGERS | {"form": "classes", "atoms": [1, 4, 9]}
LENT = {"step": 1.0, "tail": 3.0, "share": [0.1] * 3, "weight": [0.01] * 3}


def manifest(column) -> Manifest:
    plain = Manifest.from_dict(make_linear_table.manifest() | {"graph": "decoder", "golden": None})
    data = dataclasses.replace(plain.data, columns=(column, *plain.data.columns[1:]))
    return dataclasses.replace(plain, data=data)


def written(column, text: str) -> str:
    given = given_values({"age": text}, manifest(column))
    return cells.texts(given.columns[0], given.x[:1])[0]


def test_number_without_probability_is_refused():
    with pytest.raises(RequestError, match=r"expected a number that the model can make, such as 1, 4, 9"):
        given_values({"age": "5"}, manifest(ATOMS))
    assert written(ATOMS | {"unseen": LENT}, "5") == "5"
    assert written(ATOMS | {"unseen": LENT}, "-40") == "-40"


@pytest.mark.parametrize("text", ["0.1", "16777217.25", "-1e+30", "123456.789012"])
def test_number_without_fixed_decimals_keeps_its_digits(text):
    number = {"name": "age", "kind": "numeric", "type": "number", "minimum": 0.0, "maximum": 1.0}
    assert float(written(number, text)) == float(text)


def test_form_of_the_column_is_kept():
    price = {"name": "age", "kind": "numeric", "decimals": 2, "decimal": ",", "thousands": ".", "suffix": " EUR"}
    assert written(price | {"maximum": 10.0, "step": 1}, "4321,5") == "4.321,50 EUR"


def test_type_that_cannot_hold_the_value_is_dropped():
    small = INTEGERS | {"dtype": "int8"}
    assert given_values({"age": "500"}, manifest(small)).columns[0].get("dtype") is None
    assert given_values({"age": "5"}, manifest(small)).columns[0]["dtype"] == "int8"


def test_other_columns_are_not_given():
    given = given_values({"sex": "male", "pay": "2"}, manifest(INTEGERS))
    np.testing.assert_array_equal(given.x, np.array([np.nan, 1, 2, np.nan], "f4"))
    assert given.columns[0] == INTEGERS
