"""How far a file may be from the function that it was made of: what float32 explains, and no more.

A tolerance is a pair (absolute, relative): `|got - want| <= absolute + relative * |want|`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

Tolerance = tuple[float, float]

OF_RANGE = 1e-4
"""Of the data range, for what is in data units and bounded."""
GENERAL: Tolerance = (1e-4, 1e-4)
OF_LIKELIHOOD = 1e-5
FLOAT32 = 1e-7


def default_tolerances(manifest: Mapping[str, Any], outputs: Iterable[str]) -> dict[str, Tolerance]:
    """Return the tolerance of each output by name.

    Args:
        manifest: the model's; `data.shape` and `data.range` are read.
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
    return {name: special.get(name, GENERAL) for name in outputs}
