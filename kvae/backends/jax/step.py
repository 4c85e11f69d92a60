"""Training and validation step under JAX. Steps are stateless: values of variables are arguments and results.

The noise equals that of TensorFlow: `kvae.backends.philox` computes TensorFlow's random words.
"""

import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from kvae.backends import philox
from kvae.backends.base import StepBase, named_losses
from kvae.backends.jax.device_rows import Block, DeviceRows, take
from kvae.backends.random_streams import TEST_LATENT, TEST_TARGET, TRAIN_LATENT, TRAIN_TARGET

_compiler_options: dict = {}

# Class indices and step counts are requested as int64. JAX makes them int32, which is large enough.
warnings.filterwarnings("ignore", "Explicitly requested dtype int64", UserWarning)


class Noise:
    """Random numbers as a pure function of (seed, step), equal to `kvae.backends.tensorflow.step.Noise`.

    Bernoulli draws are equal bit for bit, normals to a few units in the last place.

    Args:
        seed: Seed of the model.
        step: Scalar integer array: the step count of the optimizer, or the number of a validation batch.
        test: Whether to give the fixed draws of validation.
    """

    def __init__(self, seed: int, step: Any, test: bool = False):
        self._seed, self._step = seed, step
        self._latent, self._target = (TEST_LATENT, TEST_TARGET) if test else (TRAIN_LATENT, TRAIN_TARGET)

    def normal(self, like: Any) -> Any:
        """Draw standard normals of the shape of `like`, float32."""
        count = math.prod(like.shape)
        words = self._words(self._latent, 4 * -(-count // 4)).reshape(-1, 2)
        # 23 random bits become the mantissa of a number from 1 to 2.
        uniform = jax.lax.bitcast_convert_type((words & 0x7FFFFF) | 0x3F800000, jnp.float32) - 1.0
        radius = jnp.sqrt(-2.0 * jnp.log(jnp.maximum(uniform[:, 0], 1e-7)))
        with jax.enable_x64(True):  # TensorFlow rounds the angle once
            angle = (uniform[:, 1].astype(jnp.float64) * (2.0 * math.pi)).astype(jnp.float32)
        pairs = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1) * radius[:, None]
        return pairs.reshape(-1)[:count].reshape(like.shape)

    def bernoulli(self, probabilities: Any) -> Any:
        """Draw 0 or 1, float32. Probabilities are rounded up to multiples of 2^-16."""
        count = math.prod(probabilities.shape)
        words = self._words(self._target, (count + 1) // 2)
        bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:count].reshape(probabilities.shape)
        return (bits.astype(jnp.float32) < probabilities * 2.0**16).astype(jnp.float32)

    def _words(self, stream: int, count: int) -> Any:
        with jax.enable_x64(True):
            at = philox.stream((jnp.uint64(self._seed + (stream << 32)), jnp.asarray(self._step).astype(jnp.uint64)))
            # On a CPU XLA recomputes each word wherever it is used. The result of a loop is computed once, with
            # several words at a time.
            parts = 4 if jax.default_backend() == "cpu" else 1
            size = -(-count // (4 * parts))

            def part(number):
                blocks = at(number * jnp.uint64(size) + jnp.arange(size, dtype=jnp.uint64))
                return jnp.stack([words.astype(jnp.uint32) for words in blocks], axis=-1)

            numbers = jnp.arange(parts, dtype=jnp.uint64)
            words = jax.lax.map(part, numbers) if parts > 1 else part(numbers[0])
            return words.reshape(-1)[:count]


class BackendStep(StepBase):
    """Mixin that gives a `keras.Model` its steps."""

    # From Keras.
    steps_per_execution: int
    jax_state_sync: Callable
    stateless_call: Callable

    def train_step(self, state: tuple, data: Any) -> tuple:
        """Take one optimizer step on the mean objective of a batch; return the logs and the state."""
        trainable, others, optimizer, metrics = state
        with keras.StatelessScope(zip(self.optimizer.variables, optimizer, strict=True)):
            # The stateless scope below does not have the variables of the optimizer.
            step = keras.ops.convert_to_tensor(self.optimizer.iterations)

        def cost(trainable):
            scope = self._scope(trainable, others, metrics, collect_losses=True)
            with scope:
                terms = self.terms(data, Noise(self.seed, step), training=True)
                objective = self.objective(terms, step)
                # The second term is weight penalties of the user's layers.
                loss = jnp.mean(terms.weighted(objective)) + sum(self.losses)
                self.totals.update_state(objective, terms)
                logs = self.totals.result() | {"beta": self.beta_at(step)}
            with keras.StatelessScope(zip(self.optimizer.variables, optimizer, strict=True)):
                scaled = self.optimizer.scale_loss(loss)
            return scaled, (logs, *self._values(scope))

        gradients, (logs, others, metrics) = jax.grad(cost, has_aux=True)(trainable)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        return logs, (trainable, others, optimizer, metrics)

    def test_step(self, state: tuple, data: Any, step: Any = 0) -> tuple:
        """Evaluate a batch under fixed draws; return the logs and the state.

        Args:
            state: Values of the variables.
            data: A batch.
            step: Step count of the optimizer, on which the objective may depend.
        """
        trainable, others, metrics = state
        with self._scope(trainable, others, metrics) as scope:
            terms = self.terms(data, Noise(self.seed, self.totals.batches, test=True), training=False)
            self.totals.update_state(self.objective(terms, step), terms)
            logs = self.totals.result()
        return logs, (trainable, *self._values(scope))

    def predict_step(self, state: tuple, data: Any) -> Any:
        """Reconstruct a batch. Keras passes a pair that is given to `predict` as one x."""
        if isinstance(data, (tuple, list)) and len(data) == 1:
            data = data[0]
        return self.stateless_call(*state, data)

    def make_train_function(self, force: bool = False) -> None:
        """Build the train function: one program on the device runs `steps_per_execution` steps."""
        if self.train_function is not None and not force:
            return
        steps = (self.train_step, self._train_steps, self._train_on_rows)
        one, several, on_rows = (self._compiled(step) for step in steps)
        shard = self._sharding()[1]
        # A namespace, because Keras wraps each dict that is assigned to a model, at every step.
        self.latest = latest = SimpleNamespace(logs={})

        def train_function(state, iterator):
            steps = self.steps_per_execution
            first, iterator = _peek(iterator)
            if isinstance(first, Block):
                for block in _blocks_of_execution(iterator, steps):
                    latest.logs, state = on_rows(state, *block)
                return latest.logs, state
            batches = list(itertools.islice(iterator, steps))
            if len(batches) == steps > 1 and len(set(map(_shapes, batches))) == 1:
                latest.logs, state = several(state, shard(jax.tree.map(_stack, *batches), axis=1))
                return latest.logs, state
            for batch in batches:
                latest.logs, state = one(state, shard(batch))
            return latest.logs, state

        self.train_function = train_function

    def make_test_function(self, force: bool = False) -> None:
        """Build the test function. It passes the step count of the optimizer to the objective."""
        if self.test_function is not None and not force:
            return
        one, on_rows = (self._compiled(step) for step in (self.test_step, self._test_on_rows))
        shard = self._sharding()[1]

        def test_function(state, iterator):
            step, steps = np.asarray(self.optimizer.iterations), self.steps_per_execution
            first, iterator = _peek(iterator)
            if isinstance(first, Block):
                for block in _blocks_of_execution(iterator, steps):
                    for rows in block.rows:
                        logs, state = on_rows(state, block.columns, rows, step)
                return logs, state
            for batch in itertools.islice(iterator, steps):
                logs, state = one(state, shard(batch), step)
            return logs, state

        self.test_function = test_function

    def _checked(self, x: Any, y: Any, sample_weight: Any, where: str) -> tuple[Any, Any, Any]:
        """Set the block size of data on the device, which were checked before; validate other data."""
        if not isinstance(x, DeviceRows):
            return super()._checked(x, y, sample_weight, where)
        if where == "predict" or not self._compiles:
            return x.by_batch(), y, sample_weight
        x.steps_at_once = self.steps_per_execution
        return x, y, sample_weight

    @property
    def _compiles(self) -> bool:
        return self.jit_compile and not self.run_eagerly

    def _compiled(self, function: Callable) -> Callable:
        if not self._compiles:
            return function
        replicated = self._sharding()[0]
        return jax.jit(
            function, donate_argnums=0, compiler_options=_compiler_options,
            **{} if replicated is None else {"out_shardings": replicated},
        )  # fmt: skip

    def _sharding(self) -> tuple:
        """Return the sharding of the state (None on one device), and a function that distributes a batch.

        On several devices Keras has created the variables under `keras.distribution.DataParallel`. A batch whose size
        is not a multiple of the number of devices is replicated.
        """
        replicated = self.optimizer.iterations.value.sharding
        if len(replicated.device_set) == 1:
            return None, lambda batch, axis=0: batch

        def shard(batch, axis=0):
            sharded = NamedSharding(replicated.mesh, PartitionSpec(*[None] * axis, replicated.mesh.axis_names[0]))
            size = jax.tree.leaves(batch)[0].shape[axis]
            return jax.device_put(batch, replicated if size % len(replicated.device_set) else sharded)

        return replicated, shard

    def _train_on_rows(self, state: tuple, columns: Any, rows: Any) -> tuple:
        return self._train_steps(state, rows, lambda rows: take(columns, rows))

    def _train_steps(self, state: tuple, batches: Any, read: Callable = lambda batch: batch) -> tuple:
        def step(carry, batch):
            return self.train_step(carry[1], read(batch)), None

        # Only the logs of the last step count. As a carry they cost less than as stacked outputs.
        first = jax.tree.map(lambda values: values[0], batches)
        shapes, _ = jax.eval_shape(lambda: self.train_step(state, read(first)))
        logs = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)
        return jax.lax.scan(step, (logs, state), batches)[0]

    def _test_on_rows(self, state: tuple, columns: Any, rows: Any, step: Any) -> tuple:
        return self.test_step(state, take(columns, rows), step)

    def _scope(self, trainable: Any, others: Any, metrics: Any, collect_losses: bool = False) -> Any:
        """Return a scope in which the variables have these values, and that collects assignments."""
        pairs = zip(
            (*self.trainable_variables, *self.non_trainable_variables, *self.metrics_variables),
            (*trainable, *others, *metrics),
            strict=True,
        )
        return keras.StatelessScope(pairs, collect_losses=collect_losses)

    def _values(self, scope: Any) -> tuple:
        """Return the final values of the non-trainable variables and of the metrics in a scope."""
        return tuple(
            [scope.get_current_value(variable) for variable in variables]
            for variables in (self.non_trainable_variables, self.metrics_variables)
        )

    def steps_done(self) -> int:
        """Return the number of training steps so far."""
        self.jax_state_sync()
        return int(self.optimizer.iterations)


def configure(deterministic: bool) -> None:
    """Set process-wide options before the first model is built.

    Args:
        deterministic: Whether results must repeat bit for bit on a GPU as well.
    """
    _compiler_options.update({"xla_gpu_deterministic_ops": True} if deterministic else {})


def batch_mean(values: Any) -> Any:
    """Return the mean over a batch, axis 0."""
    return jnp.mean(values, axis=0)


def to_numpy(values: Any) -> np.ndarray:
    """Convert an array, a list or an eager tensor to a NumPy array."""
    return np.asarray(values)


@keras.saving.register_keras_serializable(package="kvae", name="Totals")
class LossTracker(keras.metrics.Metric):
    """Sums of loss, reconstruction and kl over the examples, as in `kvae.backends.tensorflow.step.LossTracker`.

    JAX has only float32 by default. The rounding error of each sum is carried to the next one (Kahan 1965), which makes
    the sums as exact as in float64.
    """

    def __init__(self, name: str = "totals", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        # The sums, and the rounding error of each.
        self._sums = self.add_variable((2, 5), initializer="zeros", dtype="float32", name="sums")

    def reset_state(self) -> None:
        """Set all sums to zero."""
        self._sums.assign(np.zeros(self._sums.shape, "float32"))  # Keras computes zeros on the device: half as fast

    @property
    def batches(self) -> Any:
        """Number of batches since the last reset."""
        return jnp.asarray(self._sums)[0, 4]

    def update_state(self, objective: Any, terms: Any) -> None:
        """Add a batch: `objective`, `terms.reconstruction` and `terms.kl`, each `[batch]`, in nats."""
        weights = terms.sample_weight
        count = jnp.float32(objective.shape[0]) if weights is None else jnp.sum(weights)
        sums = [jnp.sum(terms.weighted(term)) for term in (objective, terms.reconstruction, terms.kl)]
        added = jax.lax.stop_gradient(jnp.stack([*sums, count, jnp.float32(1.0)]))
        before, carry = jnp.asarray(self._sums)
        added = added - carry
        after = before + added
        self._sums.assign(jnp.stack([after, (after - before) - added]))

    def result(self) -> dict[str, Any]:
        """Return the means over all examples since the last reset, float32 scalars by name."""
        return _means(jnp.asarray(self._sums))


@jax.jit
def _means(sums: Any) -> dict[str, Any]:
    *losses, count, _ = sums[0]
    return named_losses(*(loss / jnp.maximum(count, 1e-30) for loss in losses))


def latent_sums(model: Any) -> Callable:
    """Return a function that sums posterior statistics, as `kvae.backends.tensorflow.step.latent_sums`."""

    @jax.jit
    def compiled(values, batch, number):
        with keras.StatelessScope(zip(model.variables, values, strict=True)):
            terms = model.terms(batch, Noise(model.seed, number, test=True), training=False)
        kl = jnp.zeros_like(terms.z_mean) if terms.kl_per_dim is None else terms.kl_per_dim
        return terms.z_mean.shape[0], *(jnp.sum(part, axis=0) for part in (terms.z_mean, terms.z_mean**2, kl))

    return lambda batch, number: compiled([variable.value for variable in model.variables], batch, number)


def _peek(iterator: Iterator) -> tuple[Any, Iterator]:
    """Return the first element, and an iterator that still contains it."""
    first = next(iterator)
    return first, itertools.chain([first], iterator)


def _blocks_of_execution(blocks: Iterator[Block], steps: int) -> list[Block]:
    """Return the next blocks that hold `steps` batches, fewer at the end of an epoch."""
    taken = [next(blocks)]
    while sum(len(block.rows) for block in taken) < steps and (block := next(blocks, None)):
        taken.append(block)
    return taken


def _shapes(batch: Any) -> tuple:
    return tuple(part.shape for part in jax.tree.leaves(batch))


def _stack(*parts: Any) -> Any:
    return (np if isinstance(parts[0], np.ndarray) else jnp).stack(parts)
