"""How beta moves: pure functions of the optimiser's count, so that a resumed run goes on where it was."""

import math

import keras
from keras import ops

from kvae.registry import register


class Schedule:
    """A number that depends on the step of training alone."""

    def __call__(self, step):
        """The value at `step` (an integer or an integer tensor), a float32 scalar."""
        raise NotImplementedError

    def get_config(self):
        """The arguments, for Keras."""
        raise NotImplementedError

    def manifest(self):
        """The schedule as JSON, for the exported file."""
        return {"name": type(self).__name__.lower(), **self.get_config()}

    @classmethod
    def from_config(cls, config):
        """Rebuild from `get_config`."""
        return cls(**config)


@register
class Constant(Schedule):
    """The same value at every step.

    Args:
        value: at least 0; 1 is a plain VAE.
    """

    def __init__(self, value=1.0):
        self.value = _weight("beta", value)

    def __call__(self, step):
        """`value`, whatever the step."""
        return ops.convert_to_tensor(self.value, "float32")

    def get_config(self):
        """The arguments, for Keras."""
        return {"value": self.value}


@register
class Linear(Schedule):
    """A straight line from `start` at step 0 to `end` at step `steps`, and `end` from there on.

    Warming the kl up keeps latent dimensions alive that would collapse onto the prior before the decoder has learned
    to use them (Bowman et al. 2016, https://arxiv.org/abs/1511.06349, section 3.1; Sonderby et al. 2016).

    Args:
        end: value after the warm-up, at least 0.
        steps: optimiser steps that the warm-up takes, at least 1.
        start: value at step 0, at least 0.
    """

    def __init__(self, end=1.0, steps=1, start=0.0):
        self.end, self.start = _weight("end", end), _weight("start", start)
        if int(steps) != steps or steps < 1:
            raise ValueError(f"steps must be a whole number of at least 1, got {steps}.")
        self.steps = int(steps)

    def __call__(self, step):
        """Value at `step`, float32 scalar."""
        done = ops.minimum(ops.cast(step, "float32") / self.steps, 1.0)
        return self.start + (self.end - self.start) * done

    def get_config(self):
        """The arguments, for Keras."""
        return {"end": self.end, "steps": self.steps, "start": self.start}


def get(value):
    """A `Schedule` from a schedule, a number, or what Keras serialised of one."""
    if isinstance(value, Schedule):
        return value
    if isinstance(value, dict):
        return keras.saving.deserialize_keras_object(value)
    return Constant(value)


def _weight(name, value):
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite number of at least 0 (1 is a plain VAE), got {value!r}.")
    return float(value)
