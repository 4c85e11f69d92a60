"""Validation of an encoder and a decoder against each other, the data, the likelihood and the conditions.

Functional and Sequential models have known shapes. A subclassed model has them only after a call. So each network is
called on one example of zeros, which also builds it.
"""

import warnings
from typing import Any

import keras
from keras import ops

from kvae.data.spec import DataSpec

#: Likelihoods that apply the sigmoid themselves.
_LOGIT_LIKELIHOODS = ("bernoulli", "continuous_bernoulli")


def validate_networks(encoder: Any, decoder: Any, data: Any, likelihood: Any, condition_dim: int) -> int:
    """Check the networks of a model and return `latent_dim`.

    Args:
        encoder: Maps unit data (and the condition vector) to `(z_mean, z_log_var)`.
        decoder: Maps z (and the condition vector) to the likelihood's parameters.
        data: `DataSpec` of the model.
        likelihood: Likelihood of the model.
        condition_dim: Width of the condition vector, 0 for an unconditional model.

    Raises:
        ValueError: Something does not fit. The message says what to change.
    """
    for name, network in (("encoder", encoder), ("decoder", decoder)):
        if not isinstance(network, keras.Layer):
            raise ValueError(f"The {name} is a {type(network).__name__}; expected a Keras model, see kvae.networks.")
    if likelihood.kind in _LOGIT_LIKELIHOODS and _last_activation(decoder) is keras.activations.sigmoid:
        raise ValueError(
            f"The decoder ends in a sigmoid, but a {likelihood.kind} likelihood needs logits. Remove the activation."
        )
    if (shapes := input_shapes(encoder)) and shapes[0] != data.unit_shape:
        raise ValueError(
            f"The encoder's input shape is {shapes[0]}, but the data have {data.unit_shape}. Give both the same shape."
        )
    _warn_of_rescaling(encoder, data)
    widths = [_condition_dim(network) for network in (encoder, decoder)]
    if any(width not in (None, condition_dim) for width in widths):
        raise ValueError(
            f"Encoder and decoder have condition vectors of width {widths[0]} and {widths[1]}; the model's conditions "
            f"have {condition_dim}. Build both networks with condition_dim={condition_dim}."
        )
    condition_vector = [ops.zeros((1, condition_dim))] if condition_dim else []
    posterior = _call("encoder", encoder, ops.zeros((1, *data.unit_shape)), condition_vector)
    if not isinstance(posterior, (tuple, list)) or len(posterior) != 2:
        raise ValueError(f"The encoder returns {_described(posterior)}; expected the pair (z_mean, z_log_var).")
    mean, log_var = (tuple(part.shape) for part in posterior)
    if mean != log_var or len(mean) != 2:
        raise ValueError(
            f"The encoder returns z_mean {mean} and z_log_var {log_var}; expected [batch, latent_dim] for both."
        )
    latent_dim = int(mean[1])
    if (shapes := input_shapes(decoder)) and shapes[0] != (latent_dim,):
        raise ValueError(
            f"The encoder returns z of shape ({latent_dim},), but the decoder's input shape is {shapes[0]}. "
            "Give both the same latent_dim."
        )
    *axes, last = data.unit_shape
    expected = (*axes, last * likelihood.num_parameters + likelihood.num_extra)
    parameters = _call("decoder", decoder, ops.zeros((1, latent_dim)), condition_vector)
    if (shape := tuple(getattr(parameters, "shape", (1,))[1:])) != expected:
        raise ValueError(
            f"The decoder returns the shape {shape}, but a {likelihood.kind} likelihood over {data.unit_shape} needs "
            f"{expected}. Build it with num_parameters={likelihood.num_parameters}"
            + (f" and num_extra={likelihood.num_extra}." if likelihood.num_extra else ".")
        )
    return latent_dim


def data_spec_from(encoder: Any) -> DataSpec:
    """Return the `DataSpec` of 8-bit data with the encoder's input shape.

    Raises:
        ValueError: The encoder is subclassed, so its input shape is not known.
    """
    if not (shapes := input_shapes(encoder)):
        raise ValueError(
            "The encoder's input shape is not known. Add data=DataSpec(shape)."
            if isinstance(encoder, keras.Layer)
            else f"The encoder is a {type(encoder).__name__}; expected a Keras model, see kvae.networks."
        )
    return DataSpec(shapes[0])


def input_shapes(network: Any) -> list[tuple[int, ...]]:
    """Return the shapes of a network's inputs without the batch axis; empty if they are not known."""
    shapes = getattr(network, "input_shape", None)
    if not shapes:
        return []
    return [tuple(shape[1:]) for shape in (shapes if isinstance(shapes, list) else [shapes])]


def _warn_of_rescaling(network: Any, data: Any) -> None:
    """Warn if the network scales data that the model has scaled already."""
    for layer in getattr(network, "layers", ()):
        if isinstance(layer, keras.layers.Rescaling) and data.range is not None:
            low, high = data.range
            warnings.warn(
                f"The encoder contains Rescaling({layer.scale}), but its input is scaled already: "
                f"DataSpec({data.shape}, range=({low:g}, {high:g})) maps the data to 0 to 1. Remove the layer.",
                stacklevel=4,
            )
        _warn_of_rescaling(layer, data)


def _last_activation(network: Any) -> Any:
    """Return the activation of the last layer that is not a reshape."""
    for layer in reversed(getattr(network, "layers", ())):
        if not isinstance(layer, (keras.layers.Reshape, keras.layers.Flatten)):
            return getattr(layer, "activation", None)
    return None


def _condition_dim(network: Any) -> int | None:
    shapes = input_shapes(network)
    if not shapes:
        return None
    return shapes[1][-1] if len(shapes) > 1 else 0


def _call(name: str, network: Any, first: Any, condition_vector: list[Any]) -> Any:
    try:
        return network([first, *condition_vector] if condition_vector else first)
    except Exception as error:
        inputs = f"x or z{' and the condition vector, as a list of two' if condition_vector else ''}"
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"The {name} cannot be called on {inputs} ({reason[:200]}).") from error


def _described(value: Any) -> str:
    return f"{type(value).__name__} of shape {tuple(value.shape)}" if hasattr(value, "shape") else type(value).__name__
