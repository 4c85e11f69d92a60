"""Training data in the memory of TensorFlow's GPU, and the steps that take rows of them.

Several steps are one program, a loop over the rows of a `Block`: where XLA compiles, nothing comes from the host but
numbers of rows, once an execution.
"""

import tensorflow as tf
from tensorflow.python.client import device_lib

from kvae.backends.device_blocks import of_an_execution


def put(columns):
    """Arrays in tuples and dicts to the same on the device."""
    with tf.device("GPU:0" if tf.config.list_logical_devices("GPU") else "CPU:0"):
        return tf.nest.map_structure(tf.convert_to_tensor, columns)


def numbers(rows):
    """Numbers of rows where a compiled step wants them: as they are, for it takes many at a time."""
    return rows


def take(columns, rows):
    """Those rows of all columns.

    TensorFlow has no kernel that takes rows of bytes on a GPU, where it would copy the whole column to the host and
    back; XLA has. So this is compiled whether or not what calls it is.
    """
    return (_take_by_xla if tf.config.list_logical_devices("GPU") else _take)(columns, rows)


def _take(columns, rows):
    return tf.nest.map_structure(lambda column: tf.gather(column, rows), columns)


_take_by_xla = tf.function(_take, jit_compile=True, autograph=False)


def batch(columns, rows):
    """As `take`, outside of a step."""
    return take(columns, tf.convert_to_tensor(rows))


def free():
    """Bytes that a GPU's memory has left; 0 where there is none, or where a strategy shares out the data."""
    if tf.distribute.has_strategy() or not tf.config.list_logical_devices("GPU"):
        return 0
    try:
        limits = [device.memory_limit for device in device_lib.list_local_devices() if device.device_type == "GPU"]
        return limits[0] - tf.config.experimental.get_memory_info("GPU:0")["current"]
    except (RuntimeError, tf.errors.OpError):  # where somebody has divided the GPUs otherwise, it cannot be told
        return 0


def train(model):
    """A function of an iterator of `Block`s that trains for an execution, and returns the logs of its last step."""

    def step(columns, rows):
        return tf.nest.map_structure(tf.convert_to_tensor, model.train_step(take(columns, rows)))

    def several(columns, rows):
        # The logs of the last step are what counts; the loop is told beforehand what they look like.
        logs = tf.nest.map_structure(lambda like: tf.zeros(like.shape, like.dtype), shapes(columns, rows[0]))
        number, steps = tf.constant(0), tf.shape(rows)[0]
        return tf.while_loop(
            lambda number, _: number < steps,
            lambda number, _: (number + 1, step(columns, rows[number])),
            (number, logs),
        )[1]

    def shapes(columns, rows):
        return tf.function(step, autograph=False).get_concrete_function(columns, rows).structured_outputs

    if model.run_eagerly:
        several = _one_by_one(step)
    else:
        several = tf.function(several, jit_compile=model.jit_compile, autograph=False)
    return _executed(model, several)


def test(model):
    """A function of an iterator of `Block`s that evaluates for an execution, and returns the logs of its last step."""

    def step(columns, rows):
        return model.test_step(take(columns, rows))

    if not model.run_eagerly:
        step = tf.function(step, jit_compile=model.jit_compile, autograph=False)
    return _executed(model, _one_by_one(step))


def _executed(model, several):
    def function(blocks):
        for block in of_an_execution(blocks, model.steps_per_execution):
            logs = several(*block)
        return logs

    return function


def _one_by_one(step):
    def several(columns, rows):
        for batch in rows:
            logs = step(columns, tf.constant(batch))
        return logs

    return several
