"""The custom `train_step` and `test_step` under TensorFlow, one of each for the whole family of models.

A model brings `terms` (reconstruction and kl of a batch) and `objective` (what training minimises); the tape, the
gradients, the noise and the metrics are here.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kvae.backends.random_streams import TEST_LATENT, TEST_TARGET, TRAIN_LATENT, TRAIN_TARGET
from kvae.backends.tensorflow import distribute


class Noise:
    """Random numbers as a pure function of (seed, step, replica): a resumed run sees what the uninterrupted one saw.

    Args:
        seed: of the model.
        step: scalar integer tensor, the optimiser's count or the number of a validation batch.
        test: whether these are the fixed draws of validation.
        replica: which of several devices draws, each for its own part of the batch; the first draws as a lone one.
        jit_compile: whether XLA compiles the step: its own normals are others than those of TensorFlow's kernels.
    """

    def __init__(self, seed, step, test=False, replica=0, jit_compile=False):
        self._seed, self._step = seed, tf.cast(step, tf.int64)
        self._replica, self.jit_compile = tf.cast(replica, tf.int64), jit_compile
        self._latent, self._target = (TEST_LATENT, TEST_TARGET) if test else (TRAIN_LATENT, TRAIN_TARGET)

    def normal(self, like):
        """Standard normals of the shape of `like`, float32."""
        shape, key = tf.shape(like), self._key(self._latent)
        if not self.jit_compile:
            return tf.random.stateless_normal(shape, seed=key, alg="philox")
        count = tf.size(like)
        return tf.reshape(_normals(_words(key, 4 * ((count + 3) // 4)))[:count], shape)

    def bernoulli(self, probabilities):
        """0 or 1 with the given probabilities, float32 of their shape.

        Sixteen random bits a value, for half the time of a float: a probability is rounded up to the next multiple of
        2^-16. 0 and 1 are exact.
        """
        words = _words(self._key(self._target), (tf.size(probabilities) + 1) // 2)
        bits = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[: tf.size(probabilities)]
        bits = tf.cast(tf.reshape(bits, tf.shape(probabilities)), tf.float32)
        return tf.cast(bits < probabilities * 2.0**16, tf.float32)

    def _key(self, stream):
        # Seeds have 31 bits and streams two: what is above is the replica's.
        return tf.stack([tf.constant(self._seed + (stream << 32), tf.int64) + self._replica * 2**40, self._step])


def _words(key, count):
    return tf.random.stateless_uniform([count], seed=key, minval=None, maxval=None, dtype=tf.uint32, alg="philox")


def _normals(words):
    """As `kvae.backends.philox.normal`, which is what TensorFlow's own kernels compute of words."""
    # 23 bits make a float of 1 to 2.
    uniform = tf.reshape(tf.bitcast((words & 0x7FFFFF) | 0x3F800000, tf.float32) - 1.0, [-1, 2])
    radius = tf.sqrt(-2.0 * tf.math.log(tf.maximum(uniform[:, 0], 1e-7)))
    angle = tf.cast(tf.cast(uniform[:, 1], tf.float64) * (2.0 * math.pi), tf.float32)
    return tf.reshape(tf.stack([tf.sin(angle), tf.cos(angle)], axis=-1) * radius[:, None], [-1])


class BackendStep(distribute.Functions):
    """Mixin that gives a `keras.Model` its steps."""

    # What the model brings.
    seed: int
    totals: "Totals"
    terms: Callable
    objective: Any
    beta_at: Callable
    # What Keras brings.
    optimizer: Any
    losses: Any
    trainable_variables: Any
    jit_compile: bool

    def train_step(self, data):
        """One step of stochastic gradient descent on the mean objective of a batch; returns the logs."""
        step = self.optimizer.iterations
        with tf.GradientTape() as tape:
            noise = Noise(self.seed, step, replica=distribute.replica(), jit_compile=self.jit_compile)
            terms = self.terms(data, noise, training=True)
            objective = self.objective(terms, step)
            loss = distribute.share_of_mean(terms.weighted(objective))
            if self.losses:  # weight penalties of the user's own layers
                loss += tf.add_n(self.losses) / distribute.num_replicas()
            scaled = self.optimizer.scale_loss(loss)
        beta = self.beta_at(step)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        self.totals.update_state(objective, terms)
        return self.totals.result() | {"beta": beta}

    def test_step(self, data):
        """The terms of a batch under fixed draws, the same in every evaluation; returns the logs."""
        number = distribute.number_of_part(self.totals.batches)
        noise = Noise(self.seed, number, test=True, jit_compile=self.jit_compile)
        terms = self.terms(data, noise, training=False)
        self.totals.update_state(self.objective(terms, self.optimizer.iterations), terms)
        return self.totals.result()

    def steps_done(self):
        """Steps of training so far."""
        return int(self.optimizer.iterations.numpy())


