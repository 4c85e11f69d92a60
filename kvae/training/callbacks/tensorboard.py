"""Figures for TensorBoard, written with what TensorFlow brings: the package tensorboard only reads them."""

import keras
import numpy as np


class Board(keras.callbacks.Callback):
    """Writes every figure of an epoch as a scalar; training and validation lie in the same chart.

    Args:
        directory: the log folder; `train` and `validation` are made in it.
    """

    def __init__(self, directory):
        import tensorflow as tf

        super().__init__()
        self._summary = tf.summary
        self._writers = {name: tf.summary.create_file_writer(str(directory / name)) for name in ("train", "validation")}
        self._metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
        )

    def on_epoch_end(self, epoch, logs=None):
        """Write the epoch; its number counts from 1, as in the progress."""
        for name, value in (logs or {}).items():
            split, figure = ("validation", name[4:]) if name.startswith("val_") else ("train", name)
            with self._writers[split].as_default():
                self._summary.write(figure, np.float32(value), step=epoch + 1, metadata=self._metadata)
        for writer in self._writers.values():
            writer.flush()
