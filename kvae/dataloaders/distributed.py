"""Batches for several devices of `tf.distribute`: shards of the batches that one device would receive.

Each dataset element is the shard of one device for one step, ordered by step, then by device. The datasets are
infinite, because `tf.distribute` synchronises all devices at every step if the data can end. So `fit` needs the number
of steps.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kvae.backends.tensorflow.autotune import without_autotune
from kvae.dataloaders.batches import Batches, EpochOrder
from kvae.dataloaders.tensorflow import num_readers, row_reader, shuffle


class Shard(NamedTuple):
    """Position of a process among those that share a batch.

    Attributes:
        worker: Number of the process.
        workers: Number of processes.
        replicas: Devices per process.
    """

    worker: int = 0
    workers: int = 1
    replicas: int = 1

    @property
    def num_shards(self) -> int:
        """Shards per batch, one for each device."""
        return self.workers * self.replicas


def training_batches(x: Any, conditions: Any, batch_size: int, seed: int, shard: Shard) -> Batches:
    """Return the shards of a process. Together the shards of a step are the batch of one device.

    Args:
        x: Array `[num, *shape]` or `OnDisk`.
        conditions: None, an array `[num]`, or a dict of arrays.
        batch_size: Examples per step on all devices together; rounded down to a multiple of the number of devices.
        seed: Seed of the order.
        shard: Position of the process.

    Returns:
        `Batches`; pass `steps` to `fit` as `steps_per_epoch`.
    """
    num = len(x)
    batch_size = min(batch_size, num) // shard.num_shards * shard.num_shards
    if not batch_size:
        raise ValueError(f"{num} examples are too few for {shard.num_shards} devices; train on fewer devices.")
    steps = num // batch_size
    with tf.device("CPU:0"):
        first = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        rows = row_reader(x, conditions)

    def order(epoch):
        used = tf.reshape(shuffle(num, seed, epoch)[: steps * batch_size], [steps, shard.workers, -1])
        own = tf.reshape(used[:, shard.worker], [steps * shard.replicas, batch_size // shard.num_shards])
        return tf.data.Dataset.from_tensor_slices(own)

    # The variable is read when an iterator starts. The iterator continues into the following epochs by itself.
    epochs = tf.data.Dataset.range(1).flat_map(lambda _: tf.data.Dataset.range(first, first + 2**40))
    dataset = epochs.flat_map(order).map(rows, num_parallel_calls=num_readers(x)).prefetch(8)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return Batches(without_autotune(dataset), EpochOrder(first.assign), steps)


def validation_batches(x: Any, conditions: Any, batch_size: int, shard: Shard) -> Any:
    """Return whole batches that the devices process in turn; the last of them may be empty.

    The dataset repeats after `validation_steps`.
    """
    steps = validation_steps(len(x), batch_size, shard)
    starts = batch_size * np.arange(steps * shard.num_shards).reshape(steps, shard.workers, shard.replicas)
    rows = tf.data.Dataset.from_tensor_slices(starts[:, shard.worker].ravel()).map(
        lambda start: tf.range(tf.minimum(start, len(x)), tf.minimum(start + batch_size, len(x)))
    )
    rows = rows.repeat()
    return without_autotune(rows.map(row_reader(x, conditions), num_parallel_calls=num_readers(x)).prefetch(2))


def validation_steps(num: int, batch_size: int, shard: Shard) -> int:
    """Return the number of batches per device for `num` examples."""
    return -(-num // (batch_size * shard.num_shards))
