"""Written form of values: decimals, bounds, digits of large numbers, missing cells, identifiers."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from kvae_serve import cells

NUMERIC = {"name": "a", "kind": "numeric"}
WRITTEN = {
    "integers": ({"decimals": 0, "minimum": 17, "maximum": 90}, [33.6, 200, -1, 17], ["34", "90", "17", "17"]),
    "two decimals": ({"decimals": 2}, [1.005, -0.001, 3], ["1.00", "0.00", "3.00"]),
    "any decimals": ({}, [0.125, 2**-30], ["0.125", "9.31322575e-10"]),
    "bounds with many digits": (
        {"minimum": 0.1234567890123, "maximum": 1e9 / 3},
        [0, 4e8],
        ["0.1234567890123", "333333333"],
    ),
    "significant digits": (
        {"digits": 3, "maximum": 1230},
        [1e9, -1234.5, 0.00012345],
        ["1.23e+03", "-1.23e+03", "0.000123"],
    ),
    "exponents": (
        {"digits": 4, "exponent": "e", "missing": "?"},
        [1234.56, -0.0, np.nan],
        ["1.235e+03", "0.000e+00", "?"],
    ),
    "exact numbers": (
        {"decimals": 8, "exact": [-0.1277583, 51.50735091]},
        [51.50735091, -0.1277583, 40.5, np.nan],
        ["51.50735091", "-0.12775830", "40.50000000", ""],
    ),
    "exact numbers and an offset": (
        {"decimals": 0, "offset": 2**52, "exact": [2**52 + 2**25 + 1]},
        [2**25, 2**26],
        [str(2**52 + 2**25 + 1), str(2**52 + 2**26)],
    ),
    "exact numbers with many digits": ({"exact": [1 / 3]}, [1 / 3, 2 / 3], ["0.3333333333333333", "0.666666687"]),
    "whole numbers": ({"decimals": 1, "step": 1}, [2.4], ["2.0"]),
    "full hours": ({"format": "%H:%M:%S", "step": 3600}, [5000], ["01:00:00"]),
    "a suffix": ({"decimals": 1, "suffix": "%", "missing": ""}, [2.44, np.nan], ["2.4%", ""]),
    "thousands": (
        {"decimals": 2, "prefix": "$", "thousands": ","},
        [-1234567.5, 999, 1000],
        ["$-1,234,567.50", "$999.00", "$1,000.00"],
    ),
    "thousands and a decimal comma": ({"decimals": 1, "thousands": ".", "decimal": ","}, [12345.5], ["12.345,5"]),
    "an offset": ({"decimals": 0, "offset": 2**53 - 100}, [0, 99], [str(2**53 - 100), str(2**53 - 1)]),
    "a date": ({"format": "%d.%m.%Y", "offset": 86400}, [0, 86_400 * 2.4], ["02.01.1970", "04.01.1970"]),
    "a missing number": ({"decimals": 0, "missing": "?"}, [1, np.nan], ["1", "?"]),
    "a missing date": ({"format": "%Y-%m-%d", "missing": ""}, [np.nan, 0], ["", "1970-01-01"]),
    "classes": ({"classes": ["x", "y", "?"], "missing": "?"}, [1, 2, np.nan, -1, 0.4], ["y", "?", "?", "?", "x"]),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_values_are_written_as_in_the_training_table(name):
    keys, values, expected = WRITTEN[name]
    assert cells.texts(NUMERIC | keys, np.array(values, "f4")) == expected


@pytest.mark.parametrize(
    ("keys", "steps"),
    [
        ({"minimum": 2**62, "maximum": 2**62 + 10**6, "offset": 2**62}, "1,024"),
        ({"minimum": 0, "maximum": 10**9}, "64"),
        ({"minimum": 10**9, "maximum": 10**9 + 100, "offset": 10**9}, None),
        ({"minimum": 0, "maximum": 10**9, "step": 1000}, None),
        ({"minimum": -(2**24), "maximum": 0}, "2"),
        ({"minimum": 1 - 2**24, "maximum": 0}, None),
    ],
)
def test_description_has_the_steps_of_integers_that_are_too_large_for_floats(keys, steps):
    described = cells.describe({**NUMERIC, "type": "integer", "decimals": 0, **keys})
    if steps is None:
        assert "steps" not in described
    else:
        assert described.endswith(f", in steps of up to {steps} because of their size")


def test_description_has_the_significant_digits():
    column = {**NUMERIC, "type": "number", "digits": 4, "exponent": "e", "minimum": 1.5, "maximum": 1790}
    assert cells.describe(column) == "number with 4 significant digits from 1.500e+00 to 1.790e+03"


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize(
    "settings", [{"decimals": 0}, {"decimals": 1}, {"format": "%Y-%m-%d"}, {"decimals": 1, "step": 5}]
)
@pytest.mark.parametrize("num", [7, 30, 100])
def test_bins_hold_equally_many_values_of_a_column(settings, offset, num):
    unit = {"format": 86_400}.get(next(iter(settings)), settings.get("step", 10 ** -settings.get("decimals", 0)))
    values = (3 + np.arange(num)) * unit - offset * unit
    edges = cells.bin_edges({**NUMERIC, **settings, "offset": offset * unit}, values[0], values[-1], 24)
    counts = np.histogram(values, edges)[0]
    assert counts.sum() == num
    assert len(counts) <= 24
    assert len(set(counts[:-1])) == 1
    assert 0 < counts[-1] <= counts[0]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.5, 0.771, 1.0])
def test_missing_identifiers_have_their_share_in_every_part(share):
    column = {"name": "id", "type": "id", "prefix": "", "start": 0, "width": 0, "missing": "?", "missing_share": share}
    texts = list(islice(cells.identifiers(column), 20_000))
    for start in range(0, 20_000, 2000):
        assert texts[start : start + 2000].count("?") == pytest.approx(2000 * share, abs=4)
    assert all(text in ("?", str(row)) for row, text in enumerate(texts))
    assert list(islice(cells.identifiers(column, 1500), 10)) == texts[1500:1510]


def test_identifiers_continue_their_sequence():
    column = {"name": "id", "type": "id", "prefix": "user-", "start": 8, "width": 3}
    assert list(islice(cells.identifiers(column), 3)) == ["user-008", "user-009", "user-010"]
    assert next(cells.identifiers(column, 5)) == "user-013"
