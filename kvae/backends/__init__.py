"""A `train_step` for each engine that Keras runs on; models import `BackendStep` and `Noise` from here alone."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"kvae trains on Keras' tensorflow backend, got {keras.backend.backend()!r}; set KERAS_BACKEND=tensorflow."
    )

from kvae.backends.tensorflow import BackendStep, Noise, Totals, is_dataset, latent_sums, settle, to_numpy

__all__ = ["BackendStep", "Noise", "Totals", "is_dataset", "latent_sums", "settle", "to_numpy"]
