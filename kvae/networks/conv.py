"""Convolutional networks for images, plain or residual.

All layers of a decoder are transposed convolutions, the form that ONNX Runtime runs fastest.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from kvae.networks import common
from kvae.types import Tensor


def default_filters(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the channels of the convolutions for images of a shape (height, width, channels).

    They are 32 and 64, and 64 for each further halving until no side of the feature map is above 16. Otherwise the
    dense layer behind it would have most of the weights: 67 million for images of 256 x 256.

    Example:
        >>> import kvae
        >>> kvae.networks.default_filters((32, 32, 3)), kvae.networks.default_filters((256, 256, 3))
        ((32, 64), (32, 64, 64, 64))
    """
    filters: tuple[int, ...] = (32, 64)
    while len(shape) == 3 and max(shape[:2]) > 16 * 2 ** len(filters):
        if any(side % 2 ** (len(filters) + 1) for side in shape[:2]):
            break
        filters = (*filters, 64)
    return filters


def conv_encoder(
    shape: Sequence[int],
    latent_dim: int,
    filters: Sequence[int] | None = None,
    dense: int | Sequence[int] = 256,
    activation: str = "relu",
    condition_dim: int = 0,
    kernel_size: int = 4,
    name: str = "encoder",
) -> keras.Model:
    """Build an encoder of convolutions of stride 2 and a dense layer, which also receives the condition.

    Args:
        shape: (height, width, channels). Both sides must be divisible by 2 to the power of the number of filters.
        latent_dim: Size of z.
        filters: Channels after each convolution; each halves height and width. Default: those of `default_filters`.
        dense: Width of the dense layer, or widths of several.
        activation: Activation of all hidden layers.
        condition_dim: Width of the condition vector; 0 for an unconditional model.
        kernel_size: Side of the kernels.
        name: Name of the Keras model.

    Returns:
        A Keras model. Inputs: unit data `[batch, height, width, channels]`, or the list of it and the condition
        vector `[batch, condition_dim]`. Outputs: `(z_mean, z_log_var)`, each `[batch, latent_dim]`.

    Raises:
        ValueError: If `shape` cannot be halved that often.

    Example:
        >>> import kvae
        >>> encoder = kvae.networks.conv_encoder((28, 28, 1), latent_dim=16)
        >>> [tuple(output.shape) for output in encoder.outputs]
        [(None, 16), (None, 16)]
    """
    filters = default_filters(shape) if filters is None else filters

    def halve(features: Tensor, index: int) -> Tensor:
        return _stride_2(layers.Conv2D, features, filters[index], kernel_size, activation, f"conv_{index}")

    return _encoder(shape, latent_dim, filters, dense, activation, condition_dim, name, halve)


def conv_decoder(
    shape: Sequence[int],
    latent_dim: int,
    filters: Sequence[int] | None = None,
    dense: int | Sequence[int] = 256,
    activation: str = "relu",
    condition_dim: int = 0,
    kernel_size: int = 4,
    num_parameters: int = 1,
    output_bias: Tensor | None = None,
    name: str = "decoder",
) -> keras.Model:
    """Build a decoder of a dense layer, transposed convolutions of stride 2, and one of stride 1.

    Args:
        shape: (height, width, channels). Both sides must be divisible by 2 to the power of the number of filters.
        latent_dim: Size of z.
        filters: Channels before each transposed convolution of stride 2; the last one keeps its number. Default: those
            of `default_filters` in reverse order.
        dense: Width of the dense layer before the first feature map, or widths of several; 0 for none.
        activation: Activation of all hidden layers.
        condition_dim: Width of the condition vector; 0 for an unconditional model.
        kernel_size: Side of the kernels of stride 2.
        num_parameters: Parameters of the likelihood for each data value.
        output_bias: Array of the output's shape. The last bias starts at its mean per channel, or at zero if None.
        name: Name of the Keras model.

    Returns:
        A Keras model. Inputs: z `[batch, latent_dim]`, or the list of it and the condition vector
        `[batch, condition_dim]`. Output: parameters of the likelihood,
        `[batch, height, width, channels * num_parameters]`.

    Raises:
        ValueError: If `shape` cannot be halved that often.

    Example:
        >>> import kvae
        >>> kvae.networks.conv_decoder((28, 28, 1), latent_dim=16).output_shape
        (None, 28, 28, 1)
    """
    filters = default_filters(shape)[::-1] if filters is None else filters
    after = [*filters[1:], filters[-1]]

    def double(features: Tensor, index: int) -> Tensor:
        return _stride_2(layers.Conv2DTranspose, features, after[index], kernel_size, activation, f"deconv_{index}")

    return _decoder(
        shape, latent_dim, filters, dense, activation, condition_dim, num_parameters, output_bias, name, double
    )


