"""Batches for several devices of `tf.distribute`: the parts of those that a lone device would see, each example once.

An element of a dataset is what one device takes in one step: of step after step, of device after device. The datasets
have no end: of data that end `tf.distribute` asks at every step, among all devices, whether one has none. So `fit` is
told the number of steps.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kvae.backends.tensorflow.autotune import without_autotune
from kvae.dataloaders import batches
from kvae.dataloaders.tensorflow import num_readers, row_reader, shuffle


class Share(NamedTuple):
    """Which part of each batch a process reads: that of its devices.

    Attributes:
        worker: number of the process among those that train together.
        workers: how many there are.
        replicas: devices of each.
    """

    worker: int = 0
    workers: int = 1
    replicas: int = 1

    @property
    def parts(self):
        """Into how many parts a batch is cut, one for each device."""
        return self.workers * self.replicas


def training_batches(x, conditions, batch_size, seed, share):
    """As `pipeline.training_batches`, the part of a process; `fit` wants `steps` as its `steps_per_epoch`.

    Args:
        x: array `[num, *shape]` or `OnDisk`.
        conditions: None, an array `[num]`, or a dict of them.
        batch_size: examples a step, of all devices together; what does not divide among them is left off.
        seed: of the order.
        share: which part.

    Returns:
        `pipeline.Batches`; the parts of a step together are the batch of a lone device.
    """
    num = len(x)
    batch_size = min(batch_size, num) // share.parts * share.parts
    if not batch_size:
        raise ValueError(f"{share.parts} devices cannot share {num} examples; train on fewer.")
    steps = num // batch_size
    with tf.device("CPU:0"):
        first = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        rows = row_reader(x, conditions)

    def order(epoch):
        used = tf.reshape(shuffle(num, seed, epoch)[: steps * batch_size], [steps, share.workers, -1])
        own = tf.reshape(used[:, share.worker], [steps * share.replicas, batch_size // share.parts])
        return tf.data.Dataset.from_tensor_slices(own)

    # The variable is read when an iterator begins; the iterator goes on into the epochs after it by itself.
    epochs = tf.data.Dataset.range(1).flat_map(lambda _: tf.data.Dataset.range(first, first + 2**40))
    dataset = epochs.flat_map(order).map(rows, num_parallel_calls=num_readers(x)).prefetch(8)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return batches.Batches(without_autotune(dataset), batches.EpochOrder(first.assign), steps)


def validation_batches(x, conditions, batch_size, share):
    """As `pipeline.validation_batches`: devices take batch after batch in turn, the last of some is empty.

    After `validation_steps` it begins again.
    """
    steps = validation_steps(len(x), batch_size, share)
    starts = batch_size * np.arange(steps * share.parts).reshape(steps, share.workers, share.replicas)
    rows = tf.data.Dataset.from_tensor_slices(starts[:, share.worker].ravel()).map(
        lambda start: tf.range(tf.minimum(start, len(x)), tf.minimum(start + batch_size, len(x)))
    )
    rows = rows.repeat()
    return without_autotune(rows.map(row_reader(x, conditions), num_parallel_calls=num_readers(x)).prefetch(2))


def validation_steps(num, batch_size, share):
    """How many batches each device has of `num` examples."""
    return -(-num // (batch_size * share.parts))
