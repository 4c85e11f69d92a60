"""Schedules of beta: values computed by hand, serialisation, and refused values."""

import keras
import pytest

from kvae.objectives import schedules


@pytest.mark.parametrize(("step", "beta"), [(0, 0.0), (25, 1.0), (50, 2.0), (100, 4.0), (1000, 4.0)])
def test_linear_schedule_rises_evenly_and_then_stays(step, beta):
    assert float(schedules.Linear(4.0, steps=100)(step)) == pytest.approx(beta)


def test_linear_schedule_can_fall():
    falling = schedules.Linear(1.0, steps=10, start=4.0)
    assert [float(falling(step)) for step in (0, 5, 10, 11)] == [4.0, 2.5, 1.0, 1.0]


@pytest.mark.parametrize("schedule", [schedules.Constant(3.0), schedules.Linear(2.0, 7, 0.5)])
def test_schedule_survives_keras_serialisation(schedule):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()


@pytest.mark.parametrize("beta", [-1, float("nan"), float("inf"), "4"])
def test_beta_must_be_finite_and_not_negative(beta):
    with pytest.raises(ValueError, match="at least 0"):
        schedules.get(beta)
