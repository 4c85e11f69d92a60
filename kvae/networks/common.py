"""Building blocks of all networks: inputs, stacks of dense layers, posterior heads, output bias."""

from collections.abc import Iterable, Sequence

import keras
from keras import layers, ops

from kvae.types import Shape, Tensor

#: Activations that are initialised by He's rule; all others by Glorot's.
_RECTIFIERS = {"relu", "elu", "selu", "silu", "swish", "leaky_relu", "gelu"}


def posterior(inputs: list[Tensor], state: Tensor, latent_dim: int, name: str) -> keras.Model:
    """Return an encoder: a model from `inputs` to `(z_mean, z_log_var)`, two linear layers of the last hidden state."""
    z_mean = layers.Dense(latent_dim, name="z_mean")(state)
    # The log variance starts at 0 for every x, so that the first steps see noise as wide as the prior.
    z_log_var = layers.Dense(latent_dim, kernel_initializer="zeros", name="z_log_var")(state)
    return keras.Model(unwrap(inputs), (z_mean, z_log_var), name=name)


def dense_stack(state: Tensor, widths: Sequence[int], activation: str, gated: bool = False) -> Tensor:
    """Apply dense layers of the given widths, plain or gated."""
    for index, width in enumerate(widths):
        if gated:
            linear = layers.Dense(width, name=f"linear_{index}")(state)
            gate = layers.Dense(width, activation="sigmoid", name=f"gate_{index}")(state)
            state = layers.Multiply(name=f"gated_{index}")([linear, gate])
        else:
            state = layers.Dense(
                width, activation=activation, kernel_initializer=initializer(activation), name=f"dense_{index}"
            )(state)
    return state


def initializer(activation: str) -> str:
    """Return the name of the kernel initializer that suits an activation."""
    return "he_normal" if activation in _RECTIFIERS else "glorot_uniform"


def layer_widths(dense: int | Iterable[int]) -> Shape:
    """Return one width or several as a tuple, without zeros."""
    widths = (dense,) if isinstance(dense, int) else tuple(dense)
    return tuple(width for width in widths if width)


def condition_inputs(condition_dim: int) -> list[Tensor]:
    """Return a list of the input of the condition vector; empty if `condition_dim` is 0."""
    return [layers.Input((condition_dim,), name="condition_vector")] if condition_dim else []


def concatenate(state: Tensor, conditions: list[Tensor]) -> Tensor:
    """Append the condition vector to the state, if there is one."""
    return layers.Concatenate(name="with_condition")([state, *conditions]) if conditions else state


def unwrap(inputs: list[Tensor]) -> Tensor | list[Tensor]:
    """Return a single input without its list, as Keras expects it."""
    return inputs if len(inputs) > 1 else inputs[0]


def output_shape(shape: Sequence[int], num_parameters: int, num_extra: int = 0) -> Shape:
    """Return the shape of the decoder's output: that of the data, with `num_parameters` numbers per value.

    `num_extra` more numbers follow at the end of the last axis.
    """
    return (*shape[:-1], shape[-1] * num_parameters + num_extra)


def set_mean_bias(layer: keras.layers.Layer, output_bias: Tensor | None, channels: int) -> None:
    """Start the bias of a layer at the mean of `output_bias` per channel; keep zeros if it is None."""
    if output_bias is not None:
        layer.bias.assign(ops.mean(ops.reshape(output_bias, (-1, channels)), axis=0))
