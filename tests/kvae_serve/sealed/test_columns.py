"""Form of a numeric column in a manifest."""

import pytest

from kvae_serve.sealed.columns import MAX_KNOTS, form_fault

QUANTILE = {"form": "quantile", "knots": [0.0, 0.0, 1.5], "scores": [-2.0, 0.5, 2.0]}


@pytest.mark.parametrize("column", [{}, {"form": "standard"}, QUANTILE, {"form": "classes", "atoms": [1, 2, 9]}])
def test_valid_forms_have_no_fault(column):
    assert form_fault(column) == ""


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ({"form": "cubic"}, "expected one of standard, quantile, classes"),
        ({"form": ["quantile"]}, "expected one of"),
        ({"form": "quantile"}, "invalid knots"),
        ({**QUANTILE, "knots": [0.0, 1.0]}, "invalid scores"),
        ({**QUANTILE, "knots": [0.0, 1.0, 0.5]}, "do not decrease"),
        ({**QUANTILE, "knots": [0.0, 0.0, 0.0]}, "not all equal"),
        ({**QUANTILE, "knots": [0.0, 1e31, 1e32]}, "invalid knots"),
        ({**QUANTILE, "knots": [0.0, 1.0, True]}, "invalid knots"),
        ({**QUANTILE, "knots": [0.0, 1.0, "2"]}, "invalid knots"),
        ({**QUANTILE, "knots": [0, 0, 0, 1], "scores": [0, 1, 2, 3]}, "at most twice"),
        ({**QUANTILE, "scores": [-2.0, 0.5, 0.5]}, "increasing"),
        ({**QUANTILE, "scores": [-2.0, 0.5, 41.0]}, "invalid scores"),
        ({**QUANTILE, "knots": list(range(MAX_KNOTS + 1))}, "invalid knots"),
        ({"form": "classes"}, "invalid atoms"),
        ({"form": "classes", "atoms": []}, "invalid atoms"),
        ({"form": "classes", "atoms": [1, 1]}, "increasing"),
        ({"form": "classes", "atoms": [1, float("nan")]}, "invalid atoms"),
    ],
)
def test_invalid_forms_are_named(column, words):
    assert words in form_fault(column)
