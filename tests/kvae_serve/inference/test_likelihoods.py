"""Draws from each likelihood against SciPy's distributions; each draw depends on the words of its sample only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from kvae_serve.errors import ModelFileError
from kvae_serve.inference import likelihoods
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import Data

NUM = 20_000


def make(name: str, **facts: Any) -> likelihoods.Likelihood:
    return likelihoods.LIKELIHOODS[name]({"name": name, **facts})


def words(likelihood: likelihoods.Likelihood, data: Data, num: int = NUM, start: int = 0) -> np.ndarray:
    return noise.words(5, noise.STREAM_DRAW, start, num, likelihood.num_words(data))


def draw(name: str, data: Data, outputs: dict[str, Any], facts: dict[str, Any] | None = None) -> np.ndarray:
    """NUM draws with the same parameters."""
    likelihood = make(name, **(facts or {}))
    tiled = {key: np.tile(np.asarray(value, "f4"), (NUM, *[1] * np.ndim(value))) for key, value in outputs.items()}
    x = likelihood.draw(tiled, words(likelihood, data), data)
    assert x.dtype == np.float32
    assert x.shape == (NUM, *data.shape)
    return x


def test_zeros_of_draws_are_positive():
    """Some versions of NumPy clip -0.0 to 0.0, others keep it."""
    data = Data("vector", (1,), (0.0, 255.0))
    drawn = [
        draw("discretized_logistic", data, {"x_mean": [0.0], "x_location": [0.0], "x_log_scale": [-1.0]}),
        draw("bernoulli", Data("vector", (1,), (-0.0, 1.0)), {"x_mean": [0.5]}),
        draw("gaussian", data, {"x_mean": [0.0], "x_log_var": [-240.0]}),
    ]
    for x in drawn:
        assert (x == 0).any()
        assert not np.signbit(x[x == 0]).any()


def uniform_by(cdf: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of F(x) from uniform, in units of its 1 % critical value."""
    ordered = np.sort(cdf)
    grid = np.arange(len(ordered)) / len(ordered)
    distance = max(np.abs(ordered - grid).max(), np.abs(ordered - grid - 1 / len(ordered)).max())
    return distance * math.sqrt(len(ordered)) / 1.63


@pytest.mark.parametrize("logit", [-700.0, -30.0, -2.0, -1e-6, 0.0, 1e-3, 1.0, 15.0, 700.0])
def test_continuous_bernoulli_draws_follow_its_distribution_function(logit):
    x = draw("continuous_bernoulli", Data("vector", (1,), (-2.0, 6.0)), {"x_mean": [0.0], "x_logits": [logit]})
    unit = (x[:, 0].astype("f8") + 2) / 8
    assert unit.min() >= 0
    assert unit.max() <= 1
    if abs(logit) < 1e-9:
        cdf = unit
    elif logit < 0:
        cdf = np.expm1(logit * unit) / math.expm1(logit)
    else:  # mirrored, so that it does not overflow
        cdf = 1 - np.expm1(-logit * (1 - unit)) / math.expm1(-logit)
    assert uniform_by(cdf) < 1
    # Values accumulate at an end only if the density does.
    assert np.unique(x).size > 0.9 * NUM or abs(logit) > 500


def test_gaussian_draws_are_normal_in_data_units():
    stats = pytest.importorskip("scipy.stats")
    data = Data("vector", (3,), (0.0, 255.0))
    sigma = np.array([0.5, 30.0, 400.0])
    x = draw("gaussian", data, {"x_mean": [10.0, 100.0, -50.0], "x_log_var": 2 * np.log(sigma)})
    for column, (mean, spread) in enumerate(zip([10.0, 100.0, -50.0], sigma, strict=True)):
        assert stats.kstest(x[:, column], stats.norm(mean, spread).cdf).pvalue > 0.01
    assert np.abs(np.corrcoef(x.T) - np.eye(3)).max() < 0.03


@pytest.mark.parametrize(("location", "scale"), [(100.0, 20.0), (3.0, 5.0), (254.0, 0.3), (-40.0, 2.0), (400.0, 600.0)])
def test_discretized_logistic_draws_have_the_probability_of_each_byte(location, scale):
    stats = pytest.importorskip("scipy.stats")
    data = Data("vector", (1,), (0.0, 255.0))
    x = draw("discretized_logistic", data, {"x_mean": [0.0], "x_location": [location], "x_log_scale": [np.log(scale)]})
    assert (x == np.rint(x)).all()
    edges = np.concatenate([[-np.inf], np.arange(255) + 0.5, [np.inf]])
    expected = np.diff(stats.logistic(location, scale).cdf(edges))
    result = np.bincount(x[:, 0].astype(int), minlength=256) / NUM
    assert np.abs(np.cumsum(result) - np.cumsum(expected)).max() < 1.63 / math.sqrt(NUM)


def test_categorical_draws_have_the_probability_of_each_class():
    probability = np.array([[0.0, 0.2, 0.0, 0.5, 0.3, 0.0], [1.0, 0, 0, 0, 0, 0]])
    x = draw("categorical", Data("vector", (2,), (0.0, 5.0)), {"x_mean": [0.0, 0.0], "x_probability": probability})
    result = np.stack([np.bincount(column.astype(int), minlength=6) for column in x.T]) / NUM
    assert (result[probability == 0] == 0).all()
    np.testing.assert_allclose(result, probability, atol=4 * 0.5 / math.sqrt(NUM))


