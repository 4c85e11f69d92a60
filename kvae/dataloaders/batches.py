"""Batches for `fit`, from memory or from disk. Their order is a pure function of (seed, epoch) under each backend."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

if keras.backend.backend() == "tensorflow":
    from kvae.dataloaders import tensorflow as loader
else:
    from kvae.dataloaders import arrays as loader  # type: ignore[no-redef]


class Batches(NamedTuple):
    """Arguments of `fit`.

    Attributes:
        dataset: Batches of one epoch.
        callback: Callback that selects the order of each epoch; pass it to `fit` together with the dataset.
        steps: Batches per epoch.
    """

    dataset: Any
    callback: keras.callbacks.Callback
    steps: int


class EpochOrder(keras.callbacks.Callback):
    """Callback that selects the order of the epoch, so that a resumed run sees the batches of the uninterrupted run."""

    def __init__(self, begin: Callable[[int], Any]):
        super().__init__()
        self._begin = begin

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Select the order. Keras calls this before it opens the iterator of the epoch."""
        self._begin(epoch)


def training_batches(x: Any, conditions: Any, batch_size: int, seed: int) -> Batches:
    """Return shuffled batches of one epoch, in a new order each epoch.

    The last batch of an epoch is dropped if it is not full, so that every step has the same shape.

    Args:
        x: Array `[num, *shape]` in data units and in its own type: bytes stay bytes until the model converts them.
            An `OnDisk` is read some batches ahead.
        conditions: None, an array `[num]`, or a dict of arrays.
        batch_size: Examples per step; all of them if there are fewer.
        seed: Seed of the order.
    """
    dataset, begin, steps = loader.training_batches(x, conditions, min(batch_size, len(x)), seed)
    return Batches(dataset, EpochOrder(begin), steps)


def validation_batches(x: Any, conditions: Any, batch_size: int) -> Any:
    """Return all examples in their order. The last batch may be smaller."""
    return loader.validation_batches(x, conditions, batch_size)


def hold_out(num: int, validation: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split `num` indices into training and validation by a seeded permutation.

    Args:
        num: Number of examples.
        validation: Number of examples to hold out, less than `num`.
        seed: Seed of the choice.

    Returns:
        Two sorted int64 arrays, training and validation.

    Raises:
        ValueError: If no example would be left for training.
    """
    if not 0 <= validation < num:
        raise ValueError(f"Cannot hold out {validation} of {num} examples for validation; give at most {num - 1}.")
    shuffled = np.random.Generator(np.random.Philox(key=seed)).permutation(num)
    return np.sort(shuffled[validation:]), np.sort(shuffled[:validation])
