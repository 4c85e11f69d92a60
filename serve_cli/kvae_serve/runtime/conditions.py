"""Conditions: values by name or number, converted to the arrays that a graph needs.

ONNX Runtime silently accepts -1 as the index of the last class, so every index is checked here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kvae_serve import cells
from kvae_serve.class_indices import ClassIndices, are_ambiguous
from kvae_serve.errors import RequestError, printable
from kvae_serve.sealed.manifest import JOINT_BINS, Condition, Manifest

Value = str | int | float | np.generic
ALL = "all"
MAX_COMBINATIONS = 2**22
"""Combinations of the values of several conditions in one request."""

DATA = "data"
"""Value of a condition that is drawn for each row, as often as it occurs in the training data."""


def with_label(manifest: Manifest, label: Any, conditions: Any) -> dict[str, Any]:
    """Return the conditions by name, with the label added under its name unless it is None.

    Args:
        manifest: Manifest of the model.
        label: Value or values of the condition named label, or None.
        conditions: Values by name, or the values alone if the model has one condition, or None.

    Raises:
        RequestError: There are two labels, the model is unconditional, or the values of several conditions have no
            names.
    """
    merged = _by_name(manifest, conditions)
    if label is None:
        return merged
    if "label" in merged:
        raise RequestError("The label is given twice: as label, and as the condition named label. Leave one out.")
    if not manifest.conditions:
        raise RequestError(f"{manifest.name} is unconditional, so it does not accept a label. Leave it out.")
    return {"label": label} | merged


def with_one_reading(manifest: Manifest, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conditions, with integers that name classes as texts.

    Raises:
        RequestError: All classes are integers, and a value is the name of one class and the index of another.
    """
    return {name: _one_reading(manifest.condition(name), values) for name, values in conditions.items()}


def _one_reading(condition: Condition | None, values: Any) -> Any:
    if condition is None or isinstance(values, ClassIndices | str):
        return values
    classes = condition.classes
    if not are_ambiguous(classes):
        return values
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or not array.size:
        return values
    distinct = np.unique(array).tolist()
    both = [value for value in distinct if str(value) in classes and 0 <= value < len(classes)]
    differ = next((value for value in both if classes[value] != str(value)), None)
    if differ is not None:
        raise RequestError(
            f"{condition.name} has the integer {differ}, which is the class {differ}, or the index of the class "
            f"{classes[differ]}. Give class names as texts, such as {str(differ)!r}."
        )
    return array.astype(str) if all(str(value) in classes for value in distinct) else values


def _by_name(manifest: Manifest, conditions: Any) -> dict[str, Any]:
    if conditions is None or isinstance(conditions, Mapping):
        return dict(conditions or {})
    names = [condition.name for condition in manifest.conditions]
    if not names:
        raise RequestError(f"{manifest.name} is unconditional, so it does not accept conditions. Leave them out.")
    if len(names) > 1:
        raise RequestError(f"The conditions have no names; expected a dict with the keys {_listed(names)}.")
    return {names[0]: conditions}


def combinations(
    manifest: Manifest, conditions: Mapping[str, Value | Sequence[Value]] | None
) -> list[tuple[int | float, ...]]:
    """Return all combinations of the requested values, in the order of the manifest's conditions.

    Args:
        manifest: Manifest of the model.
        conditions: One or several values per condition: class name, index, number, or "all" for every class. A class
            name has precedence over an index. A model with one categorical condition uses all its classes by default.

    Returns:
        One tuple per combination, the last condition changing fastest; `[()]` for an unconditional model.

    Raises:
        RequestError: A condition is missing or unknown, or a value does not exist.
    """
    requested = dict(conditions or {})
    if not requested and len(manifest.conditions) == 1 and manifest.conditions[0].categorical:
        requested = {manifest.conditions[0].name: ALL}
    _check_names(manifest, requested)
    values = [_values(each, requested[each.name]) for each in manifest.conditions]
    if (num := math.prod(map(len, values))) > MAX_COMBINATIONS:
        raise RequestError(
            f"The conditions have {num} combinations of values; expected at most {MAX_COMBINATIONS}. Give fewer values."
        )
    return list(itertools.product(*values))


def split_data(
    manifest: Manifest, conditions: Mapping[str, Any] | None
) -> tuple[dict[str, Any], tuple[Condition, ...]]:
    """Separate the conditions that are drawn as in the training data: those with the value `DATA`.

    Conditions of a table that are not requested are such conditions too.

    Returns:
        The requested values, in which a condition to draw has any value; and the conditions to draw.

    Raises:
        RequestError: The model does not have the shares or quantiles of a condition.
    """
    requested = dict(conditions or {})
    drawn = []
    for condition in manifest.conditions:
        is_known = bool(condition.shares or condition.quantiles)
        value = requested.get(condition.name)
        only = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
        is_drawn = isinstance(only, str) and only == DATA and DATA not in condition.classes
        if is_drawn and not is_known:
            raise RequestError(
                f"{condition.name} is {DATA}, but {manifest.name} does not contain the shares of its values in the "
                "training data. Give its values, or export the model again."
            )
        if is_drawn or (condition.name not in requested and manifest.data.kind == "table" and is_known):
            drawn.append(condition)
            requested[condition.name] = condition.classes[0] if condition.categorical else condition.quantiles[0]
    return requested, tuple(drawn)


