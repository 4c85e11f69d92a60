"""Conditions: vectors computed by hand, and refused names and classes."""

import numpy as np
import pytest

from kvae.models.conditions import Categorical, Continuous


def test_one_hot_vector_has_mean_square_1():
    vector = np.asarray(Categorical("label", 4).vector(np.array([2, 0])))
    np.testing.assert_allclose(vector, [[0, 0, 2, 0], [2, 0, 0, 0]])
    assert np.square(vector).mean() == pytest.approx(1.0)


def test_embedding_is_a_row_of_the_table():
    condition = Categorical("label", ["a", "b", "c"], embedding_dim=2)
    np.testing.assert_allclose(condition.vector(np.array([1, 1, 2])), np.asarray(condition.embedding)[[1, 1, 2]])


def test_continuous_condition_maps_its_range_to_minus_1_to_1():
    np.testing.assert_allclose(Continuous("age", 20, 60).vector(np.array([20.0, 40.0, 60.0])), [[-1], [0], [1]])


@pytest.mark.parametrize("name", ["x", "z", "component", "two words", "Label", ""])
def test_condition_name_must_be_a_graph_input(name):
    with pytest.raises(ValueError, match="name"):
        Categorical(name, 3)


@pytest.mark.parametrize("classes", [1, ["a", "a"], []])
def test_classes_must_be_two_or_more_and_distinct(classes):
    with pytest.raises(ValueError, match="at least 2 classes"):
        Categorical("label", classes)
