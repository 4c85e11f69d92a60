"""Callbacks that stop training: at Ctrl-C, if the loss is NaN, and if the validation elbo stops rising."""

import math
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kvae_serve.errors import VerificationError

Logs = dict[str, Any] | None


class StopOnInterrupt(keras.callbacks.Callback):
    """Stop training after the current step at the first Ctrl-C. The second one raises KeyboardInterrupt.

    If the caller handles SIGTERM, SIGHUP or SIGBREAK, as the command does, they stop training too.

    Args:
        any_worker: If several workers train together: function that returns whether its argument is true on any of
            them. All stop together then, after the current epoch.

    Attributes:
        interrupted: Whether Ctrl-C was pressed, or such a signal received.
        pending: The signal, if it was not Ctrl-C. Raise it again after everything is saved.
    """

    def __init__(self, any_worker: Callable[[bool], bool] | None = None):
        super().__init__()
        self.interrupted, self._any_worker = False, any_worker
        self._previous: dict[int, Any] = {}
        self.pending: int | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        """Install the signal handler, which is possible only in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        names = {"SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"} & set(dir(signal))
        for number in {getattr(signal, name) for name in names}:
            # Workers that train together notice the loss of one sooner than its signal.
            if number == signal.SIGINT or (callable(signal.getsignal(number)) and not self._any_worker):
                self._previous[number] = signal.signal(number, self._on_signal)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Ask the other workers, if there are any."""
        if self._any_worker:
            self.interrupted = self._any_worker(self.interrupted)
            self.model.stop_training |= self.interrupted

    def restore(self) -> None:
        """Restore the previous signal handlers. After an error Keras does not call `on_train_end`."""
        for number, previous in self._previous.items():
            if previous is not None:
                signal.signal(number, previous)
        self._previous = {}

    def _on_signal(self, number: int, frame: Any) -> None:
        if number != signal.SIGINT:
            self.pending = number
        elif self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        if not self._any_worker:
            self.model.stop_training = True  # Keras reads it after each call into the backend.


class StopOnNaN(keras.callbacks.Callback):
    """Raise VerificationError if the loss becomes infinite or NaN.

    Checking only now and then is enough: a NaN stays in the running mean of the epoch.

    Args:
        seconds: Time between two checks, which wait for the device. The end of each epoch is always checked. 0: check
            after every call into the backend, so that workers that train together stop together.

    Example:
        >>> model = kvae.VAE.dense((4,), latent_dim=2, hidden=(5,))
        >>> model.compile("adam")
        >>> _ = model.fit(np.zeros((8, 4), "uint8"), verbose=0, callbacks=[kvae.callbacks.StopOnNaN()])
    """

    def __init__(self, seconds: float = 1.0):
        super().__init__()
        self._seconds, self._last = seconds, 0.0

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Check the loss of the steps before."""
        if batch and time.monotonic() - self._last >= self._seconds:
            self._check("loss", self.model.latest.logs)
            self._last = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Check the loss, on validation data too."""
        self._check("loss", logs)
        self._check("val_loss", logs)

    def _check(self, name: str, logs: Logs) -> None:
        loss = float((logs or {}).get(name, 0.0))
        if not math.isfinite(loss):
            subject = "loss" if name == "loss" else "loss on the validation data"
            raise VerificationError(
                f"The {subject} became {loss} by step {self.model.steps_done()}. "
                "What was saved before is kept. Try a lower --learning-rate."
            )


class EarlyStopping(keras.callbacks.Callback):
    """Stop if the validation elbo has not risen for some epochs, and keep the weights of the best epoch.

    Unlike `keras.callbacks.EarlyStopping` its state can be saved in a checkpoint.

    Args:
        patience: Number of epochs without a better validation elbo.
        state: The attribute `state` of the interrupted run.
        weights: The attribute `weights` of the interrupted run.

    Attributes:
        state: `best` (elbo in nats per example), `epoch` (of the best) and `waited` (epochs since then), as JSON.
        weights: Arrays of the best epoch, by name.

    Example:
        >>> x = np.zeros((8, 4), "uint8")
        >>> model = kvae.VAE.dense((4,), latent_dim=2, hidden=(5,))
        >>> model.compile("adam")
        >>> stopping = kvae.callbacks.EarlyStopping(patience=2)
        >>> _ = model.fit(x, validation_data=(x,), epochs=2, verbose=0, callbacks=[stopping])
        >>> stopping.is_over
        False
    """

    def __init__(
        self, patience: int, state: dict[str, Any] | None = None, weights: dict[str, np.ndarray] | None = None
    ):
        super().__init__()
        self.patience = patience
        self.state = state or {"best": None, "epoch": 0, "waited": 0}
        self.weights = weights or {}

    @property
    def is_over(self) -> bool:
        """True if the patience is used up."""
        return self.state["waited"] >= self.patience

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Compare with the best epoch so far."""
        elbo = float((logs or {})["val_elbo"])
        if self.state["best"] is None or elbo > self.state["best"]:
            self.state = {"best": elbo, "epoch": epoch + 1, "waited": 0}
            self.weights = {f"best/{i}": np.array(variable.numpy()) for i, variable in enumerate(self.model.variables)}
        else:
            self.state = {**self.state, "waited": self.state["waited"] + 1}
        if self.is_over:
            self.model.stop_training = True

    def restore_best(self, model: keras.Model) -> None:
        """Assign the weights of the best epoch to a model."""
        for index, variable in enumerate(model.variables):
            variable.assign(self.weights[f"best/{index}"])
