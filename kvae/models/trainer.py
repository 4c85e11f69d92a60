"""What a Keras user touches: `fit`, `evaluate`, `predict` and their kin, with the data looked at before they are used.

Keras takes what it is given; a label out of range or pixels in other units would train a model, or report an elbo, that
is wrong without a word. So arrays are checked whole, and of a `tf.data.Dataset` the first batch.
"""

from typing import Any

import keras

from kvae.backends import is_dataset, to_numpy
from kvae.dataloaders.device import ResidentRows

# For type checkers `super()` is anything; at run time it is `keras.Model`, the next of the model's bases.
_Keras: Any = object

#: The order of figures where Keras wants a list; `evaluate(...)[0]` is the loss, as with any Keras model.
FIGURES = ("loss", "elbo", "reconstruction", "kl")


class KerasFace(_Keras):
    """Mixin for `VAE`: comes before `keras.Model` among the bases, so that `super()` is Keras' own."""

    # What the model brings, and what Keras does.
    data: Any
    likelihood: Any
    totals: Any
    compiled: Any
    loss: Any
    _compile_metrics: Any
    distribute_strategy: Any
    steps_per_execution: int

    def fit(self, x=None, y=None, *args, validation_data=None, **kwargs):
        """As `keras.Model.fit`; `y` holds the conditions: an array, a list, or a dict of them by name.

        Raises:
            ValueError: where the data do not fit the model (shape, range, NaN, labels out of range), where weights of
                examples or classes are given, or where the model was compiled with a loss or metrics of its own.
        """
        if self.compiled and (self.loss or self._compile_metrics):
            raise ValueError(
                f"{type(self).__name__} brings its own loss and metrics: compile it with an optimizer alone."
            )
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

    def evaluate(self, x=None, y=None, *args, return_dict=False, **kwargs):
        """As `keras.Model.evaluate`; a list is in the order of `metrics_names`."""
        if not kwargs.get("_use_cached_eval_dataset"):  # what `fit` hands over was checked there
            x, y = self.checked(x, y, "evaluate")
        return _in_order(super().evaluate(x, y, *args, return_dict=True, **kwargs), return_dict)

    def train_on_batch(self, x, y=None, *args, return_dict=False, **kwargs):
        """As `keras.Model.train_on_batch`; a list is in the order of `metrics_names`."""
        x, y = self.checked(x, y, "train_on_batch")
        return _in_order(super().train_on_batch(x, y, *args, return_dict=True, **kwargs), return_dict)

    def test_on_batch(self, x, y=None, *args, return_dict=False, **kwargs):
        """As `keras.Model.test_on_batch`; a list is in the order of `metrics_names`."""
        x, y = self.checked(x, y, "test_on_batch")
        return _in_order(super().test_on_batch(x, y, *args, return_dict=True, **kwargs), return_dict)

    def predict(self, x, *args, **kwargs):
        """As `keras.Model.predict`: reconstruct x, or a pair (x, conditions), in data units."""
        if isinstance(x, (tuple, list)):
            x = self._checked_pair(x, "predict")
            x = x if len(x) > 1 else x[0]
        else:
            x, _ = self.checked(x, None, "predict")
        return super().predict(x, *args, **kwargs)

    def predict_step(self, data):
        """Reconstruct a batch; Keras hands a pair given to `predict` over as one x."""
        if isinstance(data, (tuple, list)) and len(data) == 1:
            data = data[0]
        return self(data)

    def require_data(self, x):
        """Raise ValueError where `fit` cannot take data in this form; a backend may have something to say."""

    @property
    def metrics(self):
        """The one metric, which Keras resets at the start of each epoch and evaluation."""
        return [self.totals]

    @property
    def metrics_names(self):
        """Names of what `evaluate` returns as a list."""
        return list(FIGURES)

    def checked(self, x, y, where):
        """Return `x` and `y` as `fit` takes them, or raise ValueError.

        Args:
            x: array, tensor, dataset or generator of examples. Data that lie on the device were looked at before, and
                are told how many steps run at once.
            y: conditions, as an array, a list, or a dict of them by name; None where there are none.
            where: what the data are for, for the message.
        """
        if isinstance(x, ResidentRows):
            if where == "predict":
                return x.by_batch(), y
            x.steps_at_once = self.steps_per_execution
            return x, y
        if is_dataset(x):
            for batch in x.take(1):
                x_seen, y_seen, _ = keras.utils.unpack_x_y_sample_weight(batch)
                self._check(to_numpy(x_seen), _arrays(y_seen), where)
            return x, y
        if not hasattr(x, "shape"):
            return x, y  # a generator, or what Keras itself has to say something about
        y = _arrays(y)
        self._check(to_numpy(x), y, where)
        return x, y

    def _checked_pair(self, pair, where):
        """As `checked`, for `(x,)` or `(x, y)`; returns a tuple of as many."""
        x, y = self.checked(pair[0], pair[1] if len(pair) > 1 else None, where)
        return (x,) if y is None else (x, y)

    def _check(self, x, y, where):
        self.data.check(x, where)
        self.likelihood.check(x, self.data, where)
        if y is not None:
            raise ValueError(
                f"{where}: {type(self).__name__} is given x alone, got a y too; ConditionalVAE takes conditions."
            )


def _arrays(y):
    """Conditions as arrays `[batch]`: of lists too, and of single columns."""
    if y is None:
        return None
    if isinstance(y, dict):
        return {name: _arrays(values) for name, values in y.items()}
    y = to_numpy(y)
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def _in_order(logs, return_dict):
    return logs if return_dict else [logs[name] for name in FIGURES]
