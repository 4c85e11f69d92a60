"""Training data that lie on the device, under PyTorch: the rows of a batch are taken there."""

import keras
import torch
from keras import ops
from keras.src.backend.torch.core import get_device


class ResidentRows(keras.utils.PyDataset):
    """Batches of the rows of arrays that go to the device once: `kvae.data.array_batches.Rows`, with no copy a step.

    Args:
        columns: arrays `[num, ...]` in a tuple (x,) or (x, conditions).
        order: of a number of the epoch to the rows in their order, integers `[used]`.
        batch_size: rows a batch; the last has what is left.
    """

    def __init__(self, columns, order, batch_size):
        super().__init__()
        self._columns = keras.tree.map_structure(ops.convert_to_tensor, columns)
        self._make_order, self._batch_size = order, batch_size
        self.begin(0)

    def begin(self, epoch):
        """Take the order of an epoch."""
        self._batches = torch.split(ops.convert_to_tensor(self._make_order(epoch)), self._batch_size)

    @property
    def num_batches(self):
        """How many batches an epoch has."""
        return len(self._batches)

    def __len__(self):
        return self.num_batches

    def __getitem__(self, number):
        rows = self._batches[number]
        return keras.tree.map_structure(lambda column: column[rows], self._columns)


def fits(columns):
    """Whether arrays take no more than half of what a GPU's memory has free; the CPU is no accelerator."""
    if (device := torch.device(get_device())).type != "cuda":
        return False
    return 2 * sum(column.nbytes for column in keras.tree.flatten(columns)) <= torch.cuda.mem_get_info(device)[0]
