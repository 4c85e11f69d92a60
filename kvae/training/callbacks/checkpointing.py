"""What a run keeps on the disk on its way: the history of its figures, checkpoints, and the model."""

import csv
import io
import tempfile
import time
from pathlib import Path

import keras

from kvae.training import checkpoint
from kvae_serve.errors import OutputError, VerificationError
from kvae_serve.writers import atomic

_SECONDS = 20.0
_SHARE = 0.05


class History(keras.callbacks.Callback):
    """A row for each epoch in a CSV file, and in `rows`.

    Args:
        path: the file; None where another process writes it.
        rows: those of the epochs before, where the run was resumed: the file is made anew of them.
    """

    def __init__(self, path, rows=()):
        super().__init__()
        self._path, self.rows = path and Path(path), list(rows)
        self._next = 0.0

    def on_train_begin(self, logs=None):
        """Begin the file with the rows so far: none is lost, and none stands there twice."""
        self.write()

    def on_epoch_end(self, epoch, logs=None):
        """Take the epoch's row, which counts from 0 as Keras does; write where it is time.

        That is once a second, and more seldom where the rows are so many that it would take a twentieth of the time.
        """
        self.rows.append({"epoch": epoch, **(logs or {})})
        if time.monotonic() >= self._next:
            self.write()

    def on_train_end(self, logs=None):
        """Write what is not yet written."""
        self.write()

    def write(self):
        """Write the file whole: a kill in the middle of an appended line would leave half of it."""
        start = time.monotonic()
        if self._path:
            atomic.write_whole(self._path, _csv(self.rows).encode(), force=True)
        end = time.monotonic()
        self._next = end + max(1.0, (end - start) / _SHARE)


def _csv(rows):
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


class KeepCheckpoints(keras.callbacks.Callback):
    """Writes a checkpoint at the end of an epoch, and always after the last.

    Args:
        store: `checkpoint.Store`; None where another process writes to it.
        history: the `History`.
        stop_early: the `StopEarly`, or None.
        seed: of the run.
        steps: optimiser steps an epoch.
        epochs: how many the run has.
        every: epochs between two checkpoints. 0: each epoch, but at most once in 20 seconds, and for at most a
            twentieth of the time. What is trained is the same.
    """

    def __init__(self, store, history, stop_early, *, seed, steps, epochs, every=0):
        super().__init__()
        self._store, self._history, self._stop_early = store, history, stop_early
        self._seed, self._steps, self._epochs, self._every = seed, steps, epochs, every
        self._next = 0.0
        #: Epochs that the last checkpoint has behind it.
        self.last = len(history.rows)

    def on_epoch_end(self, epoch, logs=None):
        """Write where it is time. An epoch that Ctrl-C cut short is none: a resumed run does it again."""
        finished = epoch + 1
        if self.model.steps_done() < finished * self._steps:
            return
        due = finished % self._every == 0 if self._every else time.monotonic() >= self._next
        if due or finished == self._epochs or self.model.stop_training:
            self.save(finished)

    def save(self, epoch):
        """Write now: the state after `epoch` epochs."""
        start = time.monotonic()
        arrays = checkpoint.capture(self.model)
        if not checkpoint.is_finite(arrays):
            raise VerificationError(
                f"A weight became infinite or NaN by step {self.model.steps_done()}; "
                "what was saved before is kept. Try a lower --learning-rate."
            )
        state = {"epoch": epoch, "seed": self._seed, "history": self._history.rows}
        if self._stop_early:
            state["stop_early"] = self._stop_early.state
            arrays |= self._stop_early.weights
        if self._store:
            self._store.save(epoch, checkpoint.Checkpoint(state, arrays))
        self.last = epoch
        end = time.monotonic()
        self._next = end + max(_SECONDS, (end - start) / _SHARE)


class KeepModel(keras.callbacks.Callback):
    """Saves the model whole (aside, synced, renamed) once a minute and at the end of training.

    Args:
        path: the `.keras` file; None where another process writes it.
        to_save: function that gives the model to save.
        seconds: least time between two saves.
    """

    def __init__(self, path, to_save, seconds=60.0):
        super().__init__()
        self._path, self._to_save, self._seconds = path and Path(path), to_save, seconds
        self._saved = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Save where it is time."""
        if time.monotonic() - self._saved >= self._seconds:
            self.save()

    def save(self):
        """Save now; a model that is no longer finite never takes the place of one that is."""
        if not checkpoint.is_finite(checkpoint.capture(model := self._to_save())):
            raise VerificationError("A weight became infinite or NaN; what was saved before is kept.")
        if not self._path:
            return
        try:
            # Keras writes in place and by name alone: to a place of its own first, and from there as every file.
            with tempfile.TemporaryDirectory() as aside:
                saved = Path(aside) / self._path.name
                model.save(saved)
                atomic.write_whole(self._path, saved.read_bytes(), force=True)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror or error}.") from error
        self._saved = time.monotonic()
