"""Batches for `fit` from arrays: for engines other than TensorFlow, and of data that lie on a device for all.

`kvae.dataloaders.batches` says what they are.

The order is that of `tf.random.experimental.stateless_shuffle`, so a run sees the same batches on any engine.
"""

from typing import Any

import keras
import numpy as np

from kvae.backends import philox
from kvae.data.disk import OnDisk
from kvae.dataloaders import device


def in_memory(columns):
    """A function of row numbers to those rows of arrays, in tuples and dicts."""
    return lambda rows: keras.tree.map_structure(lambda column: column[rows], columns)


class Rows(keras.utils.PyDataset):
    """Batches of the rows of arrays, as Keras takes them.

    Args:
        x: array or `OnDisk`, `[num, *shape]`.
        conditions: None, an array `[num]`, or a dict of them.
        order: of a number of the epoch to the rows in their order, `[used]`.
        batch_size: rows a batch; the last has what is left.
    """

    def __init__(self, x, conditions, order, batch_size):
        # An `OnDisk` is read some batches ahead; Keras keeps their order.
        super().__init__(workers=4 if isinstance(x, OnDisk) else 1)
        self._make_order, self._batch_size = order, batch_size
        if isinstance(x, OnDisk):
            given = None if conditions is None else in_memory(conditions)
            self._read = lambda rows: (x[rows],) if given is None else (x[rows], given(rows))
        else:
            self._read = in_memory((x,) if conditions is None else (x, conditions))
        self.begin(0)

    def begin(self, epoch):
        """Take the order of an epoch."""
        self._order = self._make_order(epoch)

    @property
    def num_batches(self):
        """How many batches an epoch has."""
        return -(-len(self._order) // self._batch_size)

    def __len__(self):
        return self.num_batches

    def __getitem__(self, number):
        if not 0 <= number < self.num_batches:  # which ends a loop over batches
            raise IndexError(number)
        return self._read(self._order[number * self._batch_size : (number + 1) * self._batch_size])


def training_batches(x, conditions, batch_size, seed):
    """As `batches.training_batches`: the dataset, what tells it the epoch, and its number of batches."""
    steps = len(x) // batch_size

    def order(epoch):
        return permutation(len(x), (seed, epoch))[: steps * batch_size]

    dataset = _batches(x, _arrays(conditions), order, batch_size)
    return dataset, dataset.begin, steps


def validation_batches(x, conditions, batch_size):
    """As `kvae.dataloaders.batches.validation_batches`."""
    rows = np.arange(len(x))
    return _batches(x, _arrays(conditions), lambda epoch: rows, batch_size)


def _batches(x, conditions, order, batch_size):
    """`Rows`, or the same rows from the memory of the device, where there is room."""
    columns = (x,) if conditions is None else (x, conditions)
    if device.has_room(columns):
        return device.ResidentRows(columns, order, batch_size)
    return Rows(x, conditions, order, batch_size)


def permutation(num, seed):
    """`tf.random.experimental.stateless_shuffle(tf.range(num), seed)`, an int64 array `[num]`.

    That exchanges place i with place `partners[i] >= i`, for one i after the other, each exchange seeing those before
    it. Here all are made at once: what step i finds at place p was left there by the last step before it whose partner
    was p, and that step moved what it found at its own place.
    """
    own = np.arange(num)
    partners = own + (philox.words(seed, num) % np.arange(num, 0, -1, dtype="uint64")).astype("int64")
    # Steps of one partner stand together, in their order; the step before each, of the same partner, or -1. (A sort of
    # numbers is several times as fast as one of their places.)
    by_partner = np.sort(partners * num + own) % max(1, num)
    before = np.full(num, -1)
    alike = partners[by_partner[1:]] == partners[by_partner[:-1]]
    before[by_partner[1:][alike]] = by_partner[:-1][alike]
    # The last step before i whose partner is i; i itself where there is none, for nobody has been there by then. Steps
    # after i have later partners, so the last of all is the one, unless that is step i.
    last = own.copy()
    last[partners[by_partner]] = by_partner
    exchanged_with_itself = partners == own
    last[exchanged_with_itself] = np.where(before >= 0, before, own)[exchanged_with_itself]
    while (further := last[last] != last).any():
        last = np.where(further, last[last], last)
    # `last[i]` is now what step i finds at its own place.
    found = np.where(before >= 0, last[before], partners)
    return np.where(exchanged_with_itself, last, found)


def _arrays(conditions) -> Any:
    if isinstance(conditions, dict):
        return {name: np.asarray(values) for name, values in conditions.items()}
    return None if conditions is None else np.asarray(conditions)
