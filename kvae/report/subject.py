"""The subject of a report: a model, its results, and the examples that were evaluated."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from kvae.report.blocks import SectionSkipped
from kvae.report.labels import Labels, choose_labels
from kvae.sample_metrics.matched_samples import like
from kvae_serve.class_indices import marked
from kvae_serve.runtime import conditions as served_conditions

MOST_EXAMPLES = 1500
"""Number of examples in the scatter plot."""

_MOST_COMBINATIONS, _RECONSTRUCTED = 20, 32


class Subject:
    """A model and the examples of one evaluation.

    Attributes:
        model: A loaded model.
        document: The result of `evaluate`.
        x: The first evaluated examples, float32 `[rows, *shape]` in data units.
        columns: Their conditions by name, `[rows]` each.
        labels: Labels to colour them by, or None.
        seed: Seed of the evaluation.
    """

    def __init__(
        self, model: Any, document: dict[str, Any], x: np.ndarray, conditions: Any, labels: Labels | None
    ) -> None:
        rows = min(len(x), document["n"], MOST_EXAMPLES)
        self.model, self.manifest, self.document = model, model.manifest, document
        conditions = served_conditions.with_one_reading(self.manifest, conditions or {})
        columns = served_conditions.columns(self.manifest, conditions, len(x))
        self.x = np.asarray(x[:rows], np.float32).reshape(rows, *self.manifest.data.shape)
        categorical = {each.name for each in self.manifest.conditions if each.categorical}
        self.columns = marked({name: values[:rows] for name, values in columns.items()}, categorical)
        self.labels = choose_labels(self.manifest, self.x, self.columns, labels)
        self.seed = int(document["seed"])

    @property
    def images(self) -> bool:
        """True if the data are images."""
        return self.manifest.data.kind == "image"

    @cached_property
    def z_mean(self) -> np.ndarray:
        """Posterior means, float64 `[rows, latent_dim]`."""
        self._require_encoder()
        return self.model.encode(self.x, self.columns)[0].astype(np.float64)

    @cached_property
    def reconstructions(self) -> np.ndarray:
        """Reconstructions of the first 32 examples, `[rows, *shape]`: the mean of p(x given z) at z_mean."""
        self._require_encoder()
        columns = {name: values[:_RECONSTRUCTED] for name, values in self.columns.items()}
        return self.model.reconstruct(self.x[:_RECONSTRUCTED], columns)

    @cached_property
    def drawn(self) -> np.ndarray:
        """One draw from p(x given z) for each example, under the same conditions, `[rows, *shape]`."""
        return like(self.model, self.columns, len(self.x), self.seed, draw=True)

    def _require_encoder(self) -> None:
        if not self.model.has("encoder"):
            raise SectionSkipped("the model has no encoder here.")

    def combinations(self) -> list[dict[str, Any]]:
        """Return conditions to sample with: each class of the only categorical condition, or those of the examples."""
        conditions = self.manifest.conditions
        if not conditions:
            return [{}]
        if len(conditions) == 1 and conditions[0].categorical:
            num = min(len(conditions[0].classes), _MOST_COMBINATIONS)
            return [{conditions[0].name: index} for index in range(num)]
        rows = zip(*(self.columns[each.name].tolist() for each in conditions), strict=True)
        distinct = list(dict.fromkeys(rows))[: _MOST_COMBINATIONS // 2]
        return [dict(zip((each.name for each in conditions), row, strict=True)) for row in distinct]

    def named(self, combination: dict[str, Any]) -> dict[str, Any]:
        """Return conditions with class names in place of indices."""
        categorical = {each.name: each.classes for each in self.manifest.conditions if each.categorical}
        return {name: categorical[name][value] if name in categorical else value for name, value in combination.items()}

    def condition_text(self, combination: dict[str, Any]) -> str:
        """Return conditions as text: the class name of a single one, else name and value of each."""
        texts = []
        for condition in self.manifest.conditions:
            value = combination[condition.name]
            shown = condition.classes[value] if condition.categorical else f"{value:.4g}"
            texts.append(shown if len(combination) == 1 and condition.categorical else f"{condition.name} {shown}")
        return ", ".join(texts)

    def row(self, index: int) -> dict[str, Any]:
        """Return the conditions of one example; none if the model has none."""
        return {name: values[index].item() for name, values in self.columns.items()}
