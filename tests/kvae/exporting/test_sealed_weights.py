"""Weights of exported models in Keras again: the numbers that the files contain, or a refusal that changes nothing."""

import keras
import numpy as np
import pytest

import kvae
from kvae import networks
from kvae.exporting import sealed_weights
from kvae_serve.errors import InputDataError

SHAPE = (8, 8, 1)


def dense(hidden=6):
    given = {"hidden": (hidden, 5), "gated": True, "condition_dim": 4}
    return kvae.ConditionalVAE(
        networks.dense_encoder(SHAPE, 3, **given),
        networks.dense_decoder(SHAPE, 3, **given),
        conditions=kvae.Categorical("label", 3, 4),
    )


def conv():
    return kvae.VAE(networks.conv_encoder(SHAPE, 2, (4,), (5,)), networks.conv_decoder(SHAPE, 2, (4,), (5,)))


def lstm():
    return kvae.VAE(networks.lstm_encoder((6, 2), 3, 4), networks.lstm_decoder((6, 2), 3, 4))


def normalised():
    x = keras.Input(SHAPE)
    state = keras.layers.BatchNormalization()(keras.layers.Conv2D(2, 3)(x))
    state = keras.layers.Flatten()(state)
    encoder = keras.Model(x, [keras.layers.Dense(2)(state), keras.layers.Dense(2)(state)])
    return kvae.VAE(encoder, networks.dense_decoder(SHAPE, 2, (4,)))


def randomised(model, seed):
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if keras.backend.standardize_dtype(weight.dtype) == "float32":
            weight.assign(rng.normal(0, 0.2, weight.shape))
    return model


def numbers(model):
    return [keras.ops.convert_to_numpy(weight).copy() for weight in model.weights]


@pytest.mark.parametrize("build", [dense, conv, pytest.param(lstm, marks=pytest.mark.long)])
def test_weights_are_copied_bit_for_bit(build, tmp_path):
    source, target = randomised(build(), 0), randomised(build(), 1)
    source.export(tmp_path / "model")
    sealed_weights.copy(target, kvae.load(tmp_path / "model"))
    for ours, theirs in zip(numbers(target), numbers(source), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("exported", "build", "reason"),
    [
        (dense, lambda: dense(7), "lacks weights of shape"),
        (conv, normalised, "is not part of its files as it is|lacks weights"),
    ],
)
def test_another_network_is_refused_and_keeps_its_weights(exported, build, reason, tmp_path):
    exported().export(tmp_path / "model")
    model = build()
    before = numbers(model)
    with pytest.raises(InputDataError, match=reason):
        sealed_weights.copy(model, kvae.load(tmp_path / "model"))
    for ours, theirs in zip(numbers(model), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_network_with_equal_shapes_and_other_activations_is_refused(tmp_path):
    def build(activation):
        return kvae.VAE(
            *(part(SHAPE, 2, (4,), activation) for part in (networks.dense_encoder, networks.dense_decoder))
        )

    randomised(build("relu"), 0).export(tmp_path / "model")
    with pytest.raises(InputDataError, match="its encoder computes another z_mean"):
        sealed_weights.copy(build("tanh"), kvae.load(tmp_path / "model"))
