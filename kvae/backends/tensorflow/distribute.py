"""One step on several devices or workers of `tf.distribute`: sums over the whole batch, and what Keras lacks there.

Each replica has its part of a batch. A sum over all parts is an `all_reduce`, which has a gradient, so a mean over the
batch can stand in an objective. On one device every function here is the plain one.
"""

from types import SimpleNamespace
from typing import Any

import tensorflow as tf

from kvae.backends.device_blocks import Blocks
from kvae.backends.tensorflow import device_memory

# For type checkers `super()` is anything; at run time it is `keras.Model`, the next of the model's bases.
_Keras: Any = object


def num_replicas():
    """How many replicas share a batch; 1 where there is no strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def replica():
    """Number of the replica that computes this, 0 to `num_replicas() - 1`; 0 outside of a step."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def total(values):
    """The sum of a tensor over all replicas, the same on each."""
    context = tf.distribute.get_replica_context()
    if context is None or num_replicas() == 1:
        return values
    return context.all_reduce("SUM", values)


def number_of_part(number):
    """Number of this replica's part of batch `number`, among the parts of all batches: float64.

    It is the number of a batch of a lone device: the fixed draws of validation are the same for any number of devices.
    """
    return tf.cast(number, tf.float64) * num_replicas() + tf.cast(replica(), tf.float64)


def run(strategy, step, *args):
    """Run `step` on all replicas and return what the first one of this process returned: the same for all of them."""
    found = strategy.run(step, args=args)
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], found)


def batch_size(values):
    """Examples of the whole batch, float32, given `[batch]` of this replica."""
    own = values.shape[0]
    # A known size is that of every replica: `tf.distribute` tells none where the last batch may be short.
    return tf.cast(num_replicas() * own, tf.float32) if own else total(tf.cast(tf.shape(values)[0], tf.float32))


def batch_mean(values):
    """The mean over the first axis of the whole batch: a tensor `[batch, ...]` to `[...]`, the same on each replica."""
    if num_replicas() == 1:
        return tf.reduce_mean(values, axis=0)
    return total(tf.reduce_sum(values, axis=0)) / tf.cast(batch_size(values), values.dtype)


def share_of_mean(values):
    """This replica's part of the mean of `[batch]` over the whole batch: the parts, and their gradients, add up."""
    if num_replicas() == 1:
        return tf.reduce_mean(values)
    return tf.reduce_sum(values) / tf.maximum(batch_size(values), 1.0)


def require(model):
    """Raise ValueError where a model is compiled with what would go wrong on several replicas.

    Args:
        model: a compiled `kvae.VAE`.
    """
    optimizer, replicas = model.optimizer, model.distribute_strategy.num_replicas_in_sync
    if replicas == 1:
        return
    # Keras clips, accumulates and unscales the gradients of each replica before it adds them up.
    for name in ("clipnorm", "global_clipnorm", "clipvalue", "gradient_accumulation_steps", "loss_scale_factor"):
        if getattr(optimizer, name, None) is not None:
            raise ValueError(
                f"The optimizer has {name}, which Keras applies on each of {replicas} devices by itself before it adds "
                "the gradients up; train without it, or on one device."
            )
    if not model.objective.splits_across_devices:
        raise ValueError(
            f"{type(model.objective).__name__} compares all examples of a batch with each other, which {replicas} "
            "devices do not see together; train on one device."
        )


class Functions(_Keras):
    """Mixin: the functions that run steps, where Keras' own do not work.

    With several workers Keras 3.15.1 takes each log for a tensor with a batch axis and reduces it over the workers, so
    that scalars raise; and more than one step an execution fails on several devices too. Here the logs are the same on
    every replica, so one of them is taken as it is, and an execution is one step.
    """

    # What Keras brings.
    train_function: Any
    test_function: Any
    #: Its `logs` are those of the last execution, on the device: a look at them waits for it.
    latest: SimpleNamespace

    @property
    def steps_per_execution(self):
        """As Keras has it; a step at a time on several devices."""
        return 1 if _is_spread(self.distribute_strategy) else self._wanted_steps

    @steps_per_execution.setter
    def steps_per_execution(self, steps):
        self._wanted_steps = steps

    def make_train_function(self, force=False):
        """As Keras has it; the model is looked at first."""
        require(self)
        if self.train_function is not None and not force:
            return
        if _is_spread(self.distribute_strategy):
            function = _function(self, self.train_step)
        else:
            super().make_train_function(force)
            function = _for_either(self.train_function, device_memory.train(self))

        # An object that Keras does not look into: it wraps each dict that a model is given, step by step.
        self.latest = latest = SimpleNamespace(logs={})

        def train_function(iterator):
            latest.logs = function(iterator)
            return latest.logs

        self.train_function = train_function

    def make_test_function(self, force=False):
        """As Keras has it."""
        if not _is_spread(self.distribute_strategy):
            if self.test_function is None or force:
                super().make_test_function(force)
                self.test_function = _for_either(self.test_function, device_memory.test(self))
        elif self.test_function is None or force:
            self.test_function = _function(self, self.test_step)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """As Keras has it, which reduces a batch over the devices for its shape and fails where their parts differ."""
        strategy = self.distribute_strategy
        if strategy.num_replicas_in_sync == 1 or not all(layer.built for layer in self._flatten_layers()):
            super()._maybe_symbolic_build(iterator, data_batch)
        elif not self.optimizer.built:
            with strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def require_data(self, x):
        """Raise ValueError for arrays where several workers train: each would shuffle them in an order of its own."""
        if hasattr(x, "shape") and among_workers(self.distribute_strategy):
            raise ValueError(
                "Several workers need a dataset that gives each of them its part of every batch, got an array; give "
                "fit the `training_batches` of a kvae.training.distribution.Distribution, see docs/distributed.md."
            )


def _for_either(function, on_blocks):
    """A function of an iterator, and that of the `Blocks` of data on the device, as one."""
    return lambda iterator: (on_blocks if isinstance(iterator, Blocks) else function)(iterator)


def _is_spread(strategy):
    return strategy.num_replicas_in_sync > 1 or among_workers(strategy)


def among_workers(strategy):
    """Whether a strategy has workers, each a process of its own."""
    kind = tf.distribute.MultiWorkerMirroredStrategy
    return isinstance(strategy, kind) and bool(strategy.cluster_resolver.cluster_spec().as_dict())


def _function(model, step):
    strategy = model.distribute_strategy

    def on_data(data):
        return run(strategy, step, data)

    def on_iterator(iterator):
        data = next(iterator)
        # Without it what does not read the data, as the optimiser's count, would run where there are none left.
        with tf.control_dependencies(tf.nest.flatten(data, expand_composites=True)):
            return on_data(data)

    if not model.run_eagerly:
        on_data = tf.function(on_data, reduce_retracing=True)
        on_iterator = tf.function(on_iterator, reduce_retracing=True)

    def function(iterator):
        if not isinstance(iterator, tf.distribute.DistributedIterator):  # one batch of `train_on_batch`
            return on_data(next(iterator))
        try:
            return on_iterator(iterator)
        except tf.errors.OutOfRangeError:
            raise StopIteration from None

    return function
