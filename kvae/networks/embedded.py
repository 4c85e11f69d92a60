"""Encoder of class indices: each value becomes a learned embedding or a one-hot vector.

Class indices are not ordered. A network that receives 0.5 for the third of five classes would have to unlearn one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers, ops

from kvae.networks import common
from kvae.serialization import register
from kvae.types import Tensor


@register("networks.ClassEmbedding")
class ClassEmbedding(layers.Layer):
    """Layer with one vector per class, for classes as unit data: index / (num_classes - 1).

    The layer interpolates linearly between two indices. Data never lie there, but the pseudo-inputs of a `VampPrior`
    do, and so they have a gradient.

    Args:
        num_classes: Number of classes.
        embedding_dim: Length of the vectors, which are learned; 0 for one-hot vectors.
        **kwargs: Arguments of `keras.layers.Layer`.

    Example:
        >>> from keras import ops
        >>> ops.convert_to_numpy(ClassEmbedding(3)(ops.array([[0.0, 1.0]]))).tolist()
        [[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]
    """

    def __init__(self, num_classes: int, embedding_dim: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes, self.embedding_dim = int(num_classes), int(embedding_dim)

    def build(self, input_shape: Any) -> None:
        """Create the vectors."""
        self.embeddings = None
        if self.embedding_dim:
            shape = (self.num_classes, self.embedding_dim)
            self.embeddings = self.add_weight(shape, initializer="uniform", name="embeddings")

    def call(self, x: Tensor) -> Tensor:
        """Map unit data `[batch, ...]` to vectors, float32 `[batch, ..., embedding_dim or num_classes]`."""
        distance = ops.expand_dims(x * (self.num_classes - 1.0), -1) - ops.arange(self.num_classes, dtype="float32")
        weights = ops.relu(1.0 - ops.abs(distance))
        return weights if self.embeddings is None else ops.matmul(weights, self.embeddings)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "num_classes": self.num_classes, "embedding_dim": self.embedding_dim}


def embedded_encoder(
    build: Callable[..., keras.Model],
    shape: Sequence[int],
    latent_dim: int,
    num_classes: int,
    embedding_dim: int = 8,
    condition_dim: int = 0,
    name: str = "encoder",
    **sizes: Any,
) -> keras.Model:
    """Build an encoder for a categorical likelihood: it embeds each class index before another network sees it.

    Args:
        build: Builder of the network after the embedding, such as `dense_encoder` or `lstm_encoder`.
        shape: Shape of one example; the inner network sees its last axis `embedding_dim` times as long.
        latent_dim: Size of z.
        num_classes: Number of classes of each value.
        embedding_dim: Width of the embedding; 0 for one-hot vectors.
        condition_dim: Width of the condition vector; 0 for an unconditional model.
        name: Name of the Keras model.
        **sizes: Further arguments of `build`.

    Returns:
        A Keras model. Inputs: unit data `[batch, *shape]`, or the list of it and the condition vector
        `[batch, condition_dim]`. Outputs: `(z_mean, z_log_var)`, each `[batch, latent_dim]`.

    Raises:
        ValueError: If `num_classes` is less than 2 or `embedding_dim` is negative.

    Example:
        >>> from kvae import networks
        >>> encoder = networks.embedded_encoder(networks.dense_encoder, (6,), latent_dim=2, num_classes=5)
        >>> [tuple(output.shape) for output in encoder.outputs]
        [(None, 2), (None, 2)]
    """
    if num_classes < 2 or embedding_dim < 0:
        raise ValueError(
            f"num_classes must be at least 2 and embedding_dim at least 0, got {num_classes} and {embedding_dim}."
        )
    width = embedding_dim or num_classes
    # float32 also under mixed precision, because bfloat16 cannot represent the difference between indices 200 and 201.
    x = layers.Input(shape, name="x", dtype="float32")
    conditions = common.condition_inputs(condition_dim)
    embedded = ClassEmbedding(num_classes, embedding_dim, dtype="float32", name="embedding")(x)
    embedded = layers.Reshape(common.output_shape(shape, width), name="embedded")(embedded)
    inner = build(common.output_shape(shape, width), latent_dim, condition_dim=condition_dim, name="network", **sizes)
    z_mean, z_log_var = inner(common.unwrap([embedded, *conditions]))
    return keras.Model(common.unwrap([x, *conditions]), (z_mean, z_log_var), name=name, dtype="float32")
