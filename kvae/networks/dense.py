"""Networks of dense layers, plain or gated: for vectors, tables, and images small enough to be seen whole."""

import math

import keras
from keras import layers, ops

from kvae.networks import common


def dense_encoder(
    shape, latent_dim, hidden=(512, 256), activation="relu", condition_dim=0, gated=False, name="encoder"
):
    """A stack of dense layers over the flattened example.

    Args:
        shape: shape of one example.
        latent_dim: size of z.
        hidden: width of each hidden layer.
        activation: of the hidden layers; ignored where gated.
        condition_dim: width of the condition vector, 0 for none.
        gated: each hidden layer is a product of a linear and a sigmoid layer (Dauphin et al. 2017; the network of
            Tomczak and Welling 2018).
        name: of the Keras model.
    """
    x = layers.Input(shape, name="x")
    given = common.condition_inputs(condition_dim)
    hidden_state = layers.Flatten()(x) if len(shape) > 1 else x
    hidden_state = common.concatenate(hidden_state, given)
    hidden_state = common.dense_stack(hidden_state, hidden, activation, gated)
    return common.posterior([x, *given], hidden_state, latent_dim, name)


def dense_decoder(
    shape,
    latent_dim,
    hidden=(256, 512),
    activation="relu",
    condition_dim=0,
    gated=False,
    num_parameters=1,
    output_bias=None,
    name="decoder",
):
    """A stack of dense layers and a linear last one, reshaped to one parameter a data value.

    Args:
        shape: shape of one example.
        latent_dim: size of z.
        hidden: width of each hidden layer.
        activation: of the hidden layers; ignored where gated.
        condition_dim: width of the condition vector, 0 for none.
        gated: as in `dense_encoder`.
        num_parameters: of the likelihood, for each data value.
        output_bias: what the last bias starts at, array of the output's shape, see `Likelihood.initial_bias`.
        name: of the Keras model.
    """
    z = layers.Input((latent_dim,), name="z")
    given = common.condition_inputs(condition_dim)
    hidden_state = common.dense_stack(common.concatenate(z, given), hidden, activation, gated)
    output_shape = common.output_shape(shape, num_parameters)
    last = layers.Dense(math.prod(output_shape), name="parameters")
    parameters = last(hidden_state)
    if len(shape) > 1:
        parameters = layers.Reshape(output_shape, name="reshape")(parameters)
    if output_bias is not None:
        last.bias.assign(ops.reshape(output_bias, (-1,)))
    return keras.Model(common.as_inputs([z, *given]), parameters, name=name)
