"""What the parts of a page are made from: a model, its figures, and the examples that these are of."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from kvae.report.labels import Labels, labels_of
from kvae.report.markup import LeftOut, text
from kvae_serve.runtime import conditions as conditions_of

CODES = 1500
"""Examples whose codes are shown."""

_SHOWN_COMBINATIONS = 20


class Subject:
    """A model on some examples.

    Attributes:
        model: a loaded model.
        document: what `evaluate` returned.
        x: the first of the examples that were evaluated, float32 `[rows, *shape]` in data units.
        columns: their conditions by name, `[rows]`.
        labels: what to colour them by, or None.
    """

    def __init__(self, model: Any, document: dict[str, Any], x: np.ndarray, given: Any, labels: Labels | None) -> None:
        rows = min(len(x), document["n"], CODES)
        self.model, self.manifest, self.document = model, model.manifest, document
        whole = conditions_of.columns(self.manifest, given, len(x))
        self.x = np.asarray(x[:rows], np.float32).reshape(rows, *self.manifest.data.shape)
        self.columns = {name: values[:rows] for name, values in whole.items()}
        self.labels = labels_of(self.manifest, self.x, self.columns, labels)
        self.seed = int(document["seed"])

    @property
    def images(self) -> bool:
        """Whether an example is a picture."""
        return self.manifest.data.kind == "image"

    @cached_property
    def codes(self) -> np.ndarray:
        """Means of the posteriors, float64 `[rows, latent_dim]`."""
        if not self.model.has("encoder"):
            raise LeftOut("the model has no encoder here.")
        return self.model.encode(self.x, self.columns)[0].astype(np.float64)

    @cached_property
    def reconstructions(self) -> np.ndarray:
        """The mean of p(x given z) at z_mean of the first 32 examples, `[rows, *shape]`."""
        some = {name: values[:32] for name, values in self.columns.items()}
        if not self.model.has("encoder"):
            raise LeftOut("the model has no encoder here.")
        return self.model.reconstruct(self.x[:32], some)

    def combinations(self) -> list[dict[str, Any]]:
        """Return conditions to draw under: each class of a lone categorical one, else what the first examples have."""
        conditions = self.manifest.conditions
        if not conditions:
            return [{}]
        if len(conditions) == 1 and conditions[0].categorical:
            num = min(len(conditions[0].classes), _SHOWN_COMBINATIONS)
            return [{conditions[0].name: index} for index in range(num)]
        rows = zip(*(self.columns[each.name].tolist() for each in conditions), strict=True)
        distinct = list(dict.fromkeys(rows))[: _SHOWN_COMBINATIONS // 2]
        return [dict(zip((each.name for each in conditions), row, strict=True)) for row in distinct]

    def told(self, combination: dict[str, Any], limit: int = 24) -> str:
        """Return a combination of conditions as HTML: class names, or numbers by name."""
        lone = len(combination) == 1
        shown = []
        for condition in self.manifest.conditions:
            value = combination[condition.name]
            said = condition.classes[value] if condition.categorical else f"{value:.4g}"
            shown.append(
                text(said, limit)
                if lone and condition.categorical
                else f"{text(condition.name, limit)} {text(said, limit)}"
            )
        return ", ".join(shown)

    def row(self, index: int) -> dict[str, Any]:
        """Return the conditions of one example."""
        return {name: values[index].item() for name, values in self.columns.items()}
