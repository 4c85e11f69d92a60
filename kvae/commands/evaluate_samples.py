"""Sample metrics of `kvae evaluate`, computed by `kvae.sample_metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvae_serve.errors import RequestError

if TYPE_CHECKING:
    from kvae_serve.model import Model


def measure(model: Model, data: str, split: str | None, values: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Compare samples with real images or table rows.

    Args:
        model: A loaded model.
        data: Real images or rows.
        split: Split of `data` that the user chose. The training split is the baseline, so it is not allowed.
        values: Conditions for all rows. They must be empty, because samples use the conditions of the real data.
        options: As of `kvae.sample_metrics.measure`, or of `measure_table` for a table.

    Returns:
        `samples`: metrics by name, each with its value and baseline. `samples_measured`: metadata.
    """
    if values:
        raise RequestError("--sample-metrics uses the conditions of the real data. Leave out --label and --condition.")
    if split == "train" and options.get("train_data") is None:
        raise RequestError("--sample-metrics compares with the training split. Leave out --split train.")
    for graph in ("decoder", "encoder", "likelihood"):  # Needed by the rest of the evaluation; fail before long work.
        model.need(graph)
    unused = "classifier" if model.manifest.data.kind == "table" else "target"
    if options.pop(unused) is not None:
        kind = "images" if unused == "classifier" else "tables"
        raise RequestError(f"--{unused} is for {kind}; {model.manifest.name} models {model.manifest.data.kind} data.")
    result: Any
    if model.manifest.data.kind == "table":
        from kvae.sample_metrics.tables.measure import measure_table

        result = measure_table(model, data, split=split, **options)
    else:
        from kvae.sample_metrics.measure import measure as measure_images

        result = measure_images(model, data, split=split, **options)
    return {"samples": result.figures, "samples_measured": result.about}


def lines(document: dict[str, Any]) -> list[str]:
    """Return the sample metrics as lines of text, if there are any."""
    if not document["samples"]:
        return []
    from kvae.sample_metrics import table_text

    return ["", *table_text.lines(document["samples"], document["samples_measured"])]
