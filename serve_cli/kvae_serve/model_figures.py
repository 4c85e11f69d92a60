"""What a model makes of data, in numbers: the part of `Model` that scores and evaluates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kvae_serve.runtime.session import BATCH_SIZE

if TYPE_CHECKING:
    from kvae_serve.inference.scoring import Scores
    from kvae_serve.model import Model


class Figures:
    """What `Model` inherits: `score` and `evaluate`."""

    def score(
        self,
        x: np.ndarray,
        conditions: Mapping[str, Any] | None = None,
        *,
        label: Any = None,
        num_samples: int = 16,
        seed: int = 0,
        batch_size: int = BATCH_SIZE,
    ) -> Scores:
        """Return reconstruction, kl and elbo of each example, float64 `[rows]` in nats; low elbo, an anomaly.

        Every example meets the same noise, so that its score depends on nothing but itself.

        Args:
            x: `[rows, *shape]` in data units; under a Bernoulli likelihood gray levels are drawn to black and white.
            conditions: a value, or one for each row, for each condition.
            label: short for `conditions={"label": ...}`.
            num_samples: draws of z for each example.
            seed: of the draws, 0 to 2**64 - 1.
            batch_size: rows at a time; the result does not depend on it.

        Raises:
            InputDataError: x is not what the model takes.
            RequestError: a condition is missing or unknown, or a number is out of range.
            ModelFileError: a graph is missing or bad.
        """
        from kvae_serve.inference.scoring import score

        model = cast("Model", self)
        given = model.with_label(label, conditions)
        return score(model, x, given, num_samples=num_samples, seed=seed, batch_size=batch_size)

    def evaluate(
        self,
        x: np.ndarray,
        conditions: Mapping[str, Any] | None = None,
        *,
        label: Any = None,
        importance_samples: int = 100,
        seed: int = 0,
        limit: int | None = None,
        binarize: str | None = None,
        over_labels: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Return the model's figures on data, as plain values; `kvae_serve.evaluation.evaluate` tells the whole story.

        Args:
            x: `[rows, *shape]` in data units.
            conditions: a value, or one for each row, for each condition.
            label: short for `conditions={"label": ...}`.
            importance_samples: K, draws of z for each example.
            seed: of noise and dynamic binarisation, 0 to 2**64 - 1.
            limit: take so many of the first examples only.
            binarize: for a Bernoulli likelihood "dynamic" (the default), "static" or "none".
            over_labels: also sum over the classes, with p(y) "uniform" or as in the "data".
            progress: called with the draws done, and all that there are.

        Raises:
            InputDataError: x is not what the model takes.
            RequestError: a condition is missing or unknown, or an option makes no sense.
            ModelFileError: a graph is missing or bad.
        """
        from kvae_serve.evaluation import evaluate

        model = cast("Model", self)
        return evaluate(
            model,
            x,
            model.with_label(label, conditions),
            importance_samples=importance_samples,
            seed=seed,
            limit=limit,
            binarize=binarize,
            over_labels=over_labels,
            progress=progress,
        )
