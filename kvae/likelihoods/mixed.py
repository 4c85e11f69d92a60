"""The likelihood of a table's row: a Gaussian for each number, a categorical for each class, independent given z."""

import math
from typing import Any

import numpy as np
from keras import ops

from kvae.backends import batch_mean
from kvae.likelihoods.base import Likelihood
from kvae.loss_terms import LOG_2_PI
from kvae.serialization import register
from kvae_serve.readers.csv import graph_name

# Standard deviations of 0.01 to 12 times a column's own: a finer one would make log p a matter of rounding.
MIN_LOG_VAR, MAX_LOG_VAR = -9.0, 5.0
_MOMENTUM = 0.95


@register("likelihoods.Mixed")
class Mixed(Likelihood):
    """Each numeric column is normal with a standard deviation of its own, each categorical one has its probabilities.

    Unit data and parameters have the layout of `kvae.data.TableSpec`: first the numbers (standardised; the means of
    p), then for each categorical column one value a class (one-hot; logits).

    Args:
        columns: name and number of classes of each column, 0 for a number: `[["age", 0], ["colour", 3]]`.
            `Mixed.from_spec(spec)` takes them from a `TableSpec`.
        sigma: the standard deviations of the numbers. `"optimal"` takes for each column the one that is most likely
            given the errors of the batch, and remembers a running mean of it (see `Gaussian`); `"shared"` learns one
            for each column by gradient; a number fixes it, in scales of the column.
    """

    kind = "mixed"
    is_density = True

    def __init__(self, columns, sigma="optimal", **kwargs):
        super().__init__(**kwargs)
        self.columns: list[Any] = [[str(name), int(num)] for name, num in columns]
        if not self.columns or min(num for _, num in self.columns) < 0:
            raise ValueError(f"columns must be pairs of a name and a number of classes (0 for numbers), got {columns}.")
        if isinstance(sigma, str):
            if sigma not in ("optimal", "shared"):
                raise ValueError(f'sigma of a table must be a number, "optimal" or "shared", got {sigma!r}.')
        elif not (math.isfinite(sigma) and sigma > 0):
            raise ValueError(f"sigma must be a positive number, got {sigma}.")
        self.sigma = sigma
        self.num_classes = [num for _, num in self.columns if num]
        self.num_numeric = len(self.columns) - len(self.num_classes)
        self.log_var: Any = None
        if self.num_numeric and isinstance(sigma, str):
            self.log_var = self.add_weight(
                (self.num_numeric,), initializer="zeros", trainable=sigma == "shared",
                aggregation="only_first_replica", name="log_var",
            )  # fmt: skip

    @classmethod
    def from_spec(cls, spec, sigma="optimal"):
        """The likelihood of a `TableSpec`'s rows."""
        return cls([[column["name"], len(column.get("classes", ()))] for column in spec.columns], sigma)

    @property
    def probability_names(self):
        """For each column the name of the output that has its probabilities; None for a number."""
        names: list[str | None] = []
        for index, (column, num) in enumerate(self.columns):
            name = f"x_probability_{graph_name(column).strip('_')}".rstrip("_")
            names.append(None if not num else f"{name}_{index}" if name in names or name == "x_probability" else name)
        return names

    def nll(self, x, parameters, training=False):
        """-log p of each column, summed, float32 `[batch]`, in nats."""
        nll = 0.0
        if self.num_numeric:
            squares = ops.square(x[:, : self.num_numeric] - parameters[:, : self.num_numeric])
            log_var = self._log_var()
            if self.sigma == "optimal" and training:
                log_var = ops.clip(ops.log(batch_mean(squares) + 1e-12), MIN_LOG_VAR, MAX_LOG_VAR)
                self.log_var.assign(_MOMENTUM * self.log_var + (1.0 - _MOMENTUM) * ops.stop_gradient(log_var))
            nll += 0.5 * ops.sum(LOG_2_PI + log_var + squares * ops.exp(-log_var), axis=1)
        for one_hot, logits in zip(self._by_column(x), self._by_column(parameters), strict=True):
            nll -= ops.sum(one_hot * ops.log_softmax(logits, axis=-1), axis=1)
        return nll

    def mean(self, parameters):
        """Means of the numbers and probabilities of the classes, float32 `[batch, num_features]`."""
        parts = [parameters[:, : self.num_numeric]] if self.num_numeric else []
        parts += [ops.softmax(logits, axis=-1) for logits in self._by_column(parameters)]
        return ops.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

    def outputs(self, parameters, data):
        """Log variance of the numbers, in squared data units (0 at a class), and each column's probabilities."""
        outputs = {}
        if self.num_numeric:
            scales = np.array([column.get("scale", 1.0) for column in data.columns])
            own = np.array([num == 0 for _, num in self.columns])
            place = np.zeros((self.num_numeric, len(own)), "float32")
            place[np.arange(self.num_numeric), np.flatnonzero(own)] = 1.0
            log_var = ops.matmul(ops.reshape(self._log_var(), (1, -1)), place) + (2.0 * np.log(scales)).astype(
                "float32"
            )
            outputs["x_log_var"] = log_var + 0.0 * parameters[:, :1]
        names = [name for name in self.probability_names if name]
        for name, logits in zip(names, self._by_column(parameters), strict=True):
            outputs[name] = ops.softmax(logits, axis=-1)
        return outputs

    def output_shapes(self, shape):
        """`x_log_var` has one value a column, probabilities one a class."""
        shapes = {"x_log_var": tuple(shape)} if self.num_numeric else {}
        names = zip(self.probability_names, self.columns, strict=True)
        return shapes | {name: (num,) for name, (_, num) in names if name}

    def initial_bias(self, mean):
        """The means of the numbers, and the logs of the classes' shares, of which none is taken as less than 0.1 %."""
        shares = np.log(np.clip(np.asarray(mean, "float32"), 1e-3, None))
        return np.concatenate([np.asarray(mean, "float32")[: self.num_numeric], shares[self.num_numeric :]])

    def check(self, x, data, where):
        """The data must be a table of these columns."""
        found = [[c["name"], len(c.get("classes", ()))] for c in getattr(data, "columns", [])]
        if found != self.columns:
            raise ValueError(
                f"{where}: a mixed likelihood of {len(self.columns)} columns needs a TableSpec of the same, got "
                f"{data.kind} data with {len(found)} columns; build it with Mixed.from_spec(spec)."
            )

    def manifest(self):
        """Name, form of sigma, and the output that holds each column's probabilities (null for a number)."""
        return {"name": self.kind, "sigma": self.sigma, "probabilities": self.probability_names}

    def get_config(self):
        """The arguments, for Keras."""
        return {**super().get_config(), "columns": self.columns, "sigma": self.sigma}

    def _log_var(self):
        if self.log_var is None:
            return ops.full((self.num_numeric,), 2.0 * math.log(self.sigma), "float32")
        return ops.clip(ops.convert_to_tensor(self.log_var), MIN_LOG_VAR, MAX_LOG_VAR)

    def _by_column(self, features):
        """The slice `[batch, classes]` of each categorical column."""
        start = self.num_numeric
        for num in self.num_classes:
            yield features[:, start : start + num]
            start += num
