"""Categorical likelihood: each value is one of several classes without an order."""

from typing import Any

from keras import ops

from kvae.data.spec import DataSpec
from kvae.likelihoods.base import Likelihood, first_match, is_fraction
from kvae.loss_terms import sum_over_data
from kvae.serialization import register
from kvae.types import Shape, Tensor


@register("likelihoods.Categorical")
class Categorical(Likelihood):
    """Likelihood of class indices, 0 to `num_classes - 1`. The decoder's output is one logit per value and class.

    The range of the data must be (0, num_classes - 1). Because a mean of indices is meaningless, `mean` returns the
    most likely index; the probabilities are a separate output.

    Args:
        num_classes: Number of classes of each value, at least 2.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `num_classes` is not an integer of at least 2.

    Example:
        >>> import kvae
        >>> from keras import ops
        >>> likelihood = kvae.likelihoods.Categorical(num_classes=3)
        >>> round(float(likelihood.nll(ops.zeros((1, 1)), ops.zeros((1, 3)))[0]), 4)  # log 3
        1.0986
    """

    kind = "categorical"

    def __init__(self, num_classes: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if int(num_classes) != num_classes or num_classes < 2:
            raise ValueError(f"num_classes must be an integer of at least 2, got {num_classes}.")
        self.num_classes = self.num_parameters = int(num_classes)

    def nll(self, x: Tensor, parameters: Tensor, training: bool = False) -> Tensor:
        """Sum -log p(class) over values, float32 `[batch]`, in nats."""
        index = ops.cast(ops.round(x * (self.num_classes - 1)), "int64")
        log_p = ops.log_softmax(self._by_class(parameters), axis=-1)
        return -sum_over_data(log_p * ops.one_hot(index, self.num_classes, dtype="float32"))

    def mean(self, parameters: Tensor) -> Tensor:
        """Return the most likely index, scaled to unit data, float32 `[batch, *data]`."""
        # top_k, because the argmax of Keras does not convert to ONNX.
        index = ops.top_k(self._by_class(parameters), 1)[1][..., 0]
        return ops.cast(index, "float32") / (self.num_classes - 1)

    def outputs(self, parameters: Tensor, data: DataSpec) -> dict[str, Tensor]:
        """Return the probability of each class of each value as `x_probability`."""
        return {"x_probability": ops.softmax(self._by_class(parameters), axis=-1)}

    def output_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of `x_probability`, one per value and class."""
        return {"x_probability": (*shape, self.num_classes)}

    def check(self, x: Any, data: DataSpec, context: str) -> None:
        """Raise ValueError unless the data are indices and their range is that of the indices."""
        if data.range != (0.0, self.num_classes - 1.0):
            raise ValueError(
                f"{context}: the range of the data is {data.range}, but {self.num_classes} classes need "
                f"(0, {self.num_classes - 1}); build the model with that DataSpec."
            )
        if x.dtype.kind == "f" and (fraction := first_match(x, is_fraction)) is not None:
            raise ValueError(
                f"{context}: a categorical likelihood needs class indices, got {fraction:g}; round x, or use gaussian."
            )

    def manifest(self) -> dict[str, Any]:
        """Return the name and the number of classes, as JSON."""
        return {"name": self.kind, "num_classes": self.num_classes}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "num_classes": self.num_classes}

    def _by_class(self, parameters: Tensor) -> Tensor:
        """Reshape `[batch, ..., channels * num_classes]` to `[batch, ..., channels, num_classes]`."""
        shape = parameters.shape
        return ops.reshape(parameters, (-1, *shape[1:-1], shape[-1] // self.num_classes, self.num_classes))
