"""Encoders and decoders, sized by arguments; any Keras model with the same inputs and outputs takes their place.

An encoder maps unit data `[batch, *shape]` to the pair `(z_mean, z_log_var)`, each `[batch, latent_dim]`; a decoder
maps z to the likelihood's parameters `[batch, *shape]`. A conditional network takes a list of two inputs, the second
the condition vector `[batch, condition_dim]`. All layers here are ones that ONNX runs fast: transposed convolutions to
the last layer, no group norm, no exact gelu.
"""

import math

import keras
from keras import layers, ops

#: He's initialisation where the activation is a rectifier, Glorot's elsewhere.
_RECTIFIERS = {"relu", "elu", "selu", "silu", "swish", "leaky_relu", "gelu"}


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
    given = _condition_inputs(condition_dim)
    hidden_state = layers.Flatten()(x) if len(shape) > 1 else x
    hidden_state = _concatenate(hidden_state, given)
    hidden_state = _dense_stack(hidden_state, hidden, activation, gated)
    return _posterior([x, *given], hidden_state, latent_dim, name)


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
    given = _condition_inputs(condition_dim)
    hidden_state = _dense_stack(_concatenate(z, given), hidden, activation, gated)
    output_shape = (*shape[:-1], shape[-1] * num_parameters)
    last = layers.Dense(math.prod(output_shape), name="parameters")
    parameters = last(hidden_state)
    if len(shape) > 1:
        parameters = layers.Reshape(output_shape, name="reshape")(parameters)
    if output_bias is not None:
        last.bias.assign(ops.reshape(output_bias, (-1,)))
    return keras.Model(_inputs([z, *given]), parameters, name=name)


def conv_encoder(
    shape, latent_dim, filters=(32, 64), dense=256, activation="relu", condition_dim=0, kernel_size=4, name="encoder"
):
    """Convolutions of stride 2, then a dense layer, which also sees the condition.

    Args:
        shape: (height, width, channels), both sides divisible by 2 to the power of the number of filters.
        latent_dim: size of z.
        filters: channels after each convolution, each halving height and width.
        dense: width of the dense layer, or widths of several.
        activation: of all hidden layers.
        condition_dim: width of the condition vector, 0 for none.
        kernel_size: side of the kernels.
        name: of the Keras model.
    """
    _check_divisible(shape, filters)
    x = layers.Input(shape, name="x")
    given = _condition_inputs(condition_dim)
    features = x
    for index, channels in enumerate(filters):
        features = layers.Conv2D(
            channels, kernel_size, strides=2, padding="same", activation=activation,
            kernel_initializer=_initializer(activation), name=f"conv_{index}",
        )(features)  # fmt: skip
    features = _concatenate(layers.Flatten()(features), given)
    return _posterior([x, *given], _dense_stack(features, _widths(dense), activation, False), latent_dim, name)


def conv_decoder(
    shape, latent_dim, filters=(64, 32), dense=256, activation="relu", condition_dim=0, kernel_size=4, num_parameters=1,
    output_bias=None, name="decoder",
):  # fmt: skip
    """A dense layer, then transposed convolutions of stride 2, then one of stride 1 to the parameters.

    Args:
        shape: (height, width, channels), both sides divisible by 2 to the power of the number of filters.
        latent_dim: size of z.
        filters: channels of the first feature map, and after each transposed convolution but the last of stride 2.
        dense: width of the dense layer before the first feature map, or widths of several; 0 for none.
        activation: of all hidden layers.
        condition_dim: width of the condition vector, 0 for none.
        kernel_size: side of the kernels of stride 2.
        num_parameters: of the likelihood, for each data value.
        output_bias: array of the output's shape whose mean per channel the last bias starts at; zeros by default.
        name: of the Keras model.
    """
    _check_divisible(shape, filters)
    scale = 2 ** len(filters)
    height, width, channels = shape[0] // scale, shape[1] // scale, shape[2] * num_parameters
    z = layers.Input((latent_dim,), name="z")
    given = _condition_inputs(condition_dim)
    state = _dense_stack(_concatenate(z, given), _widths(dense), activation, False)
    state = _dense_stack(state, (height * width * filters[0],), activation, False, first=len(_widths(dense)))
    state = layers.Reshape((height, width, filters[0]), name="feature_map")(state)
    for index, num in enumerate([*filters[1:], filters[-1]]):
        state = layers.Conv2DTranspose(
            num, kernel_size, strides=2, padding="same", activation=activation,
            kernel_initializer=_initializer(activation), name=f"deconv_{index}",
        )(state)  # fmt: skip
    # With stride 1 this is the same function class as a convolution, and 1.4 times faster in ONNX Runtime.
    last = layers.Conv2DTranspose(channels, 3, padding="same", name="parameters")
    parameters = last(state)
    if output_bias is not None:
        last.bias.assign(ops.mean(ops.reshape(output_bias, (-1, channels)), axis=0))
    return keras.Model(_inputs([z, *given]), parameters, name=name)


def _posterior(inputs, state, latent_dim, name):
    z_mean = layers.Dense(latent_dim, name="z_mean")(state)
    # The log variance starts at 0 for every x, so that the first steps see noise of the prior's own width.
    z_log_var = layers.Dense(latent_dim, kernel_initializer="zeros", name="z_log_var")(state)
    return keras.Model(_inputs(inputs), (z_mean, z_log_var), name=name)


def _dense_stack(state, widths, activation, gated, first=0):
    for index, width in enumerate(widths, start=first):
        if gated:
            linear = layers.Dense(width, name=f"linear_{index}")(state)
            gate = layers.Dense(width, activation="sigmoid", name=f"gate_{index}")(state)
            state = layers.Multiply(name=f"gated_{index}")([linear, gate])
        else:
            state = layers.Dense(
                width, activation=activation, kernel_initializer=_initializer(activation), name=f"dense_{index}"
            )(state)
    return state


def _initializer(activation):
    return "he_normal" if activation in _RECTIFIERS else "glorot_uniform"


def _widths(dense):
    widths = (dense,) if isinstance(dense, int) else tuple(dense)
    return tuple(width for width in widths if width)


def _condition_inputs(condition_dim):
    return [layers.Input((condition_dim,), name="condition_vector")] if condition_dim else []


def _concatenate(state, given):
    return layers.Concatenate(name="with_condition")([state, *given]) if given else state


def _inputs(inputs):
    return inputs if len(inputs) > 1 else inputs[0]


def _check_divisible(shape, filters):
    scale = 2 ** len(filters)
    if len(shape) != 3 or shape[0] % scale or shape[1] % scale:
        raise ValueError(
            f"{len(filters)} halvings need an image (height, width, channels) with sides divisible by {scale}, "
            f"got {tuple(shape)}; use fewer filters, or the dense networks."
        )
