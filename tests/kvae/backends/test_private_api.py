"""Private API that kvae uses. Each test fails as soon as a private name is no longer needed.

The names are in `kvae/backends/tensorflow/private_api.py` and `kvae/backends/jax/private_api.py`. Those that need two
devices are tested in tests/kvae/training/test_distribution.py.
"""

import inspect
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kvae.backends.jax.private_api import DataAdapter


def test_keras_accepts_an_unknown_source_of_batches_only_as_a_private_data_adapter():
    class Batches:
        """The interface of a data adapter, without its base class."""

        num_batches, batch_size, has_partial_batch, partial_batch_size = 1, 2, False, None

        def get_tf_dataset(self):
            x = np.ones((2, 3), "float32")
            return tf.data.Dataset.from_tensors((x, x[:, :1]))

        get_jax_iterator = get_tf_dataset

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(type("Adapter", (Batches, DataAdapter), {})(), verbose=0)
    with pytest.raises(ValueError, match="Unrecognized data type"):
        model.fit(Batches(), verbose=0)
    assert not hasattr(keras.utils, "DataAdapter"), "Keras exports DataAdapter: import it from there."


def test_strategies_have_no_public_timeouts_of_start_and_heartbeat():
    options = inspect.signature(tf.distribute.experimental.CommunicationOptions.__init__).parameters
    strategy = inspect.signature(tf.distribute.MultiWorkerMirroredStrategy.__init__).parameters
    assert set(options) - {"self", "args", "kwargs"} <= {"bytes_per_pack", "timeout_seconds", "implementation"}
    assert set(strategy) - {"self", "args", "kwargs"} == {"cluster_resolver", "communication_options"}


def test_keras_looks_for_tensorflow_under_other_backends_when_it_sets_a_seed():
    # Therefore kvae.backends.startup hides TensorFlow from the first call.
    assert "tf.available" in inspect.getsource(inspect.unwrap(keras.utils.set_random_seed))


def test_fit_evaluates_through_a_private_argument():
    # Therefore kvae.models.trainer recognises data that `fit` has checked.
    assert "_use_cached_eval_dataset" in inspect.getsource(inspect.unwrap(keras.Model.fit))


def test_keras_is_a_release_that_was_tested():
    assert keras.__version__.split(".")[:2] == ["3", "15"], sys.version
