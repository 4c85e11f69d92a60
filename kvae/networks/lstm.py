"""LSTM networks: for sequences of a fixed number of steps, `[batch, steps, features]`."""

import keras
from keras import layers, ops

from kvae.networks import common


def lstm_encoder(shape, latent_dim, units=128, dense=(), activation="relu", condition_dim=0, name="encoder"):
    """An LSTM over the steps; its last state, beside the condition, makes the posterior.

    Args:
        shape: (steps, features).
        latent_dim: size of z.
        units: width of the LSTM.
        dense: widths of dense layers after it.
        activation: of those layers.
        condition_dim: width of the condition vector, 0 for none.
        name: of the Keras model.
    """
    _check_sequence(shape)
    x = layers.Input(shape, name="x")
    given = common.condition_inputs(condition_dim)
    # Not cuDNN's LSTM: it has no ONNX form.
    state = layers.LSTM(units, use_cudnn=False, name="lstm")(x)
    state = common.dense_stack(common.concatenate(state, given), common.widths(dense), activation, False)
    return common.posterior([x, *given], state, latent_dim, name)


def lstm_decoder(
    shape,
    latent_dim,
    units=128,
    dense=(),
    activation="relu",
    condition_dim=0,
    num_parameters=1,
    output_bias=None,
    name="decoder",
):
    """Z and the condition at every step of an LSTM, and a dense layer from each of its states to the parameters.

    Args:
        shape: (steps, features).
        latent_dim: size of z.
        units: width of the LSTM.
        dense: widths of dense layers before it.
        activation: of those layers.
        condition_dim: width of the condition vector, 0 for none.
        num_parameters: of the likelihood, for each data value.
        output_bias: array of the output's shape whose mean over the steps the last bias starts at.
        name: of the Keras model.
    """
    _check_sequence(shape)
    z = layers.Input((latent_dim,), name="z")
    given = common.condition_inputs(condition_dim)
    state = common.dense_stack(common.concatenate(z, given), common.widths(dense), activation, False)
    state = layers.RepeatVector(shape[0], name="steps")(state)
    state = layers.LSTM(units, return_sequences=True, use_cudnn=False, name="lstm")(state)
    features = common.output_shape(shape, num_parameters)[-1]
    last = layers.Dense(features, name="parameters")
    parameters = last(state)
    if output_bias is not None:
        last.bias.assign(ops.mean(ops.reshape(output_bias, (-1, features)), axis=0))
    return keras.Model(common.as_inputs([z, *given]), parameters, name=name)


def _check_sequence(shape):
    if len(shape) != 2:
        raise ValueError(f"An LSTM takes sequences (steps, features), got {tuple(shape)}.")
