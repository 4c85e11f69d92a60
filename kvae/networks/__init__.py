"""Encoders and decoders, sized by arguments. Any Keras model with the same inputs and outputs can replace them.

An encoder maps unit data `[batch, *shape]` (values 0 to 1) to the pair `(z_mean, z_log_var)`, each
`[batch, latent_dim]`. A decoder maps z to the parameters of the likelihood: the shape of the data with its last axis
`num_parameters` times as long. A conditional network has a list of two inputs, the second being the condition vector
`[batch, condition_dim]`. All layers run fast as ONNX, so group norm, exact gelu and GRU are not used.
"""

from kvae.networks.conv import conv_decoder, conv_encoder, default_filters, residual_decoder, residual_encoder
from kvae.networks.dense import dense_decoder, dense_encoder
from kvae.networks.embedded import embedded_encoder
from kvae.networks.lstm import lstm_decoder, lstm_encoder

__all__ = [
    "conv_decoder",
    "conv_encoder",
    "default_filters",
    "dense_decoder",
    "dense_encoder",
    "embedded_encoder",
    "lstm_decoder",
    "lstm_encoder",
    "residual_decoder",
    "residual_encoder",
]
