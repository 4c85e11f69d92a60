"""A batch in halves side by side is the batch: the same noise bit for bit, the same terms and runs up to rounding."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kvae import networks
from kvae.backends import Noise, halves, startup
from kvae.models.vae import VAE, ConditionalBetaVAE
from kvae.objectives import objectives
from kvae.training import config, run_folder
from kvae.training import setup as setups
from kvae.training.distribution import Distribution

RNG = np.random.default_rng(0)
X, LABEL = RNG.integers(0, 256, (40, 4, 4, 1), "uint8"), RNG.integers(0, 10, 40)


def make(kind="conditional", **arguments):
    keras.utils.set_random_seed(1)
    dim = 10 if kind == "conditional" else 0
    parts = [networks.dense_encoder((4, 4, 1), 3, (8,), "tanh", condition_dim=dim, gated=True)]
    parts.append(networks.dense_decoder((4, 4, 1), 3, (8,), "tanh", condition_dim=dim))
    return ConditionalBetaVAE(*parts, beta=2.0, seed=5) if dim else VAE(*parts, seed=5, **arguments)


def in_halves(model):
    model.in_halves = True
    return model


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("shape", [(100, 50), (8, 4, 4, 1), (6, 5), (2, 1)])
def test_each_half_has_its_part_of_the_noise(shape, jit_compile):
    # The counts of numbers of a half begin a block of Philox in the middle, or do not.
    noise = Noise(3, tf.constant(7), jit_compile=jit_compile)
    like = tf.constant(RNG.random(shape), tf.float32)
    for draw in ("normal", "bernoulli"):
        parts = [getattr(halves._Half(noise, i), draw)(half).numpy() for i, half in enumerate(tf.split(like, 2))]
        # What kvae computes of words by itself is rounded by its place among those computed with it.
        tolerance = 2e-6 if jit_compile and draw == "normal" else 0.0
        np.testing.assert_allclose(np.concatenate(parts), getattr(noise, draw)(like), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("conditional", {}),
        ("vae", {"objective": objectives.ImportanceWeighted(3)}),
        ("vae", {"objective": objectives.TotalCorrelation(40, beta=4.0)}),
    ],
    ids=["conditional", "importance", "total correlation"],
)
def test_terms_and_objective_are_those_of_the_whole_batch(kind, arguments):
    model = make(kind, **arguments)
    data = (tf.constant(X), {"label": tf.constant(LABEL)}) if kind == "conditional" else (tf.constant(X),)
    noise = Noise(model.seed, tf.constant(4))
    whole, found = model.terms(data, noise, training=True), halves.terms(in_halves(model), data, noise)
    for name, ours, theirs in zip(whole._fields, found, whole, strict=True):
        assert (ours is None) == (theirs is None), name
        if theirs is not None:
            assert ours.shape == theirs.shape, name
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(model.objective(found, 4), model.objective(whole, 4), rtol=1e-5)


def test_a_run_in_halves_is_the_run_and_an_odd_batch_is_taken_whole(monkeypatch):
    weights, traced = [], []
    terms = ConditionalBetaVAE.terms

    def noted(self, data, noise, training):
        if training:
            traced.append(data[0].shape[0])
        return terms(self, data, noise, training)

    monkeypatch.setattr(ConditionalBetaVAE, "terms", noted)
    for model, batch, sizes in ((make(), 20, [20]), (in_halves(make()), 20, [10, 10]), (in_halves(make()), 5, [5])):
        traced.clear()
        model.compile(keras.optimizers.SGD(1e-3))
        dataset = tf.data.Dataset.from_tensor_slices((X, LABEL)).batch(batch, drop_remainder=True)
        losses = model.fit(dataset, epochs=3, verbose=0).history["loss"]
        assert traced == sizes
        weights.append((losses, model.get_weights()))
    (ours, our_weights), (theirs, their_weights), _ = weights
    assert theirs == pytest.approx(ours, rel=1e-5)
    for own, their in zip(our_weights, their_weights, strict=True):
        np.testing.assert_allclose(their, own, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"gated": True, "conditional": True, "objective": "free_bits"}, True),
        ({"batch_size": 63}, False),
        ({"likelihood": "gaussian", "sigma": "optimal"}, False),
        ({"prior": "vamp", "prior_components": 5}, False),
        ({"network": "conv", "encoder_filters": (4, 4), "decoder_filters": (4, 4)}, False),
    ],
    ids=str,
)
def test_a_run_takes_halves_where_they_are_the_same_and_pay(changes, expected, monkeypatch):
    monkeypatch.setattr(startup, "_two_at_a_time", True)
    wanted = {
        "data": "mnist-sample",
        "batch_size": 64,
        "validation": 100,
        "encoder_hidden": (8,),
        "decoder_hidden": (8,),
    }
    settled = config.Config().replace(**{**wanted, **changes})
    dataset = run_folder.read_data(settled)
    setup = setups.set_up(settled, dataset, Distribution())
    assert setup.model.in_halves is expected
    assert setup.facts.get("in_halves", False) is expected
    # A resumed run does as it did, wherever it is.
    again = setups.set_up(settled, dataset, Distribution(), in_halves=False)
    assert again.model.in_halves is again.facts.get("in_halves", False) is False
    monkeypatch.setattr(startup, "_two_at_a_time", False)
    assert setups.set_up(settled, dataset, Distribution()).model.in_halves is False
    assert setups.set_up(settled, dataset, Distribution(), in_halves=expected).model.in_halves is expected


@pytest.mark.parametrize(
    ("processors", "own", "expected"), [(2, None, True), (1, None, False), (4, None, False), (2, "2", False)]
)
def test_operations_run_two_at_a_time_on_two_processors(monkeypatch, processors, own, expected):
    monkeypatch.setattr(startup, "_two_at_a_time", False)
    monkeypatch.setattr(startup, "_processors", lambda: processors)
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", lambda threads: None)
    if own:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", own)
    startup.open_quietly("tensorflow", network="dense")
    assert startup.halves_pay(64) is expected
    assert startup.halves_pay(63) is False
