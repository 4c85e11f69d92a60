"""Which dimensions of z are in use: their kl, and how many carry information."""

import math

import keras
import numpy as np

from kvae.backends import latent_sums

#: A unit is active where its posterior mean varies over the data by more than this (Burda et al. 2016, appendix C).
ACTIVE_VARIANCE = 0.01


class Latents(keras.callbacks.Callback):
    """Adds to the figures of each epoch `active_units`, and `kl_0` and so on where the prior factorises.

    The variance of `z_mean` is taken under the fixed draws of validation, so that the kl of all dimensions sums to
    `val_kl`. Warns once where nothing is in use after the warm-up.

    Args:
        batches: what to measure on: validation batches.
        warmup_epochs: epochs in which collapse is none yet.
        warn: function of one line.
        prefix: of the names of the figures.

    Reference: https://arxiv.org/abs/1509.00519.
    """

    def __init__(self, batches, warmup_epochs, warn, prefix="val_"):
        super().__init__()
        self._batches, self._warn, self._prefix = batches, warn, prefix
        # A few epochs of grace: at the very start nothing is in use yet.
        self._grace = max(3, math.ceil(warmup_epochs))
        self._sums = None

    def on_epoch_end(self, epoch, logs=None):
        """Measure, add, and warn where there is cause."""
        self._sums = self._sums or latent_sums(self.model)
        totals = [np.zeros(()) for _ in range(4)]
        for number, batch in enumerate(self._batches):
            sums = self._sums(batch, number)
            totals = [total + np.asarray(part, "float64") for total, part in zip(totals, sums, strict=True)]
        count, first, second, kl = totals
        variance = second / count - (first / count) ** 2
        active = int((variance > ACTIVE_VARIANCE).sum())
        if logs is not None:
            logs[f"{self._prefix}active_units"] = active
            if self.model.prior.factorises:
                logs.update({f"{self._prefix}kl_{i}": float(value) for i, value in enumerate(kl / count)})
        if not active and epoch + 1 >= self._grace and self._warn:
            self._warn(
                "Warning: no dimension of z is in use (posterior collapse), the decoder ignores it. "
                "Try a smaller --beta, --warmup-epochs, or --objective free_bits."
            )
            self._warn = None
