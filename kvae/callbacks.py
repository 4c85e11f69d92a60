"""What watches a run of `fit`: progress on standard error, Ctrl-C, NaN, and the model kept safe on the way."""

import math
import os
import signal
import sys
import threading
import time
from pathlib import Path

import keras

from serve_cli.errors import VerificationError

#: Keras names of the figures and what progress calls them, in their order.
_FIGURES = {"elbo": "elbo", "val_elbo": "validation", "reconstruction": "reconstruction", "kl": "kl", "beta": "beta"}


class Progress(keras.callbacks.Callback):
    """One line an epoch on standard error; within the epoch a line that moves, where that is a terminal."""

    def __init__(self, epochs, stream=None):
        super().__init__()
        self._epochs, self._stream = epochs, stream or sys.stderr
        self._live = self._stream.isatty()
        self._drawn = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self._epoch, self._start = epoch + 1, time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        """Move the line, ten times a second at most."""
        now = time.monotonic()
        if self._live and now - self._drawn > 0.1:
            self._drawn = now
            steps = self.params.get("steps") or batch + 1
            done = round(20 * min(batch + 1, steps) / steps)
            bar = "━" * done + "╌" * (20 - done)
            self._stream.write(f"\r\x1b[K{self._head()}  {bar}  {_figures(logs)}")
            self._stream.flush()

    def on_epoch_end(self, epoch, logs=None):
        """The epoch's line."""
        if self._live:
            self._stream.write("\r\x1b[K")
        seconds = time.monotonic() - self._start
        self._stream.write(f"{self._head()}  {_figures(logs)}  {seconds:.1f} s\n")
        self._stream.flush()

    def _head(self):
        return f"epoch {self._epoch:{len(str(self._epochs))}d}/{self._epochs}"


class StopOnInterrupt(keras.callbacks.Callback):
    """The first Ctrl-C ends training after the step under way; a second one raises KeyboardInterrupt as ever."""

    def __init__(self):
        super().__init__()
        self.interrupted = False
        self._previous = None

    def on_train_begin(self, logs=None):
        """Take over Ctrl-C (signal handlers live in the main thread alone)."""
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)

    def on_train_batch_end(self, batch, logs=None):
        """Tell Keras to stop."""
        if self.interrupted:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        """As after a batch: the signal may have come during validation."""
        self.on_train_batch_end(epoch, logs)

    def restore(self):
        """Give Ctrl-C back to whoever had it; also after an error, when Keras calls no callback."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _on_signal(self, number, frame):
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True


class StopOnNaN(keras.callbacks.Callback):
    """Ends the run with an error as soon as the loss is no number: nothing good comes after it."""

    def on_train_batch_end(self, batch, logs=None):
        """Look at the loss of the step."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(float(loss)):
            raise VerificationError(
                f"The loss became {float(loss)} in step {int(self.model.optimizer.iterations)}; "
                "the model saved last is kept. Try a lower --learning-rate."
            )


class KeepModel(keras.callbacks.Callback):
    """Saves the model whole (aside, synced, renamed) once a minute and at the end of training.

    Args:
        path: the `.keras` file.
        seconds: least time between two saves.
    """

    def __init__(self, path, seconds=60.0):
        super().__init__()
        self._path, self._seconds = Path(path), seconds
        self._saved = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Save where it is time."""
        if time.monotonic() - self._saved >= self._seconds:
            self.save()

    def save(self):
        """Save now."""
        aside = self._path.with_name(f".{os.getpid()}.{self._path.name}")
        try:
            self.model.save(aside)
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
            aside.replace(self._path)
        finally:
            aside.unlink(missing_ok=True)
        self._saved = time.monotonic()


def _figures(logs):
    logs = logs or {}
    return "  ".join(f"{shown} {float(logs[name]):.5g}" for name, shown in _FIGURES.items() if name in logs)
