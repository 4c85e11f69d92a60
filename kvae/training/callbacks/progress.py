"""Callback that prints progress to stderr."""

import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

import keras

#: Longest line, in columns.
_WIDTH = 80
#: Names of the metrics in the logs and on the screen, in order.
_METRICS = {
    "elbo": "elbo",
    "val_elbo": "val",
    "kl": "kl",
    "active_units": "active",
    "val_active_units": "active",
}
#: Parts that a line omits, in this order, if it is too long.
_OPTIONAL = ("seconds", "active", "kl")

Logs = dict[str, Any] | None


class Progress(keras.callbacks.Callback):
    """Print one line per epoch, and a live progress line if the stream is a terminal.

    A `*` after the validation elbo marks the best epoch so far.

    Args:
        epochs: Number of epochs of the run.
        stream: Output; stderr by default.
        rows: Metrics of the epochs before, if the run is resumed.

    Example:
        >>> import sys
        >>> progress = kvae.callbacks.Progress(epochs=1, stream=sys.stdout)
        >>> progress.on_epoch_begin(0)
        >>> progress.on_epoch_end(0, {"loss": 90.0, "elbo": -90.0, "kl": 10.0})
        epoch 1/1...
    """

    def __init__(self, epochs: int, stream: TextIO | None = None, rows: Sequence[dict[str, Any]] = ()):
        super().__init__()
        self._epochs, self._stream = epochs, stream or sys.stderr
        self._live = self._stream.isatty()
        self._drawn = 0.0
        self._durations: list[float] = []
        self._best = max((float(row["val_elbo"]) for row in rows if "val_elbo" in row), default=float("-inf"))

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Start the clock."""
        self._epoch, self._start = epoch + 1, time.monotonic()

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Redraw the live line, at most ten times per second, because reading metrics waits for the device."""
        now = time.monotonic()
        if self._live and batch and now - self._drawn > 0.1:
            steps = self.params.get("steps") or batch
            share = min(batch, steps) / steps
            bar = "━" * round(20 * share) + "╌" * (20 - round(20 * share))
            parts = {"epoch": f"{self._head()}  {bar}", **_metrics(self.model.latest.logs)}
            parts["left"] = self._left((now - self._start) / share, share)
            self._stream.write(f"\r\x1b[K{_joined(parts)}")
            self._stream.flush()
            self._drawn = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Print the line of the epoch."""
        seconds = time.monotonic() - self._start
        self._durations.append(seconds)
        parts = {"epoch": self._head(), **_metrics(logs)}
        if "val" in parts and (elbo := float((logs or {})["val_elbo"])) > self._best:
            self._best = elbo
            parts["val"] += "*"
        parts["seconds"] = _duration(seconds)
        if epoch + 1 < self._epochs:
            # The first epoch includes compilation.
            recent = self._durations[1:][-10:] or self._durations
            parts["left"] = self._left(sum(recent) / len(recent))
        self._stream.write(("\r\x1b[K" if self._live else "") + _joined(parts) + "\n")
        self._stream.flush()

    def _head(self) -> str:
        return f"epoch {self._epoch:{len(str(self._epochs))}d}/{self._epochs}"

    def _left(self, seconds_per_epoch: float, done: float = 1.0) -> str:
        """Format the estimated time to the end of the run, of whose current epoch the share `done` is finished."""
        return f"{_duration(seconds_per_epoch * (self._epochs - self._epoch + 1 - done))} left"


def print_line(line: str, stream: TextIO | None = None) -> None:
    """Print a line to stderr, after clearing the live progress line."""
    stream = stream or sys.stderr
    stream.write(("\r\x1b[K" if stream.isatty() else "") + line + "\n")
    stream.flush()


def _metrics(logs: Logs) -> dict[str, str]:
    logs = logs or {}
    return {shown: f"{shown} {float(logs[name]):.5g}" for name, shown in _METRICS.items() if name in logs}


def _joined(parts: dict[str, str]) -> str:
    for optional in (None, *_OPTIONAL):
        parts = {name: part for name, part in parts.items() if name != optional}
        line = "  ".join(parts.values())
        if len(line) <= _WIDTH:
            break
    return line


def _duration(seconds: float) -> str:
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"
