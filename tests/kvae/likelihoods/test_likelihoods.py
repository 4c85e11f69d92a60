"""Likelihoods sum or integrate to 1 and agree with scipy or a closed form."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import integrate, stats

from kvae import likelihoods, networks
from kvae.data.spec import DataSpec

RNG = np.random.default_rng(0)


def log_prob(likelihood, x, parameters, **kwargs):
    """Compute log p of single values: x `[n]`, parameters `[n, num_parameters]`."""
    x = np.asarray(x, "f4").reshape(-1, 1)
    return -np.asarray(likelihood.nll(x, ops.convert_to_tensor(np.asarray(parameters, "f4")), **kwargs), "f8")


@pytest.mark.parametrize("logit", [-30.0, -2.0, -0.05, 0.0, 0.03, 0.1, 1.0, 15.0])
def test_continuous_bernoulli_integrates_to_1_and_has_its_mean(logit):
    cb = likelihoods.ContinuousBernoulli()
    x = np.linspace(0, 1, 20001)
    density = np.exp(log_prob(cb, x, np.full((20001, 1), logit)))
    assert integrate.simpson(density, x=x) == pytest.approx(1.0, rel=1e-4)
    mean = float(np.asarray(cb.mean(ops.full((1, 1), logit)))[0, 0])
    assert mean == pytest.approx(integrate.simpson(density * x, x=x), abs=1e-4)


@pytest.mark.parametrize("sigma", [0.3, "shared", "element", "optimal"])
def test_gaussian_equals_scipy(sigma):
    gaussian = likelihoods.Gaussian(sigma)
    x, mean, log_var = RNG.normal(size=5), RNG.normal(size=5), np.full(5, 2 * np.log(0.3))
    parameters = np.stack([mean, log_var], -1) if sigma == "element" else mean[:, None]
    if gaussian.log_var is not None:
        gaussian.log_var.assign(log_var[0])
    np.testing.assert_allclose(log_prob(gaussian, x, parameters), stats.norm.logpdf(x, mean, 0.3), rtol=1e-4)


def test_optimal_sigma_is_the_rms_error_of_the_batch_and_keeps_a_running_mean():
    gaussian = likelihoods.Gaussian("optimal")
    x, mean = np.array([0.0, 1.0, 3.0]), np.zeros((3, 1))
    sigma = np.sqrt(np.mean(x**2))
    np.testing.assert_allclose(log_prob(gaussian, x, mean, training=True), stats.norm.logpdf(x, 0, sigma), rtol=1e-5)
    # Another sigma makes the batch less likely.
    assert log_prob(gaussian, x, mean, training=True).sum() > stats.norm.logpdf(x, 0, 1.05 * sigma).sum()
    # The running mean of the log variance starts at 0 and has the momentum 0.95; these were two steps.
    assert float(gaussian.log_var) == pytest.approx((1 - 0.95**2) * 2 * np.log(sigma), rel=1e-5)


@pytest.mark.parametrize("log_scale", [-7.0, -4.0, -2.0, 0.0])
@pytest.mark.parametrize("location", [-0.1, 0.0, 0.4, 1.2])
def test_discretised_logistic_sums_to_1_and_equals_scipy(location, log_scale):
    logistic = likelihoods.DiscretizedLogistic()
    levels = np.arange(256) / 255
    log_p = log_prob(logistic, levels, np.tile([location, log_scale], (256, 1)))
    assert np.exp(log_p).sum() == pytest.approx(1.0, rel=1e-4)
    cdf = stats.logistic(location, np.exp(log_scale)).cdf
    edges = np.concatenate([[-np.inf], levels[:-1] + 0.5 / 255, [np.inf]])
    expected = np.diff(cdf(edges))
    likely = expected > 1e-6
    np.testing.assert_allclose(np.exp(log_p)[likely], expected[likely], rtol=2e-3)
    mean = float(np.asarray(logistic.mean(ops.convert_to_tensor(np.array([[location, log_scale]], "f4"))))[0, 0])
    assert mean == pytest.approx((expected * levels).sum(), abs=5e-4)


@pytest.mark.parametrize("sigma", [0.2, "shared", "optimal"])
def test_discretised_logistic_of_one_sigma_has_that_standard_deviation(sigma):
    logistic = likelihoods.DiscretizedLogistic(sigma)
    if logistic.log_var is not None:
        logistic.log_var.assign(2 * np.log(0.2))
    location = np.array([[0.1], [0.5], [0.9]], "f4")
    scale = stats.logistic(0, 1).std() ** -1 * 0.2
    expected = log_prob(
        likelihoods.DiscretizedLogistic(), [0.2, 0.4, 1.0], [[each[0], np.log(scale)] for each in location]
    )
    np.testing.assert_allclose(log_prob(logistic, [0.2, 0.4, 1.0], location), expected, rtol=1e-5)
    outputs = logistic.outputs(ops.convert_to_tensor(location), DataSpec((1,)))
    np.testing.assert_allclose(outputs["x_log_scale"], np.full((3, 1), np.log(255 * scale)), rtol=1e-5)
    assert len(logistic.trainable_variables) == (sigma == "shared")


def test_optimal_sigma_of_a_discretised_logistic_is_the_rms_error_of_the_batch():
    logistic = likelihoods.DiscretizedLogistic("optimal")
    x, location = np.array([0.2, 0.5, 0.0]), np.array([[0.3], [0.2], [-4.0]])
    # The location of the last value is below 0, where the byte 0 is all but certain: it is not an error.
    sigma = np.sqrt(np.mean([0.1**2, 0.3**2, 0.0]))
    expected = log_prob(likelihoods.DiscretizedLogistic(float(sigma)), x, location)
    np.testing.assert_allclose(log_prob(logistic, x, location, training=True), expected, rtol=1e-4)
    assert float(logistic.log_var) == pytest.approx(2 * (0.95 * np.log(0.1) + 0.05 * np.log(sigma)), rel=1e-5)


def test_discretised_logistic_is_finite_in_the_far_tail():
    log_p = log_prob(likelihoods.DiscretizedLogistic(), [0.5], [[-50.0, -7.0]])
    assert np.isfinite(log_p).all()


def test_categorical_is_the_log_of_the_softmax():
    categorical = likelihoods.Categorical(5)
    logits = RNG.normal(size=5)
    log_p = log_prob(categorical, np.arange(5) / 4, np.tile(logits, (5, 1)))
    np.testing.assert_allclose(np.exp(log_p), np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)
    most = np.asarray(categorical.mean(ops.convert_to_tensor(logits[None].astype("f4"))))
    assert most[0, 0] * 4 == logits.argmax()


def test_categorical_parameters_are_grouped_by_channel():
    categorical = likelihoods.Categorical(3)
    logits = RNG.normal(size=(1, 2, 2, 6)).astype("f4")
    x = np.array([[[[0, 2], [1, 1]], [[2, 0], [0, 0]]]], "f4")
    by_class = logits.reshape(1, 2, 2, 2, 3).astype("f8")
    log_p = by_class - np.log(np.exp(by_class).sum(-1, keepdims=True))
    expected = np.take_along_axis(log_p, x[..., None].astype(int), -1).sum()
    np.testing.assert_allclose(categorical.nll(x / 2, ops.convert_to_tensor(logits)), [-expected], rtol=1e-5)


def test_density_is_per_data_unit():
    # A Gaussian over pixels of 0 to 255 with sigma 0.1 of the range is a Gaussian of sigma 25.5 in data units.
    spec, gaussian = DataSpec((3,)), likelihoods.Gaussian(0.1)
    x, mean = np.array([[10.0, 100.0, 200.0]], "f4"), np.array([[0.1, 0.5, 0.7]], "f4")
    got = -gaussian.nll(spec.to_unit(x), ops.convert_to_tensor(mean)) + spec.log_jacobian(gaussian)
    np.testing.assert_allclose(got, [stats.norm.logpdf(x[0], 255 * mean[0], 25.5).sum()], rtol=1e-5)
    assert spec.log_jacobian(likelihoods.DiscretizedLogistic()) == 0


EVERY = [
    likelihoods.Bernoulli("none"),
    likelihoods.ContinuousBernoulli(),
    likelihoods.Gaussian(0.2),
    likelihoods.Gaussian("shared"),
    likelihoods.Gaussian("element"),
    likelihoods.Gaussian("optimal"),
    likelihoods.DiscretizedLogistic(),
    likelihoods.DiscretizedLogistic("optimal"),
    likelihoods.DiscretizedLogistic(0.2),
    likelihoods.Categorical(4),
]


@pytest.mark.parametrize("likelihood", EVERY, ids=lambda each: f"{each.kind}-{getattr(each, 'sigma', '')}")
def test_likelihood_is_serialised_and_starts_at_the_data_mean(likelihood):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(likelihood))
    assert again.get_config() == likelihood.get_config()
    mean = np.full((4, 4, 1), 0.3, "f4")
    bias = likelihood.initial_bias(mean)
    if bias is None:
        assert likelihood.kind == "categorical"
        return
    decoder = networks.dense_decoder(
        (4, 4, 1), 2, (3,), num_parameters=likelihood.num_parameters, output_bias=np.asarray(bias)
    )
    decoder.get_layer("parameters").kernel.assign(np.zeros(decoder.get_layer("parameters").kernel.shape))
    start = np.asarray(likelihood.mean(decoder(np.zeros((1, 2), "f4"))))
    # The tails of the logistic are moved to the ends, so its mean is only close to its location.
    atol = 0.02 if likelihood.kind == "discretized_logistic" else 1e-4
    np.testing.assert_allclose(start, np.full((1, 4, 4, 1), 0.3), atol=atol)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: likelihoods.Gaussian(0.0), "positive number"),
        (lambda: likelihoods.Gaussian("learned"), "got 'learned'"),
        (lambda: likelihoods.Categorical(1), "at least 2"),
        (
            lambda: likelihoods.DiscretizedLogistic().check(np.zeros((1, 2)), DataSpec((2,), (0, 1)), "fit"),
            "range of the data",
        ),
        (lambda: likelihoods.DiscretizedLogistic().check(np.full((1, 2), 0.5), DataSpec((2,)), "fit"), "round x"),
        (lambda: likelihoods.Categorical(3).check(np.zeros((1, 2)), DataSpec((2,)), "fit"), r"\(0, 2\)"),
        (
            lambda: likelihoods.Categorical(3).check(np.array([[1.0, 0.5]] * 400), DataSpec((2,), (0, 2)), "fit"),
            r"got 0\.5; round x, or use gaussian",
        ),
        (
            lambda: likelihoods.Bernoulli("none").check(np.array([[0, 255], [7, 0]], "u1"), DataSpec((2,)), "fit"),
            'x contains 7, .*0 or 255; use binarize="dynamic"',
        ),
    ],
)
def test_invalid_arguments_and_data_are_rejected(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_check_finds_a_gray_level_in_a_late_row():
    x = np.zeros((9000, 2), "f4")
    x[8999, 1] = 0.25
    with pytest.raises(ValueError, match=r"contains 0\.25"):
        likelihoods.Bernoulli("none").check(x, DataSpec((2,), (0, 1)), "fit")
    likelihoods.Bernoulli("none").check(x[:8999], DataSpec((2,), (0, 1)), "fit")
    likelihoods.Bernoulli().check(x, DataSpec((2,), (0, 1)), "fit")
