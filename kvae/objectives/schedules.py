"""Schedules of a weight during training.

A schedule is a pure function of the optimizer's step count, so that a resumed run continues correctly.
"""

import math
import numbers
from typing import Any

import keras
from keras import ops

from kvae.serialization import register
from kvae.types import Tensor


class Schedule:
    """Base class of numbers that depend on the training step only.

    Example:
        >>> float(kvae.schedules.Linear(1.0, steps=10)(5))
        0.5
    """

    def __call__(self, step: Tensor) -> Tensor:
        """Compute the value at `step`.

        Args:
            step: Optimizer steps so far, an integer or an integer tensor.

        Returns:
            float32 scalar.
        """
        raise NotImplementedError

    @property
    def final(self) -> float:
        """The value that the schedule reaches in the end."""
        return vars(self)["end"] if "end" in vars(self) else vars(self)["value"]

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).items()))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return dict(vars(self))

    def manifest(self) -> dict[str, Any]:
        """Return the schedule as JSON, for the manifest of an exported file."""
        return {"name": type(self).__name__.lower(), **self.get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Schedule":
        """Create the schedule from the result of `get_config`."""
        return cls(**config)


@register("schedules.Constant")
class Constant(Schedule):
    """The same value at every step.

    Args:
        value: Number of at least 0. As beta, 1 is a plain VAE.

    Raises:
        ValueError: If `value` is not a finite number of at least 0.

    Example:
        >>> import kvae
        >>> float(kvae.schedules.Constant(4.0)(step=1000))
        4.0
    """

    def __init__(self, value: float = 1.0) -> None:
        self.value = check_weight("beta", value)

    def __call__(self, step: Tensor) -> Tensor:
        """Return `value`, a float32 scalar."""
        return ops.convert_to_tensor(self.value, "float32")


class _Ramp(Schedule):
    """Base class of schedules from `start` to `end`; `_progress` is the part of the way at a step, 0 to 1."""

    def __init__(self, end: float = 1.0, steps: int = 1, start: float = 0.0) -> None:
        self.end, self.steps, self.start = check_weight("end", end), _check_steps(steps), check_weight("start", start)

    def __call__(self, step: Tensor) -> Tensor:
        """Compute the value at `step`, a float32 scalar."""
        return self.start + (self.end - self.start) * self._progress(step)

    def _progress(self, step: Tensor) -> Tensor:
        return ops.minimum(ops.cast(step, "float32") / self.steps, 1.0)


@register("schedules.Linear")
class Linear(_Ramp):
    """Straight line from `start` at step 0 to `end` at step `steps`, then constant.

    Raising beta from 0 keeps latent dimensions active that would otherwise collapse onto the prior before the decoder
    has learned to use them (Bowman et al. 2016, https://arxiv.org/abs/1511.06349, section 3.1). Lowering it from above
    1 makes a conditional decoder read the class from its condition, because z is expensive while it learns.

    Args:
        end: Value after the ramp, at least 0.
        steps: Optimizer steps of the ramp, at least 1.
        start: Value at step 0, at least 0.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import kvae
        >>> beta = kvae.schedules.Linear(end=4.0, steps=1000)
        >>> [float(beta(step)) for step in (0, 500, 2000)]
        [0.0, 2.0, 4.0]
    """


@register("schedules.Cosine")
class Cosine(_Ramp):
    """Half a cosine wave from `start` at step 0 to `end` at step `steps`, then constant: slow at both ends.

    Args:
        end: Value after the ramp, at least 0.
        steps: Optimizer steps of the ramp, at least 1.
        start: Value at step 0, at least 0.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import kvae
        >>> float(kvae.schedules.Cosine(end=2.0, steps=100)(step=100))
        2.0
    """

    def _progress(self, step: Tensor) -> Tensor:
        return 0.5 * (1.0 - ops.cos(math.pi * super()._progress(step)))


@register("schedules.Cyclical")
class Cyclical(_Ramp):
    """Repeated linear ramps from `start` to `end`, each followed by a constant part.

    Args:
        end: Value in the constant part of each cycle, at least 0.
        steps: Optimizer steps per cycle, at least 1.
        ramp: Fraction of a cycle that rises, above 0 and at most 1.
        start: Value at the beginning of each cycle, at least 0.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import kvae
        >>> beta = kvae.schedules.Cyclical(steps=100)
        >>> [float(beta(step)) for step in (0, 25, 50, 100)]
        [0.0, 0.5, 1.0, 0.0]

    Reference: Fu et al. (2019), https://arxiv.org/abs/1903.10145.
    """

    def __init__(self, end: float = 1.0, steps: int = 1, ramp: float = 0.5, start: float = 0.0) -> None:
        super().__init__(end, steps, start)
        if not 0 < ramp <= 1:
            raise ValueError(f"ramp must be above 0 and at most 1, got {ramp}.")
        self.ramp = float(ramp)

    def _progress(self, step: Tensor) -> Tensor:
        within = ops.cast(ops.mod(ops.cast(step, "int64"), self.steps), "float32")
        return ops.minimum(within / (self.ramp * self.steps), 1.0)


def get(value: Any) -> Schedule:
    """Return a schedule.

    Args:
        value: A `Schedule`, a number, or the dict that Keras serialised of a schedule.

    Raises:
        ValueError: If a number is not finite or less than 0.

    Example:
        >>> import kvae
        >>> kvae.schedules.get(4.0).final
        4.0
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, dict):
        return keras.saving.deserialize_keras_object(value)
    return Constant(value)


def check_weight(name: str, value: Any) -> float:
    """Return `value` as a float, or raise ValueError if it is not a finite number of at least 0.

    Example:
        >>> kvae.schedules.check_weight("beta", 4)
        4.0
    """
    if not isinstance(value, numbers.Real) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}.")
    return float(value)


def _check_steps(steps: int) -> int:
    if int(steps) != steps or steps < 1:
        raise ValueError(f"steps must be an integer of at least 1, got {steps}.")
    return int(steps)
