"""Batches for `fit`, from memory or from disk, in an order that is a pure function of (seed, epoch).

What makes them is a module for each kind of engine; the order is the same under all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

if keras.backend.backend() == "tensorflow":
    from kvae.dataloaders import tensorflow as engine
else:
    from kvae.dataloaders import arrays as engine  # type: ignore[no-redef]


class Batches(NamedTuple):
    """What `fit` needs: the dataset, and the callback that tells it the epoch."""

    dataset: Any
    callback: keras.callbacks.Callback
    steps: int


class EpochOrder(keras.callbacks.Callback):
    """Tells the dataset which epoch begins, so that a resumed run sees the order of the uninterrupted one."""

    def __init__(self, begin: Callable):
        super().__init__()
        self._begin = begin

    def on_epoch_begin(self, epoch, logs=None):
        """Keras calls this before it opens the epoch's iterator."""
        self._begin(epoch)


def training_batches(x, conditions, batch_size, seed):
    """Shuffled batches of one epoch, a new order each epoch.

    The last batch of an epoch is dropped where it is not full: other examples each time, and every step has one shape.

    Args:
        x: array `[num, *shape]`, in data units and the type it came in: bytes stay bytes on their way to the model.
            An `OnDisk` is read batch by batch, some batches ahead.
        conditions: None, an array `[num]`, or a dict of them.
        batch_size: examples a step; all of them where there are fewer.
        seed: of the order.

    Returns:
        `Batches`; give `callback` to `fit` beside `dataset`.
    """
    dataset, begin, steps = engine.training_batches(x, conditions, min(batch_size, len(x)), seed)
    return Batches(dataset, EpochOrder(begin), steps)


def validation_batches(x, conditions, batch_size):
    """All examples in their order, the last batch as short as it falls."""
    return engine.validation_batches(x, conditions, batch_size)


def hold_out(num, validation, seed):
    """Split `num` indices into training and validation by a seeded permutation.

    Args:
        num: examples of the training split.
        validation: how many to hold out, fewer than `num`.
        seed: of the choice.

    Returns:
        Two sorted int64 arrays, training and validation.

    Raises:
        ValueError: where nothing would be left to train on.
    """
    if not 0 <= validation < num:
        raise ValueError(
            f"Cannot hold {validation} of {num} examples out for validation; at least one must be left to train on."
        )
    shuffled = np.random.Generator(np.random.Philox(key=seed)).permutation(num)
    return np.sort(shuffled[validation:]), np.sort(shuffled[:validation])
