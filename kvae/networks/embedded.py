"""An encoder of class indices: each value becomes a learned embedding, or one-hot, before the network sees it.

An index is a name, not a size: a network that is told 0.5 for the third of five classes must unlearn their order.
"""

import keras
from keras import layers, ops

from kvae.networks import common
from kvae.serialization import register


@register("networks.ClassEmbedding")
class ClassEmbedding(layers.Layer):
    """A learned vector for each class, given as unit data: index / (num_classes - 1).

    Between two indices it is a straight line, which data never meet, but the pseudo-inputs of a VampPrior do: so they
    have a gradient, and learn.

    Args:
        num_classes: how many classes there are.
        embedding_dim: length of the vectors; 0 for one-hot.
    """

    def __init__(self, num_classes, embedding_dim=0, **kwargs):
        super().__init__(**kwargs)
        self.num_classes, self.embedding_dim = int(num_classes), int(embedding_dim)

    def build(self, input_shape):
        """Draw the vectors."""
        self.embeddings = None
        if self.embedding_dim:
            shape = (self.num_classes, self.embedding_dim)
            self.embeddings = self.add_weight(shape, initializer="uniform", name="embeddings")

    def call(self, x):
        """Unit data `[batch, ...]` to `[batch, ..., embedding_dim]`."""
        distance = ops.expand_dims(x * (self.num_classes - 1.0), -1) - ops.arange(self.num_classes, dtype="float32")
        weights = ops.relu(1.0 - ops.abs(distance))
        return weights if self.embeddings is None else ops.matmul(weights, self.embeddings)

    def get_config(self):
        """The arguments, for Keras."""
        return {**super().get_config(), "num_classes": self.num_classes, "embedding_dim": self.embedding_dim}


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
    width = embedding_dim or num_classes
    # float32 also under mixed precision: bfloat16 cannot tell index 200 from 201.
    x = layers.Input(shape, name="x", dtype="float32")
    given = common.condition_inputs(condition_dim)
    embedded = ClassEmbedding(num_classes, embedding_dim, dtype="float32", name="embedding")(x)
    embedded = layers.Reshape(common.output_shape(shape, width), name="embedded")(embedded)
    inner = build(common.output_shape(shape, width), latent_dim, condition_dim=condition_dim, name="network", **sizes)
    z_mean, z_log_var = inner([embedded, *given] if given else embedded)
    return keras.Model(common.as_inputs([x, *given]), (z_mean, z_log_var), name=name, dtype="float32")
