"""A conditional model as a model of x alone: log p(x) = log sum_y p(y) p(x given y), each by importance sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.evaluation.importance import estimate
from kvae_serve.evaluation.metrics import figure, scaled, units
from kvae_serve.inference.densities import log_sum_exp

if TYPE_CHECKING:
    from kvae_serve.model import Model

CLASS_PRIORS = ("uniform", "data")
"""What p(y) is: the same for all classes, or their frequencies in the data that are evaluated."""


class OverLabels:
    """The sum over the classes of a model with one categorical condition.

    Args:
        model: the model.
        class_prior: what p(y) is, one of `CLASS_PRIORS`.
        columns: the conditions of all examples.
    """

    def __init__(self, model: Model, class_prior: str, columns: Mapping[str, np.ndarray]) -> None:
        manifest = model.manifest
        if class_prior not in CLASS_PRIORS:
            raise RequestError(
                f"over_labels is one of {', '.join(CLASS_PRIORS)}; got {printable(repr(class_prior), 40)}."
            )
        if len(manifest.conditions) != 1 or not manifest.conditions[0].categorical:
            raise RequestError(
                f"{printable(manifest.name, 60)} is not given just one class, so there are no classes to sum over. "
                "Leave --over-labels out."
            )
        self._model, self._class_prior = model, class_prior
        self._name = manifest.conditions[0].name
        self.num = len(manifest.conditions[0].classes)
        self._label = columns[self._name]
        counts = np.bincount(self._label, minlength=self.num)
        share = np.full(self.num, 1 / self.num) if class_prior == "uniform" else counts / counts.sum()
        with np.errstate(divide="ignore"):
            self._log_prior = np.log(share)
        self._nll: list[np.ndarray] = []
        self._elbo: list[np.ndarray] = []
        self._right: list[np.ndarray] = []

    def add(self, x: np.ndarray, start: int, **options: Any) -> None:
        """Take rows `start` on; options as of `importance.estimate`."""
        nll, elbo = np.empty((len(x), self.num)), np.empty((len(x), self.num))
        for label in range(self.num):
            columns = {self._name: np.full(len(x), label, np.int64)}
            found, _ = estimate(self._model, x, columns, start, **options)
            nll[:, label], elbo[:, label] = found.nll, -found.reconstruction - found.kl
        joint = self._log_prior - nll
        self._nll.append(-log_sum_exp(joint))
        self._elbo.append(log_sum_exp(self._log_prior + elbo))
        self._right.append(joint.argmax(-1) == self._label[start : start + len(x)])

    def figures(self, samples: int) -> dict[str, dict[str, Any]]:
        """Return nll, elbo and bits per dimension of x alone, and how often the likeliest class is the right one."""
        manifest = self._model.manifest
        unit, _ = units(manifest)
        facts = {"over": self._name, "class_prior": self._class_prior}
        nll = figure(np.concatenate(self._nll), unit, samples, **facts)
        per_dim = 1 / (manifest.data.num_values * math.log(2.0))
        return {
            "elbo_over_labels": figure(np.concatenate(self._elbo), unit, samples, **facts),
            "nll_over_labels": nll,
            "bits_per_dimension_over_labels": scaled(nll, per_dim, "bits per dimension" + unit.removeprefix("nats")),
            "accuracy_over_labels": figure(
                np.concatenate(self._right).astype(np.float64),
                "share of examples whose class is the likeliest",
                samples,
            ),
        }
