"""Private API of Keras that training under JAX uses.

`tests/kvae/backends/test_private_api.py` fails as soon as Keras offers a public replacement.
"""

# `fit` accepts arrays and a few kinds of datasets. For any other source of batches it needs an instance of this class,
# which Keras does not export.
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

__all__ = ["DataAdapter"]
