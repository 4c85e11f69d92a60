"""Noise of training and validation as a function of (seed, step), and options of TensorFlow set at start-up."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kvae.backends import startup
from kvae.backends.current import Noise
from kvae.likelihoods import Bernoulli
from kvae.models import vae


def draw(probabilities, seed=3, step=7, test=False):
    return Noise(seed, tf.constant(step), test).bernoulli(tf.constant(probabilities, tf.float32)).numpy()


def test_draws_are_0_or_1_with_the_probability_of_their_pixel():
    num = 200_000
    for level in (1, 10, 128, 200, 254):
        probability = level / 255
        values = draw(np.full(num, probability))
        assert set(np.unique(values)) == {0.0, 1.0}
        error = np.sqrt(probability * (1 - probability) / num)
        assert abs(values.mean() - probability) < 4 * error


def test_probabilities_0_and_1_are_exact():
    # With 30 million draws of 16 bits each an error in one value of 65,536 would show hundreds of times.
    probabilities = np.tile(np.array([0.0, 1.0], "float32"), 500_000)
    for step in range(30):
        np.testing.assert_array_equal(draw(probabilities, step=step), probabilities)


def test_gray_levels_1_and_254_give_both_values():
    values = draw(np.tile(np.array([1 / 255, 254 / 255], "float32"), 100_000)).reshape(-1, 2)
    assert 0 < values[:, 0].sum() < 800
    assert 0 < (1 - values[:, 1]).sum() < 800


def test_neighbouring_pixels_and_steps_are_uncorrelated():
    # Two pixels share a random word. A pixel at two steps would share one if the streams were mixed up.
    values = draw(np.full((2000, 30), 0.5))
    correlation = np.corrcoef(values.T) - np.eye(30)
    assert np.abs(correlation).max() < 5 / np.sqrt(2000)
    other = draw(np.full((2000, 30), 0.5), step=8)
    assert abs(np.corrcoef(values.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(60_000)


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5, 1), (128, 28, 28, 1)])
def test_draws_have_the_shape_of_the_probabilities(shape):
    values = draw(np.full(shape, 0.5))
    assert values.shape == shape
    assert values.dtype == np.float32


def test_noise_repeats_for_equal_seed_and_step_and_differs_otherwise():
    half = np.full(1000, 0.5)
    np.testing.assert_array_equal(draw(half), draw(half))
    for other in (draw(half, seed=4), draw(half, step=8), draw(half, test=True)):
        assert 400 < (draw(half) != other).sum() < 600
    normal = [Noise(3, tf.constant(step)).normal(tf.zeros([50, 4])).numpy() for step in (7, 7, 8)]
    np.testing.assert_array_equal(normal[0], normal[1])
    assert not np.isclose(normal[0], normal[2]).any()


def test_compiled_and_eager_steps_draw_the_same():
    half = tf.fill([4, 28, 28, 1], 0.5)
    for jit in (None, True):
        compiled = tf.function(lambda step: Noise(3, step).bernoulli(half), jit_compile=jit)
        np.testing.assert_array_equal(compiled(tf.constant(7)).numpy(), draw(half.numpy()))


@pytest.mark.parametrize("shape", [(50, 4), (7, 3)])
def test_normals_under_xla_equal_those_of_tensorflow_kernels(shape):
    like = tf.zeros(shape)
    own = tf.function(lambda step: Noise(3, step).normal(like))(tf.constant(7))
    compiled = tf.function(lambda step: Noise(3, step, jit_compile=True).normal(like), jit_compile=True)
    np.testing.assert_allclose(compiled(tf.constant(7)), own, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("shape", [(28, 28, 1), (67,), (6, 1)])
@pytest.mark.parametrize("scale", [0.1, 5.0, 40.0, 1e4])
def test_bernoulli_nll_and_gradient_in_training_match_the_closed_form(shape, scale):
    generator = np.random.default_rng(0)
    x = generator.choice([0.0, 1.0, 0.3], (4, *shape)).astype("float32")
    logits = tf.Variable((scale * generator.standard_normal((4, *shape))).astype("float32"))
    with tf.GradientTape() as tape:
        nll = Bernoulli().nll(tf.constant(x), logits, training=True)
        loss = tf.reduce_sum(nll * [1.0, 2.0, 3.0, 4.0])
    exact = logits.numpy().astype("float64")
    expected = (np.logaddexp(0, exact) - x * exact).reshape(4, -1).sum(1)
    np.testing.assert_allclose(nll, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(Bernoulli().nll(tf.constant(x), logits), expected, rtol=1e-5, atol=1e-4)
    weights = np.arange(1, 5).reshape(4, *[1] * len(shape))
    slope = weights * (0.5 + 0.5 * np.tanh(exact / 2) - x)
    np.testing.assert_allclose(tape.gradient(loss, logits), slope, rtol=1e-5, atol=1e-5)


def test_importing_the_models_registers_adam():
    # Checked in the source, because other tests of this process import the optimizer.
    assert "\nimport kvae.optimizers" in Path(vae.__file__).read_text()
    assert keras.saving.get_registered_object("kvae>optimizers.Adam")


@pytest.mark.parametrize(
    ("processors", "own", "expected"), [(2, None, 1), (1, None, 1), (4, None, None), (2, "2", None)]
)
def test_dense_networks_use_one_thread_per_operation_on_two_processors(monkeypatch, processors, own, expected):
    threads = []
    monkeypatch.setattr(startup, "_processors", lambda: processors)
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", threads.append)
    if own:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", own)
    startup.open_quietly("tensorflow", network="dense")
    assert threads == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("network", "machine", "own", "wanted"),
    [
        ("conv", "x86_64", None, "1"),
        ("residual", "AMD64", None, "1"),
        ("conv", "x86_64", "0", "0"),
        ("conv", "arm64", None, None),
        ("dense", "x86_64", None, None),
        (None, "x86_64", None, None),
    ],
)
def test_onednn_is_selected_for_convolutions_unless_the_user_sets_it(monkeypatch, network, machine, own, wanted):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", own or "")
    if own is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    monkeypatch.setattr(startup.platform, "machine", lambda: machine)
    startup.open_quietly("tensorflow", network=network)
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == wanted


@pytest.mark.long
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="oneDNN is selected on x86-64")
@pytest.mark.parametrize(("own", "there"), [(None, "True"), ("0", "False")])
def test_onednn_setting_reaches_tensorflow(own, there):
    code = (
        "from kvae.backends import startup\n"
        "startup.open_quietly('tensorflow', network='conv')\n"
        "from tensorflow.python.framework import test_util\n"
        "print(test_util.IsMklEnabled())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    environment |= {} if own is None else {"TF_ENABLE_ONEDNN_OPTS": own}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.strip() == there, done.stderr
