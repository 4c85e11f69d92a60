"""Callback that writes TensorBoard logs. The package tensorboard is needed only to view them."""

from pathlib import Path
from typing import Any

import keras
import numpy as np


class TensorBoardScalars(keras.callbacks.Callback):
    """Write every metric of an epoch as a scalar. Training and validation share a chart.

    Args:
        directory: Log folder. The folders `train` and `validation` are created in it.

    Example:
        >>> kvae.callbacks.TensorBoardScalars("logs").on_epoch_end(0, {"elbo": -90.0, "val_elbo": -92.0})
    """

    def __init__(self, directory: str | Path):
        import tensorflow as tf

        super().__init__()
        self._summary = tf.summary
        self._writers = {
            name: tf.summary.create_file_writer(str(Path(directory) / name)) for name in ("train", "validation")
        }
        self._metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the metrics. Epochs are counted from 1, as in the progress."""
        for name, value in (logs or {}).items():
            split, metric = ("validation", name[4:]) if name.startswith("val_") else ("train", name)
            with self._writers[split].as_default():
                self._summary.write(metric, np.float32(value), step=epoch + 1, metadata=self._metadata)
        for writer in self._writers.values():
            writer.flush()
