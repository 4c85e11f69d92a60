"""Private API of Keras and TensorFlow that training under TensorFlow uses.

`tests/kvae/backends/test_private_api.py` fails as soon as one of these is no longer needed.
"""

from typing import Any

from tensorflow.python.data.ops import multi_device_iterator_ops
from tensorflow.python.distribute.collective_all_reduce_strategy import coordination_config_pb2
from tensorflow.python.eager import context

from kvae.backends.tensorflow.autotune import without_autotune

# For type checkers `super()` is anything; at run time it is `keras.Model`.
_Keras: Any = object

_create_device_dataset = multi_device_iterator_ops._create_device_dataset


class DistributedBuild(_Keras):
    """Mixin for `keras.Model` that skips Keras' symbolic build on several devices.

    Keras concatenates the shards of the first batch to find its shape, and fails if the shards differ in size. kvae's
    models are built from the start, so only the optimizer is left to build.
    """

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        strategy = self.distribute_strategy
        if strategy.num_replicas_in_sync == 1 or not all(layer.built for layer in self._flatten_layers()):
            super()._maybe_symbolic_build(iterator, data_batch)
        elif not self.optimizer.built:
            with strategy.scope():
                self.optimizer.build(self.trainable_variables)


def disable_device_autotune() -> None:
    """Disable autotuning in the datasets that `tf.distribute` derives from ours for each device.

    These datasets do not inherit `tf.data.Options`. With autotuning the end of training can block for up to a minute
    per device, see `kvae.backends.tensorflow.autotune`.
    """

    def create(*args):
        return without_autotune(_create_device_dataset(*args))

    multi_device_iterator_ops._create_device_dataset = create


def set_coordination_timeouts(cluster: Any, start_seconds: int, silent_seconds: int) -> None:
    """Configure TensorFlow's coordination service before a strategy does so with its defaults.

    Strategies offer a timeout of a collective operation only, not of the start and of heartbeats.

    Args:
        cluster: `kvae.training.cluster.Cluster`.
        start_seconds: How long workers wait until all have started.
        silent_seconds: How long a worker may send no heartbeat before it counts as lost.
    """
    jobs = [coordination_config_pb2.CoordinatedJob(name=name, num_tasks=num) for name, num in cluster.tasks.items()]
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{'chief' if 'chief' in cluster.tasks else 'worker'}/task:0",
        cluster_register_timeout_in_ms=1000 * start_seconds,
        heartbeat_timeout_in_ms=1000 * silent_seconds,
        shutdown_barrier_timeout_in_ms=1000 * silent_seconds,
        coordinated_jobs=jobs,
    )
