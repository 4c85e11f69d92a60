"""Convolutional networks, plain or residual: for images.

Transposed convolutions go all the way to the last layer, the form that ONNX Runtime runs fastest.
"""

import keras
from keras import layers, ops

from kvae.networks import common


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
    given = common.condition_inputs(condition_dim)
    features = x
    for index, channels in enumerate(filters):
        features = layers.Conv2D(
            channels, kernel_size, strides=2, padding="same", activation=activation,
            kernel_initializer=common.initializer(activation), name=f"conv_{index}",
        )(features)  # fmt: skip
    features = common.concatenate(layers.Flatten()(features), given)
    return common.posterior(
        [x, *given], common.dense_stack(features, common.widths(dense), activation, False), latent_dim, name
    )


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
    z = layers.Input((latent_dim,), name="z")
    given = common.condition_inputs(condition_dim)
    state = _first_feature_map(common.concatenate(z, given), shape, filters, dense, activation)
    for index, num in enumerate([*filters[1:], filters[-1]]):
        state = layers.Conv2DTranspose(
            num, kernel_size, strides=2, padding="same", activation=activation,
            kernel_initializer=common.initializer(activation), name=f"deconv_{index}",
        )(state)  # fmt: skip
    return _to_parameters([z, *given], state, shape, num_parameters, output_bias, name)


def _first_feature_map(state, shape, filters, dense, activation):
    _check_divisible(shape, filters)
    scale = 2 ** len(filters)
    height, width = shape[0] // scale, shape[1] // scale
    widths = common.widths(dense)
    state = common.dense_stack(state, (*widths, height * width * filters[0]), activation, False)
    return layers.Reshape((height, width, filters[0]), name="feature_map")(state)


def _to_parameters(inputs, state, shape, num_parameters, output_bias, name):
    channels = common.output_shape(shape, num_parameters)[-1]
    # With stride 1 this is the same function class as a convolution, and 1.4 times faster in ONNX Runtime.
    last = layers.Conv2DTranspose(channels, 3, padding="same", name="parameters")
    parameters = last(state)
    if output_bias is not None:
        last.bias.assign(ops.mean(ops.reshape(output_bias, (-1, channels)), axis=0))
    return keras.Model(common.as_inputs(inputs), parameters, name=name)


def _check_divisible(shape, filters):
    scale = 2 ** len(filters)
    if len(shape) != 3 or shape[0] % scale or shape[1] % scale:
        raise ValueError(
            f"{len(filters)} halvings need an image (height, width, channels) with sides divisible by {scale}, "
            f"got {tuple(shape)}; use fewer filters, or the dense networks."
        )


def residual_encoder(
    shape, latent_dim, filters=(32, 64), blocks=1, dense=256, activation="relu", condition_dim=0, name="encoder"
):
    """Convolutions of stride 2, each followed by residual blocks, then a dense layer that also sees the condition.

    Args:
        shape: (height, width, channels), both sides divisible by 2 to the power of the number of filters.
        latent_dim: size of z.
        filters: channels after each halving.
        blocks: residual blocks after each halving.
        dense: width of the dense layer, or widths of several.
        activation: of all hidden layers.
        condition_dim: width of the condition vector, 0 for none.
        name: of the Keras model.
    """
    _check_divisible(shape, filters)
    x = layers.Input(shape, name="x")
    given = common.condition_inputs(condition_dim)
    features = x
    for index, channels in enumerate(filters):
        features = layers.Conv2D(
            channels, 4, strides=2, padding="same", activation=activation,
            kernel_initializer=common.initializer(activation), name=f"halve_{index}",
        )(features)  # fmt: skip
        for block in range(blocks):
            features = _residual(layers.Conv2D, features, channels, activation, f"block_{index}_{block}")
    features = common.concatenate(layers.Flatten()(features), given)
    state = common.dense_stack(features, common.widths(dense), activation, False)
    return common.posterior([x, *given], state, latent_dim, name)


def residual_decoder(
    shape,
    latent_dim,
    filters=(64, 32),
    blocks=1,
    dense=256,
    activation="relu",
    condition_dim=0,
    num_parameters=1,
    output_bias=None,
    name="decoder",
):
    """A dense layer, then residual blocks and transposed convolutions of stride 2 in turn.

    Args:
        shape: (height, width, channels), both sides divisible by 2 to the power of the number of filters.
        latent_dim: size of z.
        filters: channels before each doubling.
        blocks: residual blocks before each doubling.
        dense: width of the dense layer before the first feature map, or widths of several; 0 for none.
        activation: of all hidden layers.
        condition_dim: width of the condition vector, 0 for none.
        num_parameters: of the likelihood, for each data value.
        output_bias: array of the output's shape whose mean per channel the last bias starts at; zeros by default.
        name: of the Keras model.
    """
    z = layers.Input((latent_dim,), name="z")
    given = common.condition_inputs(condition_dim)
    state = _first_feature_map(common.concatenate(z, given), shape, filters, dense, activation)
    for index, num in enumerate([*filters[1:], filters[-1]]):
        for block in range(blocks):
            name_of_block = f"block_{index}_{block}"
            state = _residual(layers.Conv2DTranspose, state, filters[index], activation, name_of_block)
        state = layers.Conv2DTranspose(
            num, 4, strides=2, padding="same", activation=activation,
            kernel_initializer=common.initializer(activation), name=f"double_{index}",
        )(state)  # fmt: skip
    return _to_parameters([z, *given], state, shape, num_parameters, output_bias, name)


def _residual(convolution, features, channels, activation, name):
    """Features + two convolutions of them; the second starts at zero, so that a new block changes nothing."""
    start = common.initializer(activation)
    inner = layers.Activation(activation, name=f"{name}_activation")(features)
    inner = convolution(
        channels, 3, padding="same", activation=activation, kernel_initializer=start, name=f"{name}_first"
    )(inner)
    inner = convolution(channels, 3, padding="same", kernel_initializer="zeros", name=f"{name}_second")(inner)
    return layers.Add(name=f"{name}_sum")([features, inner])
