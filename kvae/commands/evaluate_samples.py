"""Figures of samples, which the floor above makes: `kvae.sample_metrics` and, where it trains a classifier, Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvae_serve.errors import RequestError
from kvae_serve.inference.scoring import need

if TYPE_CHECKING:
    from kvae_serve.model import Model

# By name, as verbs are: what stands on the ground floor imports nothing of the floors above.
_MEASURE, _TEXT = "kvae.sample_metrics.measure", "kvae.sample_metrics.table_text"


def measure(model: Model, data: str, split: str | None, said: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Measure samples against real images.

    Args:
        model: a loaded model.
        data: real images to measure against.
        split: half of `data` that was asked for; it must not be the one that the floor is made of.
        said: conditions given for all rows; samples are drawn under those that the images have.
        options: of `kvae.sample_metrics.measure`.

    Returns:
        `samples`, figures by name, each with value and floor; `samples_measured`, how.
    """
    if said:
        raise RequestError("--samples draws under the labels of the real images. Leave --label and --condition out.")
    if split == "train" and options.get("train_data") is None:
        raise RequestError("--samples sets the training split beside the test split. Leave --split train out.")
    for graph in ("decoder", "encoder", "likelihood"):  # what the rest of the evaluation needs, before the long work
        need(model, graph)
    found = _module(_MEASURE).measure(model, data, split=split, **options)
    return {"samples": found.figures, "samples_measured": found.about}


def lines(document: dict[str, Any]) -> list[str]:
    """Return what `measure` gave as lines for people; none where samples were not measured."""
    if not document["samples"]:
        return []
    return ["", *_module(_TEXT).lines(document["samples"], document["samples_measured"])]


def _module(name: str) -> Any:
    import importlib

    return importlib.import_module(name)
