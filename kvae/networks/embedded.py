"""An encoder of class indices: each value becomes a learned embedding, or one-hot, before the network sees it.

An index is a name, not a size: a network that is told 0.5 for the third of five classes must unlearn their order.
"""

import keras
from keras import layers

from kvae.networks import common


def embedded_encoder(build, shape, latent_dim, num_classes, embedding_dim=8, condition_dim=0, name="encoder", **sizes):
    """An encoder whose input, unit data of a categorical likelihood, is embedded value by value.

    Args:
        build: the builder of the network behind it, such as `dense_encoder` or `lstm_encoder`.
        shape: shape of one example; its last axis becomes `embedding_dim` times as long.
        latent_dim: size of z.
        num_classes: how many classes a value has.
        embedding_dim: width of the embedding; 0 for one-hot.
        condition_dim: width of the condition vector, 0 for none.
        name: of the Keras model.
        **sizes: further arguments of `build`.
    """
    if num_classes < 2 or embedding_dim < 0:
        raise ValueError(
            f"num_classes must be at least 2, embedding_dim 0 or more, got {num_classes}, {embedding_dim}."
        )
    start = {} if embedding_dim else {"embeddings_initializer": "identity", "trainable": False}
    width = embedding_dim or num_classes
    # float32 also under mixed precision: bfloat16 cannot tell index 200 from 201.
    x = layers.Input(shape, name="x", dtype="float32")
    given = common.condition_inputs(condition_dim)
    # Embedding drops the fraction; the half makes a round of that.
    index = layers.Rescaling(num_classes - 1.0, offset=0.5, dtype="float32", name="index")(x)
    embedded = layers.Embedding(num_classes, width, name="embedding", **start)(index)
    embedded = layers.Reshape(common.output_shape(shape, width), name="embedded")(embedded)
    inner = build(common.output_shape(shape, width), latent_dim, condition_dim=condition_dim, name="network", **sizes)
    z_mean, z_log_var = inner([embedded, *given] if given else embedded)
    return keras.Model(common.as_inputs([x, *given]), (z_mean, z_log_var), name=name, dtype="float32")
