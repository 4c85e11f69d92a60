"""Sums and means over the replicas of `tf.distribute`.

Each replica computes one shard of a batch. A sum over all shards is an `all_reduce`, which has a gradient, so that an
objective may contain means over the batch. On one device each function is the plain one.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def num_replicas() -> int:
    """Return the number of replicas that share a batch; 1 without a strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def replica_id() -> Any:
    """Return the number of the current replica, from 0; 0 outside of a step."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def total(values: Any) -> Any:
    """Return the sum of a tensor over all replicas, the same on each."""
    context = tf.distribute.get_replica_context()
    if context is None or num_replicas() == 1:
        return values
    return context.all_reduce("SUM", values)


def shard_number(batch: Any) -> Any:
    """Return the number of this replica's shard of batch `batch` among the shards of all batches, float64.

    One device would number its batches the same way, so the fixed draws of validation do not depend on the devices.
    """
    return tf.cast(batch, tf.float64) * num_replicas() + tf.cast(replica_id(), tf.float64)


def run(strategy: Any, step: Callable, *args: Any) -> Any:
    """Run `step` on all replicas and return the result of the first local one. Results must be equal on all."""
    results = strategy.run(step, args=args)
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], results)


def batch_size(values: Any) -> Any:
    """Return the number of examples of the whole batch, float32, given `[batch]` of this replica."""
    own = values.shape[0]
    # A static size is that of every replica: `tf.distribute` leaves it unknown if the last batch may be short.
    return tf.cast(num_replicas() * own, tf.float32) if own else total(tf.cast(tf.shape(values)[0], tf.float32))


def batch_mean(values: Any) -> Any:
    """Return the mean over the first axis of the whole batch, the same on each replica."""
    if num_replicas() == 1:
        return tf.reduce_mean(values, axis=0)
    return total(tf.reduce_sum(values, axis=0)) / tf.cast(batch_size(values), values.dtype)


def shard_of_mean(values: Any) -> Any:
    """Return this replica's share of the mean of `[batch]`. Shares and their gradients add up over the replicas."""
    if num_replicas() == 1:
        return tf.reduce_mean(values)
    return tf.reduce_sum(values) / tf.maximum(batch_size(values), 1.0)


def require_distributable(model: Any) -> None:
    """Raise ValueError if a compiled model would train incorrectly on several replicas.

    Args:
        model: Compiled `kvae.VAE`.
    """
    optimizer, replicas = model.optimizer, model.distribute_strategy.num_replicas_in_sync
    if replicas == 1:
        return
    for name in ("clipnorm", "global_clipnorm", "clipvalue", "gradient_accumulation_steps", "loss_scale_factor"):
        if getattr(optimizer, name, None) is not None:
            raise ValueError(
                f"The optimizer has {name}, which Keras applies on each of {replicas} devices before it adds the "
                "gradients up. Train without it, or on one device."
            )
    if not model.objective.splits_across_devices:
        raise ValueError(
            f"{type(model.objective).__name__} compares all examples of a batch, but each of {replicas} devices has "
            "only its shard. Train on one device."
        )


def has_workers(strategy: Any) -> bool:
    """Return whether a strategy has several workers, each in its own process."""
    kind = tf.distribute.MultiWorkerMirroredStrategy
    return isinstance(strategy, kind) and bool(strategy.cluster_resolver.cluster_spec().as_dict())


def is_distributed(strategy: Any) -> bool:
    """Return whether a strategy has several devices or workers."""
    return strategy.num_replicas_in_sync > 1 or has_workers(strategy)


def step_function(model: Any, step: Callable) -> Callable:
    """Return a function of an iterator that runs one step on all replicas and returns its logs.

    Keras' own function reduces each log over the workers as if it had a batch axis, so that scalars raise.
    """
    strategy = model.distribute_strategy

    def on_data(data):
        return run(strategy, step, data)

    def on_iterator(iterator):
        data = next(iterator)
        # Operations that do not read the data, such as the step count, must not run at the end of the data.
        with tf.control_dependencies(tf.nest.flatten(data, expand_composites=True)):
            return on_data(data)

    if not model.run_eagerly:
        on_data = tf.function(on_data, reduce_retracing=True)
        on_iterator = tf.function(on_iterator, reduce_retracing=True)

    def function(iterator):
        if not isinstance(iterator, tf.distribute.DistributedIterator):  # the batch of `train_on_batch`
            return on_data(next(iterator))
        try:
            return on_iterator(iterator)
        except tf.errors.OutOfRangeError:
            raise StopIteration from None

    return function
