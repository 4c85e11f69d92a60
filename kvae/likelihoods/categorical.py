"""The categorical likelihood: each value is one of several classes without an order."""

from keras import ops

from kvae.likelihoods.base import Likelihood, first_of, is_fraction
from kvae.loss_terms import sum_over_data
from kvae.serialization import register


@register("likelihoods.Categorical")
class Categorical(Likelihood):
    """Each value is a class index, 0 to `num_classes - 1`, with the probabilities that the decoder's logits give.

    The data's range is (0, num_classes - 1). A mean of indices says nothing, so in its place stands the most likely
    index; the probabilities are an output of their own.

    Args:
        num_classes: how many classes a value has, at least 2.
    """

    kind = "categorical"

    def __init__(self, num_classes=2, **kwargs):
        super().__init__(**kwargs)
        if int(num_classes) != num_classes or num_classes < 2:
            raise ValueError(f"num_classes must be a whole number of at least 2, got {num_classes}.")
        self.num_classes = self.num_parameters = int(num_classes)

    def nll(self, x, parameters, training=False):
        """Sum over values of -log p(class), float32 `[batch]`, in nats."""
        index = ops.cast(ops.round(x * (self.num_classes - 1)), "int64")
        log_p = ops.log_softmax(self._by_class(parameters), axis=-1)
        return -sum_over_data(log_p * ops.one_hot(index, self.num_classes, dtype="float32"))

    def mean(self, parameters):
        """The most likely index, scaled to unit data, float32 `[batch, *data]`."""
        # top_k, for argmax has no form in ONNX as Keras lowers it.
        index = ops.top_k(self._by_class(parameters), 1)[1][..., 0]
        return ops.cast(index, "float32") / (self.num_classes - 1)

    def outputs(self, parameters, data):
        """Probability of each class of each value."""
        return {"x_probability": ops.softmax(self._by_class(parameters), axis=-1)}

    def output_shapes(self, shape):
        """One for each value and class."""
        return {"x_probability": (*shape, self.num_classes)}

    def check(self, x, data, where):
        """The range must be that of the indices."""
        if data.range != (0.0, self.num_classes - 1.0):
            raise ValueError(
                f"{where}: a categorical likelihood of {self.num_classes} classes needs data of range "
                f"(0, {self.num_classes - 1}), got {data.range}."
            )
        if x.dtype.kind == "f" and (found := first_of(x, is_fraction)) is not None:
            raise ValueError(
                f"{where}: a categorical likelihood models class indices, whole numbers, got {found:g}; round x, or "
                "use gaussian."
            )

    def manifest(self):
        """Name and number of classes."""
        return {"name": self.kind, "num_classes": self.num_classes}

    def get_config(self):
        """The arguments, for Keras."""
        return {**super().get_config(), "num_classes": self.num_classes}

    def _by_class(self, parameters):
        """[batch, ..., channels * num_classes] to [batch, ..., channels, num_classes]."""
        shape = parameters.shape
        return ops.reshape(parameters, (-1, *shape[1:-1], shape[-1] // self.num_classes, self.num_classes))
