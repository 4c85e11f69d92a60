"""Columns of a table as features: checks, bins, and inputs of tree models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kvae_serve.errors import InputDataError, RequestError, printable

Columns = Sequence[Mapping[str, Any]]

NUM_BINS = 10
"""Bins of a number that is compared with a class: deciles of the real rows."""


def is_number(column: Mapping[str, Any]) -> bool:
    """Return whether a column contains numbers rather than classes."""
    return column["kind"] != "categorical"


def checked(x: Any, columns: Columns, name: str) -> np.ndarray:
    """Return rows as float64 `[rows, columns]`, or raise `InputDataError`."""
    rows = np.asarray(x, np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(columns) or not len(rows):
        raise InputDataError(f"{name} has the shape {list(rows.shape)}; expected [rows, {len(columns)}] with rows.")
    if np.isinf(rows).any():
        raise InputDataError(f"{name} contains infinite values; expected numbers, and NaN for missing ones.")
    return rows


def position(columns: Columns, name: str) -> int:
    """Return the index of a column, or raise `RequestError` with the names that exist."""
    names = [str(column["name"]) for column in columns]
    if name not in names:
        listed = ", ".join(printable(each, 40) for each in names[:20])
        raise RequestError(f"Column {printable(name, 60)} does not exist. Use one of {listed}.")
    return names.index(name)


def codes(real: np.ndarray, others: Sequence[np.ndarray], columns: Columns) -> tuple[list[np.ndarray], list[int]]:
    """Return integer codes of several sets of rows, and the number of codes of each column.

    Classes keep their index, and numbers get their decile among the real rows. The last code is a missing number or an
    unknown class.
    """
    sets = [np.empty(rows.shape, np.int64) for rows in (real, *others)]
    sizes = []
    for at, column in enumerate(columns):
        if is_number(column):
            known = real[:, at][~np.isnan(real[:, at])]
            edges = np.unique(np.quantile(known, np.arange(1, NUM_BINS) / NUM_BINS)) if len(known) else np.empty(0)
            size = len(edges) + 1
        else:
            edges, size = None, len(column["classes"])
        for coded, rows in zip(sets, (real, *others), strict=True):
            values = rows[:, at]
            index = values if edges is None else np.searchsorted(edges, values, side="left").astype(np.float64)
            bad = np.isnan(values) | (index < 0) | (index >= size)
            coded[:, at] = np.where(bad, size, index)
        sizes.append(size + 1)
    return sets, sizes


def one_thread() -> Any:
    """Return a context in which scikit-learn's trees use one thread: on busy cores, several wait for each other."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="openmp")


def tree_inputs(columns: Columns) -> list[bool]:
    """Return which columns scikit-learn's gradient boosting handles as classes: those with at most 255."""
    return [not is_number(column) and len(column["classes"]) <= 255 for column in columns]
