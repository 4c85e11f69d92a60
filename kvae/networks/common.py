"""What all builders share: inputs, stacks of dense layers, the two heads of a posterior."""

import keras
from keras import layers

#: He's initialisation where the activation is a rectifier, Glorot's elsewhere.
_RECTIFIERS = {"relu", "elu", "selu", "silu", "swish", "leaky_relu", "gelu"}


def posterior(inputs, state, latent_dim, name):
    """The pair (z_mean, z_log_var) from the last hidden state, as a Keras model."""
    z_mean = layers.Dense(latent_dim, name="z_mean")(state)
    # The log variance starts at 0 for every x, so that the first steps see noise of the prior's own width.
    z_log_var = layers.Dense(latent_dim, kernel_initializer="zeros", name="z_log_var")(state)
    return keras.Model(as_inputs(inputs), (z_mean, z_log_var), name=name)


def dense_stack(state, widths, activation, gated, first=0):
    """Dense layers of the given widths, plain or gated."""
    for index, width in enumerate(widths, start=first):
        if gated:
            linear = layers.Dense(width, name=f"linear_{index}")(state)
            gate = layers.Dense(width, activation="sigmoid", name=f"gate_{index}")(state)
            state = layers.Multiply(name=f"gated_{index}")([linear, gate])
        else:
            state = layers.Dense(
                width, activation=activation, kernel_initializer=initializer(activation), name=f"dense_{index}"
            )(state)
    return state


def initializer(activation):
    """The initialisation that fits an activation."""
    return "he_normal" if activation in _RECTIFIERS else "glorot_uniform"


def widths(dense):
    """One width or several as a tuple, zeros left out."""
    several = (dense,) if isinstance(dense, int) else tuple(dense)
    return tuple(width for width in several if width)


def condition_inputs(condition_dim):
    """A list of the condition's input, empty where there is none."""
    return [layers.Input((condition_dim,), name="condition_vector")] if condition_dim else []


def concatenate(state, given):
    """The state with the condition vector beside it."""
    return layers.Concatenate(name="with_condition")([state, *given]) if given else state


def as_inputs(inputs):
    """A list of inputs as Keras wants it: one input stands alone."""
    return inputs if len(inputs) > 1 else inputs[0]


def output_shape(shape, num_parameters):
    """Shape of the decoder's output: the last axis of the data, `num_parameters` times as long."""
    return (*shape[:-1], shape[-1] * num_parameters)
