"""The bound and its terms, compared with Monte Carlo and values by hand."""

import numpy as np
import pytest
from keras import ops

from kvae.likelihoods import Bernoulli
from kvae.loss_terms import MAX_LOG_VAR, MIN_LOG_VAR, Terms, kl_to_standard_normal, reparameterize, safe_log_var


def test_kl_matches_a_monte_carlo_estimate():
    z_mean, z_log_var = np.array([[0.7, -0.2]], "f4"), np.array([[-1.0, 0.3]], "f4")
    epsilon = np.random.default_rng(0).standard_normal((200_000, 2))
    z = z_mean + np.exp(0.5 * z_log_var) * epsilon
    log_ratio = 0.5 * (z**2 - epsilon**2 - z_log_var).sum(-1)  # log q(z) - log p(z)
    np.testing.assert_allclose(kl_to_standard_normal(z_mean, z_log_var), [log_ratio.mean()], rtol=0.01)


def test_kl_is_zero_if_the_posterior_is_the_prior():
    zeros = np.zeros((3, 5), "f4")
    np.testing.assert_array_equal(kl_to_standard_normal(zeros, zeros), np.zeros(3))


def test_reparameterised_draws_have_the_requested_mean_and_variance():
    noise = np.random.default_rng(1).standard_normal((100_000, 2)).astype("f4")
    mean, log_var = np.array([[1.5, -2.0]], "f4"), np.log(np.array([[0.25, 4.0]], "f4"))
    z = np.asarray(reparameterize(mean, log_var, noise))
    np.testing.assert_allclose(z.mean(0), mean[0], atol=0.02)
    np.testing.assert_allclose(z.var(0), [0.25, 4.0], rtol=0.02)


def test_bernoulli_is_the_log_of_the_product_of_probabilities():
    probability = np.array([[0.2, 0.9, 0.5]])
    x = np.array([[0.0, 1.0, 1.0]], "f4")
    logits = np.log(probability / (1 - probability)).astype("f4")
    expected = -np.log(0.8 * 0.9 * 0.5)  # by hand
    np.testing.assert_allclose(Bernoulli().nll(x, ops.convert_to_tensor(logits)), [expected], rtol=1e-6)


def test_bernoulli_sums_to_one_over_all_outcomes():
    logits = np.random.default_rng(2).normal(size=(1, 4)).astype("f4")
    outcomes = np.array([[i >> bit & 1 for bit in range(4)] for i in range(16)], "f4")
    nll = Bernoulli().nll(outcomes, ops.convert_to_tensor(np.tile(logits, (16, 1))))
    assert np.exp(-np.asarray(nll)).sum() == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("logit", [-500.0, 500.0])
def test_bernoulli_stays_finite_at_extreme_logits(logit):
    x = np.array([[0.0], [1.0]], "f4")
    nll = np.asarray(Bernoulli().nll(x, ops.full((2, 1), logit)))
    np.testing.assert_allclose(np.sort(nll), [0.0, 500.0])


def test_initial_bias_is_the_logit_of_the_mean_within_bounds():
    bias = np.asarray(Bernoulli().initial_bias(np.array([0.5, 0.0, 0.75], "f4")))
    np.testing.assert_allclose(bias, [0.0, np.log(0.01 / 0.99), np.log(3.0)], rtol=1e-5, atol=1e-6)


def test_bernoulli_rejects_an_unknown_binarisation():
    with pytest.raises(ValueError, match=r'"dynamic" or "none", got \'static\''):
        Bernoulli(binarize="static")


def test_elbo_of_terms_does_not_depend_on_beta():
    terms = Terms(reconstruction=np.array([80.0]), kl=np.array([20.0]))
    assert terms.elbo == [-100.0]


def test_log_variances_are_clipped_to_a_finite_positive_exponential():
    values = np.asarray(safe_log_var(np.array([-1000.0, -3.0, 1000.0], "f4")))
    np.testing.assert_array_equal(values, np.array([MIN_LOG_VAR, -3.0, MAX_LOG_VAR], "f4"))
    assert np.isfinite(np.exp(values)).all()
    assert (np.exp(values) > 0).all()
