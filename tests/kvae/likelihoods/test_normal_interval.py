"""Probability of an interval under a normal distribution, against quadrature in float64."""

import numpy as np
import tensorflow as tf
from scipy import special, stats

from kvae.likelihoods.normal_interval import log_ndtr, log_normal_interval


def intervals():
    rng = np.random.default_rng(0)
    low, width = rng.normal(0, 8, 2000), 10 ** rng.uniform(-6, 1.3, 2000)
    return low.astype("f4"), width.astype("f4")


def quadrature(low, width):
    """Integrate the density in 40 parts of 16 Gauss-Legendre points, in logs."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    at = (np.arange(40)[:, None] + (nodes + 1) / 2).ravel() / 40
    points = low.astype("f8")[:, None] + width.astype("f8")[:, None] * at
    return special.logsumexp(stats.norm.logpdf(points), b=np.tile(weights / 80, 40), axis=1) + np.log(
        width.astype("f8")
    )


def test_log_probability_equals_quadrature_in_tails_and_narrow_intervals():
    low, width = intervals()
    np.testing.assert_allclose(log_normal_interval(low, width), quadrature(low, width), rtol=2e-6, atol=2e-4)


def test_gradient_is_finite_and_that_of_the_mean():
    low, width = (tf.constant(part) for part in intervals())
    with tf.GradientTape() as tape:
        tape.watch([low, width])
        value = tf.reduce_sum(log_normal_interval(low, width))
    gradients = tape.gradient(value, [low, width])
    assert all(np.isfinite(each).all() for each in gradients)
    # d log P / d low is minus the mean of x in the interval.
    for a, b in ((-1.0, 0.5), (2.0, 3.0), (-0.01, 0.02)):
        point = tf.constant([a])
        with tf.GradientTape() as tape:
            tape.watch(point)
            value = log_normal_interval(point, tf.constant([b - a]))
        np.testing.assert_allclose(tape.gradient(value, point), -stats.truncnorm.mean(a, b), rtol=2e-3, atol=2e-4)


def test_log_ndtr_equals_scipy_where_it_underflows():
    x = -np.linspace(0, 30, 301).astype("f4")
    np.testing.assert_allclose(log_ndtr(x), special.log_ndtr(x.astype("f8")), rtol=1e-6, atol=1e-6)
