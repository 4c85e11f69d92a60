"""Training methods of Keras with validated data: `fit`, `evaluate`, `predict` and the two `*_on_batch` methods.

Keras accepts any data. With a label out of range or pixels in other units it would train a wrong model, or report a
wrong elbo, without an error. So arrays are checked as a whole, and of a `tf.data.Dataset` the first batch.
"""

from collections.abc import Mapping
from typing import Any

import keras

from kvae.backends import is_dataset, to_numpy
from kvae.dataloaders.device import ResidentRows

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

    def fit(self, x: Any = None, y: Any = None, *args: Any, validation_data: Any = None, **kwargs: Any) -> Any:
        """Train as `keras.Model.fit` does.

        Args:
            x: Examples `[batch, *shape]` in data units, a dataset, or a tuple (x, y).
            y: Conditions: an array or list `[batch]`, or a dict of them by name.
            *args: As for Keras.
            validation_data: (x,), (x, y) or a dataset.
            **kwargs: As for Keras.

        Returns:
            `keras.callbacks.History`.

        Raises:
            ValueError: The data do not fit the model (shape, range, NaN, labels out of range).
        """
        for name in ("class_weight", "sample_weight"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"{name} is not supported, for every example counts once in the elbo; repeat or draw the examples "
                    "that should count more."
                )
        self.require_data(x)
        x, y = self.checked(x, y, "fit")
        if isinstance(validation_data, (tuple, list)):
            if len(validation_data) > 2:
                raise ValueError("validation_data is (x, y) without weights: every example counts once in the elbo.")
            validation_data = self._checked_pair(validation_data, "validation_data")
        elif validation_data is not None:
            self.checked(validation_data, None, "validation_data")
        return super().fit(x, y, *args, validation_data=validation_data, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, return_dict: bool = False, **kwargs: Any) -> Any:
        """Compute the figures as `keras.Model.evaluate` does, in nats per example.

        Args:
            x: As for `fit`.
            y: As for `fit`.
            *args: As for Keras.
            return_dict: Return a dict by name instead of a list in the order of `metrics_names`.
            **kwargs: As for Keras.
        """
        if not kwargs.get("_use_cached_eval_dataset"):  # `fit` has checked these data
            x, y = self.checked(x, y, "evaluate")
        return _in_order(super().evaluate(x, y, *args, return_dict=True, **kwargs), return_dict)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, return_dict: bool = False, **kwargs: Any) -> Any:
        """Run one training step as `keras.Model.train_on_batch` does; arguments and result as for `evaluate`."""
        x, y = self.checked(x, y, "train_on_batch")
        return _in_order(super().train_on_batch(x, y, *args, return_dict=True, **kwargs), return_dict)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, return_dict: bool = False, **kwargs: Any) -> Any:
        """Evaluate one batch as `keras.Model.test_on_batch` does; arguments and result as for `evaluate`."""
        x, y = self.checked(x, y, "test_on_batch")
        return _in_order(super().test_on_batch(x, y, *args, return_dict=True, **kwargs), return_dict)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Reconstruct as `keras.Model.predict` does.

        Args:
            x: Examples `[batch, *shape]` in data units, a pair (x, conditions), or a dataset.
            *args: As for Keras.
            **kwargs: As for Keras.

        Returns:
            float32 `[batch, *shape]` in data units.
        """
        if isinstance(x, (tuple, list)):
            x = self._checked_pair(x, "predict")
            x = x if len(x) > 1 else x[0]
        else:
            x, _ = self.checked(x, None, "predict")
        return super().predict(x, *args, **kwargs)

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

    def checked(self, x: Any, y: Any, where: str) -> tuple[Any, Any]:
        """Return `x` and `y` in the form that Keras accepts, or raise ValueError.

        Args:
            x: Array, tensor, dataset or generator of examples. Data on the device were checked before; they receive the
                number of steps of one execution.
            y: Conditions, as an array, a list, or a dict of them by name; None for an unconditional model.
            where: Start of the message, such as `fit`.
        """
        if isinstance(x, ResidentRows):
            if where == "predict":
                return x.by_batch(), y
            x.steps_at_once = self.steps_per_execution
            return x, y
        if is_dataset(x):
            for batch in x.take(1):
                first_x, first_y, _ = keras.utils.unpack_x_y_sample_weight(batch)
                self._check(to_numpy(first_x), _arrays(first_y), where)
            return x, y
        if not hasattr(x, "shape"):
            return x, y  # a generator, which Keras checks
        y = _arrays(y)
        self._check(to_numpy(x), y, where)
        return x, y

    def _checked_pair(self, pair: Any, where: str) -> tuple[Any, ...]:
        """Check `(x,)` or `(x, y)` and return a tuple of the same length."""
        x, y = self.checked(pair[0], pair[1] if len(pair) > 1 else None, where)
        return (x,) if y is None else (x, y)

    def _check(self, x: Any, y: Any, where: str) -> None:
        self.data.check(x, where)
        self.likelihood.check(x, self.data, where)
        if y is not None:
            raise ValueError(
                f"{where}: got y, but {type(self).__name__} is unconditional. Leave y out, or use ConditionalVAE."
            )


def _arrays(y: Any) -> Any:
    """Return conditions as arrays `[batch]`, also those given as lists or as columns `[batch, 1]`."""
    if y is None:
        return None
    if isinstance(y, Mapping):
        return {name: _arrays(values) for name, values in y.items()}
    y = to_numpy(y)
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def _in_order(logs: Any, return_dict: bool) -> Any:
    return logs if return_dict else [logs[name] for name in FIGURES]