def from_data(
    manifest: Manifest, fixed: Mapping[str, np.ndarray], drawn: Sequence[Condition], uniforms: np.ndarray
) -> dict[str, np.ndarray]:
    """Return conditions as often as in the training data, given the values of the others.

    Conditions that occur together with others are drawn one after the other, each given the values before it. Values
    that do not occur together in the training data, and manifests without combinations, are drawn independently.

    Args:
        manifest: Manifest of the model.
        fixed: Values of the other conditions by name, int64 indices or float32 numbers `[rows]`.
        drawn: The conditions to draw.
        uniforms: A uniform for each row and condition of the manifest, `[rows, conditions]`.

    Returns:
        int64 indices or float32 numbers `[rows]` by name.
    """
    joint = np.array(manifest.joint, np.int64)
    indices: dict[int, np.ndarray] = {}
    for axis, condition in enumerate(manifest.conditions):
        if len(joint) and condition.name in fixed and (condition.classes or condition.quantiles):
            indices[axis] = joint_index(fixed[condition.name], condition.quantiles)
    columns = {}
    for axis, condition in enumerate(manifest.conditions):
        if condition not in drawn:
            continue
        if not len(joint) or not indices:
            values = _from_marginal(condition, uniforms[:, axis])
            indices |= {axis: joint_index(values, condition.quantiles)} if len(joint) else {}
        else:
            index, within = _given(joint, axis, indices, condition, uniforms[:, axis])
            indices[axis] = index
            values = index if condition.categorical else _from_marginal(condition, (index + within) / JOINT_BINS)
        columns[condition.name] = values
    return columns


