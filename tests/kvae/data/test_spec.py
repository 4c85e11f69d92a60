"""DataSpec: scaling, and refused data."""

import numpy as np
import pytest

from kvae.data.spec import DataSpec


def test_unit_scaling_is_inverted_by_to_data():
    spec = DataSpec((2,), range=(-10, 30))
    x = np.array([[-10.0, 30.0], [0.0, 10.0]], "f4")
    np.testing.assert_allclose(spec.to_unit(x), [[0, 1], [0.25, 0.5]])
    np.testing.assert_allclose(spec.to_data(spec.to_unit(x)), x, rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((2, 3, 1)), r"expected x of shape \[batch, 2, 2, 1\], got \[2, 3, 1\]"),
        (np.zeros((0, 2, 2, 1)), "no examples"),
        (np.full((1, 2, 2, 1), np.nan), "NaN or infinity"),
        (np.full((1, 2, 2, 1), 300.0), "lies in 300 to 300, but the model's data in 0 to 255"),
        (np.full((1, 2, 2, 1), -1.0), "-1 to -1"),
        (np.full((1, 2, 2, 1), 0.5), r"DataSpec\(range=\(0, 0.5\)\)"),
        (np.full((1, 2, 2, 1), "a"), "must be numbers"),
    ],
)
def test_unsuitable_data_are_refused_with_a_remedy(x, words):
    with pytest.raises(ValueError, match=words):
        DataSpec((2, 2, 1)).check(x, "fit")


def test_data_of_four_axes_are_refused_with_the_shape_to_use():
    with pytest.raises(ValueError, match=r"Reshape the data to \(8, 64, 1\)") as found:
        DataSpec((8, 8, 8, 1))
    assert len(str(found.value).splitlines()) == 1
