"""What is learned from exported files before they appear: quantiles of the elbo, and what their weights' form costs."""

import numpy as np

from kvae_export import weight_costs
from kvae_export.folder import Inspection
from kvae_serve.inference import scoring
from kvae_serve.model import load

QUANTILES = (0.5, 0.05, 0.01, 0.001)
MAX_SCORED = 10_000
MAX_HELD_OUT = 1_000
_UNITS = {"image": "image", "sequence": "sequence", "table": "row"}


def inspector(whole, trained_on, held_out, measured, kind):
    """Return the function that `kvae_export.write` calls with the new files' model.

    Args:
        whole: folder of the same model with float32 weights, to compare with; None where the new one is that.
        trained_on: training data, or a pair of it and its conditions, or None.
        held_out: likewise, data that was not trained on.
        measured: list for the lines of the table; None to measure nothing.
        kind: of the data, as in the manifest.
    """

    def inspect(model):
        found, table = {}, []
        if trained_on is not None:
            found["score"] = quantiles(model, *_pair(trained_on))
        if measured is not None:
            models = [*([load(whole)] if whole else []), model]
            rows = weight_costs.measure(models, _few(held_out, MAX_HELD_OUT))
            weight_costs.require_gain(rows)
            table = weight_costs.cells(rows, _UNITS.get(kind, "example"))
            measured.extend(table)
        return Inspection(found, table)

    return inspect


def quantiles(model, x, conditions=None):
    """The manifest's `score`: below which elbo a share of the training data lies, as `kvae score` would score it.

    Args:
        model: a loaded model with encoder and likelihood.
        x: training data `[num, *shape]` in data units; of more than 10,000 that many, evenly spaced.
        conditions: by name, a value for each example.
    """
    x, conditions = _few((x, conditions), MAX_SCORED)
    elbo = scoring.score(model, x, conditions).elbo
    return {
        "num_samples": scoring.NUM_SAMPLES,
        "seed": scoring.SEED,
        "examples": len(x),
        "quantiles": {f"{share:g}": round(float(np.quantile(elbo, share)), 4) for share in QUANTILES},
    }


def _pair(data):
    return data if isinstance(data, tuple) else (data, None)


def _few(data, most):
    """At most so many examples, evenly spaced, with their conditions."""
    if data is None:
        return None
    x, conditions = _pair(data)
    rows = np.linspace(0, len(x) - 1, min(len(x), most)).astype(int)
    return x[rows], {name: np.asarray(values)[rows] for name, values in (conditions or {}).items()} or None
