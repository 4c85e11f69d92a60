"""How far a file may be from the function that it was made of: what float32 explains, and no more.

A tolerance is a pair (absolute, relative): `|got - want| <= absolute + relative * |want|`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Tolerance = tuple[Any, float]
"""(absolute, relative); the absolute one may be an array that broadcasts with the output."""

OF_RANGE = 1e-4
"""Of the data range, for what is in data units and bounded."""
OF_SCALE = 5e-4
"""Of a column's standard deviation, for numbers of a table."""
OF_COLUMN = 2e-4
"""Nats, of the log-likelihood of each column of a table: its standard deviation may be a hundredth of the column's."""
GENERAL: Tolerance = (1e-4, 1e-4)
OF_LIKELIHOOD = 1e-5
FLOAT32 = 1e-7


def default_tolerances(manifest: Mapping[str, Any], outputs: Iterable[str]) -> dict[str, Tolerance]:
    """Return the tolerance of each output by name.

    Args:
        manifest: the model's; its `data` is read.
        outputs: names of outputs.
    """
    data = manifest["data"]
    special = {
        # A sum of one term a data value: each may bring a rounding of its own, also where the terms cancel.
        "log_likelihood": (FLOAT32 * math.prod(data["shape"]), OF_LIKELIHOOD),
    }
    if data.get("range"):
        low, high = data["range"]
        special["x_mean"] = (OF_RANGE * (high - low), 0.0)
    if data["kind"] == "table":
        columns = data["columns"]
        special["log_likelihood"] = (OF_COLUMN * len(columns), OF_LIKELIHOOD)
        # Half an index for a class: the most likely one is the same, or it is not.
        special["x_mean"] = (np.array([OF_SCALE * c["scale"] if "scale" in c else 0.5 for c in columns]), 1e-6)
    return {name: special.get(name, GENERAL) for name in outputs}
