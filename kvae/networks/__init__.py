"""Encoders and decoders, sized by arguments; any Keras model with the same inputs and outputs takes their place.

An encoder maps unit data `[batch, *shape]` to the pair `(z_mean, z_log_var)`, each `[batch, latent_dim]`; a decoder
maps z to the likelihood's parameters: the data's shape, its last axis `num_parameters` times as long. A conditional
network takes a list of two inputs, the second the condition vector `[batch, condition_dim]`. All layers here are ones
that ONNX runs fast: no group norm, no exact gelu, no GRU.
"""

from kvae.networks.conv import conv_decoder, conv_encoder, residual_decoder, residual_encoder
from kvae.networks.dense import dense_decoder, dense_encoder
from kvae.networks.embedded import embedded_encoder
from kvae.networks.lstm import lstm_decoder, lstm_encoder

__all__ = [
    "conv_decoder",
    "conv_encoder",
    "dense_decoder",
    "dense_encoder",
    "embedded_encoder",
    "lstm_decoder",
    "lstm_encoder",
    "residual_decoder",
    "residual_encoder",
]
