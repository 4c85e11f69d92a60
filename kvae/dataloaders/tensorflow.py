"""Batches for `fit` from `tf.data`, under TensorFlow. `kvae.dataloaders.batches` describes them."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from kvae.backends.tensorflow.autotune import without_autotune
from kvae.data.disk import OnDisk


def training_batches(x: Any, conditions: Any, batch_size: int, seed: int) -> tuple[Any, Callable[[int], Any], int]:
    """Return the dataset, a function that selects its epoch, and its number of batches."""
    num, steps = len(x), len(x) // batch_size
    # tf.data runs on the CPU and cannot read a variable on a GPU.
    with tf.device("CPU:0"):
        epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        rows = row_reader(x, conditions)

    def order(_):
        shuffled = shuffle(num, seed, epoch)
        return tf.data.Dataset.from_tensor_slices(tf.reshape(shuffled[: steps * batch_size], [steps, batch_size]))

    dataset = tf.data.Dataset.range(1).flat_map(order).map(rows, num_parallel_calls=num_readers(x)).prefetch(8)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    return without_autotune(dataset), epoch.assign, steps


def shuffle(num: int, seed: int, epoch: Any) -> Any:
    """Return the order of `num` examples in an epoch, a pure function of seed and epoch: integers `[num]`."""
    return tf.random.experimental.stateless_shuffle(
        tf.range(num), seed=tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
    )


def validation_batches(x: Any, conditions: Any, batch_size: int) -> Any:
    """Return all examples in their order."""
    if isinstance(x, OnDisk):
        rows = tf.data.Dataset.range(len(x)).batch(batch_size)
        return without_autotune(rows.map(row_reader(x, conditions), num_parallel_calls=num_readers(x)).prefetch(2))
    batches = tf.data.Dataset.from_tensor_slices(_columns(x, conditions)).batch(batch_size)
    return without_autotune(batches.cache().prefetch(2))


def row_reader(x: Any, conditions: Any) -> Callable[[Any], Any]:
    """Return a function of indices `[batch]` that gathers examples and their conditions, for `tf.data`."""
    if not isinstance(x, OnDisk):
        columns = tf.nest.map_structure(tf.convert_to_tensor, _columns(x, conditions))
        return lambda indices: tf.nest.map_structure(lambda column: tf.gather(column, indices), columns)
    conditions = None if conditions is None else tf.nest.map_structure(tf.convert_to_tensor, conditions)

    def read(indices):
        examples = tf.numpy_function(x.__getitem__, [indices], tf.as_dtype(x.dtype), stateful=False)
        examples.set_shape((indices.shape[0], *x.shape[1:]))
        if conditions is None:
            return _columns(examples, None)
        return _columns(examples, tf.nest.map_structure(lambda column: tf.gather(column, indices), conditions))

    return read


def num_readers(x: Any) -> int | None:
    """Return the number of batches that `tf.data` reads in parallel."""
    return 4 if isinstance(x, OnDisk) else None


def _columns(x: Any, conditions: Any) -> Any:
    # `fit` requires a tuple (x, y); without conditions it is a tuple of x only.
    return (x,) if conditions is None else (x, conditions)
