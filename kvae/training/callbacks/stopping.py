"""Reasons to end a run: Ctrl-C, a loss that is no number, and a validation elbo that no longer rises."""

import math
import signal
import threading
import time

import keras
import numpy as np

from kvae_serve.errors import VerificationError


class StopOnInterrupt(keras.callbacks.Callback):
    """The first Ctrl-C ends training after the step under way; a second one raises KeyboardInterrupt as ever.

    Args:
        on_any: where several workers train together: function that all call, which tells whether a flag is set on one.
            They end together then, after the epoch under way.
    """

    def __init__(self, on_any=None):
        super().__init__()
        self.interrupted, self._on_any = False, on_any
        self._previous = None

    def on_train_begin(self, logs=None):
        """Take over Ctrl-C (signal handlers live in the main thread alone)."""
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)

    def on_epoch_end(self, epoch, logs=None):
        """Ask the other workers, where there are any."""
        if self._on_any:
            self.interrupted = self._on_any(self.interrupted)
            self.model.stop_training |= self.interrupted

    def restore(self):
        """Give Ctrl-C back to whoever had it; also after an error, when Keras calls no callback."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _on_signal(self, number, frame):
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        if not self._on_any:
            self.model.stop_training = True  # which Keras reads after each execution


class StopOnNaN(keras.callbacks.Callback):
    """Ends the run with an error where the loss is no number: nothing good comes after it.

    None is missed between two looks, for the loss is a mean over the epoch so far.

    Args:
        seconds: between two looks, which wait for the device; there is one at the end of each epoch too. 0: one after
            each execution, so that workers that train together stop together.
    """

    def __init__(self, seconds=1.0):
        super().__init__()
        self._seconds, self._looked = seconds, 0.0

    def on_train_batch_begin(self, batch, logs=None):
        """Look at the loss of the steps before."""
        if batch and time.monotonic() - self._looked >= self._seconds:
            self._look("loss", self.model.latest.logs)
            self._looked = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Look at the loss of the validation data too."""
        self._look("loss", logs)
        self._look("val_loss", logs)

    def _look(self, name, logs):
        loss = float((logs or {}).get(name, 0.0))
        if not math.isfinite(loss):
            what = "loss" if name == "loss" else "loss on the validation data"
            raise VerificationError(
                f"The {what} became {loss} by step {self.model.steps_done()}; "
                "what was saved before is kept. Try a lower --learning-rate."
            )


class StopEarly(keras.callbacks.Callback):
    """Ends the run where the validation elbo has not risen for some epochs; keeps the weights of the best one.

    Args:
        patience: how many epochs.
        state: what `state` was when the run stopped before.
        weights: what `weights` were then.
    """

    def __init__(self, patience, state=None, weights=None):
        super().__init__()
        self.patience = patience
        self.state = state or {"best": None, "epoch": 0, "waited": 0}
        self.weights = weights or {}

    @property
    def is_over(self):
        """Whether patience has run out."""
        return self.state["waited"] >= self.patience

    def on_epoch_end(self, epoch, logs=None):
        """Compare with the best epoch so far."""
        elbo = float((logs or {})["val_elbo"])
        if self.state["best"] is None or elbo > self.state["best"]:
            self.state = {"best": elbo, "epoch": epoch + 1, "waited": 0}
            self.weights = {f"best/{i}": np.array(variable.numpy()) for i, variable in enumerate(self.model.variables)}
        else:
            self.state = {**self.state, "waited": self.state["waited"] + 1}
        if self.is_over:
            self.model.stop_training = True

    def take_best(self, model):
        """Give the model the weights of the best epoch."""
        for index, variable in enumerate(model.variables):
            variable.assign(self.weights[f"best/{index}"])