def joint_index(values: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
    """Return the class of each value, or the interval of a number, int64 `[rows]`, as `Manifest.joint` has them.

    Args:
        values: Class indices or numbers `[rows]`.
        quantiles: Quantiles of the numbers; empty for classes.
    """
    if not len(quantiles):
        return np.asarray(values, np.int64)
    places = np.linspace(0, 1, len(quantiles))
    bounds = np.interp(np.linspace(0, 1, JOINT_BINS + 1)[1:-1], places, quantiles)
    return np.searchsorted(bounds, values, side="right")


def _from_marginal(condition: Condition, uniforms: np.ndarray) -> np.ndarray:
    """Return values of one condition from uniforms `[rows]`."""
    if condition.categorical:
        cumulative = np.cumsum(condition.shares)
        index = np.searchsorted(cumulative / cumulative[-1], uniforms, side="right")
        return np.minimum(index, len(condition.classes) - 1).astype(np.int64)
    numbers = np.interp(uniforms, np.linspace(0, 1, len(condition.quantiles)), condition.quantiles)
    return (cells.in_units(condition.column, numbers) if condition.column else numbers).astype(np.float32)


def _given(
    joint: np.ndarray, axis: int, indices: Mapping[int, np.ndarray], condition: Condition, uniforms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the index of a condition given those of others; return it and the place in its interval, each `[rows]`."""
    size = len(condition.classes) or JOINT_BINS
    known, row = np.unique(np.stack(list(indices.values()), axis=1), axis=0, return_inverse=True)
    counts = joint[:, [1 + each for each in indices]]
    weights = np.array(
        [
            np.bincount(joint[:, 1 + axis], weights=joint[:, 0] * (counts == each).all(axis=1), minlength=size)
            for each in known
        ]
    )
    weights[weights.sum(axis=1) == 0] = np.bincount(joint[:, 1 + axis], weights=joint[:, 0], minlength=size)
    ends = np.cumsum(weights, axis=1)
    ends = np.pad(ends / ends[:, -1:], ((0, 0), (1, 0)))[row.reshape(-1)]
    index = (ends[:, 1:] <= uniforms[:, None]).sum(axis=1)
    low, high = (np.take_along_axis(ends, index[:, None] + each, axis=1)[:, 0] for each in (0, 1))
    return index, (uniforms - low) / (high - low)


def column(condition: Condition, values: Any, num: int) -> np.ndarray:
    """Return one condition for `num` rows: checked int64 indices or float32 numbers `[num]`.

    Args:
        condition: The condition.
        values: One value for all rows or one per row: class names, indices or numbers. A single number must lie in the
            range of the training data. Numbers per row are data and may exceed it.
        num: Number of rows.

    Raises:
        RequestError: A value does not exist, or their number is wrong.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if condition.categorical and array.ndim == 2 and array.shape[1] == len(condition.classes):
        raise RequestError(
            f"{condition.name} has the shape {list(array.shape)}, which looks one-hot; expected class indices. "
            f"Use {condition.name}.argmax(axis=1)."
        )
    if array.ndim > 1 or (array.ndim == 1 and len(array) != num):
        raise RequestError(
            f"{condition.name} has the shape {list(array.shape)}; expected one value, or one for each of {num} rows."
        )
    checked: np.ndarray
    if array.dtype.kind in "iu" and condition.categorical:
        checked = array.astype(np.int64)
        if array.size and (array.min() < 0 or array.max() >= len(condition.classes)):
            raise unknown_class(condition, int(array.min() if array.min() < 0 else array.max()))
    elif array.dtype.kind in "iuf" and not condition.categorical:
        checked = array.astype(np.float32)
        if array.ndim == 0:
            _number(condition, array.item())
        elif not np.isfinite(checked).all():
            raise RequestError(f"{condition.name} contains NaN or infinity; expected finite numbers.")
    else:
        parsed = [resolve(condition, value) for value in array.ravel().tolist()]
        checked = np.array(parsed, np.int64 if condition.categorical else np.float32).reshape(array.shape)
    return np.ascontiguousarray(np.broadcast_to(checked, (num,)))


def columns(manifest: Manifest, conditions: Mapping[str, Any] | None, num: int) -> dict[str, np.ndarray]:
    """Return all conditions for `num` rows by name; see `column`."""
    requested = dict(conditions or {})
    _check_names(manifest, requested)
    return {condition.name: column(condition, requested[condition.name], num) for condition in manifest.conditions}


def resolve(condition: Condition, value: Value) -> int | float:
    """Return the class index or number of a value. A class name has precedence over an index.

    Raises:
        RequestError: The class does not exist, or the number is out of range.
    """
    if not condition.categorical:
        return _number(condition, value)
    if isinstance(value, str):
        if value in condition.classes:
            return condition.classes.index(value)
        if not (value.isascii() and value.isdigit() and len(value) < 10 and str(int(value)) == value):
            raise unknown_class(condition, value)
        value = int(value)
    number = float(value)
    if isinstance(value, bool) or not number.is_integer() or not 0 <= number < len(condition.classes):
        raise unknown_class(condition, value)
    return int(number)


def unknown_class(condition: Condition, value: object) -> RequestError:
    """Return the error for a class that does not exist. It lists the classes and suggests the most similar name."""
    import difflib

    classes = condition.classes
    last = len(classes) - 1
    similar = difflib.get_close_matches(str(value), classes, 1, 0.5) if isinstance(value, str) else []
    if classes == tuple(map(str, range(len(classes)))):
        known, similar = f"0 to {last}", []
    else:
        shown = ", ".join(printable(name, 40) for name in classes[:12]) + (", ..." if last >= 12 else "")
        known = f"{shown} (or an index from 0 to {last})"
    hint = f" Did you mean {printable(similar[0], 40)}?" if similar else ""
    several = value.split(",") if isinstance(value, str) else []
    if len(several) > 1 and all(each in classes for each in several):
        option = "--label " if condition.name == "label" else f"--condition {condition.name}="
        hint = f" Give each value separately: {' '.join(f'{option}{printable(each, 40)}' for each in several)}."
    return RequestError(f"Unknown {condition.name} {_quoted(value)}; expected {known}.{hint}")


def _values(condition: Condition, requested: Any) -> list[int | float]:
    values = [requested] if isinstance(requested, str | int | float | np.generic) else list(requested)
    if not values:
        raise RequestError(f"{condition.name} is empty; expected at least one value.")
    resolved: dict[int | float, None] = {}  # A class that is requested twice is one row of images.
    for value in values:
        if condition.categorical and value == ALL and ALL not in condition.classes:
            if len(resolved) < len(condition.classes):
                resolved |= dict.fromkeys(range(len(condition.classes)))
        else:
            resolved[resolve(condition, value)] = None
    return list(resolved)


def _number(condition: Condition, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise RequestError(f"{condition.name} is {_quoted(value)}; expected a number.") from None
    low, high = condition.range or (-3e38, 3e38)
    if not low <= number <= high:  # Refuses NaN as well.
        raise RequestError(f"{condition.name} is {number:g}; expected {low:g} to {high:g}.")
    return number


def _check_names(manifest: Manifest, requested: Mapping[str, Any]) -> None:
    known = [condition.name for condition in manifest.conditions]
    for name in requested:
        if name not in known:
            reason = f"its conditions are {_listed(known)}" if known else "it is unconditional"
            raise RequestError(
                f"{manifest.name} does not have the condition {printable(name, 60)}: {reason}. Leave it out."
            )
    missing = [name for name in known if name not in requested]
    if missing:
        raise RequestError(
            f"{manifest.name} needs {_listed(missing)}, which {'is' if len(missing) == 1 else 'are'} missing. Give one "
            "value, or one for each row."
        )


def _quoted(value: object) -> str:
    """Return a value for a message. Text is quoted, so that empty text and spaces are visible."""
    return printable(repr(value.item() if isinstance(value, np.generic) else value), 60)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(printable(name, 40) for name in names)
