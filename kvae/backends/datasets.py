"""Recognition of `tf.data` datasets under every backend."""

import sys
from typing import Any


def is_dataset(x: Any) -> bool:
    """Return whether `x` is a `tf.data.Dataset`; False if TensorFlow is not imported."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(x, tensorflow.data.Dataset)
