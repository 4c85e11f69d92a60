"""Checkpoints: the complete state of a run in one file.

A file consists of a line that names the format, the length of a JSON header (8 bytes, little-endian), the header (the
state; name, type and shape of each array), the bytes of the arrays, and the SHA-256 of everything before. It contains
no executable code. Files are written atomically. The last two are kept; if the newest is corrupted, the other is used.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from kvae_serve.writers import atomic

if TYPE_CHECKING:
    import keras

_MAGIC = b"kvae checkpoint 1\n"
_START = len(_MAGIC) + 8
_DIGEST = hashlib.sha256().digest_size
_NUM_KEPT = 2


class Checkpoint(NamedTuple):
    """Content of a file: `state` (JSON), and `arrays` by name."""

    state: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def best(self) -> dict[str, np.ndarray]:
        """Return the weights of the best epoch, which early stopping keeps."""
        return {name: array for name, array in self.arrays.items() if name.startswith("best/")}


class CorruptedError(ValueError):
    """A file is not a valid checkpoint. The message contains the reason."""


class Store:
    """Folder of the checkpoints of a run. `save` creates it."""

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)

    def save(self, epoch: int, checkpoint: Checkpoint) -> None:
        """Write the checkpoint after `epoch` epochs, then delete all but the last two.

        Raises:
            OutputError: If it cannot be written. The checkpoints before are kept.
        """
        self.directory.mkdir(exist_ok=True)
        path = self.directory / f"epoch-{epoch:06d}.checkpoint"
        atomic.write_whole(path, lambda file: write(file, checkpoint), force=True)
        for old in self.paths()[_NUM_KEPT:]:
            old.unlink(missing_ok=True)

    def latest(self) -> tuple[Checkpoint | None, list[str]]:
        """Return the newest valid checkpoint, and one line per corrupted one that is newer."""
        corrupted: list[str] = []
        for path in self.paths():
            try:
                return read(path), corrupted
            except CorruptedError as error:
                corrupted.append(f"{path} is corrupted ({error})")
        return None, corrupted

    def paths(self) -> list[Path]:
        """List the files, newest first."""
        return sorted(self.directory.glob("epoch-*.checkpoint"), reverse=True)


def write(file: BinaryIO, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to an open file, one array at a time."""
    arrays = {name: np.asarray(array, order="C") for name, array in checkpoint.arrays.items()}
    described = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    header = json.dumps({"state": checkpoint.state, "arrays": described}, allow_nan=False).encode()
    digest = hashlib.sha256()
    contents = (array.reshape(-1).view("uint8").data for array in arrays.values())
    parts: Iterable[bytes | memoryview] = (_MAGIC, len(header).to_bytes(8, "little"), header, *contents)
    for part in parts:
        digest.update(part)
        file.write(part)
    file.write(digest.digest())


def read(path: str | Path) -> Checkpoint:
    """Read a file that `write` wrote.

    Raises:
        CorruptedError: If the file cannot be read or is not a valid checkpoint.
    """
    try:
        data = Path(path).read_bytes()
        body = memoryview(data)[:-_DIGEST]
        if not data.startswith(_MAGIC):
            raise CorruptedError("its first line does not name this format")
        if hashlib.sha256(body).digest() != data[-_DIGEST:]:
            raise CorruptedError("its SHA-256 does not match its content")
        return _parse(body)
    except OSError as error:
        raise CorruptedError(error.strerror) from error
    except (KeyError, TypeError, RecursionError) as error:  # A SHA-256 does not prove who wrote a file.
        raise CorruptedError(f"its content is not a checkpoint: {type(error).__name__}") from error
    except ValueError as error:
        raise CorruptedError(str(error)) from error


def _parse(body: memoryview) -> Checkpoint:
    end = _START + int.from_bytes(body[len(_MAGIC) : _START], "little")
    header = json.loads(bytes(body[_START:end]))
    arrays: dict[str, np.ndarray] = {}
    for name, dtype, shape in header["arrays"]:
        if np.dtype(dtype).hasobject or not all(isinstance(size, int) and size >= 0 for size in shape):
            raise TypeError(f"{name} is not an array of numbers")
        # Copy, because the bytes of the file are read-only and not aligned.
        arrays[name] = np.frombuffer(body, dtype, math.prod(shape), end).reshape(shape).copy()
        end += arrays[name].nbytes
    if not isinstance(header["state"], dict):
        raise TypeError("the state is not an object")
    return Checkpoint(header["state"], arrays)


def capture(model: "keras.Model") -> dict[str, np.ndarray]:
    """Copy all variables of a compiled model and of its optimizer, by name."""
    return {name: np.array(variable.numpy()) for name, variable in _variables(model)}


def restore(model: "keras.Model", checkpoint: Checkpoint) -> None:
    """Assign all variables of a compiled model and of its optimizer.

    Raises:
        ValueError: If names or shapes of the arrays do not match.
    """
    _assign(_variables(model), checkpoint.arrays)


def restore_weights(model: "keras.Model", checkpoint: Checkpoint) -> None:
    """Assign the variables of a model alone: those of the best epoch if the checkpoint has them.

    Raises:
        ValueError: If names or shapes of the arrays do not match.
    """
    kind = "best" if checkpoint.best() else "model"
    # Metrics are not weights, and each backend stores them differently.
    metrics = {id(variable) for variable in model.metrics_variables}
    variables = [(f"{kind}/{i}", each) for i, each in enumerate(model.variables) if id(each) not in metrics]
    _assign(variables, checkpoint.arrays)


def is_finite(arrays: dict[str, np.ndarray]) -> bool:
    """Return whether every number is finite."""
    return all(bool(np.isfinite(array).all()) for array in arrays.values())


def _assign(variables: Iterable[tuple[str, Any]], arrays: dict[str, np.ndarray]) -> None:
    for name, variable in variables:
        if name not in arrays or arrays[name].shape != tuple(variable.shape):
            raise ValueError(f"{name} of shape {tuple(variable.shape)} is not in the checkpoint")
        variable.assign(arrays[name])


def _variables(model: "keras.Model") -> Iterator[tuple[str, Any]]:
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    for kind, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
        for index, variable in enumerate(variables):
            yield f"{kind}/{index}", variable
