"""Measurements on exported files before they appear: quantiles of the elbo, and the cost of rounded weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kvae_export import weight_costs
from kvae_export.folder import Inspection
from kvae_serve.inference import complexity, scoring, thresholds
from kvae_serve.model import Model, load
from kvae_serve.readers.dataset import evenly_spaced

MAX_SCORED = 10_000
MAX_HELD_OUT = 1_000
_UNITS = {"image": "image", "sequence": "sequence", "table": "row"}


def inspector(
    float32_folder: Path | None, trained_on: Any, held_out: Any, measured: list | None, kind: str
) -> Callable[[Model], Inspection]:
    """Return the function that `kvae_export.write` calls with the model of the new files.

    Args:
        float32_folder: Folder of the model with float32 weights, to compare with. None if the new files have those.
        trained_on: Training data x, or a pair of x and its conditions, or None.
        held_out: The same for data that was not trained on. Quantiles of the elbo are estimated from these data, or
            from training data if there are none.
        measured: List to which the lines of the table are appended. None to measure nothing.
        kind: Kind of the data, as in the manifest.
    """

    def inspect(model: Model) -> Inspection:
        entries: dict[str, Any] = {}
        table: list = []
        if held_out is not None and len(_pair(held_out)[0]):
            entries["score"] = quantiles(model, *_pair(held_out), split=thresholds.HELD_OUT)
        elif trained_on is not None:
            entries["score"] = quantiles(model, *_pair(trained_on), split="training")
        if measured is not None:
            models = [*([load(float32_folder)] if float32_folder else []), model]
            rows = weight_costs.measure(models, _subsample(held_out, MAX_HELD_OUT))
            weight_costs.require_gain(rows)
            table = weight_costs.table_cells(rows, _UNITS.get(kind, "example"))
            measured.extend(table)
        return Inspection(entries, table)

    return inspect


def quantiles(
    model: Model, x: np.ndarray, conditions: dict[str, Any] | None = None, *, split: str = thresholds.HELD_OUT
) -> dict[str, Any]:
    """Compute the entry `score` of the manifest: quantiles of the elbo of data, as `kvae score` computes it.

    Args:
        model: A loaded model with encoder and likelihood.
        x: Data `[num, *shape]` in data units. At most 10,000 examples, evenly spaced, are used.
        conditions: By name, a value per example.
        split: `"validation"` if the model was not trained on the data, else `"training"`.

    Returns:
        Share of the data to elbo in nats per example, and how it was estimated.
    """
    x, conditions = _subsample((x, conditions), MAX_SCORED)
    elbo = scoring.score(model, x, conditions).elbo
    more: dict[str, Any] = {}
    if complexity.applies(model.manifest):
        more["complexity_quantiles"] = thresholds.quantiles(elbo + model.complexity(x))
        more["compressor"] = complexity.COMPRESSOR
    return {
        "num_samples": scoring.NUM_SAMPLES,
        "seed": scoring.SEED,
        "examples": len(x),
        "split": split,
        "quantiles": thresholds.quantiles(elbo),
        **more,
    }


def _pair(data: Any) -> tuple[Any, Any]:
    return data if isinstance(data, tuple) else (data, None)


def _subsample(data: Any, limit: int) -> Any:
    """Select at most `limit` examples, evenly spaced, with their conditions."""
    if data is None:
        return None
    x, conditions = _pair(data)
    rows = evenly_spaced(len(x), limit)
    return x[rows], {name: np.asarray(values)[rows] for name, values in (conditions or {}).items()} or None
