"""The custom `train_step` and `test_step` under PyTorch: step by step, without a compiler, as Keras has it there.

The same models as under TensorFlow, and the same noise: `kvae.backends.philox` gives the words that TensorFlow draws.
"""

import math
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import torch

from kvae.backends import philox
from kvae.backends.random_streams import TEST_LATENT, TEST_TARGET, TRAIN_LATENT, TRAIN_TARGET

# For type checkers `super()` is anything; at run time it is the next of the model's bases.
_Next: Any = object


class Noise:
    """Random numbers as a pure function of (seed, step), those of `kvae.backends.tensorflow.step.Noise`.

    Bernoulli draws are the same bit for bit, normals to a few units in the last place.

    Args:
        seed: of the model.
        step: the optimiser's count or the number of a validation batch. A tensor is read, so give an integer where it
            would lie on another device than the CPU.
        test: whether these are the fixed draws of validation.
    """

    def __init__(self, seed, step, test=False):
        self._seed, self._step = seed, int(step)
        self._latent, self._target = (TEST_LATENT, TEST_TARGET) if test else (TRAIN_LATENT, TRAIN_TARGET)

    def normal(self, like):
        """Standard normals of the shape of `like`, float32."""
        count = math.prod(like.shape)
        words = self._words(self._latent, 4 * -(-count // 4), like.device).reshape(-1, 2)
        # 23 bits make a float of 1 to 2.
        uniform = ((words & 0x7FFFFF) | 0x3F800000).view(torch.float32) - 1.0
        radius = torch.sqrt(-2.0 * torch.log(torch.clamp(uniform[:, 0], min=1e-7)))
        angle = (uniform[:, 1].double() * (2.0 * math.pi)).float()  # Rounded once, as TensorFlow has it.
        pairs = torch.stack([torch.sin(angle), torch.cos(angle)], dim=-1) * radius[:, None]
        return pairs.reshape(-1)[:count].reshape(like.shape)

    def bernoulli(self, probabilities):
        """0 or 1 with the given probabilities rounded up to multiples of 2^-16, float32 of their shape."""
        count = math.prod(probabilities.shape)
        words = self._words(self._target, (count + 1) // 2, probabilities.device)
        bits = words.view(torch.uint16)[:count].reshape(probabilities.shape)
        return (bits.float() < probabilities * 2.0**16).float()

    @torch.compiler.disable  # which knows no uint64
    def _words(self, stream, count, device):
        """The first words of a stream, int32 `[count]`: the same 32 bits, of which the first may read as a sign."""
        seeds = (self._seed + (stream << 32), self._step)
        if device.type != "cpu":
            return made_on(device, seeds, count)
        # NumPy makes them in half the time of PyTorch.
        return torch.from_numpy(philox.words(seeds, count).astype("uint32").view("int32"))


def made_on(device, seeds, count):
    """The first words that belong to a pair of seeds, int32 `[count]`, from a device that has nothing to wait for."""
    blocks = philox.stream(seeds)(torch.arange(-(-count // 4), device=device))
    return torch.stack(blocks, dim=-1).to(torch.int32).reshape(-1)[:count]


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
    train_function: Any
    #: Its `logs` are those of the last execution, on the device: a look at them waits for it.
    latest: SimpleNamespace
    _count: SimpleNamespace | None = None

    @property
    def steps_per_execution(self):
        """1, as Keras demands under PyTorch, whatever the model is compiled with: each step is run from Python."""
        return 1

    @steps_per_execution.setter
    def steps_per_execution(self, steps):
        """Take what another engine would do."""

    def train_step(self, data):
        """One step of stochastic gradient descent on the mean objective of a batch; returns the logs."""
        number, step = self.steps_done(), self.optimizer.iterations.value
        terms = self.terms(data, Noise(self.seed, number), training=True)
        objective = self.objective(terms, step)
        loss = batch_mean(terms.weighted(objective)) + sum(self.losses)  # weight penalties of the user's own layers
        variables = self.trainable_variables
        gradients = torch.autograd.grad(
            self.optimizer.scale_loss(loss), [variable.value for variable in variables], allow_unused=True
        )
        with torch.no_grad():
            beta = self.beta_at(step)  # before the count goes up, in place
            self.optimizer.apply(gradients, variables)
            self.totals.update_state(objective, terms)
        self._counted(number + 1)
        return self.totals.result() | {"beta": beta}

    def test_step(self, data):
        """The terms of a batch under fixed draws, the same in every evaluation; returns the logs."""
        terms = self.terms(data, Noise(self.seed, self.totals.batches, test=True), training=False)
        self.totals.update_state(self.objective(terms, self.optimizer.iterations.value), terms)
        return self.totals.result()

    def make_train_function(self, force=False):
        """As Keras has it, but never compiled: that took minutes, and the step a tenth less time (PyTorch 2.13)."""
        if self.train_function is not None and not force:
            return
        # An object that Keras does not look into: it wraps each dict that a model is given, step by step.
        self.latest = latest = SimpleNamespace(logs={})

        def train_function(data):
            latest.logs = self.train_step(data[0])
            return latest.logs

        self.train_function = train_function

    def steps_done(self):
        """Steps of training so far; the device is asked only where another than `train_step` has set their count."""
        count, known = self.optimizer.iterations.value, self._count
        if known is None or known.tensor is not count or known.version != count._version:
            return self._counted(int(count))
        return known.steps

    def _counted(self, steps):
        """Remember what the optimiser's count is, for as long as nobody writes to it."""
        count = self.optimizer.iterations.value
        self._count = SimpleNamespace(tensor=count, version=count._version, steps=steps)
        return steps


def settle(deterministic):
    """What is set once a process, before the first model; `deterministic` asks for the same result also on a GPU."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # Read when the first product is made.
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def batch_mean(values):
    """The mean over a batch, axis 0."""
    return torch.mean(values, dim=0)


def to_numpy(values):
    """An array of an array, a list or a tensor."""
    return keras.ops.convert_to_numpy(values) if torch.is_tensor(values) else np.asarray(values)


@keras.saving.register_keras_serializable(package="kvae")
class Totals(keras.metrics.Metric):
    """As `Totals` under TensorFlow: sums in double precision, and a count of batches that the host keeps."""

    def __init__(self, name="totals", **kwargs):
        super().__init__(name=name, **kwargs)
        self._sums = self.add_variable((4,), initializer="zeros", dtype="float64", name="sums")
        #: How many batches were added since the last reset.
        self.batches = 0

    def reset_state(self):
        """Begin anew."""
        super().reset_state()
        self.batches = 0

    @torch.no_grad()
    def update_state(self, objective, terms):
        """Add a batch: `objective`, `terms.reconstruction` and `terms.kl`, each `[batch]`, in nats."""
        parts = (objective, terms.reconstruction, terms.kl)
        sums = torch.stack([terms.weighted(part).sum() for part in parts]).double()
        weights = terms.sample_weight
        count = sums.new_full((1,), len(objective)) if weights is None else weights.sum().double().reshape(1)
        self._sums.value.add_(torch.cat([sums, count]))
        self.batches += 1

    def result(self):
        """Means over all examples since the last reset, float32 scalars by name."""
        sums = self._sums.value.detach()
        loss, reconstruction, kl = (sums[:3] / sums[3].clamp(min=1e-30)).unbind()
        means = {"loss": loss, "elbo": -reconstruction - kl, "reconstruction": reconstruction, "kl": kl}
        return {name: value.float() for name, value in means.items()}


def latent_sums(model):
    """As `kvae.backends.tensorflow.step.latent_sums`."""

    @torch.no_grad()
    def sums(batch, number):
        terms = model.terms(batch, Noise(model.seed, number, test=True), training=False)
        z_mean = terms.z_mean.double()
        kl = torch.zeros_like(z_mean) if terms.kl_per_dim is None else terms.kl_per_dim.double()
        return len(z_mean), *torch.stack([part.sum(dim=0) for part in (z_mean, z_mean**2, kl)]).cpu().numpy()

    return sums
