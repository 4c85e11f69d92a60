"""Densities against closed forms in plain numpy, Monte Carlo, and the formulas of the tiny models."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from kvae_serve.errors import ModelFileError
from kvae_serve.inference import densities
from kvae_serve.inference.densities import Prior
from kvae_serve.model import load
from kvae_serve.sealed.manifest import Data
from support.make_tiny_models import LOG_WEIGHTS, L, M

Z = np.random.default_rng(0).standard_normal((7, 3)) * 1.5


def normal(z, mean, log_var):
    """Density, as a product over dimensions."""
    return np.prod(np.exp(-0.5 * (z - mean) ** 2 / np.exp(log_var)) / np.sqrt(2 * np.pi * np.exp(log_var)), axis=-1)


def test_log_normal_equals_values_computed_by_hand():
    # log N(1 | 0, 1) = -(log 2 pi + 1) / 2; log N(2 | 0, 4) = -(log 2 pi + log 4 + 1) / 2.
    expected = -(math.log(2 * math.pi) + 1) / 2 - (math.log(2 * math.pi) + math.log(4) + 1) / 2
    result = densities.log_normal(np.array([[1.0, 2.0]]), np.zeros((1, 2)), np.log([[1.0, 4.0]]))
    np.testing.assert_allclose(result, [expected], rtol=1e-15)


def test_kl_equals_a_monte_carlo_mean_of_the_log_ratio():
    rng = np.random.default_rng(1)
    q_mean, q_log_var, p_mean, p_log_var = 0.6, -1.2, -0.3, 0.4
    z = q_mean + np.exp(q_log_var / 2) * rng.standard_normal(400_000)
    ratio = -0.5 * (
        q_log_var - p_log_var + (z - q_mean) ** 2 / np.exp(q_log_var) - (z - p_mean) ** 2 / np.exp(p_log_var)
    )
    result = densities.kl_per_dim(*(np.array([[value]]) for value in (q_mean, q_log_var, p_mean, p_log_var)))
    assert abs(result.item() - ratio.mean()) < 4 * ratio.std() / math.sqrt(ratio.size)


def test_kl_is_zero_if_q_is_the_prior_and_accurate_near_it():
    same = np.array([[0.3, -0.7]])
    assert (densities.kl_per_dim(same, same, same, same) == 0).all()
    # To second order, kl is log_var^2 / 4 around the prior.
    result = densities.kl_per_dim(np.zeros((1, 1)), np.full((1, 1), 1e-6), np.zeros(()), np.zeros(()))
    np.testing.assert_allclose(result, [[0.25e-12]], rtol=1e-4)


def test_standard_normal_prior_equals_its_closed_form(tiny):
    prior = Prior(load(tiny / "unconditional"), {})
    np.testing.assert_allclose(prior.log_prob(Z), np.log(normal(Z, 0, 0)), rtol=1e-12)
    np.testing.assert_allclose(prior.log_prob(np.stack([Z, Z + 1], axis=1))[:, 1], prior.log_prob(Z + 1), rtol=1e-12)
    mean, log_var = Z, np.full_like(Z, -0.5)
    np.testing.assert_allclose(prior.kl(mean, log_var), 0.5 * (mean**2 + np.exp(-0.5) - 1 + 0.5), rtol=1e-12)


def test_conditional_gaussian_prior_depends_on_the_class_of_the_row(tiny):
    label = np.array([0, 1, 2, 2, 1, 0, 1])
    prior = Prior(load(tiny / "gaussian_prior"), {"label": label})
    np.testing.assert_allclose(prior.log_prob(Z), np.log(normal(Z, M[label], L[label])), rtol=1e-6)
    several = prior.log_prob(np.stack([Z, -Z], axis=1))
    np.testing.assert_allclose(several[:, 1], np.log(normal(-Z, M[label], L[label])), rtol=1e-6)
    assert (prior.kl(M[label], L[label]) == 0).all()


def test_mixture_prior_is_the_weighted_sum_of_its_components(tiny):
    prior = Prior(load(tiny / "mixture_prior"), {})
    weights = np.exp(LOG_WEIGHTS) / np.exp(LOG_WEIGHTS).sum()  # the file's need not sum to one
    expected = sum(weight * normal(Z, M[k], L[k]) for k, weight in enumerate(weights))
    np.testing.assert_allclose(prior.log_prob(Z), np.log(expected), rtol=1e-6)
    assert prior.kl(Z, Z) is None


def test_mixture_prior_of_a_row_does_not_depend_on_other_rows(tiny):
    prior = Prior(load(tiny / "mixture_prior"), {})
    draws = np.random.default_rng(2).standard_normal((9, 16, 3))
    whole = prior.log_prob(draws)
    for row in range(9):
        assert (prior.log_prob(draws[row : row + 1]) == whole[row]).all()


def test_learned_prior_without_prior_onnx_is_rejected(tiny):
    with pytest.raises(ModelFileError, match=r"does not include prior\.onnx. The learned prior needs it"):
        Prior(load(tiny / "gaussian_prior" / "decoder.onnx"), {"label": np.zeros(1, np.int64)})


def test_log_sum_exp_handles_large_and_infinite_values():
    values = np.array([[-1000.0, -1000.0], [-np.inf, 3.0], [-np.inf, -np.inf], [800.0, 0.0]])
    expected = [-1000 + math.log(2), 3.0, -np.inf, 800.0]
    np.testing.assert_allclose(densities.log_sum_exp(values), expected, rtol=1e-15)


def test_binarize_draws_white_with_the_pixel_value_as_probability():
    manifest = SimpleNamespace(data=Data("image", (2, 2, 1), (0.0, 255.0)))
    x = np.array([0, 51, 204, 255], np.uint8).reshape(1, 2, 2, 1)
    drawn = densities.binarize(np.repeat(x, 100_000, axis=0), manifest, np.random.default_rng(3).random((100_000, 4)))
    assert drawn.dtype == np.float32
    assert set(np.unique(drawn)) == {0.0, 255.0}
    np.testing.assert_allclose(drawn.mean(0).ravel() / 255, [0, 0.2, 0.8, 1], atol=0.006)
    # A uniform for each value may serve all rows.
    assert (densities.binarize(x, manifest, np.array([0.0, 0.19, 0.81, 0.99])).ravel() == [0, 255, 0, 255]).all()
