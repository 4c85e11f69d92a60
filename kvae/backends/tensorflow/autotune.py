"""`tf.data` datasets without autotuning."""

import tensorflow as tf


def without_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Turn off autotuning, which resizes the buffers of a dataset.

    Its thread can miss the signal to stop. Deleting the iterator then blocks for up to a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