def residual_encoder(
    shape: Sequence[int],
    latent_dim: int,
    filters: Sequence[int] | None = None,
    blocks: int = 1,
    dense: int | Sequence[int] = 256,
    activation: str = "relu",
    condition_dim: int = 0,
    name: str = "encoder",
) -> keras.Model:
    """Build an encoder of convolutions of stride 2, each followed by residual blocks, and a dense layer.

    Args:
        shape: (height, width, channels). Both sides must be divisible by 2 to the power of the number of filters.
        latent_dim: Size of z.
        filters: Channels after each halving. Default: those of `default_filters`.
        blocks: Residual blocks after each halving.
        dense: Width of the dense layer, which also receives the condition, or widths of several.
        activation: Activation of all hidden layers.
        condition_dim: Width of the condition vector; 0 for an unconditional model.
        name: Name of the Keras model.

    Returns:
        A Keras model. Inputs: unit data `[batch, height, width, channels]`, or the list of it and the condition
        vector `[batch, condition_dim]`. Outputs: `(z_mean, z_log_var)`, each `[batch, latent_dim]`.

    Raises:
        ValueError: If `shape` cannot be halved that often.

    Example:
        >>> import kvae
        >>> encoder = kvae.networks.residual_encoder((28, 28, 1), latent_dim=16, filters=(8, 8))
        >>> [tuple(output.shape) for output in encoder.outputs]
        [(None, 16), (None, 16)]

    Reference: He et al. (2016), https://arxiv.org/abs/1603.05027, figure 1b, without normalisation.
    """
    filters = default_filters(shape) if filters is None else filters

    def halve(features: Tensor, index: int) -> Tensor:
        channels = filters[index]
        features = _stride_2(layers.Conv2D, features, channels, 4, activation, f"halve_{index}")
        return _residual_blocks(layers.Conv2D, features, channels, activation, index, blocks)

    return _encoder(shape, latent_dim, filters, dense, activation, condition_dim, name, halve)


def residual_decoder(
    shape: Sequence[int],
    latent_dim: int,
    filters: Sequence[int] | None = None,
    blocks: int = 1,
    dense: int | Sequence[int] = 256,
    activation: str = "relu",
    condition_dim: int = 0,
    num_parameters: int = 1,
    output_bias: Tensor | None = None,
    name: str = "decoder",
) -> keras.Model:
    """Build a decoder of a dense layer, then alternating residual blocks and transposed convolutions of stride 2.

    Args:
        shape: (height, width, channels). Both sides must be divisible by 2 to the power of the number of filters.
        latent_dim: Size of z.
        filters: Channels before each doubling. Default: those of `default_filters` in reverse order.
        blocks: Residual blocks before each doubling.
        dense: Width of the dense layer before the first feature map, or widths of several; 0 for none.
        activation: Activation of all hidden layers.
        condition_dim: Width of the condition vector; 0 for an unconditional model.
        num_parameters: Parameters of the likelihood for each data value.
        output_bias: Array of the output's shape. The last bias starts at its mean per channel, or at zero if None.
        name: Name of the Keras model.

    Returns:
        A Keras model. Inputs: z `[batch, latent_dim]`, or the list of it and the condition vector
        `[batch, condition_dim]`. Output: parameters of the likelihood,
        `[batch, height, width, channels * num_parameters]`.

    Raises:
        ValueError: If `shape` cannot be halved that often.

    Example:
        >>> import kvae
        >>> kvae.networks.residual_decoder((28, 28, 1), latent_dim=16, filters=(8, 8)).output_shape
        (None, 28, 28, 1)

    Reference: He et al. (2016), https://arxiv.org/abs/1603.05027, figure 1b, without normalisation.
    """
    filters = default_filters(shape)[::-1] if filters is None else filters
    after = [*filters[1:], filters[-1]]

    def double(features: Tensor, index: int) -> Tensor:
        features = _residual_blocks(layers.Conv2DTranspose, features, filters[index], activation, index, blocks)
        return _stride_2(layers.Conv2DTranspose, features, after[index], 4, activation, f"double_{index}")

    return _decoder(
        shape, latent_dim, filters, dense, activation, condition_dim, num_parameters, output_bias, name, double
    )


