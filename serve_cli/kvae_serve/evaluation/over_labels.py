"""Conditional model as a model of x only: log p(x) = log sum_y p(y) p(x|y), each term by importance sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kvae_serve.evaluation.importance import estimate
from kvae_serve.evaluation.metrics import metric, scaled, units
from kvae_serve.inference import label_scores
from kvae_serve.inference.densities import log_sum_exp
from kvae_serve.runtime.graphs import Graphs


class OverLabels:
    """Sum over the classes of a model with one categorical condition.

    Args:
        model: The model.
        class_prior: Choice of p(y): `uniform`, or `data` for the shares of the classes in the evaluated data.
        columns: Conditions of all examples.

    Raises:
        RequestError: The choice does not exist, or the model has other conditions.
    """

    def __init__(self, model: Graphs, class_prior: str, columns: Mapping[str, np.ndarray]) -> None:
        manifest = model.manifest
        label_scores.check_class_prior(class_prior)
        condition = label_scores.only_class(manifest)
        self._model, self._class_prior = model, class_prior
        self._name = condition.name
        self.num = len(condition.classes)
        self._label = columns[self._name]
        counts = np.bincount(self._label, minlength=self.num)
        share = np.full(self.num, 1 / self.num) if class_prior == "uniform" else counts / counts.sum()
        with np.errstate(divide="ignore"):
            self._log_prior = np.log(share)
        self._nll: list[np.ndarray] = []
        self._elbo: list[np.ndarray] = []
        self._correct: list[np.ndarray] = []

    def add(self, x: np.ndarray, start: int, **options: Any) -> None:
        """Add rows from index `start` on; options as of `importance.estimate`."""
        nll, elbo = np.empty((len(x), self.num)), np.empty((len(x), self.num))
        for label in range(self.num):
            columns = {self._name: np.full(len(x), label, np.int64)}
            estimates, _ = estimate(self._model, x, columns, start, **options)
            nll[:, label], elbo[:, label] = estimates.nll, -estimates.reconstruction - estimates.kl
        joint = self._log_prior - nll
        self._nll.append(-log_sum_exp(joint))
        self._elbo.append(log_sum_exp(self._log_prior + elbo))
        self._correct.append(joint.argmax(-1) == self._label[start : start + len(x)])

    def metrics(self, samples: int) -> dict[str, dict[str, Any]]:
        """Return nll, elbo and bits per dimension of x without y, and the accuracy of the most probable class."""
        manifest = self._model.manifest
        unit, _ = units(manifest)
        details = {"over": self._name, "class_prior": self._class_prior}
        nll = metric(np.concatenate(self._nll), unit, samples, **details)
        per_dim = 1 / (manifest.data.num_values * math.log(2.0))
        return {
            "elbo_over_labels": metric(np.concatenate(self._elbo), unit, samples, **details),
            "nll_over_labels": nll,
            "bits_per_dimension_over_labels": scaled(nll, per_dim, "bits per dimension" + unit.removeprefix("nats")),
            "accuracy_over_labels": metric(
                np.concatenate(self._correct).astype(np.float64),
                "share of examples whose class is the likeliest",
                samples,
            ),
        }
