"""Training steps, noise and loss tracker of the Keras backend in use.

Importing this module imports Keras and its backend. `kvae.backends.startup` checks and starts them first.
"""

from contextlib import nullcontext as without_gradients

import keras

from kvae.backends.datasets import is_dataset

if keras.backend.backend() == "tensorflow":
    from kvae.backends.tensorflow.distribute import batch_mean
    from kvae.backends.tensorflow.step import BackendStep, LossTracker, Noise, configure, latent_sums, to_numpy
elif keras.backend.backend() == "jax":
    from kvae.backends.jax.step import (  # type: ignore[assignment]
        BackendStep,
        LossTracker,
        Noise,
        batch_mean,
        configure,
        latent_sums,
        to_numpy,
    )
elif keras.backend.backend() == "torch":
    from torch import no_grad as without_gradients  # type: ignore[no-redef]

    from kvae.backends.torch.step import (  # type: ignore[assignment]
        BackendStep,
        LossTracker,
        Noise,
        batch_mean,
        configure,
        latent_sums,
        to_numpy,
    )
else:
    raise ImportError(
        f"The Keras backend is {keras.backend.backend()!r}; kvae trains on tensorflow, jax and torch. "
        "Set KERAS_BACKEND to one of them."
    )

__all__ = [
    "BackendStep",
    "LossTracker",
    "Noise",
    "batch_mean",
    "configure",
    "is_dataset",
    "latent_sums",
    "to_numpy",
    "without_gradients",
]
