"""Inputs of the graphs: arrays of the user, checked and converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kvae_serve.errors import InputDataError
from kvae_serve.readers.checks import check_data, check_units
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.sealed.manifest import Data, Manifest


def feeds(
    manifest: Manifest,
    conditions: Mapping[str, Any] | None,
    *,
    x: np.ndarray | None = None,
    z: np.ndarray | None = None,
    first: int = 0,
) -> dict[str, np.ndarray]:
    """Return the checked inputs of a graph for the rows of x or z.

    Args:
        manifest: Manifest of the model.
        conditions: Value of each condition, or one value per row.
        x: `[rows, *shape]` in data units.
        z: `[rows, latent_dim]`.
        first: Index of the first row, if x is a part of a dataset.

    Raises:
        InputDataError: x or z has the wrong type, shape or range.
        RequestError: A condition is missing or unknown.
    """
    inputs = {}
    if x is not None:
        inputs["x"] = data_rows(x, manifest.data, first)
        if first == 0:  # Later parts can mislead, because some images are nearly black.
            check_units(np.asarray(x), manifest.data.range, "x")
    if z is not None:
        inputs["z"] = _rows(z, (manifest.latent_dim,), "z")
    num = len(next(iter(inputs.values())))
    return inputs | conditions_of.columns(manifest, conditions, num)


def data_rows(x: np.ndarray, data: Data, first: int = 0) -> np.ndarray:
    """Return x as float32 `[rows, *shape]` in data units, checked. The axis of a single channel may be missing.

    Args:
        x: Some rows of a dataset.
        data: Description of the model's data.
        first: Index of the first row, for messages.

    Raises:
        InputDataError: x has the wrong type, shape or range.
    """
    rows = _rows(x, data.shape, "x")
    check_data(rows, data, f"x from row {first} on" if first else "x", first)
    return rows


def _rows(values: Any, shape: Sequence[int], name: str) -> np.ndarray:
    rows = np.asarray(values)
    if rows.dtype.kind not in "uifb":
        raise InputDataError(f"{name} has the type {rows.dtype}; expected numbers.")
    if len(shape) > 1 and shape[-1] == 1 and rows.shape[1:] == tuple(shape[:-1]):
        rows = rows[..., None]
    if rows.ndim != 1 + len(shape) or rows.shape[1:] != tuple(shape):
        raise InputDataError(f"{name} has the shape {list(rows.shape)}; expected {['rows', *shape]}.")
    return rows.astype(np.float32)
