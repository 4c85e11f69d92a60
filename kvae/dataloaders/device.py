"""Training data that lie on the device: `fit` is handed numbers of rows, the compiled step takes the rows.

Keras gives a dataset a look at Python for each batch, or has TensorFlow's threads copy it to the device, which takes
longer than a step of a small net on a GPU.
"""

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from kvae.backends.device_blocks import Block, Blocks
from kvae.data.disk import OnDisk

#: The engine's module that knows the memory of its device; None where there is none.
memory: Any = None
if keras.backend.backend() == "jax":
    from kvae.backends.jax import device_memory as memory
elif keras.backend.backend() == "tensorflow":
    from kvae.backends.tensorflow import device_memory as memory
elif keras.backend.backend() == "torch":
    from kvae.backends.torch import device_memory as memory


def has_room(columns):
    """Whether arrays in tuples and dicts take no more than half of what an accelerator's memory has free."""
    if memory is None or isinstance(columns[0], OnDisk) or not (free := memory.free()):
        return False
    return 2 * sum(np.asarray(column).nbytes for column in keras.tree.flatten(columns)) <= free


class ResidentRows(DataAdapter):
    """Batches of the rows of arrays that go to the device once: `kvae.dataloaders.arrays.Rows`, block by block.

    Args:
        columns: arrays `[num, ...]` in a tuple (x,) or (x, conditions).
        order: of a number of the epoch to the rows in their order, integers `[used]`.
        batch_size: rows a batch; the last has what is left.
    """

    def __init__(self, columns, order, batch_size):
        self._columns, self._make_order, self._batch_size = memory.put(columns), order, batch_size
        #: Steps of a block; a kvae model sets it to those that it runs at once. None: no blocks, but batches.
        self.steps_at_once = None
        self._order, self._epoch, self._coming, self._executor = self._rows(0), None, {}, None

    def begin(self, epoch):
        """Take the order of an epoch."""
        coming = self._coming.pop(epoch, None)
        self._order, self._epoch = coming.result() if coming else self._rows(epoch), epoch

    def _look_ahead(self):
        """Have the order of the next epoch made while the device is busy with this one."""
        if self._epoch is not None and self._epoch + 1 not in self._coming:
            self._executor = self._executor or ThreadPoolExecutor(1)
            self._coming = {self._epoch + 1: self._executor.submit(self._rows, self._epoch + 1)}

    def by_batch(self):
        """The same data for `predict`, which takes batches; what `fit` goes over stays as it is."""
        view = copy.copy(self)
        view.steps_at_once = None
        return view

    def _rows(self, epoch):
        return memory.numbers(self._make_order(epoch).astype("int32"))

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
        return (memory.batch(self._columns, rows) for block in self._blocks(1) for rows in block)

    def get_jax_iterator(self):
        """`Blocks`, for `fit` and `evaluate` of a kvae model; else batch by batch."""
        if self.steps_at_once is None:
            return iter(self)
        return Blocks(Block(self._columns, rows) for rows in self._blocks(self.steps_at_once))

    def get_tf_dataset(self):
        """What gives an iterator as `get_jax_iterator` does, epoch by epoch."""
        return _Anew(self.get_jax_iterator)

    def get_torch_dataloader(self):
        """The batches, epoch by epoch."""
        return self

    def _blocks(self, steps):
        """The rows of `steps` batches at a time, `[steps, batch]`: fewer batches at the end, a short one by itself."""
        whole = len(self._order) // self._batch_size * self._batch_size
        batches = self._order[:whole].reshape(-1, self._batch_size)
        blocks = [batches[start : start + steps] for start in range(0, len(batches), steps)]
        if whole < len(self._order):
            blocks.append(self._order[None, whole:])
        for number, rows in enumerate(blocks):
            # Not before the device has the first one, also where Keras asks for a block ahead: Python runs one thread
            # at a time, and the device would wait for it.
            if number == 2:
                self._look_ahead()
            yield rows
        self._look_ahead()


class _Anew:
    """An iterable whose every iteration is made by a function."""

    def __init__(self, make):
        self._make = make

    def __iter__(self):
        return self._make()
