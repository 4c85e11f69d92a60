"""Training methods of Keras with validated data: `fit`, `evaluate`, `predict` and the two `*_on_batch` methods.

Keras accepts any data. With a label out of range or pixels in other units it would train a wrong model, or report a
wrong elbo, without an error. So arrays are checked as a whole, and of a `tf.data.Dataset` the first batch.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from kvae.backends.current import is_dataset, to_numpy

# For type checkers `super()` is Any; at run time it is `keras.Model`, the next of the model's bases.
_Keras: Any = object

#: Order of the figures in a list; `evaluate(...)[0]` is the loss, as with any Keras model.
FIGURES = ("loss", "elbo", "reconstruction", "kl")


class ValidatedTrainer(_Keras):
    """Mixin for `VAE`. It precedes `keras.Model` among the bases, so that `super()` is Keras' own method."""

    # Attributes of the model, and of Keras.
    data: Any
    likelihood: Any
    totals: Any
    optimizer: Any
    trainable_variables: Any
    steps_per_execution: int
    _class_index: Callable[[Any], tuple[Any, int]]

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configure training as `keras.Model.compile` does, without a loss and metrics.

        Args:
            optimizer: Name or instance of an optimizer.
            loss: Not accepted. The objective of the model is the loss.
            loss_weights: Not accepted.
            metrics: Not accepted. The model reports loss, elbo, reconstruction and kl.
            weighted_metrics: Not accepted.
            **kwargs: `steps_per_execution`, `run_eagerly`, `jit_compile` and `auto_scale_loss` of Keras.

        Raises:
            ValueError: A loss or metrics are given.
        """
        refused = {"loss": loss, "loss_weights": loss_weights, "metrics": metrics, "weighted_metrics": weighted_metrics}
        for name, value in refused.items():
            if value is not None:
                raise ValueError(
                    f"compile: {name} is {value!r}, but {type(self).__name__} has its own loss and metrics. "
                    "Give the optimizer alone, and the objective to the model (see kvae.objectives)."
                )
        super().compile(optimizer=optimizer, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile a loaded model; Keras does so only for models without a `compile` of their own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if getattr(self, "optimizer", None) is not None:
            self.optimizer.build(self.trainable_variables)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *args: Any,
        validation_data: Any = None,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Train as `keras.Model.fit` does.

        Training minimises `sum(w * objective) / batch size` with the weights w of the examples, as Keras does. The
        reported figures are weighted means, `sum(w * figure) / sum(w)`, in nats per example. An objective that
        compares the examples of a batch with each other (`TotalCorrelation`) makes that comparison without weights.

        Args:
            x: Examples `[batch, *shape]` in data units, a dataset, or a tuple `(x,)`, `(x, y)` or
                `(x, y, sample_weight)`.
            y: Conditions: an array or list `[batch]`, or a dict of them by name.
            *args: As for Keras.
            validation_data: `(x,)`, `(x, y)`, `(x, y, sample_weight)` with y None for an unconditional model, or a
                dataset.
            class_weight: Weight by class index, for a model with one categorical condition; 1 for other classes.
            sample_weight: Weight of each example, at least 0, `[batch]`.
            **kwargs: As for Keras.

        Returns:
            `keras.callbacks.History`.

        Raises:
            ValueError: The data do not fit the model (shape, range, NaN, labels out of range).
        """
        self.require_data(x)
        x, y, sample_weight = _unpacked(x, y, sample_weight, "fit")
        if class_weight is not None and y is not None:
            if sample_weight is not None:
                raise ValueError("fit: got class_weight and sample_weight. Give one of them.")
            sample_weight = self._weights_of_classes(y, class_weight)
            class_weight = None
        x, y, sample_weight = self._checked(x, y, sample_weight, "fit")
        if isinstance(validation_data, (tuple, list)):
            validation_data = self._checked(
                *_unpacked(validation_data, None, None, "validation_data"), "validation_data"
            )
        elif validation_data is not None:
            self._checked(validation_data, None, None, "validation_data")
        return super().fit(
            x,
            y,
            *args,
            validation_data=validation_data,
            class_weight=class_weight,
            sample_weight=sample_weight,
            **kwargs,
        )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        *args: Any,
        sample_weight: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Compute the figures as `keras.Model.evaluate` does: weighted means, in nats per example.

        Args:
            x: As for `fit`.
            y: As for `fit`.
            *args: As for Keras.
            sample_weight: As for `fit`.
            return_dict: Return a dict by name instead of a list in the order of `metrics_names`.
            **kwargs: As for Keras.
        """
        if not kwargs.get("_use_cached_eval_dataset"):  # `fit` has checked these data
            x, y, sample_weight = self._checked(*_unpacked(x, y, sample_weight, "evaluate"), "evaluate")
        logs = super().evaluate(x, y, *args, sample_weight=sample_weight, return_dict=True, **kwargs)
        return _in_order(logs, return_dict)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Run one training step as `keras.Model.train_on_batch` does; arguments as for `fit`, result of `evaluate`."""
        x, y, sample_weight = _unpacked(x, y, sample_weight, "train_on_batch")
        if class_weight is not None:
            sample_weight = self._weights_of_classes(y, class_weight)
        x, y, sample_weight = self._checked(x, y, sample_weight, "train_on_batch")
        return _in_order(super().train_on_batch(x, y, sample_weight, return_dict=True), return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Evaluate one batch as `keras.Model.test_on_batch` does; arguments and result as for `evaluate`."""
        x, y, sample_weight = self._checked(*_unpacked(x, y, sample_weight, "test_on_batch"), "test_on_batch")
        return _in_order(super().test_on_batch(x, y, sample_weight, return_dict=True), return_dict)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Reconstruct as `keras.Model.predict` does.

        Args:
            x: Examples `[batch, *shape]` in data units, a pair (x, conditions), or a dataset.
            *args: As for Keras.
            **kwargs: As for Keras.

        Returns:
            float32 `[batch, *shape]` in data units.
        """
        x, y, _ = self._checked(*_unpacked(x, None, None, "predict"), "predict")
        return super().predict(x if y is None else (x, y), *args, **kwargs)

    def predict_step(self, data: Any) -> Any:
        """Reconstruct a batch. Keras passes a pair given to `predict` as one x."""
        if isinstance(data, (tuple, list)) and len(data) == 1:
            data = data[0]
        return self(data)

    def require_data(self, x: Any) -> None:
        """Raise ValueError if the backend cannot train on data in this form."""

    @property
    def metrics(self) -> list[Any]:
        """The one metric, which Keras resets at the start of each epoch and evaluation."""
        return [self.totals]

    @property
    def metrics_names(self) -> list[str]:
        """Names of the values that `evaluate` returns as a list."""
        return list(FIGURES)

    def _checked(self, x: Any, y: Any, sample_weight: Any, where: str) -> tuple[Any, Any, Any]:
        """Return x, y and sample_weight in the form that Keras accepts, or raise ValueError.

        Args:
            x: Array, tensor, dataset or generator of examples.
            y: Conditions, as an array, a list, or a dict of them by name; None for an unconditional model.
            sample_weight: Weights `[batch]` or None.
            where: Start of the message, such as `fit`.
        """
        if is_dataset(x):
            for batch in x.take(1):
                first_x, first_y, first_weight = keras.utils.unpack_x_y_sample_weight(batch)
                self._check(to_numpy(first_x), _arrays(first_y), _arrays(first_weight), where)
            return x, y, sample_weight
        if not hasattr(x, "shape"):
            return x, y, sample_weight  # a generator, which Keras checks
        y, sample_weight = _arrays(y), _arrays(sample_weight)
        self._check(to_numpy(x), y, sample_weight, where)
        if y is None and sample_weight is not None:
            y = sample_weight  # Keras drops weights without y, so an unconditional model receives them as both
        return x, y, sample_weight

    def _check(self, x: Any, y: Any, sample_weight: Any, where: str) -> None:
        self.data.check(x, where)
        self.likelihood.check(x, self.data, where)
        if sample_weight is not None:
            _check_weights(sample_weight, len(x), where)
        if y is not None:
            raise ValueError(
                f"{where}: got y, but {type(self).__name__} is unconditional. Leave y out, or use ConditionalVAE."
            )

    def _weights_of_classes(self, y: Any, class_weight: Mapping[int, float]) -> np.ndarray:
        """Return the weight of each example, float32 `[batch]`."""
        labels, num_classes = self._class_index(_arrays(y))
        unknown = [key for key in class_weight if key not in range(num_classes)]
        if unknown:
            raise ValueError(f"class_weight has the keys {unknown}; expected class indices 0 to {num_classes - 1}.")
        weights = np.array([class_weight.get(index, 1.0) for index in range(num_classes)], "float32")
        labels = labels.astype("int64")
        return weights[np.clip(labels, 0, num_classes - 1)]  # `_check` refuses labels out of range


def _unpacked(x: Any, y: Any, sample_weight: Any, where: str) -> tuple[Any, Any, Any]:
    """Split x if it is a tuple or list `(x,)`, `(x, y)` or `(x, y, sample_weight)`."""
    if not isinstance(x, (tuple, list)):
        return x, y, sample_weight
    if not 1 <= len(x) <= 3 or not hasattr(x[0], "shape") or (len(x) > 1 and y is not None):
        raise ValueError(
            f"{where}: x is a {type(x).__name__} of {len(x)}; expected an array [batch, *shape], or a tuple of arrays "
            "(x, y) or (x, y, sample_weight). Use numpy.stack to make one array of several."
        )
    x, inner_y, inner_weight = keras.utils.unpack_x_y_sample_weight(tuple(x))
    return x, y if inner_y is None else inner_y, sample_weight if inner_weight is None else inner_weight


def _check_weights(weights: Any, num: int, where: str) -> None:
    if weights.shape != (num,) or weights.dtype.kind not in "biuf":
        raise ValueError(
            f"{where}: sample_weight has the type {weights.dtype} and the shape {list(weights.shape)}; "
            f"expected numbers [{num}]."
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(f"{where}: sample_weight has NaN, infinite or negative values, or only zeros.")


def _arrays(values: Any) -> Any:
    """Return values as arrays `[batch]`, also those given as lists or as columns `[batch, 1]`."""
    if values is None:
        return None
    if isinstance(values, Mapping):
        return {name: _arrays(each) for name, each in values.items()}
    values = to_numpy(values)
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _in_order(logs: Any, return_dict: bool) -> Any:
    return logs if return_dict else [logs[name] for name in FIGURES]
