"""Training and validation step under PyTorch, run operation by operation without a compiler.

The noise equals that of TensorFlow: `kvae.backends.philox` computes TensorFlow's random words.
"""

import math
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch

from kvae.backends import philox
from kvae.backends.base import StepBase, named_losses
from kvae.backends.random_streams import TEST_LATENT, TEST_TARGET, TRAIN_LATENT, TRAIN_TARGET


class Noise:
    """Random numbers as a pure function of (seed, step), equal to `kvae.backends.tensorflow.step.Noise`.

    Bernoulli draws are equal bit for bit, normals to a few units in the last place.

    Args:
        seed: Seed of the model.
        step: Step count of the optimizer, or number of a validation batch. A tensor on a GPU is read back, so pass an
            integer there.
        test: Whether to give the fixed draws of validation.
    """

    def __init__(self, seed: int, step: Any, test: bool = False):
        self._seed, self._step = seed, int(step)
        self._latent, self._target = (TEST_LATENT, TEST_TARGET) if test else (TRAIN_LATENT, TRAIN_TARGET)

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        """Draw standard normals of the shape of `like`, float32."""
        count = math.prod(like.shape)
        words = self._words(self._latent, 4 * -(-count // 4), like.device).reshape(-1, 2)
        # 23 random bits become the mantissa of a number from 1 to 2.
        uniform = ((words & 0x7FFFFF) | 0x3F800000).view(torch.float32) - 1.0
        radius = torch.sqrt(-2.0 * torch.log(torch.clamp(uniform[:, 0], min=1e-7)))
        angle = (uniform[:, 1].double() * (2.0 * math.pi)).float()  # TensorFlow rounds the angle once
        pairs = torch.stack([torch.sin(angle), torch.cos(angle)], dim=-1) * radius[:, None]
        return pairs.reshape(-1)[:count].reshape(like.shape)

    def bernoulli(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Draw 0 or 1, float32. Probabilities are rounded up to multiples of 2^-16."""
        count = math.prod(probabilities.shape)
        words = self._words(self._target, (count + 1) // 2, probabilities.device)
        bits = words.view(torch.uint16)[:count].reshape(probabilities.shape)
        return (bits.float() < probabilities * 2.0**16).float()

    @torch.compiler.disable  # the compiler does not support uint64
    def _words(self, stream: int, count: int, device: torch.device) -> torch.Tensor:
        """Return the first words of a stream, int32 `[count]`: the same 32 bits, read as signed numbers."""
        seeds = (self._seed + (stream << 32), self._step)
        if device.type != "cpu":
            return words_on(device, seeds, count)
        # NumPy takes half the time of PyTorch.
        return torch.from_numpy(philox.words(seeds, count).astype("uint32").view("int32"))


def words_on(device: torch.device, seeds: tuple[int, int], count: int) -> torch.Tensor:
    """Return the first words of a stream, int32 `[count]`, computed on the device without waiting for it."""
    blocks = philox.stream(seeds)(torch.arange(-(-count // 4), device=device))
    return torch.stack(blocks, dim=-1).to(torch.int32).reshape(-1)[:count]


class BackendStep(StepBase):
    """Mixin that gives a `keras.Model` its steps."""

    #: Step count of the current `fit`, so that a step does not read the optimizer's count from the device.
    _steps: int | None = None

    @property
    def steps_per_execution(self) -> int:
        """1, as Keras requires under PyTorch, whatever the model was compiled with."""
        return 1

    @steps_per_execution.setter
    def steps_per_execution(self, steps: int) -> None:
        """Ignore the number."""

    def train_step(self, data: Any) -> dict[str, Any]:
        """Take one optimizer step on the mean objective of a batch; return the logs."""
        number = self.steps_done() if self._steps is None else self._steps
        step = self.optimizer.iterations.value
        terms = self.terms(data, Noise(self.seed, number), training=True)
        objective = self.objective(terms, step)
        loss = batch_mean(terms.weighted(objective)) + sum(self.losses)  # weight penalties of the user's layers
        variables = self.trainable_variables
        gradients = torch.autograd.grad(
            self.optimizer.scale_loss(loss), [variable.value for variable in variables], allow_unused=True
        )
        with torch.no_grad():
            beta = self.beta_at(step)  # before the optimizer increments the count in place
            self.optimizer.apply(gradients, variables)
            self.totals.update_state(objective, terms)
        self._steps = number + 1
        return self.totals.result() | {"beta": beta}

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluate a batch under fixed draws; return the logs."""
        terms = self.terms(data, Noise(self.seed, self.totals.batches, test=True), training=False)
        self.totals.update_state(self.objective(terms, self.optimizer.iterations.value), terms)
        return self.totals.result()

    def make_train_function(self, force: bool = False) -> None:
        """Build the train function without a compiler. Compiling took minutes and saved a tenth (PyTorch 2.13)."""
        self._steps = None  # Keras calls this at the start of `fit`; the count may have changed since the last one
        if self.train_function is None or force:
            self.train_function = self.keep_logs(lambda data: self.train_step(data[0]))

    def steps_done(self) -> int:
        """Return the number of training steps so far. Waits for the device."""
        return int(self.optimizer.iterations.value)


def configure(deterministic: bool) -> None:
    """Set process-wide options before the first model is built.

    Args:
        deterministic: Whether results must repeat bit for bit on a GPU as well.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first matrix product
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def batch_mean(values: torch.Tensor) -> torch.Tensor:
    """Return the mean over a batch, axis 0."""
    return torch.mean(values, dim=0)


def to_numpy(values: Any) -> np.ndarray:
    """Convert an array, a list or a tensor to a NumPy array."""
    return keras.ops.convert_to_numpy(values) if torch.is_tensor(values) else np.asarray(values)


@keras.saving.register_keras_serializable(package="kvae", name="Totals")
class LossTracker(keras.metrics.Metric):
    """Sums of loss, reconstruction and kl in float64, as in `kvae.backends.tensorflow.step.LossTracker`."""

    def __init__(self, name: str = "totals", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self._sums = self.add_variable((4,), initializer="zeros", dtype="float64", name="sums")
        #: Number of batches since the last reset, on the host.
        self.batches = 0

    def reset_state(self) -> None:
        """Set all sums to zero."""
        super().reset_state()
        self.batches = 0

    @torch.no_grad()
    def update_state(self, objective: torch.Tensor, terms: Any) -> None:
        """Add a batch: `objective`, `terms.reconstruction` and `terms.kl`, each `[batch]`, in nats."""
        parts = (objective, terms.reconstruction, terms.kl)
        sums = torch.stack([terms.weighted(part).sum() for part in parts]).double()
        weights = terms.sample_weight
        count = sums.new_full((1,), len(objective)) if weights is None else weights.sum().double().reshape(1)
        self._sums.value.add_(torch.cat([sums, count]))
        self.batches += 1

    def result(self) -> dict[str, torch.Tensor]:
        """Return the means over all examples since the last reset, float32 scalars by name."""
        sums = self._sums.value.detach()
        return named_losses(*(sums[:3] / sums[3].clamp(min=1e-30)).float().unbind())


def latent_sums(model: Any) -> Callable:
    """Return a function that sums posterior statistics, as `kvae.backends.tensorflow.step.latent_sums`."""

    @torch.no_grad()
    def sums(batch, number):
        terms = model.terms(batch, Noise(model.seed, number, test=True), training=False)
        z_mean = terms.z_mean.double()
        kl = torch.zeros_like(z_mean) if terms.kl_per_dim is None else terms.kl_per_dim.double()
        return len(z_mean), *torch.stack([part.sum(dim=0) for part in (z_mean, z_mean**2, kl)]).cpu().numpy()

    return sums
