"""Base class of all likelihoods, and helpers that several of them share."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.backends.current import batch_mean
from kvae.data.disk import chunks, subsample
from kvae.data.spec import DataSpec
from kvae.types import Shape, Tensor

#: Rows that are checked of data that stay on disk.
_NUM_CHECKED = 5000
#: Of the running mean of an optimal variance.
_MOMENTUM = 0.95


class Likelihood(keras.layers.Layer):
    """Base class of all likelihoods. It is a layer, so that learned parameters are saved with the model.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Example:
        >>> isinstance(kvae.likelihoods.Bernoulli(), kvae.likelihoods.Likelihood)
        True
    """

    #: Name in the manifest of an exported file.
    kind: str
    #: Numbers in the decoder's output for each data value.
    num_parameters = 1
    #: Further numbers in the decoder's output, after those of the values.
    num_extra = 0
    #: Whether p(x given z) is a density, which has a unit, and not a probability.
    is_density = False
    #: Whether the data are tables.
    for_tables = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.built = True

    def target(self, x: Tensor, noise: Any) -> Tensor:
        """Return the values to model in this step: `x`, or a draw that depends on it.

        Args:
            x: Unit data, float32 `[batch, *data]`.
            noise: Noise of the step, see `kvae.backends`.

        Returns:
            float32 `[batch, *data]`.
        """
        return x

    def nll(self, x: Tensor, parameters: Tensor, training: bool = False) -> Tensor:
        """Compute -log p(x given z), with all constants.

        Args:
            x: Unit data, float32 `[batch, *data]`.
            parameters: The decoder's output, `[batch, *data]` with the last axis `num_parameters` times as long.
            training: Whether this is a training step; some likelihoods update a running mean in it.

        Returns:
            float32 `[batch]`, in nats.
        """
        raise NotImplementedError

    def mean(self, parameters: Tensor) -> Tensor:
        """Compute the mean of p(x given z).

        Args:
            parameters: The decoder's output.

        Returns:
            Unit data, float32 `[batch, *data]`.
        """
        raise NotImplementedError

    def outputs(self, parameters: Tensor, data: DataSpec) -> dict[str, Tensor]:
        """Compute the further outputs of the decoder graph: everything that is needed to draw x.

        Args:
            parameters: The decoder's output.
            data: The model's `DataSpec`.

        Returns:
            Tensors by name, in data units.
        """
        return {}

    def output_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each of `outputs` without the batch axis.

        Args:
            shape: Shape of one example.
        """
        return {}

    def initial_bias(self, mean: Tensor) -> Tensor | None:
        """Return initial values for the decoder's last bias, or None for zeros.

        Args:
            mean: Mean of the unit data, float32 `[*data]`.

        Returns:
            float32 `[*data]` with the last axis `num_parameters` times as long.
        """
        return None

    def check(self, x: Any, data: DataSpec, context: str) -> None:
        """Check that this likelihood can model the data.

        Args:
            x: NumPy array or `OnDisk`, in data units.
            data: The model's `DataSpec`.
            context: First words of the message, such as the name of the method.

        Raises:
            ValueError: If it cannot. The message names the reason and the remedy.
        """

    def manifest(self) -> dict[str, Any]:
        """Return the description for the manifest of an exported file, as JSON."""
        return {"name": self.kind}


def first_match(x: Any, condition: Callable[[np.ndarray], np.ndarray]) -> float | None:
    """Return the first value that meets a condition, or None. Of data on disk, only a sample of rows is checked."""
    for chunk in chunks(subsample(x, _NUM_CHECKED)):
        if (matches := condition(chunk)).any():
            return float(chunk[matches][0])
    return None


def is_fraction(x: np.ndarray) -> np.ndarray:
    """Return the mask of the values that are not integers."""
    return x != x.round()


def check_sigma(sigma: float | str, names: tuple[str, ...]) -> None:
    """Raise ValueError unless `sigma` is one of the names or a positive number."""
    if isinstance(sigma, str):
        if sigma not in names:
            allowed = ", ".join(f'"{name}"' for name in names)
            raise ValueError(f"sigma must be a positive number or one of {allowed}, got {sigma!r}.")
    elif not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma must be a positive number, got {sigma}.")


def optimal_log_var(squares: Tensor, running: Any, bounds: tuple[float, float]) -> Tensor:
    """Return the log variance that is most likely given the squared errors of a batch, and update its running mean."""
    log_var = ops.clip(ops.log(batch_mean(squares) + 1e-12), *bounds)
    running.assign(_MOMENTUM * running + (1.0 - _MOMENTUM) * ops.stop_gradient(log_var))
    return log_var
