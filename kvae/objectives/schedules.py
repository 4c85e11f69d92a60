"""How a weight moves: pure functions of the optimiser's count, so that a resumed run goes on where it was."""

import math
import numbers

import keras
from keras import ops

from kvae.serialization import register


class Schedule:
    """A number that depends on the step of training alone."""

    def __call__(self, step):
        """The value at `step` (an integer or an integer tensor), a float32 scalar."""
        raise NotImplementedError

    @property
    def final(self):
        """The value that the schedule comes to."""
        return vars(self).get("end", vars(self).get("value"))

    def __eq__(self, other):
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self):
        return hash((type(self), *vars(self).items()))

    def get_config(self):
        """The arguments, for Keras."""
        return dict(vars(self))

    def manifest(self):
        """The schedule as JSON, for the exported file."""
        return {"name": type(self).__name__.lower(), **self.get_config()}

    @classmethod
    def from_config(cls, config):
        """Rebuild from `get_config`."""
        return cls(**config)


@register("schedules.Constant")
class Constant(Schedule):
    """The same value at every step.

    Args:
        value: at least 0; as beta, 1 is a plain VAE.
    """

    def __init__(self, value=1.0):
        self.value = weight("beta", value)

    def __call__(self, step):
        """`value`, whatever the step."""
        return ops.convert_to_tensor(self.value, "float32")


@register("schedules.Linear")
class Linear(Schedule):
    """A straight line from `start` at step 0 to `end` at step `steps`, and `end` from there on.

    Warming the kl up from 0 keeps latent dimensions alive that would collapse onto the prior before the decoder has
    learned to use them (Bowman et al. 2016, https://arxiv.org/abs/1511.06349, section 3.1). Cooling it down from above
    1 makes a conditional decoder read the class from its condition, because z is dear while it learns to.

    Args:
        end: value after the warm-up, at least 0.
        steps: optimiser steps that the warm-up takes, at least 1.
        start: value at step 0, at least 0.
    """

    def __init__(self, end=1.0, steps=1, start=0.0):
        self.end, self.steps, self.start = weight("end", end), _steps(steps), weight("start", start)

    def __call__(self, step):
        """Value at `step`, float32 scalar."""
        return self.start + (self.end - self.start) * _done(step, self.steps)


@register("schedules.Cosine")
class Cosine(Schedule):
    """Half a cosine wave from `start` at step 0 to `end` at step `steps`: slow at both ends.

    Args:
        end: value after the warm-up, at least 0.
        steps: optimiser steps that it takes, at least 1.
        start: value at step 0, at least 0.
    """

    def __init__(self, end=1.0, steps=1, start=0.0):
        self.end, self.steps, self.start = weight("end", end), _steps(steps), weight("start", start)

    def __call__(self, step):
        """Value at `step`, float32 scalar."""
        return self.start + (self.end - self.start) * 0.5 * (1.0 - ops.cos(math.pi * _done(step, self.steps)))


@register("schedules.Cyclical")
class Cyclical(Schedule):
    """Linear warm-ups from `start` to `end` again and again (Fu et al. 2019, https://arxiv.org/abs/1903.10145).

    Args:
        end: value in the second part of each cycle, at least 0.
        steps: optimiser steps a cycle, at least 1.
        ramp: part of a cycle that rises, above 0 and at most 1.
        start: value at the beginning of each cycle, at least 0.
    """

    def __init__(self, end=1.0, steps=1, ramp=0.5, start=0.0):
        self.end, self.steps, self.start = weight("end", end), _steps(steps), weight("start", start)
        if not 0 < ramp <= 1:
            raise ValueError(f"ramp must be above 0 and at most 1, got {ramp}.")
        self.ramp = float(ramp)

    def __call__(self, step):
        """Value at `step`, float32 scalar."""
        within = ops.cast(ops.mod(ops.cast(step, "int64"), self.steps), "float32")
        return self.start + (self.end - self.start) * ops.minimum(within / (self.ramp * self.steps), 1.0)


def get(value):
    """A `Schedule` from a schedule, a number, or what Keras serialised of one."""
    if isinstance(value, Schedule):
        return value
    if isinstance(value, dict):
        return keras.saving.deserialize_keras_object(value)
    return Constant(value)


def weight(name, value):
    """`value` as a float, or ValueError where it is no finite number of at least 0."""
    if not isinstance(value, numbers.Real) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}.")
    return float(value)


def _steps(steps):
    if int(steps) != steps or steps < 1:
        raise ValueError(f"steps must be a whole number of at least 1, got {steps}.")
    return int(steps)


def _done(step, steps):
    return ops.minimum(ops.cast(step, "float32") / steps, 1.0)
