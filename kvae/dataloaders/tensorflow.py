"""Batches for `fit` from `tf.data`, for Keras on TensorFlow; `kvae.dataloaders.batches` says what they are."""

from typing import Any

import tensorflow as tf

from kvae.backends.tensorflow.autotune import without_autotune
from kvae.data.disk import OnDisk
from kvae.dataloaders import arrays, device


def training_batches(x, conditions, batch_size, seed):
    """As `batches.training_batches`: the dataset, what tells it the epoch, and its number of batches."""
    if device.has_room(_columns(x, conditions)):
        return arrays.training_batches(x, conditions, batch_size, seed)
    num, steps = len(x), len(x) // batch_size
    # On the CPU, where tf.data runs: a variable on a GPU would be out of its reach.
    with tf.device("CPU:0"):
        epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        rows = row_reader(x, conditions)

    def order(_):
        shuffled = shuffle(num, seed, epoch)
        return tf.data.Dataset.from_tensor_slices(tf.reshape(shuffled[: steps * batch_size], [steps, batch_size]))

    dataset = tf.data.Dataset.range(1).flat_map(order).map(rows, num_parallel_calls=num_readers(x)).prefetch(8)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    return without_autotune(dataset), epoch.assign, steps


def shuffle(num, seed, epoch):
    """The order of `num` examples in an epoch, a pure function of both seed and epoch: integers `[num]`."""
    return tf.random.experimental.stateless_shuffle(
        tf.range(num), seed=tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
    )


def validation_batches(x, conditions, batch_size):
    """As `kvae.dataloaders.batches.validation_batches`."""
    if device.has_room(_columns(x, conditions)):
        return arrays.validation_batches(x, conditions, batch_size)
    if isinstance(x, OnDisk):
        rows = tf.data.Dataset.range(len(x)).batch(batch_size)
        return without_autotune(rows.map(row_reader(x, conditions), num_parallel_calls=num_readers(x)).prefetch(2))
    batches = tf.data.Dataset.from_tensor_slices(_columns(x, conditions)).batch(batch_size)
    return without_autotune(batches.cache().prefetch(2))


def row_reader(x, conditions):
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


def num_readers(x):
    """How many batches are read at a time, as `tf.data` has it."""
    return 4 if isinstance(x, OnDisk) else None


def _columns(x, conditions) -> Any:
    # `fit` wants a tuple (x, y); a model that is given nothing takes a tuple of x alone.
    return (x,) if conditions is None else (x, conditions)
