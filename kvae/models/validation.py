"""Do an encoder and a decoder fit each other, the data and the conditions? Asked when a model is made, by running both.

Functional and Sequential models tell their shapes; a model that was subclassed has them only once it has seen data.
So each network is run on one example of zeros, which also builds what was not built yet.
"""

import keras
from keras import ops

#: Likelihoods that apply the sigmoid themselves.
_WANTS_LOGITS = ("bernoulli", "continuous_bernoulli")


def latent_dim_of(encoder, decoder, data, likelihood, condition_dim):
    """Check the networks of a model and return the size of z.

    Args:
        encoder: unit data (and the condition vector) to `(z_mean, z_log_var)`.
        decoder: z (and the condition vector) to the likelihood's parameters.
        data: the model's `DataSpec`.
        likelihood: the model's likelihood.
        condition_dim: width of the condition vector, 0 for none.

    Raises:
        ValueError: where something does not fit; the line says what and what to do.
    """
    for name, network in (("encoder", encoder), ("decoder", decoder)):
        if not isinstance(network, keras.Layer):
            raise ValueError(f"The {name} is no Keras model but of type {type(network).__name__}; see kvae.networks.")
    if likelihood.kind in _WANTS_LOGITS and _last_activation(decoder) is keras.activations.sigmoid:
        raise ValueError(
            f"The decoder ends in a sigmoid, but a {likelihood.kind} likelihood takes logits; leave the activation out."
        )
    if (shape := input_shapes(encoder)) and shape[0] != data.unit_shape:
        raise ValueError(f"The encoder takes {shape[0]}, but the data are {data.unit_shape}; give both the same shape.")
    widths = [_given_dim(network) for network in (encoder, decoder)]
    if any(width not in (None, condition_dim) for width in widths):
        raise ValueError(
            f"Encoder and decoder take condition vectors of width {widths[0]} and {widths[1]}, "
            f"the model's conditions make {condition_dim}; build both with condition_dim={condition_dim}."
        )
    given = [ops.zeros((1, condition_dim))] if condition_dim else []
    posterior = _run("encoder", encoder, ops.zeros((1, *data.unit_shape)), given)
    if not isinstance(posterior, (tuple, list)) or len(posterior) != 2:
        raise ValueError(f"An encoder returns the pair (z_mean, z_log_var), this one returns {_described(posterior)}.")
    mean, log_var = (tuple(part.shape) for part in posterior)
    if mean != log_var or len(mean) != 2:
        raise ValueError(f"z_mean and z_log_var are each [batch, latent_dim], the encoder's are {mean} and {log_var}.")
    latent_dim = int(mean[1])
    if (shape := input_shapes(decoder)) and shape[0] != (latent_dim,):
        raise ValueError(
            f"The encoder makes z of ({latent_dim},), but the decoder takes {shape[0]}; give both the same latent_dim."
        )
    *axes, last = data.unit_shape
    expected = (*axes, last * likelihood.num_parameters)
    parameters = _run("decoder", decoder, ops.zeros((1, latent_dim)), given)
    if (found := tuple(getattr(parameters, "shape", (1,))[1:])) != expected:
        raise ValueError(
            f"The decoder gives {found}, but a {likelihood.kind} likelihood over {data.unit_shape} takes {expected}; "
            f"build it with num_parameters={likelihood.num_parameters}."
        )
    return latent_dim


def input_shapes(network):
    """Shapes of a network's inputs without the batch axis; empty where it does not tell (a subclassed model)."""
    shapes = getattr(network, "input_shape", None)
    if not shapes:
        return []
    return [tuple(shape[1:]) for shape in (shapes if isinstance(shapes, list) else [shapes])]


def _last_activation(network):
    """The activation of the last layer that has one; reshapes after it change nothing."""
    for layer in reversed(getattr(network, "layers", ())):
        if not isinstance(layer, (keras.layers.Reshape, keras.layers.Flatten)):
            return getattr(layer, "activation", None)
    return None


def _given_dim(network):
    shapes = input_shapes(network)
    if not shapes:
        return None
    return shapes[1][-1] if len(shapes) > 1 else 0


def _run(name, network, first, given):
    try:
        return network([first, *given] if given else first)
    except Exception as error:
        taken = f"x or z{' and the condition vector, as a list of two' if given else ''}"
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"The {name} cannot be called on {taken} ({reason[:200]}).") from error


def _described(value):
    return f"{type(value).__name__} of shape {tuple(value.shape)}" if hasattr(value, "shape") else type(value).__name__
