"""Training data that lie on the device, under JAX: `fit` is handed numbers of rows, the compiled step takes the rows.

Keras gives a dataset a look at Python for each batch, which takes longer than a step of a small net on a GPU.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from keras.src.trainers.data_adapters.data_adapter import DataAdapter


class Block(NamedTuple):
    """Some steps' batches.

    Attributes:
        columns: arrays `[num, ...]` on the device, in tuples and dicts: a whole dataset.
        rows: int32 `[steps, batch]`, those of each step.
    """

    columns: Any
    rows: Any


class ResidentRows(DataAdapter):
    """Batches of the rows of arrays that go to the device once: `kvae.data.array_batches.Rows`, block by block.

    Args:
        columns: arrays `[num, ...]` in a tuple (x,) or (x, conditions).
        order: of a number of the epoch to the rows in their order, integers `[used]`.
        batch_size: rows a batch; the last has what is left.
    """

    def __init__(self, columns, order, batch_size):
        self._columns, self._make_order, self._batch_size = jax.device_put(columns), order, batch_size
        #: Steps of a block; a kvae model sets it to those that it runs at once. None: no blocks, but batches.
        self.steps_at_once = None
        self._order, self._coming, self._thread = self._rows(0), {}, None

    def begin(self, epoch):
        """Take the order of an epoch; that of the next one is made meanwhile."""
        coming = self._coming.pop(epoch, None)
        self._order = coming.result() if coming else self._rows(epoch)
        self._thread = self._thread or ThreadPoolExecutor(1)
        self._coming = {epoch + 1: self._thread.submit(self._rows, epoch + 1)}

    def _rows(self, epoch):
        return self._make_order(epoch).astype("int32")

    @property
    def num_batches(self):
        """How many batches an epoch has."""
        return -(-len(self._order) // self._batch_size)

    @property
    def batch_size(self):
        """Rows a batch."""
        return self._batch_size

    @property
    def has_partial_batch(self):
        """Whether the last batch has fewer rows."""
        return bool(self.partial_batch_size)

    @property
    def partial_batch_size(self):
        """How many the last batch has, where it has fewer; else None."""
        return len(self._order) % self._batch_size or None

    def __iter__(self):
        """The batches themselves, as a model's `terms` takes them."""
        return (_take(self._columns, rows) for block in self._blocks(1) for rows in block)

    def get_jax_iterator(self):
        """`Block` by `Block`, for `fit` and `evaluate` of a kvae model; else batch by batch."""
        if self.steps_at_once is None:
            return iter(self)
        return (Block(self._columns, rows) for rows in self._blocks(self.steps_at_once))

    def _blocks(self, steps):
        """The rows of `steps` batches at a time, `[steps, batch]`: fewer batches at the end, a short one by itself."""
        whole = len(self._order) // self._batch_size * self._batch_size
        batches = self._order[:whole].reshape(-1, self._batch_size)
        yield from (batches[start : start + steps] for start in range(0, len(batches), steps))
        if whole < len(self._order):
            yield self._order[None, whole:]


def take(columns, rows):
    """Those rows of all columns, inside a compiled step."""
    return jax.tree.map(lambda column: jnp.take(column, rows, axis=0), columns)


_take = jax.jit(take)


def fits(columns):
    """Whether arrays take no more than half of what an accelerator's memory has free; the CPU is no accelerator."""
    device, size = jax.devices()[0], sum(column.nbytes for column in jax.tree.leaves(columns))
    if device.platform == "cpu" or not (memory := device.memory_stats()):
        return False
    return 2 * size <= memory["bytes_limit"] - memory["bytes_in_use"]
