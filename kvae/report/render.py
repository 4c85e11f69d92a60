"""From a model and its figures to the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kvae.report import examples, figures, latent, marginals, page
from kvae.report.history import History
from kvae.report.history import section as curves
from kvae.report.labels import Labels
from kvae.report.markup import LeftOut
from kvae.report.subject import Subject
from kvae_serve.errors import InputDataError, MissingExtraError


def require() -> None:
    """Raise `MissingExtraError` where charts cannot be drawn: worth asking before long work."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "An HTML report needs matplotlib, which is not installed. "
            "Install it with: pip install 'kvae-onnx[evaluate]'"
        ) from error


def render(
    model: Any,
    document: Mapping[str, Any],
    x: np.ndarray,
    conditions: Mapping[str, Any] | None = None,
    *,
    labels: Labels | None = None,
    history: History | None = None,
) -> str:
    """Return the report of an evaluation: a page of HTML that needs nothing else.

    Args:
        model: a loaded model, see `kvae.load`.
        document: what `Model.evaluate` returned for it.
        x: the examples that were evaluated, `[rows, *shape]` in data units.
        conditions: their conditions, as `Model.evaluate` took them.
        labels: what to colour codes by where the model is not given labels; see `read_labels`.
        history: curves of training, see `read_history`.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputDataError: there are no examples.
        ModelFileError: a graph is missing or bad.
    """
    require()
    if not len(x):
        raise InputDataError("There is nothing to report on: x has no rows. Give the examples that were evaluated.")
    subject = Subject(model, dict(document), x, conditions, labels)
    parts: list[tuple[str, str, Callable[[], str | None]]] = [
        ("figures", "Figures", lambda: figures.section(subject)),
        ("sample-figures", "Samples in figures", lambda: figures.samples(subject)),
        ("history", "Training", lambda: curves(history)),
        ("reconstructions", "Reconstructions", lambda: examples.reconstructions(subject)),
        ("samples", "Samples", lambda: examples.samples(subject)),
        ("marginals", "Samples against real data", lambda: marginals.section(subject)),
        ("kl", "kl of each dimension", lambda: figures.kl_per_dimension(subject)),
        ("traversals", "Traversals", lambda: examples.traversals(subject)),
        ("latent", "Latent space", lambda: latent.section(subject)),
    ]
    made = []
    for name, title, part in parts:
        try:
            found = part()
        except LeftOut as why:
            found = f"<p class=left>Left out: {why}</p>"
        if found is not None:
            made.append(page.Section(name, title, found))
    return page.page(subject, made)
