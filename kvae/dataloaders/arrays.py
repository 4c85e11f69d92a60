"""Batches for `fit` from arrays, under JAX and PyTorch. `kvae.dataloaders.batches` describes them."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kvae.data.disk import OnDisk

Read = Callable[[np.ndarray], Any]
Order = Callable[[int], np.ndarray]

if keras.backend.backend() == "jax":
    from kvae.backends.jax.device_rows import DeviceRows, has_room


def in_memory(columns: Any) -> Read:
    """Return a function of row numbers that gathers the rows of arrays, in tuples and dicts."""
    return lambda rows: keras.tree.map_structure(lambda column: column[rows], columns)


class Rows(keras.utils.PyDataset):
    """Batches of the rows of arrays.

    Args:
        x: Array or `OnDisk`, `[num, *shape]`.
        conditions: None, an array `[num]`, or a dict of arrays.
        order: Function of the epoch number to the order of the rows, `[used]`.
        batch_size: Rows per batch; the last batch has the remaining rows.
    """

    def __init__(self, x: Any, conditions: Any, order: Order, batch_size: int):
        # Data on disk are read some batches ahead; Keras keeps the order of the batches.
        super().__init__(workers=4 if isinstance(x, OnDisk) else 1)
        self._make_order, self._batch_size = order, batch_size
        if isinstance(x, OnDisk):
            read = None if conditions is None else in_memory(conditions)
            self._read: Read = lambda rows: (x[rows],) if read is None else (x[rows], read(rows))
        else:
            self._read = in_memory((x,) if conditions is None else (x, conditions))
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Select the order of an epoch."""
        self._order = self._make_order(epoch)

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return -(-len(self._order) // self._batch_size)

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, number: int) -> Any:
        if not 0 <= number < self.num_batches:  # ends a loop over the batches
            raise IndexError(number)
        return self._read(self._order[number * self._batch_size : (number + 1) * self._batch_size])


def training_batches(x: Any, conditions: Any, batch_size: int, seed: int) -> tuple[Any, Callable[[int], None], int]:
    """Return the dataset, a function that selects its epoch, and its number of batches."""
    steps = len(x) // batch_size

    def order(epoch):
        return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(len(x))[: steps * batch_size]

    dataset = _batches(x, _arrays(conditions), order, batch_size)
    return dataset, dataset.begin, steps


def validation_batches(x: Any, conditions: Any, batch_size: int) -> Any:
    """Return all examples in their order."""
    rows = np.arange(len(x))
    return _batches(x, _arrays(conditions), lambda epoch: rows, batch_size)


def _batches(x: Any, conditions: Any, order: Order, batch_size: int) -> Any:
    """Return batches from the memory of the accelerator under JAX if the data fit there, else `Rows`."""
    columns = (x,) if conditions is None else (x, conditions)
    if keras.backend.backend() == "jax" and not isinstance(x, OnDisk) and has_room(columns):
        return DeviceRows(columns, order, batch_size)
    return Rows(x, conditions, order, batch_size)


def _arrays(conditions: Any) -> Any:
    if isinstance(conditions, dict):
        return {name: np.asarray(values) for name, values in conditions.items()}
    return None if conditions is None else np.asarray(conditions)
