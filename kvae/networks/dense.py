"""Networks of dense layers, plain or gated, for vectors, tables and small images."""

import math
from collections.abc import Sequence

import keras
from keras import layers, ops

from kvae.networks import common
from kvae.types import Tensor


def dense_encoder(
    shape: Sequence[int],
    latent_dim: int,
    hidden: Sequence[int] = (512, 256),
    activation: str = "relu",
    condition_dim: int = 0,
    gated: bool = False,
    name: str = "encoder",
) -> keras.Model:
    """Build an encoder of dense layers over the flattened example.

    Args:
        shape: Shape of one example.
        latent_dim: Size of z.
        hidden: Width of each hidden layer.
        activation: Activation of the hidden layers; ignored if `gated`.
        condition_dim: Width of the condition vector; 0 for an unconditional model.
        gated: Make each hidden layer the product of a linear and a sigmoid layer (Dauphin et al. 2017; the network of
            Tomczak and Welling 2018).
        name: Name of the Keras model.

    Returns:
        A Keras model. Inputs: unit data `[batch, *shape]`, or the list of it and the condition vector
        `[batch, condition_dim]`. Outputs: `(z_mean, z_log_var)`, each `[batch, latent_dim]`.

    Example:
        >>> import kvae
        >>> encoder = kvae.networks.dense_encoder((28, 28, 1), latent_dim=16)
        >>> [tuple(output.shape) for output in encoder.outputs]
        [(None, 16), (None, 16)]
    """
    x = layers.Input(shape, name="x")
    conditions = common.condition_inputs(condition_dim)
    state = layers.Flatten()(x) if len(shape) > 1 else x
    state = common.dense_stack(common.concatenate(state, conditions), hidden, activation, gated)
    return common.posterior([x, *conditions], state, latent_dim, name)


def dense_decoder(
    shape: Sequence[int],
    latent_dim: int,
    hidden: Sequence[int] = (256, 512),
    activation: str = "relu",
    condition_dim: int = 0,
    gated: bool = False,
    num_parameters: int = 1,
    output_bias: Tensor | None = None,
    num_extra: int = 0,
    name: str = "decoder",
) -> keras.Model:
    """Build a decoder of dense layers, with a linear last layer that is reshaped to the data.

    Args:
        shape: Shape of one example.
        latent_dim: Size of z.
        hidden: Width of each hidden layer.
        activation: Activation of the hidden layers; ignored if `gated`.
        condition_dim: Width of the condition vector; 0 for an unconditional model.
        gated: As in `dense_encoder`.
        num_parameters: Parameters of the likelihood for each data value.
        output_bias: Initial bias of the last layer, an array of the output's shape; see `Likelihood.initial_bias`.
        num_extra: Further numbers of the likelihood for each example, for data with one axis.
        name: Name of the Keras model.

    Returns:
        A Keras model. Inputs: z `[batch, latent_dim]`, or the list of it and the condition vector
        `[batch, condition_dim]`. Output: parameters of the likelihood, `[batch, *shape]` with the last axis
        `num_parameters` times as long.

    Example:
        >>> import kvae
        >>> kvae.networks.dense_decoder((28, 28, 1), latent_dim=16).output_shape
        (None, 28, 28, 1)
    """
    z = layers.Input((latent_dim,), name="z")
    conditions = common.condition_inputs(condition_dim)
    state = common.dense_stack(common.concatenate(z, conditions), hidden, activation, gated)
    output_shape = common.output_shape(shape, num_parameters, num_extra)
    last = layers.Dense(math.prod(output_shape), name="parameters")
    parameters = last(state)
    if len(shape) > 1:
        parameters = layers.Reshape(output_shape, name="reshape")(parameters)
    if output_bias is not None:
        last.bias.assign(ops.reshape(output_bias, (-1,)))
    return keras.Model(common.unwrap([z, *conditions]), parameters, name=name)
