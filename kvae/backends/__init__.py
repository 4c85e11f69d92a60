"""A `train_step` for each engine that Keras runs on; models import `BackendStep` and `Noise` from here alone."""

import keras

if keras.backend.backend() == "tensorflow":
    from contextlib import nullcontext as without_gradients

    from kvae.backends.tensorflow.distribute import batch_mean
    from kvae.backends.tensorflow.step import BackendStep, Noise, Totals, is_dataset, latent_sums, settle, to_numpy
elif keras.backend.backend() == "jax":
    from contextlib import nullcontext as without_gradients

    from kvae.backends.datasets import is_dataset
    from kvae.backends.jax.step import (  # type: ignore[assignment]
        BackendStep,
        Noise,
        Totals,
        batch_mean,
        latent_sums,
        settle,
        to_numpy,
    )
elif keras.backend.backend() == "torch":
    from torch import no_grad as without_gradients  # type: ignore[no-redef]

    from kvae.backends.datasets import is_dataset
    from kvae.backends.torch.step import (  # type: ignore[assignment]
        BackendStep,
        Noise,
        Totals,
        batch_mean,
        latent_sums,
        settle,
        to_numpy,
    )
else:
    raise ImportError(
        f"kvae trains on Keras' backends tensorflow, jax and torch, got {keras.backend.backend()!r}; set KERAS_BACKEND."
    )

__all__ = [
    "BackendStep",
    "Noise",
    "Totals",
    "batch_mean",
    "is_dataset",
    "latent_sums",
    "settle",
    "to_numpy",
    "without_gradients",
]