def _encoder(
    shape: Sequence[int], latent_dim: int, filters: Sequence[int], dense: int | Sequence[int], activation: str,
    condition_dim: int, name: str, halve: Callable[[Tensor, int], Tensor],
) -> keras.Model:  # fmt: skip
    _check_divisible(shape, filters)
    x = layers.Input(shape, name="x")
    conditions = common.condition_inputs(condition_dim)
    features = x
    for index in range(len(filters)):
        features = halve(features, index)
    state = common.concatenate(layers.Flatten()(features), conditions)
    state = common.dense_stack(state, common.layer_widths(dense), activation)
    return common.posterior([x, *conditions], state, latent_dim, name)


def _decoder(
    shape: Sequence[int], latent_dim: int, filters: Sequence[int], dense: int | Sequence[int], activation: str,
    condition_dim: int, num_parameters: int, output_bias: Tensor | None, name: str,
    double: Callable[[Tensor, int], Tensor],
) -> keras.Model:  # fmt: skip
    _check_divisible(shape, filters)
    z = layers.Input((latent_dim,), name="z")
    conditions = common.condition_inputs(condition_dim)
    scale = 2 ** len(filters)
    first = (shape[0] // scale, shape[1] // scale, filters[0])
    widths = (*common.layer_widths(dense), first[0] * first[1] * first[2])
    features = common.dense_stack(common.concatenate(z, conditions), widths, activation)
    features = layers.Reshape(first, name="feature_map")(features)
    for index in range(len(filters)):
        features = double(features, index)
    channels = common.output_shape(shape, num_parameters)[-1]
    # With stride 1 this is the same function class as a convolution, and 1.4 times faster in ONNX Runtime.
    last = layers.Conv2DTranspose(channels, 3, padding="same", name="parameters")
    parameters = last(features)
    common.set_mean_bias(last, output_bias, channels)
    return keras.Model(common.unwrap([z, *conditions]), parameters, name=name)


def _stride_2(
    convolution: Any, features: Tensor, channels: int, kernel_size: int, activation: str, name: str
) -> Tensor:
    return convolution(
        channels, kernel_size, strides=2, padding="same", activation=activation,
        kernel_initializer=common.initializer(activation), name=name,
    )(features)  # fmt: skip


def _residual_blocks(
    convolution: Any, features: Tensor, channels: int, activation: str, stage: int, blocks: int
) -> Tensor:
    """Add two convolutions of the features to them, `blocks` times; each sum starts as the identity."""
    for block in range(blocks):
        name = f"block_{stage}_{block}"
        start = common.initializer(activation)
        inner = layers.Activation(activation, name=f"{name}_activation")(features)
        inner = convolution(
            channels, 3, padding="same", activation=activation, kernel_initializer=start, name=f"{name}_first"
        )(inner)
        inner = convolution(channels, 3, padding="same", kernel_initializer="zeros", name=f"{name}_second")(inner)
        features = layers.Add(name=f"{name}_sum")([features, inner])
    return features


def _check_divisible(shape: Sequence[int], filters: Sequence[int]) -> None:
    scale = 2 ** len(filters)
    if len(shape) != 3 or shape[0] % scale or shape[1] % scale:
        raise ValueError(
            f"{len(filters)} halvings need images (height, width, channels) with sides divisible by {scale}, "
            f"got {tuple(shape)}; use fewer filters or dense networks."
        )
