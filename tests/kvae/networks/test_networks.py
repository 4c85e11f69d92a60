"""Network builders: shapes, initial values, and refused sizes."""

import keras
import numpy as np
import pytest

from kvae import networks


@pytest.mark.parametrize("condition_dim", [0, 3])
@pytest.mark.parametrize("gated", [False, True])
def test_dense_networks_have_the_expected_shapes(condition_dim, gated):
    encoder = networks.dense_encoder((4, 4, 1), 2, (8,), condition_dim=condition_dim, gated=gated)
    decoder = networks.dense_decoder((4, 4, 1), 2, (8,), condition_dim=condition_dim, gated=gated)
    x, z, given = np.zeros((5, 4, 4, 1)), np.zeros((5, 2)), np.zeros((5, condition_dim))
    z_mean, z_log_var = encoder([x, given] if condition_dim else x)
    assert (z_mean.shape, z_log_var.shape) == ((5, 2), (5, 2))
    assert decoder([z, given] if condition_dim else z).shape == (5, 4, 4, 1)


def test_conv_networks_have_the_expected_shapes():
    encoder = networks.conv_encoder((12, 8, 3), 2, filters=(4, 5), dense=6, condition_dim=3)
    decoder = networks.conv_decoder((12, 8, 3), 2, filters=(5, 4), dense=(6, 7), condition_dim=3)
    z_mean, _ = encoder([np.zeros((2, 12, 8, 3)), np.zeros((2, 3))])
    assert decoder([np.asarray(z_mean), np.zeros((2, 3))]).shape == (2, 12, 8, 3)


@pytest.mark.parametrize(
    ("shape", "filters"),
    [
        ((28, 28, 1), (32, 64)),
        ((64, 64, 3), (32, 64)),
        ((96, 128, 3), (32, 64, 64)),
        ((256, 256, 3), (32, 64, 64, 64)),
        ((100, 300, 3), (32, 64)),
    ],
)
def test_default_filters_leave_a_feature_map_of_16_by_16_if_sides_are_divisible(shape, filters):
    assert networks.default_filters(shape) == filters


def test_default_networks_of_large_images_have_few_parameters():
    encoder = networks.conv_encoder((256, 256, 3), 16)
    decoder = networks.conv_decoder((256, 256, 3), 16)
    assert encoder.count_params() + decoder.count_params() < 10_000_000
    assert decoder.output_shape == (None, 256, 256, 3)


def test_residual_networks_have_the_expected_shapes_and_start_as_identity():
    encoder = networks.residual_encoder((8, 8, 2), 2, filters=(4, 5), blocks=2, dense=6, condition_dim=3)
    decoder = networks.residual_decoder((8, 8, 2), 2, filters=(5, 4), blocks=2, num_parameters=2, condition_dim=3)
    z_mean, _ = encoder([np.zeros((2, 8, 8, 2)), np.zeros((2, 3))])
    assert decoder([np.asarray(z_mean), np.zeros((2, 3))]).shape == (2, 8, 8, 4)
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 4)).astype("f4")
    block = keras.Model(encoder.get_layer("halve_0").output, encoder.get_layer("block_0_1_sum").output)
    np.testing.assert_allclose(block(x), x, atol=1e-6)


def test_lstm_networks_have_the_expected_shapes():
    encoder = networks.lstm_encoder((7, 2), 3, units=4, dense=(5,), condition_dim=3)
    decoder = networks.lstm_decoder((7, 2), 3, units=4, dense=(5,), condition_dim=3, num_parameters=2)
    z_mean, _ = encoder([np.zeros((2, 7, 2)), np.zeros((2, 3))])
    assert decoder([np.asarray(z_mean), np.zeros((2, 3))]).shape == (2, 7, 4)
    with pytest.raises(ValueError, match="steps, features"):
        networks.lstm_encoder((28, 28, 1), 2)


def test_decoder_starts_at_the_given_bias():
    bias = np.arange(16, dtype="f4").reshape(4, 4, 1)
    decoder = networks.dense_decoder((4, 4, 1), 2, (8,), output_bias=bias)
    np.testing.assert_allclose(decoder.get_layer("parameters").bias, bias.ravel())


def test_odd_image_sides_are_refused():
    with pytest.raises(ValueError, match="divisible by 8"):
        networks.conv_encoder((28, 28, 1), 2, filters=(4, 4, 4))
