"""Callback that measures which latent dimensions are in use."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from kvae.backends.current import latent_sums
from kvae.training.callbacks.progress import print_line
from kvae_serve.evaluation.metrics import ACTIVE_VARIANCE


class LatentUsage(keras.callbacks.Callback):
    """Add `active_units` to the metrics of each epoch, and the kl per dimension (`kl_0`, ...) if the prior factorises.

    The fixed noise of validation is used, so that the kl of all dimensions sums to `val_kl`. A warning is printed once
    if no dimension is active after the warm-up (posterior collapse).

    Args:
        batches: Validation batches, as `fit` takes them.
        warmup_epochs: Number of initial epochs in which collapse is not reported, at least 3.
        warn: Function that prints one line, or None.
        prefix: Prefix of the names of the metrics.

    Reference: Burda et al. (2016), https://arxiv.org/abs/1509.00519.

    Example:
        >>> x = np.zeros((8, 4), "uint8")
        >>> model = kvae.VAE(kvae.networks.dense_encoder((4,), 2, (5,)), kvae.networks.dense_decoder((4,), 2, (5,)))
        >>> model.compile("adam")
        >>> usage = kvae.callbacks.LatentUsage([(x,)], prefix="")
        >>> history = model.fit(x, verbose=0, callbacks=[usage]).history
        >>> history["active_units"]
        [0]
    """

    def __init__(
        self,
        batches: Iterable[Any],
        warmup_epochs: float = 0,
        warn: Callable[[str], None] | None = print_line,
        prefix: str = "val_",
    ):
        super().__init__()
        self._batches, self._warn, self._prefix = batches, warn, prefix
        # Every model starts without active dimensions.
        self._grace = max(3, math.ceil(warmup_epochs))
        self._sums: Callable | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, add the metrics, and warn once."""
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
                "Warning: posterior collapse. No latent dimension is active, so the decoder ignores z. "
                "Try a smaller --beta, --warmup-epochs, or --objective free_bits."
            )
            self._warn = None
