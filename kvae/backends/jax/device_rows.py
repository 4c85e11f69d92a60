"""Training data in the memory of the accelerator: `fit` passes row indices and the compiled step gathers the rows.

Otherwise Keras returns to Python for every batch, which takes longer than one step of a small network on a GPU.
"""

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np

from kvae.backends.jax.private_api import DataAdapter


class Block(NamedTuple):
    """Batches of several steps.

    Attributes:
        columns: Arrays `[num, ...]` on the device, in tuples and dicts: the whole dataset.
        rows: int32 `[steps, batch]`, the rows of each step.
    """

    columns: Any
    rows: Any


def take(columns: Any, rows: Any) -> Any:
    """Gather rows of all columns."""
    return jax.tree.map(lambda column: jnp.take(column, rows, axis=0), columns)


_take_compiled = jax.jit(take)


def has_room(columns: tuple) -> bool:
    """Return whether arrays fit into half of the free memory of an accelerator.

    The result is False on a CPU, and if several devices share the batches.
    """
    if keras.distribution.distribution() is not None or not (free := free_bytes()):
        return False
    return 2 * sum(np.asarray(column).nbytes for column in keras.tree.flatten(columns)) <= free


def free_bytes() -> int:
    """Return the free memory of the first accelerator in bytes, 0 on a CPU."""
    device = jax.devices()[0]
    if device.platform == "cpu" or not (memory := device.memory_stats()):
        return 0
    return memory["bytes_limit"] - memory["bytes_in_use"]


class DeviceRows(DataAdapter):
    """Batches of arrays that are copied to the device once. They equal `kvae.dataloaders.arrays.Rows`.

    Args:
        columns: Arrays `[num, ...]` in a tuple `(x,)` or `(x, conditions)`.
        order: Function of the epoch number to the order of the rows, integers `[used]`.
        batch_size: Rows per batch; the last batch has the remaining rows.
    """

    def __init__(self, columns: tuple, order: Callable[[int], np.ndarray], batch_size: int):
        self._columns, self._make_order, self._batch_size = jax.device_put(columns), order, batch_size
        #: Steps per block. A model sets it to its steps per execution; None means batches instead of blocks.
        self.steps_at_once: int | None = None
        self._order, self._epoch = self._rows(0), -1
        self._next_orders: dict[int, Future] = {}
        self._executor: ThreadPoolExecutor | None = None

    def begin(self, epoch: int) -> None:
        """Select the order of an epoch."""
        prefetched = self._next_orders.pop(epoch, None)
        self._order, self._epoch = prefetched.result() if prefetched else self._rows(epoch), epoch

    def _prefetch_order(self) -> None:
        """Compute the order of the next epoch in a thread, while the device is busy with this epoch."""
        if self._epoch >= 0 and self._epoch + 1 not in self._next_orders:
            self._executor = self._executor or ThreadPoolExecutor(1)
            self._next_orders = {self._epoch + 1: self._executor.submit(self._rows, self._epoch + 1)}

    def by_batch(self) -> "DeviceRows":
        """Return a view that gives batches instead of blocks, for `predict`."""
        view = copy.copy(self)
        view.steps_at_once = None
        return view

    def _rows(self, epoch: int) -> np.ndarray:
        return self._make_order(epoch).astype("int32")

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return -(-len(self._order) // self._batch_size)

    @property
    def batch_size(self) -> int:
        """Rows per batch."""
        return self._batch_size

    @property
    def has_partial_batch(self) -> bool:
        """True if the last batch is smaller."""
        return bool(self.partial_batch_size)

    @property
    def partial_batch_size(self) -> int | None:
        """Rows of the last batch if it is smaller, else None."""
        return len(self._order) % self._batch_size or None

    def __iter__(self) -> Iterator:
        """Iterate over the batches."""
        return (_take_compiled(self._columns, rows) for rows_of_block in self._blocks(1) for rows in rows_of_block)

    def get_jax_iterator(self) -> Iterator:
        """Iterate over blocks for `fit` and `evaluate` of a kvae model, else over batches."""
        if self.steps_at_once is None:
            return iter(self)
        return (Block(self._columns, rows) for rows in self._blocks(self.steps_at_once))

    def _blocks(self, steps: int) -> Iterator[np.ndarray]:
        """Iterate over rows `[steps, batch]`. The last full block may have fewer steps; a partial batch is a block."""
        num_full = len(self._order) // self._batch_size * self._batch_size
        batches = self._order[:num_full].reshape(-1, self._batch_size)
        blocks = [batches[start : start + steps] for start in range(0, len(batches), steps)]
        if num_full < len(self._order):
            blocks.append(self._order[None, num_full:])
        for number, rows in enumerate(blocks):
            # Wait until the device has its first block, also if Keras asks for one block ahead: only one thread runs
            # Python at a time, and the device would wait.
            if number == 2:
                self._prefetch_order()
            yield rows
        self._prefetch_order()
