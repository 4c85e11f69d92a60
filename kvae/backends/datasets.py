"""What another engine than TensorFlow is handed that is TensorFlow's own."""

import sys


def is_dataset(x):
    """Whether `x` is a dataset of TensorFlow, which can be looked into and read again; none where that is not open."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(x, tensorflow.data.Dataset)
