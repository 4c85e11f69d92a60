"""Checkpoints: all that a run needs to go on, in one file that is whole or is not there.

A file is a line that names the format, the length of a JSON header, the header (the state, and name, type and shape of
each array), the bytes of the arrays one after the other, and the SHA-256 of all that. Nothing in it is code. It is
written aside, synced and renamed; the last two of a run are kept, and a damaged one is known by its digest, so that the
one before is taken.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kvae_serve.writers import atomic

_MAGIC = b"kvae checkpoint 1\n"
_DIGEST = hashlib.sha256().digest_size
_KEPT = 2


class Checkpoint(NamedTuple):
    """What a file holds: `state`, JSON; `arrays`, name to NumPy array."""

    state: dict
    arrays: dict

    def best(self):
        """The weights that early stopping held to be the best."""
        return {name: array for name, array in self.arrays.items() if name.startswith("best/")}


class DamagedError(ValueError):
    """A file is no whole checkpoint; the message says why."""


class Store:
    """The checkpoints of a run, in a folder of their own.

    Args:
        directory: that folder; made with the first checkpoint.
    """

    def __init__(self, directory):
        self.directory = Path(directory)

    def save(self, epoch, checkpoint):
        """Write the checkpoint of `epoch` finished epochs, then drop all but the last two.

        Raises:
            OutputError: where it cannot be written. Those written before are untouched.
        """
        self.directory.mkdir(exist_ok=True)
        atomic.write_whole(self._path(epoch), lambda file: write(file, checkpoint), force=True)
        for path in self.paths()[_KEPT:]:
            path.unlink(missing_ok=True)

    def latest(self):
        """The newest checkpoint that is whole, and one line for each damaged one that was passed over.

        Returns:
            The pair (`Checkpoint` or None, list of lines).
        """
        damaged: list[str] = []
        for path in self.paths():
            try:
                return read(path), damaged
            except DamagedError as error:
                damaged.append(f"{path} is damaged ({error})")
        return None, damaged

    def paths(self):
        """The files, newest first."""
        return sorted(self.directory.glob("epoch-*.checkpoint"), reverse=True)

    def _path(self, epoch):
        return self.directory / f"epoch-{epoch:06d}.checkpoint"


def write(file, checkpoint):
    """Write a checkpoint to an open binary file, piece by piece."""
    arrays = {name: np.asarray(array, order="C") for name, array in checkpoint.arrays.items()}
    described = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    header = json.dumps({"state": checkpoint.state, "arrays": described}, allow_nan=False).encode()
    digest = hashlib.sha256()
    contents = (array.reshape(-1).view("uint8").data for array in arrays.values())
    pieces: Iterable[bytes | memoryview] = (_MAGIC, len(header).to_bytes(8, "little"), header, *contents)
    for data in pieces:
        digest.update(data)
        file.write(data)
    file.write(digest.digest())


def read(path):
    """Read a file that `write` wrote.

    Raises:
        DamagedError: where it is not whole.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DamagedError(error.strerror) from error
    if not data.startswith(_MAGIC):
        raise DamagedError("it does not begin as a checkpoint of this version does")
    body = memoryview(data)[:-_DIGEST]
    if hashlib.sha256(body).digest() != data[-_DIGEST:]:
        raise DamagedError("its digest is not that of its content")
    try:
        return _parse(body)
    except (KeyError, TypeError, ValueError, RecursionError) as error:  # Anyone can write a digest.
        raise DamagedError(f"what it holds is no checkpoint: {type(error).__name__}") from error


def _parse(body):
    start = len(_MAGIC) + 8
    length = int.from_bytes(body[len(_MAGIC) : start], "little")
    header = json.loads(bytes(body[start : start + length]))
    arrays, offset = {}, start + length
    for name, dtype, shape in header["arrays"]:
        if np.dtype(dtype).hasobject or not all(isinstance(size, int) and size >= 0 for size in shape):
            raise ValueError(f"{name} is no array of numbers")
        count = math.prod(shape)
        # A copy: the file's bytes are read-only and not aligned.
        arrays[name] = np.frombuffer(body, dtype, count, offset).reshape(shape).copy()
        offset += arrays[name].nbytes
    if not isinstance(header["state"], dict):
        raise TypeError("its state is no object")
    return Checkpoint(header["state"], arrays)


def capture(model):
    """All variables of a compiled model and of its optimiser, by name, as NumPy arrays of their own."""
    return {name: np.array(variable.numpy()) for name, variable in _variables(model)}


def restore(model, checkpoint):
    """Set all variables of a compiled model and of its optimiser.

    Raises:
        ValueError: where the arrays are not those of such a model.
    """
    _assign(_variables(model), checkpoint.arrays)


def restore_weights(model, checkpoint):
    """Set the variables of a model alone: to the best where early stopping kept those.

    Raises:
        ValueError: where the arrays are not those of such a model.
    """
    kind = "best" if checkpoint.best() else "model"
    # Sums of an epoch's figures are no weights, and each engine keeps them in its own way.
    sums = {id(variable) for variable in model.metrics_variables}
    weights = [(index, variable) for index, variable in enumerate(model.variables) if id(variable) not in sums]
    _assign(((f"{kind}/{index}", variable) for index, variable in weights), checkpoint.arrays)


def _assign(variables, arrays):
    for name, variable in variables:
        if name not in arrays or arrays[name].shape != tuple(variable.shape):
            raise ValueError(f"{name} of shape {tuple(variable.shape)} is not in the checkpoint")
        variable.assign(arrays[name])


def is_finite(arrays):
    """Whether every number is finite."""
    return all(bool(np.isfinite(array).all()) for array in arrays.values())


def _variables(model):
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    for kind, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
        for index, variable in enumerate(variables):
            yield f"{kind}/{index}", variable
