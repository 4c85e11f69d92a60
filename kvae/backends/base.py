"""Attributes and helpers that the training steps of all backends share."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

# For type checkers `super()` is anything; at run time it is the next base class of the model.
_Next: Any = object


class StepBase(_Next):
    """Mixin for `keras.Model`: attributes that the steps use, and the logs of the last execution."""

    # From the model.
    seed: int
    totals: Any
    terms: Callable
    objective: Any
    beta_at: Callable
    # From Keras.
    optimizer: Any
    losses: Any
    trainable_variables: Any
    non_trainable_variables: Any
    metrics_variables: Any
    train_function: Any
    test_function: Any
    run_eagerly: bool
    jit_compile: bool
    distribute_strategy: Any
    #: `latest.logs` are the logs of the last execution, on the device. Reading a value waits for the device.
    latest: SimpleNamespace

    def keep_logs(self, function: Callable) -> Callable:
        """Wrap a train function that returns logs so that `latest.logs` holds them."""
        # A namespace, because Keras wraps each dict that is assigned to a model, at every step.
        self.latest = latest = SimpleNamespace(logs={})

        def train_function(data):
            latest.logs = function(data)
            return latest.logs

        return train_function


def named_losses(loss, reconstruction, kl) -> dict[str, Any]:
    """Return the losses by the names that Keras shows; `elbo` is the unweighted bound."""
    return {"loss": loss, "elbo": -reconstruction - kl, "reconstruction": reconstruction, "kl": kl}
