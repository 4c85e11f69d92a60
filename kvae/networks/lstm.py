"""LSTM networks for sequences of a fixed number of steps, `[batch, steps, features]`."""

from collections.abc import Sequence

import keras
from keras import layers

from kvae.networks import common
from kvae.types import Tensor


def lstm_encoder(
    shape: Sequence[int],
    latent_dim: int,
    units: int = 128,
    dense: int | Sequence[int] = (),
    activation: str = "relu",
    condition_dim: int = 0,
    name: str = "encoder",
) -> keras.Model:
    """Build an encoder that runs an LSTM over the steps and uses its last state.

    Args:
        shape: (steps, features).
        latent_dim: Size of z.
        units: Width of the LSTM.
        dense: Widths of dense layers after the LSTM.
        activation: Activation of the dense layers.
        condition_dim: Width of the condition vector; 0 for an unconditional model.
        name: Name of the Keras model.

    Returns:
        A Keras model. Inputs: unit data `[batch, steps, features]`, or the list of it and the condition vector
        `[batch, condition_dim]`. Outputs: `(z_mean, z_log_var)`, each `[batch, latent_dim]`.

    Raises:
        ValueError: If `shape` does not have two axes.

    Example:
        >>> import kvae
        >>> encoder = kvae.networks.lstm_encoder((20, 3), latent_dim=4, units=8)
        >>> [tuple(output.shape) for output in encoder.outputs]
        [(None, 4), (None, 4)]
    """
    _check_sequence(shape)
    x = layers.Input(shape, name="x")
    conditions = common.condition_inputs(condition_dim)
    # The cuDNN kernel does not convert to ONNX.
    state = layers.LSTM(units, use_cudnn=False, name="lstm")(x)
    state = common.dense_stack(common.concatenate(state, conditions), common.layer_widths(dense), activation)
    return common.posterior([x, *conditions], state, latent_dim, name)


def lstm_decoder(
    shape: Sequence[int],
    latent_dim: int,
    units: int = 128,
    dense: int | Sequence[int] = (),
    activation: str = "relu",
    condition_dim: int = 0,
    num_parameters: int = 1,
    output_bias: Tensor | None = None,
    name: str = "decoder",
) -> keras.Model:
    """Build a decoder whose LSTM receives z and the condition at every step; a dense layer maps each of its states.

    Args:
        shape: (steps, features).
        latent_dim: Size of z.
        units: Width of the LSTM.
        dense: Widths of dense layers before the LSTM.
        activation: Activation of the dense layers.
        condition_dim: Width of the condition vector; 0 for an unconditional model.
        num_parameters: Parameters of the likelihood for each data value.
        output_bias: Array of the output's shape. The last bias starts at its mean over the steps, or at zero if None.
        name: Name of the Keras model.

    Returns:
        A Keras model. Inputs: z `[batch, latent_dim]`, or the list of it and the condition vector
        `[batch, condition_dim]`. Output: parameters of the likelihood,
        `[batch, steps, features * num_parameters]`.

    Raises:
        ValueError: If `shape` does not have two axes.

    Example:
        >>> import kvae
        >>> kvae.networks.lstm_decoder((20, 3), latent_dim=4, units=8).output_shape
        (None, 20, 3)
    """
    _check_sequence(shape)
    z = layers.Input((latent_dim,), name="z")
    conditions = common.condition_inputs(condition_dim)
    state = common.dense_stack(common.concatenate(z, conditions), common.layer_widths(dense), activation)
    state = layers.RepeatVector(shape[0], name="steps")(state)
    state = layers.LSTM(units, return_sequences=True, use_cudnn=False, name="lstm")(state)
    features = common.output_shape(shape, num_parameters)[-1]
    last = layers.Dense(features, name="parameters")
    parameters = last(state)
    common.set_mean_bias(last, output_bias, features)
    return keras.Model(common.unwrap([z, *conditions]), parameters, name=name)


def _check_sequence(shape: Sequence[int]) -> None:
    if len(shape) != 2:
        raise ValueError(f"An LSTM needs sequences of shape (steps, features), got {tuple(shape)}.")
