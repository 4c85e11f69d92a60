"""Tolerances of the comparison between a file and its function: no more than float32 rounding explains.

A tolerance is a pair (absolute, relative): `|got - want| <= absolute + relative * |want|`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Tolerance = tuple[Any, float]
"""(absolute, relative); the absolute tolerance may be an array that broadcasts with the output."""

OF_RANGE = 1e-4
"""Share of the data range, for outputs in data units."""
OF_SCALE = 5e-4
"""Share of a column's standard deviation, for numeric columns of a table."""
OF_COLUMN = 2e-4
"""Nats per column of a table: the standard deviation of p(x given z) may be a hundredth of that of the column."""
GENERAL: Tolerance = (1e-4, 1e-4)
OF_LIKELIHOOD = 1e-5
FLOAT32 = 1e-7


def default_tolerances(manifest: Mapping[str, Any], outputs: Iterable[str]) -> dict[str, Tolerance]:
    """Return the tolerance of each output by name.

    Args:
        manifest: Manifest of the model, of which `data` is used.
        outputs: Names of the outputs.
    """
    data = manifest["data"]
    special = {
        # A sum with one term per data value. Each term is rounded, and terms may cancel.
        "log_likelihood": (FLOAT32 * math.prod(data["shape"]), OF_LIKELIHOOD),
    }
    if data.get("range"):
        low, high = data["range"]
        special["x_mean"] = (OF_RANGE * (high - low), 0.0)
    if data["kind"] == "table":
        columns = data["columns"]
        special["log_likelihood"] = (OF_COLUMN * len(columns), OF_LIKELIHOOD)
        # Half an index for a class: the most likely class must be equal.
        special["x_mean"] = (np.array([OF_SCALE * c["scale"] if "scale" in c else 0.5 for c in columns]), 1e-6)
    return {name: special.get(name, GENERAL) for name in outputs}
