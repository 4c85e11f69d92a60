"""Training and validation step under TensorFlow, one of each for all models.

A model defines `terms` (reconstruction and kl of a batch) and `objective`. This module has the gradient, the noise and
the loss tracker.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kvae.backends.base import StepBase, named_losses
from kvae.backends.random_streams import TEST_LATENT, TEST_TARGET, TRAIN_LATENT, TRAIN_TARGET
from kvae.backends.tensorflow import distribute
from kvae.backends.tensorflow.private_api import DistributedBuild


class Noise:
    """Random numbers as a pure function of (seed, step, replica), so that a resumed run draws the same numbers.

    Args:
        seed: Seed of the model.
        step: Scalar integer tensor: the step count of the optimizer, or the number of a validation batch.
        test: Whether to give the fixed draws of validation.
        replica: Number of the device that draws. Device 0 draws the same numbers as a single device.
        jit_compile: Whether XLA compiles the step. XLA's random normals differ from those of TensorFlow's kernels.
    """

    def __init__(self, seed: int, step: Any, test: bool = False, replica: Any = 0, jit_compile: bool = False):
        self._seed, self._step = seed, tf.cast(step, tf.int64)
        self._replica, self._jit_compile = tf.cast(replica, tf.int64), jit_compile
        self._latent, self._target = (TEST_LATENT, TEST_TARGET) if test else (TRAIN_LATENT, TRAIN_TARGET)

    def normal(self, like: Any) -> Any:
        """Draw standard normals of the shape of `like`, float32."""
        shape, key = tf.shape(like), self._key(self._latent)
        if not self._jit_compile:
            return tf.random.stateless_normal(shape, seed=key, alg="philox")
        count = tf.size(like)
        return tf.reshape(_normals(_words(key, 4 * ((count + 3) // 4)))[:count], shape)

    def bernoulli(self, probabilities: Any) -> Any:
        """Draw 0 or 1 with the given probabilities, float32.

        A draw takes 16 random bits, half the time of a float. Probabilities are rounded up to multiples of 2^-16; 0 and
        1 are exact.
        """
        words = _words(self._key(self._target), (tf.size(probabilities) + 1) // 2)
        bits = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[: tf.size(probabilities)]
        bits = tf.cast(tf.reshape(bits, tf.shape(probabilities)), tf.float32)
        return tf.cast(bits < probabilities * 2.0**16, tf.float32)

    def _key(self, stream: int) -> Any:
        # The seed has 31 bits and the stream two. The replica has the bits above.
        return tf.stack([tf.constant(self._seed + (stream << 32), tf.int64) + self._replica * 2**40, self._step])


def _words(key: Any, count: Any) -> Any:
    return tf.random.stateless_uniform([count], seed=key, minval=None, maxval=None, dtype=tf.uint32, alg="philox")


def _normals(words: Any) -> Any:
    """Compute normals from words with the formula of TensorFlow's kernels (Box and Muller 1958)."""
    # 23 random bits become the mantissa of a number from 1 to 2.
    uniform = tf.reshape(tf.bitcast((words & 0x7FFFFF) | 0x3F800000, tf.float32) - 1.0, [-1, 2])
    radius = tf.sqrt(-2.0 * tf.math.log(tf.maximum(uniform[:, 0], 1e-7)))
    angle = tf.cast(tf.cast(uniform[:, 1], tf.float64) * (2.0 * math.pi), tf.float32)
    return tf.reshape(tf.stack([tf.sin(angle), tf.cos(angle)], axis=-1) * radius[:, None], [-1])


