"""Callbacks that save history, checkpoints and the model during training."""

import csv
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from kvae.training import checkpoint
from kvae.training.callbacks.stopping import EarlyStopping
from kvae_serve.errors import OutputError, VerificationError
from kvae_serve.writers import atomic

#: Shortest time between two checkpoints, and largest share of the time that saving may take.
_SECONDS = 20.0
_SHARE = 0.05

Logs = dict[str, Any] | None


class History(keras.callbacks.Callback):
    """Write the metrics of every epoch to a CSV file.

    Args:
        path: The file. None if another process writes it.
        rows: Rows of the epochs before, if the run is resumed.

    Attributes:
        rows: One dict of metrics per epoch.

    Example:
        >>> history = kvae.callbacks.History(Path("history.csv"))
        >>> history.on_epoch_end(0, {"elbo": -90.0})
        >>> Path("history.csv").read_text().split()
        ['epoch,elbo', '0,-90.0']
    """

    def __init__(self, path: Path | None, rows: Sequence[dict[str, Any]] = ()):
        super().__init__()
        self._path, self.rows = path, list(rows)
        self._next = 0.0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Write the rows of the epochs before."""
        self.write()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Append a row. Write at most once per second, and for at most a twentieth of the time."""
        self.rows.append({"epoch": epoch, **(logs or {})})
        if time.monotonic() >= self._next:
            self.write()

    def on_train_end(self, logs: Logs = None) -> None:
        """Write the remaining rows."""
        self.write()

    def write(self) -> None:
        """Write the whole file, because a process that is killed while it appends would leave half a line."""
        start = time.monotonic()
        if self._path:
            atomic.write_whole(self._path, _csv(self.rows).encode(), force=True)
        end = time.monotonic()
        self._next = end + max(1.0, (end - start) / _SHARE)


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


class SaveCheckpoints(keras.callbacks.Callback):
    """Write checkpoints at the end of epochs, always after the last one.

    Between two checkpoints the state after the last epoch is kept in memory, and written if Ctrl-C interrupts the next.

    Args:
        store: Folder of the checkpoints. None if another process writes them.
        history: The `History` of the run.
        early_stopping: The `EarlyStopping` of the run, or None.
        seed: Seed of the run.
        steps: Number of optimizer steps per epoch.
        epochs: Number of epochs of the run.
        every: Number of epochs between two checkpoints. 0: every epoch, but at most once in 20 seconds and for at most
            a twentieth of the time. It does not change the training.

    Attributes:
        last: Number of epochs in the last checkpoint.
    """

    def __init__(
        self,
        store: checkpoint.Store | None,
        history: History,
        early_stopping: EarlyStopping | None,
        *,
        seed: int,
        steps: int,
        epochs: int,
        every: int = 0,
    ):
        super().__init__()
        self._store, self._history, self._early_stopping = store, history, early_stopping
        self._seed, self._steps, self._epochs, self._every = seed, steps, epochs, every
        self._next_save = self._next_capture = 0.0
        self._unsaved: checkpoint.Checkpoint | None = None
        self.last = len(history.rows)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Save if a checkpoint is due. An epoch that Ctrl-C interrupted does not count."""
        finished = epoch + 1
        if self.model.steps_done() < finished * self._steps:
            self._save_unsaved()
            return
        due = finished % self._every == 0 if self._every else time.monotonic() >= self._next_save
        if due or finished == self._epochs or self.model.stop_training:
            self.save(finished)
        elif time.monotonic() >= self._next_capture:
            start = time.monotonic()
            self._unsaved = self._capture(finished)
            end = time.monotonic()
            self._next_capture = end + (end - start) / _SHARE

    def save(self, epoch: int) -> None:
        """Write the current state, after `epoch` epochs."""
        start = time.monotonic()
        self._write(self._capture(epoch))
        end = time.monotonic()
        self._next_save = end + max(_SECONDS, (end - start) / _SHARE)

    def _save_unsaved(self) -> None:
        if self._unsaved and self._unsaved.state["epoch"] > self.last:
            self._write(self._unsaved)

    def _capture(self, epoch: int) -> checkpoint.Checkpoint:
        arrays = checkpoint.capture(self.model)
        state = {"epoch": epoch, "seed": self._seed, "history": list(self._history.rows)}
        if self._early_stopping:
            state["stop_early"] = self._early_stopping.state
            arrays |= self._early_stopping.weights
        return checkpoint.Checkpoint(state, arrays)

    def _write(self, content: checkpoint.Checkpoint) -> None:
        if not checkpoint.is_finite(content.arrays):
            raise VerificationError(
                f"A weight became infinite or NaN by step {self.model.steps_done()}. "
                "What was saved before is kept. Try a lower --learning-rate."
            )
        if self._store:
            self._store.save(content.state["epoch"], content)
        self.last, self._unsaved = content.state["epoch"], None


class SaveModel(keras.callbacks.Callback):
    """Save the model atomically, once per minute.

    Args:
        path: The `.keras` file. None if another process writes it.
        model_to_save: Function that returns the model to save.
        seconds: Shortest time between two saves.

    Example:
        >>> model = kvae.VAE.dense((4,), latent_dim=2, hidden=(5,))
        >>> model.compile("adam")
        >>> kvae.callbacks.SaveModel(Path("model.keras"), lambda: model).save()
        >>> Path("model.keras").exists()
        True
    """

    def __init__(self, path: Path | None, model_to_save: Callable[[], keras.Model], seconds: float = 60.0):
        super().__init__()
        self._path, self._model_to_save, self._seconds = path, model_to_save, seconds
        self._saved = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Save if a minute has passed."""
        if time.monotonic() - self._saved >= self._seconds:
            self.save()

    def save(self) -> None:
        """Save the model, unless a weight is infinite or NaN.

        Raises:
            VerificationError: If a weight is infinite or NaN.
            OutputError: If the file cannot be written.
        """
        if not checkpoint.is_finite(checkpoint.capture(model := self._model_to_save())):
            raise VerificationError("A weight became infinite or NaN. What was saved before is kept.")
        if not self._path:
            return
        try:
            # Keras does not write atomically, so it writes to a temporary folder first.
            with tempfile.TemporaryDirectory() as temporary:
                saved = Path(temporary) / self._path.name
                model.save(saved)
                atomic.write_whole(self._path, saved.read_bytes(), force=True)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"Cannot write {self._path}: {error.strerror or error}.") from error
        self._saved = time.monotonic()