def is_dataset(x):
    """Whether `x` is a dataset of TensorFlow, which can be looked into and read again."""
    return isinstance(x, tf.data.Dataset)


def settle(deterministic):
    """What is set once a process, before the first model; `deterministic` asks for the same result also on a GPU."""
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def to_numpy(values):
    """An array of an array, a list or an eager tensor."""
    return keras.ops.convert_to_numpy(values) if tf.is_tensor(values) else np.asarray(values)


@keras.saving.register_keras_serializable(package="kvae")
class Totals(keras.metrics.Metric):
    """Sums of loss, reconstruction and kl over the examples seen, in one variable: one assignment a step.

    On several devices each batch is summed over all of them, and every device holds the same sums.

    Its result is a dict, which Keras shows as it is: `loss`, `elbo`, `reconstruction`, `kl`, each a mean in nats per
    example.
    """

    def __init__(self, name="totals", **kwargs):
        super().__init__(name=name, **kwargs)
        self._sums = self.add_variable(
            (5,), initializer="zeros", dtype="float64", aggregation="only_first_replica", name="sums"
        )

    @property
    def batches(self):
        """How many batches were added since the last reset."""
        return self._sums[4]

    def update_state(self, objective, terms):
        """Add a batch: `objective`, `terms.reconstruction` and `terms.kl`, each `[batch]`, in nats."""
        sums = tf.stack([tf.reduce_sum(terms.weighted(term)) for term in (objective, terms.reconstruction, terms.kl)])
        weights = terms.sample_weight
        count = tf.cast(tf.shape(objective)[0] if weights is None else tf.reduce_sum(weights), tf.float64)
        sums = distribute.total(tf.concat([tf.cast(sums, tf.float64), [count]], axis=0))
        self._sums.assign_add(tf.concat([sums, [1.0]], axis=0))

    def result(self):
        """Means over all examples since the last reset, float32 scalars by name."""
        loss, reconstruction, kl, count, _ = tf.unstack(tf.convert_to_tensor(self._sums))
        count = tf.maximum(count, 1e-30)
        means = {"loss": loss, "elbo": -reconstruction - kl, "reconstruction": reconstruction, "kl": kl}
        return {name: tf.cast(value / count, tf.float32) for name, value in means.items()}


def latent_sums(model):
    """What a model's posterior does over a batch, compiled; only the encoder runs.

    Args:
        model: a `kvae.VAE`.

    Returns:
        A function of a batch, as `fit` takes it, and its number among the batches of validation. It gives the count of
        examples, and summed over them, `[latent_dim]` each: z_mean, its square, and the kl (zeros where the prior does
        not factorise).
    """

    def sums(batch, number):
        noise = Noise(model.seed, distribute.number_of_part(number), test=True)
        terms = model.terms(batch, noise, training=False)
        z_mean = tf.cast(terms.z_mean, tf.float64)
        kl = z_mean * 0.0 if terms.kl_per_dim is None else tf.cast(terms.kl_per_dim, tf.float64)
        count = tf.cast(tf.shape(z_mean)[0], tf.float64)
        return distribute.total((count, *(tf.reduce_sum(values, axis=0) for values in (z_mean, z_mean**2, kl))))

    @tf.function(reduce_retracing=True, autograph=False)
    def compiled(batch, number):
        return distribute.run(model.distribute_strategy, sums, batch, number)

    return lambda batch, number: compiled(batch, tf.constant(number, tf.float64))
