"""Sample metrics of `kvae evaluate`, computed by `kvae.sample_metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvae_serve.errors import RequestError

if TYPE_CHECKING:
    from kvae_serve.model import Model


def measure(model: Model, data: str, split: str | None, values: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Compare samples with real images.

    Args:
        model: A loaded model.
        data: Real images.
        split: Split of `data` that the user chose. The training split is the baseline, so it is not allowed.
        values: Conditions for all rows. They must be empty, because samples use the labels of the real images.
        options: As of `kvae.sample_metrics.measure`.

    Returns:
        `samples`: metrics by name, each with its value and baseline. `samples_measured`: metadata.
    """
    if values:
        raise RequestError("--sample-metrics uses the labels of the real images. Leave out --label and --condition.")
    if split == "train" and options.get("train_data") is None:
        raise RequestError("--sample-metrics compares with the training split. Leave out --split train.")
    for graph in ("decoder", "encoder", "likelihood"):  # Needed by the rest of the evaluation; fail before long work.
        model.need(graph)
    from kvae.sample_metrics.measure import measure as measure_samples

    found = measure_samples(model, data, split=split, **options)
    return {"samples": found.figures, "samples_measured": found.about}


def lines(document: dict[str, Any]) -> list[str]:
    """Return the sample metrics as lines of text, if there are any."""
    if not document["samples"]:
        return []
    from kvae.sample_metrics import table_text

    return ["", *table_text.lines(document["samples"], document["samples_measured"])]
