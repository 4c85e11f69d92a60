"""Progress on standard error: one line an epoch."""

import sys
import time

import keras

#: Keras names of the figures and what progress calls them, in their order.
_FIGURES = {
    "elbo": "elbo", "val_elbo": "validation", "reconstruction": "reconstruction", "kl": "kl", "beta": "beta",
    "active_units": "active", "val_active_units": "active",
}  # fmt: skip


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

    def on_train_batch_begin(self, batch, logs=None):
        """Move the line, ten times a second at most: the figures are on the device, and a look at them waits for it."""
        now = time.monotonic()
        if self._live and batch and now - self._drawn > 0.1:
            steps = self.params.get("steps") or batch
            done = round(20 * min(batch, steps) / steps)
            bar = "━" * done + "╌" * (20 - done)
            self._stream.write(f"\r\x1b[K{self._head()}  {bar}  {_figures(self.model.latest.logs)}")
            self._stream.flush()
            self._drawn = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """The epoch's line."""
        if self._live:
            self._stream.write("\r\x1b[K")
        seconds = time.monotonic() - self._start
        self._stream.write(f"{self._head()}  {_figures(logs)}  {seconds:.1f} s\n")
        self._stream.flush()

    def _head(self):
        return f"epoch {self._epoch:{len(str(self._epochs))}d}/{self._epochs}"


def say(line, stream=None):
    """Write one line to standard error, in place of a line that moves there."""
    stream = stream or sys.stderr
    stream.write(("\r\x1b[K" if stream.isatty() else "") + line + "\n")
    stream.flush()


def _figures(logs):
    logs = logs or {}
    return "  ".join(f"{shown} {float(logs[name]):.5g}" for name, shown in _FIGURES.items() if name in logs)
