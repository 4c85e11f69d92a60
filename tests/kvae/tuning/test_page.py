"""Report of a study: decimals of its tables and ticks of its charts."""

import pytest

pytest.importorskip("optuna")
pytest.importorskip("matplotlib")

from kvae.tuning import page


def test_figures_of_a_column_have_equal_decimals():
    assert [str(each) for each in page._aligned([-31.96, -32.2])] == ["−31.96", "−32.20"]
    assert [str(each) for each in page._aligned([5.0, 12.0])] == ["5", "12"]
    assert [str(each) for each in page._aligned([0.25, float("nan"), 0.0])] == ["0.2500", "nan", "0.0000"]


@pytest.mark.parametrize(
    ("places", "log", "whole", "ticks"),
    [
        ([6e-4, 1e-3, 1.8e-3], True, False, [0.0006, 0.0009, 0.0012, 0.0015, 0.0018]),
        ([1e-4, 1e-2], True, False, [1e-4, 1e-3, 1e-2]),
        ([2, 64], True, True, [2, 5, 10, 20, 50]),
        ([5, 6, 7], False, True, [5, 6, 7]),
    ],
)
def test_ticks_of_a_setting_are_round_and_several(places, log, whole, ticks):
    from matplotlib.figure import Figure

    axes = Figure(figsize=(4.2, 2.6)).add_subplot()
    axes.scatter(places, places)
    page._axis(axes, None, log, whole)
    low, high = axes.get_xlim()
    assert [each for each in axes.get_xticks() if low <= each <= high] == pytest.approx(ticks)
