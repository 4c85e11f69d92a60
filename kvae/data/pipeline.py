"""Batches for `fit`, from memory or from disk, in an order that is a pure function of (seed, epoch)."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kvae.data.disk import OnDisk


class Batches(NamedTuple):
    """What `fit` needs: the dataset, and the callback that tells it the epoch."""

    dataset: tf.data.Dataset
    callback: keras.callbacks.Callback
    steps: int


class EpochOrder(keras.callbacks.Callback):
    """Tells the dataset which epoch begins, so that a resumed run sees the order of the uninterrupted one."""

    def __init__(self, epoch):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        """Keras calls this before it opens the epoch's iterator."""
        self._epoch.assign(epoch)


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
    num = len(x)
    batch_size = min(batch_size, num)
    steps = num // batch_size
    # On the CPU, where tf.data runs: a variable on a GPU would be out of its reach.
    with tf.device("CPU:0"):
        epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        rows = _row_reader(x, conditions)

    def order(_):
        shuffled = tf.random.experimental.stateless_shuffle(
            tf.range(num), seed=tf.stack([tf.constant(seed, tf.int64), epoch])
        )
        return tf.data.Dataset.from_tensor_slices(tf.reshape(shuffled[: steps * batch_size], [steps, batch_size]))

    dataset = tf.data.Dataset.range(1).flat_map(order).map(rows, num_parallel_calls=_num_readers(x)).prefetch(8)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    return Batches(dataset, EpochOrder(epoch), steps)


def validation_batches(x, conditions, batch_size):
    """All examples in their order, the last batch as short as it falls."""
    if isinstance(x, OnDisk):
        rows = tf.data.Dataset.range(len(x)).batch(batch_size)
        return rows.map(_row_reader(x, conditions), num_parallel_calls=_num_readers(x)).prefetch(2)
    return tf.data.Dataset.from_tensor_slices(_columns(x, conditions)).batch(batch_size).cache().prefetch(2)


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


def _row_reader(x, conditions):
    """A function of indices `[batch]` to those examples and their conditions, for `tf.data`."""
    if not isinstance(x, OnDisk):
        columns = tf.nest.map_structure(tf.convert_to_tensor, _columns(x, conditions))
        return lambda indices: tf.nest.map_structure(lambda column: tf.gather(column, indices), columns)
    given = None if conditions is None else tf.nest.map_structure(tf.convert_to_tensor, conditions)

    def read(indices):
        examples = tf.numpy_function(x.__getitem__, [indices], tf.as_dtype(x.dtype), stateful=False)
        examples.set_shape((indices.shape[0], *x.shape[1:]))
        own = None if given is None else tf.nest.map_structure(lambda column: tf.gather(column, indices), given)
        return _columns(examples, own)

    return read


def _num_readers(x):
    return 4 if isinstance(x, OnDisk) else None


def _columns(x, conditions) -> Any:
    # `fit` wants a tuple (x, y); a model that is given nothing takes a tuple of x alone.
    return (x,) if conditions is None else (x, conditions)