def test_extreme_uniforms_give_values_within_the_range():
    ends = np.array([[0], [2**64 - 1]], np.uint64)
    data = Data("vector", (1,), (0.0, 255.0))
    for logit in (-40.0, 0.0, 40.0):
        x = make("continuous_bernoulli").draw({"x_logits": np.full((2, 1), logit, "f4")}, ends, data)
        assert ((x >= 0) & (x <= 255)).all()
        assert x[0, 0] == 0
    logistic = {"x_location": np.full((2, 1), 100, "f4"), "x_log_scale": np.full((2, 1), 5, "f4")}
    assert make("discretized_logistic").draw(logistic, ends, data).ravel().tolist() == [0, 255]
    probability = np.array([[[0, 1 / 3, 2 / 3, 0]]] * 2, "f4")
    assert make("categorical").draw({"x_probability": probability}, ends, data).ravel().tolist() == [1, 2]


TABLE = Data(
    "table", (3,), None,
    ({"name": "a", "kind": "numeric"}, {"name": "b", "kind": "categorical", "classes": ["x", "y", "z"]},
     {"name": "c", "kind": "numeric"}),
)  # fmt: skip
NAMES = {"probabilities": [None, "x_probability_b", None]}


def test_mixed_draws_follow_the_distribution_of_each_column():
    stats = pytest.importorskip("scipy.stats")
    outputs = {"x_mean": [5.0, 2.0, -1e4], "x_log_var": [2 * np.log(3.0), 0, 2 * np.log(50.0)]}
    x = draw("mixed", TABLE, outputs | {"x_probability_b": [0.1, 0.2, 0.7]}, NAMES)
    assert stats.kstest(x[:, 0], stats.norm(5, 3).cdf).pvalue > 0.01
    assert stats.kstest(x[:, 2], stats.norm(-1e4, 50).cdf).pvalue > 0.01
    np.testing.assert_allclose(np.bincount(x[:, 1].astype(int)) / NUM, [0.1, 0.2, 0.7], atol=0.015)
    assert np.abs(np.corrcoef(x.T) - np.eye(3)).max() < 0.03


@pytest.mark.parametrize("name", sorted(likelihoods.LIKELIHOODS))
def test_draw_depends_on_the_words_of_its_sample_only(name):
    data = TABLE if name == "mixed" else Data("vector", (3,), (0.0, 255.0))
    rng = np.random.default_rng(0)
    outputs = {
        "x_mean": rng.uniform(1, 254, (8, 3)), "x_location": rng.uniform(0, 255, (8, 3)),
        **{name: rng.normal(size=(8, 3)) for name in ("x_logits", "x_log_var", "x_log_scale")},
        "x_probability": rng.dirichlet(np.ones(5), (8, 3)), "x_probability_b": rng.dirichlet(np.ones(3), 8),
    }  # fmt: skip
    outputs = {key: value.astype("f4") for key, value in outputs.items()}
    likelihood = make(name, **NAMES)
    whole = likelihood.draw(outputs, words(likelihood, data, 8), data)
    for start, stop in ((0, 1), (3, 8)):
        part = likelihood.draw(
            {key: value[start:stop] for key, value in outputs.items()},
            words(likelihood, data, stop - start, start),
            data,
        )
        assert (part == whole[start:stop]).all()


@pytest.mark.parametrize(
    ("name", "outputs", "message"),
    [
        ("gaussian", {}, "x_log_var is missing; expected the shape .3."),
        ("continuous_bernoulli", {"x_logits": np.zeros((1, 2), "f4")}, r"has the shape .2.; expected the shape .3."),
        ("categorical", {"x_probability": np.zeros((1, 3), "f4")}, "shape .3.; .*'classes'"),
        ("mixed", {"x_log_var": np.zeros((1, 3), "f4")}, "x_probability_b"),
        (
            "mixed",
            {"x_log_var": np.zeros((1, 3), "f4"), "x_probability_b": np.zeros((1, 2), "f4")},
            "shape .2.",
        ),
    ],
)
def test_decoder_without_the_parameters_is_rejected(name, outputs, message):
    data = TABLE if name == "mixed" else Data("vector", (3,), (0.0, 255.0))
    likelihood = make(name, **NAMES)
    with pytest.raises(ModelFileError, match=message):
        likelihood.draw({"x_mean": np.zeros((1, 3), "f4"), **outputs}, words(likelihood, data, 1), data)


@pytest.mark.parametrize("names", [None, ["a", "b", "c"], [None, None, None], [None, "b"]])
def test_probabilities_that_do_not_fit_the_columns_are_rejected(names):
    likelihood = make("mixed", probabilities=names)
    with pytest.raises(ModelFileError, match=r"likelihood\.probabilities"):
        likelihood.draw({"x_mean": np.zeros((1, 3), "f4")}, words(likelihood, TABLE, 1), TABLE)
