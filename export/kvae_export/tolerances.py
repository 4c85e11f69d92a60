"""Tolerances of the comparison between a file and its function: no more than float32 rounding explains.

A tolerance is a pair (absolute, relative): `|got - want| <= absolute + relative * |want|`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
ROUNDOFF = 2.0**-24
"""Relative error of one float32 operation."""


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
        # A location is computed as a mean is, but may lie far outside the range.
        special["x_location"] = (OF_RANGE * (high - low), GENERAL[1])
    if scales := data.get("scale"):
        special["log_likelihood"] = (OF_COLUMN * math.prod(data["shape"]), OF_LIKELIHOOD)
        special["x_mean"] = (OF_SCALE * np.array(scales), 1e-6)
    if data["kind"] == "table":
        columns = data["columns"]
        special["log_likelihood"] = (OF_COLUMN * len(columns), OF_LIKELIHOOD)
        # Half an index for a class: the most likely class must be equal.
        special["x_mean"] = (np.array([_of_column(column) for column in columns]), 1e-6)
    return {name: special.get(name, GENERAL) for name in outputs}


def _of_column(column: Mapping[str, Any]) -> float:
    """Return the absolute tolerance of a column of x_mean."""
    if "scale" not in column:
        return 0.5
    tolerance = OF_SCALE * column["scale"]
    if column.get("form") == "quantile":
        # At a jump or a steep piece, scores that are equal up to rounding have values that differ.
        knots, scores = (np.asarray(column[key], np.float64) for key in ("knots", "scores"))
        tolerance += np.ptp([np.interp(scores + away, scores, knots) for away in (-OF_SCALE, OF_SCALE)], axis=0).max()
    return tolerance


def accumulated_error(weight_shapes: Iterable[Sequence[int]], num_steps: int = 1) -> float:
    """Return the relative error of an output from the sums in all layers, as a share of its largest value.

    A sum of K products in float32 is off by about `sqrt(K)` roundings in another order, and the errors of the layers
    add up (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 2.8).

    Args:
        weight_shapes: Shapes of all weights. Vectors are ignored, because they are not summed over.
        num_steps: Number of times that recurrent layers run.
    """
    lengths = [math.prod(shape) // min(shape[0], shape[-1]) for shape in weight_shapes if len(shape) > 1]
    return ROUNDOFF * num_steps * sum(map(math.sqrt, lengths))


def with_magnitude(tolerance: Tolerance, error: float, outputs: np.ndarray) -> Tolerance:
    """Add an error relative to the largest output to the absolute tolerance: small outputs are sums of large terms."""
    finite = np.abs(outputs[np.isfinite(outputs)])
    return tolerance[0] + error * float(finite.max(initial=0.0)), tolerance[1]
