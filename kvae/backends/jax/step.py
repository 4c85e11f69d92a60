"""The custom `train_step` and `test_step` under JAX: stateless, so values of variables go in and come out.

The same models as under TensorFlow, and the same noise: `kvae.backends.philox` gives the words that TensorFlow draws.
"""

import itertools
import math
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from kvae.backends import philox
from kvae.backends.device_blocks import Block, of_an_execution
from kvae.backends.jax.device_memory import take
from kvae.backends.random_streams import TEST_LATENT, TEST_TARGET, TRAIN_LATENT, TRAIN_TARGET

# For type checkers `super()` is anything; at run time it is the next of the model's bases.
_Next: Any = object

_compiler_options: dict = {}

# Class indices and counts of steps are asked for as int64, of which JAX makes int32: they fit.
warnings.filterwarnings("ignore", "Explicitly requested dtype int64", UserWarning)


class Noise:
    """Random numbers as a pure function of (seed, step), those of `kvae.backends.tensorflow.step.Noise`.

    Bernoulli draws are the same bit for bit, normals to a few units in the last place.

    Args:
        seed: of the model.
        step: scalar integer array, the optimiser's count or the number of a validation batch.
        test: whether these are the fixed draws of validation.
    """

    def __init__(self, seed, step, test=False):
        self._seed, self._step = seed, step
        self._latent, self._target = (TEST_LATENT, TEST_TARGET) if test else (TRAIN_LATENT, TRAIN_TARGET)

    def normal(self, like):
        """Standard normals of the shape of `like`, float32."""
        count = math.prod(like.shape)
        words = self._words(self._latent, 4 * -(-count // 4)).reshape(-1, 2)
        # 23 bits make a float of 1 to 2.
        uniform = jax.lax.bitcast_convert_type((words & 0x7FFFFF) | 0x3F800000, jnp.float32) - 1.0
        radius = jnp.sqrt(-2.0 * jnp.log(jnp.maximum(uniform[:, 0], 1e-7)))
        with jax.enable_x64(True):  # The angle is rounded once, as TensorFlow has it.
            angle = (uniform[:, 1].astype(jnp.float64) * (2.0 * math.pi)).astype(jnp.float32)
        pairs = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1) * radius[:, None]
        return pairs.reshape(-1)[:count].reshape(like.shape)

    def bernoulli(self, probabilities):
        """0 or 1 with the given probabilities rounded up to multiples of 2^-16, float32 of their shape."""
        count = math.prod(probabilities.shape)
        words = self._words(self._target, (count + 1) // 2)
        bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:count].reshape(probabilities.shape)
        return (bits.astype(jnp.float32) < probabilities * 2.0**16).astype(jnp.float32)

    def _words(self, stream, count):
        with jax.enable_x64(True):
            at = philox.stream((jnp.uint64(self._seed + (stream << 32)), jnp.asarray(self._step).astype(jnp.uint64)))
            # On a CPU XLA would make each word anew, one at a time, wherever it is used; those of a loop it makes once,
            # several at a time.
            parts = 4 if jax.default_backend() == "cpu" else 1
            size = -(-count // (4 * parts))

            def part(number):
                blocks = at(number * jnp.uint64(size) + jnp.arange(size, dtype=jnp.uint64))
                return jnp.stack([words.astype(jnp.uint32) for words in blocks], axis=-1)

            numbers = jnp.arange(parts, dtype=jnp.uint64)
            words = jax.lax.map(part, numbers) if parts > 1 else part(numbers[0])
            return words.reshape(-1)[:count]


class BackendStep(_Next):
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
    non_trainable_variables: Any
    metrics_variables: Any
    train_function: Any
    test_function: Any
    steps_per_execution: int
    run_eagerly: bool
    jit_compile: bool
    jax_state_sync: Callable
    #: Its `logs` are those of the last execution, on the device: a look at them waits for it.
    latest: SimpleNamespace
    stateless_call: Callable

    def train_step(self, state, data):
        """One step of stochastic gradient descent on the mean objective of a batch; returns the logs and the state."""
        trainable, others, optimizer, metrics = state
        with keras.StatelessScope(zip(self.optimizer.variables, optimizer, strict=True)):
            # A read of the optimiser in the stateless step below would meet no value.
            step = keras.ops.convert_to_tensor(self.optimizer.iterations)

        def cost(trainable):
            scope = self._scope(trainable, others, metrics, collect_losses=True)
            with scope:
                terms = self.terms(data, Noise(self.seed, step), training=True)
                objective = self.objective(terms, step)
                # The second term is weight penalties of the user's own layers.
                loss = jnp.mean(terms.weighted(objective)) + sum(self.losses)
                self.totals.update_state(objective, terms)
                logs = self.totals.result() | {"beta": self.beta_at(step)}
            with keras.StatelessScope(zip(self.optimizer.variables, optimizer, strict=True)):
                scaled = self.optimizer.scale_loss(loss)
            return scaled, (logs, *self._values(scope))

        gradients, (logs, others, metrics) = jax.grad(cost, has_aux=True)(trainable)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        return logs, (trainable, others, optimizer, metrics)

    def test_step(self, state, data, step=0):
        """The terms of a batch under fixed draws, the same in every evaluation; returns the logs and the state."""
        trainable, others, metrics = state
        with self._scope(trainable, others, metrics) as scope:
            terms = self.terms(data, Noise(self.seed, self.totals.batches, test=True), training=False)
            self.totals.update_state(self.objective(terms, step), terms)
            logs = self.totals.result()
        return logs, (trainable, *self._values(scope))

    def predict_step(self, state, data):
        """Reconstruct a batch; Keras hands a pair given to `predict` over as one x."""
        if isinstance(data, (tuple, list)) and len(data) == 1:
            data = data[0]
        return self.stateless_call(*state, data)

    def make_train_function(self, force=False):
        """As Keras', but `steps_per_execution` steps are one program on the device: Python is asked once for all."""
        if self.train_function is not None and not force:
            return
        one, several = map(self._compiled, (self.train_step, self._train_steps))
        resident = self._compiled(self._train_on_rows) if self._compiles else self._train_row_by_row
        # An object that Keras does not look into: it wraps each dict that a model is given, step by step.
        self.latest = latest = SimpleNamespace(logs={})

        def train_function(state, iterator):
            steps = self.steps_per_execution
            first, iterator = _opened(iterator)
            if isinstance(first, Block):
                for block in of_an_execution(iterator, steps):
                    latest.logs, state = resident(state, *block)
                return latest.logs, state
            batches = list(itertools.islice(iterator, steps))
            if len(batches) == steps > 1 and len(set(map(_shapes, batches))) == 1:
                latest.logs, state = several(state, jax.tree.map(_stack, *batches))
                return latest.logs, state
            for batch in batches:
                latest.logs, state = one(state, batch)
            return latest.logs, state

        self.train_function = train_function

    @property
    def _compiles(self):
        return self.jit_compile and not self.run_eagerly

    def _compiled(self, function):
        if not self._compiles:
            return function
        return jax.jit(function, donate_argnums=0, compiler_options=_compiler_options)

    def _train_on_rows(self, state, columns, rows):
        return self._train_steps(state, rows, lambda rows: take(columns, rows))

    def _train_row_by_row(self, state, columns, rows):
        for batch in rows:
            logs, state = self.train_step(state, take(columns, batch))
        return logs, state

    def _train_steps(self, state, batches, read=lambda batch: batch):
        def step(carry, batch):
            return self.train_step(carry[1], read(batch)), None

        # The logs of the last step are what counts. Carried, they cost less than when those of all steps are kept.
        first = jax.tree.map(lambda values: values[0], batches)
        shapes, _ = jax.eval_shape(lambda: self.train_step(state, read(first)))
        logs = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)
        return jax.lax.scan(step, (logs, state), batches)[0]

    def make_test_function(self, force=False):
        """As Keras', but the optimiser's count is handed to the objective, which may depend on it."""
        if self.test_function is not None and not force:
            return
        one, resident = map(self._compiled, (self.test_step, self._test_on_rows))

        def test_function(state, iterator):
            step, steps = jnp.asarray(self.optimizer.iterations), self.steps_per_execution
            first, iterator = _opened(iterator)
            if isinstance(first, Block):
                for block in of_an_execution(iterator, steps):
                    for rows in block.rows:
                        logs, state = resident(state, block.columns, rows, step)
                return logs, state
            for batch in itertools.islice(iterator, steps):
                logs, state = one(state, batch, step)
            return logs, state

        self.test_function = test_function

    def _test_on_rows(self, state, columns, rows, step):
        return self.test_step(state, take(columns, rows), step)

    def _scope(self, trainable, others, metrics, collect_losses=False):
        """Where the model's variables have the values given, and what is assigned to them is kept."""
        pairs = zip(
            (*self.trainable_variables, *self.non_trainable_variables, *self.metrics_variables),
            (*trainable, *others, *metrics),
            strict=True,
        )
        return keras.StatelessScope(pairs, collect_losses=collect_losses)

    def _values(self, scope):
        """What the variables that do not train, and those of the metric, came to."""
        return tuple(
            [scope.get_current_value(variable) for variable in variables]
            for variables in (self.non_trainable_variables, self.metrics_variables)
        )

    def _get_metrics_result_or_logs(self, logs):
        """As Keras', whose figures are those of the last step again: they are fetched from the device all at once."""
        figures = jax.device_get(dict(logs))
        # A step of the user's own may return something else.
        return figures if "elbo" in figures else super()._get_metrics_result_or_logs(figures)

    def steps_done(self):
        """Steps of training so far."""
        self.jax_state_sync()
        return int(self.optimizer.iterations)


def settle(deterministic):
    """What is set once a process, before the first model; `deterministic` asks for the same result also on a GPU."""
    _compiler_options.update({"xla_gpu_deterministic_ops": True} if deterministic else {})


def batch_mean(values):
    """The mean over a batch, axis 0."""
    return jnp.mean(values, axis=0)


def to_numpy(values):
    """An array of an array, a list or an eager tensor."""
    return np.asarray(values)


@keras.saving.register_keras_serializable(package="kvae")
class Totals(keras.metrics.Metric):
    """As `kvae.backends.tensorflow.step.Totals`, in single precision: JAX has no other unless it is asked to for all.

    What a sum rounds off is carried to the next one (Kahan 1965), so the sums are as good as those of double precision.
    """

    def __init__(self, name="totals", **kwargs):
        super().__init__(name=name, **kwargs)
        # The sums, and below them what they lack.
        self._sums = self.add_variable((2, 5), initializer="zeros", dtype="float32", name="sums")

    def reset_state(self):
        """Begin anew."""
        self._sums.assign(np.zeros(self._sums.shape, "float32"))  # Keras computes zeros on the device: twice the time.

    @property
    def batches(self):
        """How many batches were added since the last reset."""
        return jnp.asarray(self._sums)[0, 4]

    def update_state(self, objective, terms):
        """Add a batch: `objective`, `terms.reconstruction` and `terms.kl`, each `[batch]`, in nats."""
        weights = terms.sample_weight
        count = jnp.float32(objective.shape[0]) if weights is None else jnp.sum(weights)
        sums = [jnp.sum(terms.weighted(term)) for term in (objective, terms.reconstruction, terms.kl)]
        added = jax.lax.stop_gradient(jnp.stack([*sums, count, jnp.float32(1.0)]))
        before, carry = jnp.asarray(self._sums)
        added = added - carry
        after = before + added
        self._sums.assign(jnp.stack([after, (after - before) - added]))

    def result(self):
        """Means over all examples since the last reset, float32 scalars by name."""
        return _means(jnp.asarray(self._sums))


@jax.jit
def _means(sums):
    loss, reconstruction, kl, count, _ = sums[0]
    count = jnp.maximum(count, 1e-30)
    means = {"loss": loss, "elbo": -reconstruction - kl, "reconstruction": reconstruction, "kl": kl}
    return {name: value / count for name, value in means.items()}


def latent_sums(model):
    """As `kvae.backends.tensorflow.step.latent_sums`."""

    @jax.jit
    def compiled(values, batch, number):
        with keras.StatelessScope(zip(model.variables, values, strict=True)):
            terms = model.terms(batch, Noise(model.seed, number, test=True), training=False)
        kl = jnp.zeros_like(terms.z_mean) if terms.kl_per_dim is None else terms.kl_per_dim
        return terms.z_mean.shape[0], *(jnp.sum(part, axis=0) for part in (terms.z_mean, terms.z_mean**2, kl))

    return lambda batch, number: compiled([variable.value for variable in model.variables], batch, number)


def _opened(iterator):
    """What an iterator gives first, and one that gives all of it: Keras wraps those of a GPU, so their type is lost."""
    first = next(iterator)
    return first, itertools.chain([first], iterator)


def _shapes(batch):
    return tuple(part.shape for part in jax.tree.leaves(batch))


def _stack(*parts):
    return (np if isinstance(parts[0], np.ndarray) else jnp).stack(parts)
