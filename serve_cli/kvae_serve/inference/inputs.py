"""Inputs of the graphs: arrays of the user, checked and converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kvae_serve.class_indices import marked
from kvae_serve.errors import InputDataError
from kvae_serve.readers import csv, frames
from kvae_serve.readers.checks import check_data, check_units
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.sealed.manifest import Data, Manifest


def from_frame(
    manifest: Manifest, x: Any, conditions: Mapping[str, Any]
) -> tuple[Any, dict[str, Any], tuple[str, ...]]:
    """Return x, conditions and notes of the rows of a DataFrame, or of a dict of columns; other x unchanged.

    Raises:
        InputDataError: A column is missing, or a value is not a number or a date.
    """
    if manifest.data.kind != "table" or not frames.is_frame(x):
        return x, dict(conditions), ()
    table = frames.from_frame(x, "The table", frames.model_columns(manifest))
    others = [each for each in manifest.conditions if each.name not in conditions]
    dataset = csv.apply(table, manifest.data.columns, others)
    return dataset.x, marked(dataset.conditions, dataset.class_names) | dict(conditions), dataset.notes


def identifiers(manifest: Manifest, x: Any) -> dict[str, list[str]]:
    """Return the texts of each column of identifiers that a DataFrame, or a dict of columns, has; {} for other x."""
    if manifest.data.kind != "table" or not frames.is_frame(x):
        return {}
    table = frames.from_frame(x, "The table", frames.model_columns(manifest))
    names = [each["name"] for each in manifest.data.outside if each["type"] == "id"]
    return {name: table.texts(name) for name in names if name in table.cells}


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


def observed_values(x: np.ndarray, observed: Any, data: Data) -> np.ndarray:
    """Return which values of x are observed, bool of the shape of x: those that are not NaN by default.

    Raises:
        InputDataError: x is empty or not of numbers, or `observed` has another type or shape.
    """
    if x.dtype.kind not in "uifb" or not len(np.atleast_1d(x)):
        raise InputDataError(f"x has the type {x.dtype} and the shape {list(x.shape)}; expected rows of numbers.")
    mask = ~np.isnan(x) if observed is None else np.asarray(observed)
    if mask.dtype != bool or mask.shape != x.shape:
        raise InputDataError(
            f"observed has the type {mask.dtype} and the shape {list(mask.shape)}; expected bool {list(x.shape)}."
        )
    return mask


def with_placeholders(x: np.ndarray, observed: np.ndarray, data: Data) -> np.ndarray:
    """Return x with a valid value in place of each one that is not observed: zero, or the lowest of the range."""
    return np.where(observed, x, x.dtype.type(0 if data.range is None else data.range[0]))


def _rows(values: Any, shape: Sequence[int], name: str) -> np.ndarray:
    rows = np.asarray(values)
    if rows.dtype.kind not in "uifb":
        raise InputDataError(f"{name} has the type {rows.dtype}; expected numbers.")
    if len(shape) > 1 and shape[-1] == 1 and rows.shape[1:] == tuple(shape[:-1]):
        rows = rows[..., None]
    if rows.ndim != 1 + len(shape) or rows.shape[1:] != tuple(shape):
        raise InputDataError(f"{name} has the shape {list(rows.shape)}; expected {['rows', *shape]}.")
    with np.errstate(over="ignore"):  # The caller refuses infinite values.
        return rows.astype(np.float32)
