"""Schedules, conditions, data specifications and networks: values worked by hand, and what they refuse."""

import keras
import numpy as np
import pytest

from kvae import networks
from kvae.data.spec import DataSpec
from kvae.models.conditions import Categorical, Continuous
from kvae.objectives import schedules


@pytest.mark.parametrize(("step", "beta"), [(0, 0.0), (25, 1.0), (50, 2.0), (100, 4.0), (1000, 4.0)])
def test_linear_warm_up_by_hand(step, beta):
    assert float(schedules.Linear(4.0, steps=100)(step)) == pytest.approx(beta)


def test_linear_schedule_may_fall():
    falling = schedules.Linear(1.0, steps=10, start=4.0)
    assert [float(falling(step)) for step in (0, 5, 10, 11)] == [4.0, 2.5, 1.0, 1.0]


@pytest.mark.parametrize("schedule", [schedules.Constant(3.0), schedules.Linear(2.0, 7, 0.5)])
def test_a_schedule_survives_keras_serialisation(schedule):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()


@pytest.mark.parametrize("beta", [-1, float("nan"), float("inf"), "4"])
def test_beta_must_be_a_finite_number_of_at_least_0(beta):
    with pytest.raises(ValueError, match="at least 0"):
        schedules.get(beta)


def test_one_hot_of_unit_mean_square():
    vector = np.asarray(Categorical("label", 4).vector(np.array([2, 0])))
    np.testing.assert_allclose(vector, [[0, 0, 2, 0], [2, 0, 0, 0]])
    assert np.square(vector).mean() == pytest.approx(1.0)


def test_an_embedding_is_the_row_of_its_table():
    condition = Categorical("label", ["a", "b", "c"], embedding_dim=2)
    np.testing.assert_allclose(condition.vector(np.array([1, 1, 2])), np.asarray(condition.embedding)[[1, 1, 2]])


def test_a_continuous_condition_maps_its_range_to_minus_one_to_one():
    np.testing.assert_allclose(Continuous("age", 20, 60).vector(np.array([20.0, 40.0, 60.0])), [[-1], [0], [1]])


@pytest.mark.parametrize("name", ["x", "z", "component", "two words", "Label", ""])
def test_a_condition_needs_a_name_that_a_graph_can_carry(name):
    with pytest.raises(ValueError, match="name"):
        Categorical(name, 3)


@pytest.mark.parametrize("classes", [1, ["a", "a"], []])
def test_classes_are_two_or_more_and_distinct(classes):
    with pytest.raises(ValueError, match="at least 2 classes"):
        Categorical("label", classes)


def test_unit_data_and_back():
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
        (np.full((1, 2, 2, 1), 0.5), r"DataSpec\(range=\(0, 1\)\)"),
        (np.full((1, 2, 2, 1), "a"), "must be numbers"),
    ],
)
def test_data_that_do_not_fit_are_refused_with_what_to_do(x, words):
    with pytest.raises(ValueError, match=words):
        DataSpec((2, 2, 1)).check(x, "fit")


@pytest.mark.parametrize("condition_dim", [0, 3])
@pytest.mark.parametrize("gated", [False, True])
def test_dense_networks_have_the_shapes_that_models_expect(condition_dim, gated):
    encoder = networks.dense_encoder((4, 4, 1), 2, (8,), condition_dim=condition_dim, gated=gated)
    decoder = networks.dense_decoder((4, 4, 1), 2, (8,), condition_dim=condition_dim, gated=gated)
    x, z, given = np.zeros((5, 4, 4, 1)), np.zeros((5, 2)), np.zeros((5, condition_dim))
    z_mean, z_log_var = encoder([x, given] if condition_dim else x)
    assert (z_mean.shape, z_log_var.shape) == ((5, 2), (5, 2))
    assert decoder([z, given] if condition_dim else z).shape == (5, 4, 4, 1)


def test_conv_networks_have_the_shapes_that_models_expect():
    encoder = networks.conv_encoder((12, 8, 3), 2, filters=(4, 5), dense=6, condition_dim=3)
    decoder = networks.conv_decoder((12, 8, 3), 2, filters=(5, 4), dense=(6, 7), condition_dim=3)
    z_mean, _ = encoder([np.zeros((2, 12, 8, 3)), np.zeros((2, 3))])
    assert decoder([np.asarray(z_mean), np.zeros((2, 3))]).shape == (2, 12, 8, 3)


def test_residual_networks_have_the_shapes_and_new_blocks_change_nothing():
    encoder = networks.residual_encoder((8, 8, 2), 2, filters=(4, 5), blocks=2, dense=6, condition_dim=3)
    decoder = networks.residual_decoder((8, 8, 2), 2, filters=(5, 4), blocks=2, num_parameters=2, condition_dim=3)
    z_mean, _ = encoder([np.zeros((2, 8, 8, 2)), np.zeros((2, 3))])
    assert decoder([np.asarray(z_mean), np.zeros((2, 3))]).shape == (2, 8, 8, 4)
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 4)).astype("f4")
    block = keras.Model(encoder.get_layer("halve_0").output, encoder.get_layer("block_0_1_sum").output)
    np.testing.assert_allclose(block(x), x, atol=1e-6)


def test_lstm_networks_have_the_shapes_that_models_expect():
    encoder = networks.lstm_encoder((7, 2), 3, units=4, dense=(5,), condition_dim=3)
    decoder = networks.lstm_decoder((7, 2), 3, units=4, dense=(5,), condition_dim=3, num_parameters=2)
    z_mean, _ = encoder([np.zeros((2, 7, 2)), np.zeros((2, 3))])
    assert decoder([np.asarray(z_mean), np.zeros((2, 3))]).shape == (2, 7, 4)
    with pytest.raises(ValueError, match="steps, features"):
        networks.lstm_encoder((28, 28, 1), 2)


def test_a_decoder_starts_at_the_bias_it_is_given():
    bias = np.arange(16, dtype="f4").reshape(4, 4, 1)
    decoder = networks.dense_decoder((4, 4, 1), 2, (8,), output_bias=bias)
    np.testing.assert_allclose(decoder.get_layer("parameters").bias, bias.ravel())


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="divisible by 8"):
        networks.conv_encoder((28, 28, 1), 2, filters=(4, 4, 4))