class BackendStep(DistributedBuild, StepBase):
    """Mixin that gives a `keras.Model` its steps."""

    def train_step(self, data: Any) -> dict[str, Any]:
        """Take one optimizer step on the mean objective of a batch; return the logs."""
        step = self.optimizer.iterations
        with tf.GradientTape() as tape:
            noise = Noise(self.seed, step, replica=distribute.replica_id(), jit_compile=self.jit_compile)
            terms = self.terms(data, noise, training=True)
            objective = self.objective(terms, step)
            loss = distribute.shard_of_mean(terms.weighted(objective))
            if self.losses:  # weight penalties of the user's layers
                loss += tf.add_n(self.losses) / distribute.num_replicas()
            scaled = self.optimizer.scale_loss(loss)
        beta = self.beta_at(step)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        self.totals.update_state(objective, terms)
        return self.totals.result() | {"beta": beta}

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluate a batch under fixed draws; return the logs."""
        number = distribute.shard_number(self.totals.batches)
        noise = Noise(self.seed, number, test=True, jit_compile=self.jit_compile)
        terms = self.terms(data, noise, training=False)
        self.totals.update_state(self.objective(terms, self.optimizer.iterations), terms)
        return self.totals.result()

    @property
    def steps_per_execution(self) -> int:
        """Steps per call of the train function; 1 on several devices, where Keras fails with more."""
        return 1 if distribute.is_distributed(self.distribute_strategy) else self._steps_per_execution_requested

    @steps_per_execution.setter
    def steps_per_execution(self, steps: int) -> None:
        self._steps_per_execution_requested = steps

    def make_train_function(self, force: bool = False) -> None:
        """Build the train function, after a check that the model can train on its devices."""
        distribute.require_distributable(self)
        if self.train_function is not None and not force:
            return
        if distribute.is_distributed(self.distribute_strategy):
            function = distribute.step_function(self, self.train_step)
        else:
            super().make_train_function(force)
            function = self.train_function
        self.train_function = self.keep_logs(function)

    def make_test_function(self, force: bool = False) -> None:
        """Build the test function."""
        if not distribute.is_distributed(self.distribute_strategy):
            super().make_test_function(force)
        elif self.test_function is None or force:
            self.test_function = distribute.step_function(self, self.test_step)

    def require_data(self, x: Any) -> None:
        """Raise ValueError for arrays if several workers train, because each would shuffle them differently."""
        if hasattr(x, "shape") and distribute.has_workers(self.distribute_strategy):
            raise ValueError(
                "fit received an array, but several workers train. Use a dataset that gives each worker its shard of "
                "every batch: `training_batches` of a kvae.training.distribution.Distribution, see docs/distributed.md."
            )

    def steps_done(self) -> int:
        """Return the number of training steps so far."""
        return int(self.optimizer.iterations.numpy())


def configure(deterministic: bool) -> None:
    """Set process-wide options before the first model is built.

    Args:
        deterministic: Whether results must repeat bit for bit on a GPU as well.
    """
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def to_numpy(values: Any) -> np.ndarray:
    """Convert an array, a list or an eager tensor to a NumPy array."""
    return keras.ops.convert_to_numpy(values) if tf.is_tensor(values) else np.asarray(values)


@keras.saving.register_keras_serializable(package="kvae", name="Totals")
class LossTracker(keras.metrics.Metric):
    """Sums of loss, reconstruction and kl over the examples, in one variable: one assignment per step.

    On several devices each batch is summed over all devices, and every device has the same sums. The result is a dict
    of means in nats per example: `loss`, `elbo`, `reconstruction`, `kl`.
    """

    def __init__(self, name: str = "totals", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self._sums = self.add_variable(
            (5,), initializer="zeros", dtype="float64", aggregation="only_first_replica", name="sums"
        )

    @property
    def batches(self) -> Any:
        """Number of batches since the last reset."""
        return self._sums[4]

    def update_state(self, objective: Any, terms: Any) -> None:
        """Add a batch: `objective`, `terms.reconstruction` and `terms.kl`, each `[batch]`, in nats."""
        sums = tf.stack([tf.reduce_sum(terms.weighted(term)) for term in (objective, terms.reconstruction, terms.kl)])
        weights = terms.sample_weight
        count = tf.cast(tf.shape(objective)[0] if weights is None else tf.reduce_sum(weights), tf.float64)
        sums = distribute.total(tf.concat([tf.cast(sums, tf.float64), [count]], axis=0))
        self._sums.assign_add(tf.concat([sums, [1.0]], axis=0))

    def result(self) -> dict[str, Any]:
        """Return the means over all examples since the last reset, float32 scalars by name."""
        *losses, count, _ = tf.unstack(tf.convert_to_tensor(self._sums))
        return named_losses(*(tf.cast(loss / tf.maximum(count, 1e-30), tf.float32) for loss in losses))


def latent_sums(model: Any) -> Callable:
    """Return a compiled function that sums statistics of the posterior. Only the encoder runs.

    Args:
        model: A `kvae.VAE`.

    Returns:
        Function of a batch, as `fit` receives it, and its number among the batches of validation. It returns the number
        of examples and three sums over them, `[latent_dim]` each: of z_mean, of its square, and of the kl in nats
        (zeros if the prior does not factorise).
    """

    def sums(batch, number):
        noise = Noise(model.seed, distribute.shard_number(number), test=True)
        terms = model.terms(batch, noise, training=False)
        z_mean = tf.cast(terms.z_mean, tf.float64)
        kl = z_mean * 0.0 if terms.kl_per_dim is None else tf.cast(terms.kl_per_dim, tf.float64)
        count = tf.cast(tf.shape(z_mean)[0], tf.float64)
        return distribute.total((count, *(tf.reduce_sum(values, axis=0) for values in (z_mean, z_mean**2, kl))))

    @tf.function(reduce_retracing=True, autograph=False)
    def compiled(batch, number):
        return distribute.run(model.distribute_strategy, sums, batch, number)

    return lambda batch, number: compiled(batch, tf.constant(number, tf.float64))
