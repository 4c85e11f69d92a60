"""What the user asks for, by name or number, turned into the arrays that a graph takes.

ONNX Runtime takes class -1 for the last one without a word, so every index is checked here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.sealed.manifest import Condition, Manifest

Value = str | int | float | np.generic
ALL = "all"


def combinations(
    manifest: Manifest, conditions: Mapping[str, Value | Sequence[Value]] | None
) -> list[tuple[int | float, ...]]:
    """Return every combination of the values asked for, in the order of the manifest's conditions.

    Args:
        manifest: knows which conditions there are.
        conditions: for each of them a value or several: class name, index, number, or "all" for each class. A class
            name wins over an index. The only condition of a model, where categorical, may be left out: one of
            each class.

    Returns:
        One tuple for each row wanted, the last condition changing fastest; `[()]` for an unconditional model.
    """
    asked = dict(conditions or {})
    _check_names(manifest, asked)
    if not asked and len(manifest.conditions) == 1 and manifest.conditions[0].categorical:
        asked = {manifest.conditions[0].name: ALL}
    missing = [condition.name for condition in manifest.conditions if condition.name not in asked]
    if missing:
        raise RequestError(f"{manifest.name} needs a value for {_listed(missing)} as well.")
    return list(itertools.product(*(_values(condition, asked[condition.name]) for condition in manifest.conditions)))


def column(condition: Condition, values: Any, num: int) -> np.ndarray:
    """Return one condition for `num` rows: int64 indices or float32 numbers `[num]`, checked.

    Args:
        condition: the condition.
        values: one value for all rows, or one for each; class names, indices or numbers. Numbers for each row are data,
            which may lie outside of what was trained on; one for all is asked for, and may not.
        num: how many rows.
    """
    given = np.asarray(values)
    if given.ndim > 1 or (given.ndim == 1 and len(given) != num):
        raise RequestError(f"{condition.name} takes one value, or one for each of {num} rows; got {list(given.shape)}.")
    found: np.ndarray
    if given.dtype.kind in "iu" and condition.categorical:
        found = given.astype(np.int64)
        if given.size and (given.min() < 0 or given.max() >= len(condition.classes)):
            raise unknown_class(condition, int(given.min() if given.min() < 0 else given.max()))
    elif given.dtype.kind in "iuf" and not condition.categorical:
        found = given.astype(np.float32)
        if given.ndim == 0:
            _number(condition, given.item())
        elif not np.isfinite(found).all():
            raise RequestError(f"{condition.name} holds NaN or infinity, expected numbers.")
    else:
        parsed = [resolve(condition, value) for value in given.ravel().tolist()]
        found = np.array(parsed, np.int64 if condition.categorical else np.float32).reshape(given.shape)
    return np.ascontiguousarray(np.broadcast_to(found, (num,)))


def columns(manifest: Manifest, conditions: Mapping[str, Any] | None, num: int) -> dict[str, np.ndarray]:
    """Return all conditions for `num` rows; see `column`."""
    asked = dict(conditions or {})
    _check_names(manifest, asked)
    missing = [condition.name for condition in manifest.conditions if condition.name not in asked]
    if missing:
        raise RequestError(f"{manifest.name} is conditional: give {_listed(missing)}, one value or one for each row.")
    return {condition.name: column(condition, asked[condition.name], num) for condition in manifest.conditions}


def resolve(condition: Condition, value: Value) -> int | float:
    """Return the class index or number that a value stands for; a class name wins over an index."""
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
    """Return the error that says which classes there are, and which name is nearest."""
    import difflib

    classes = condition.classes
    last = len(classes) - 1
    near = difflib.get_close_matches(str(value), classes, 1, 0.5) if isinstance(value, str) else []
    if classes == tuple(map(str, range(len(classes)))):
        known, near = f"0 to {last}", []
    else:
        shown = ", ".join(printable(name, 40) for name in classes[:12]) + (", ..." if last >= 12 else "")
        known = f"{shown} (or an index from 0 to {last})"
    hint = f" Did you mean {printable(near[0], 40)}?" if near else ""
    several = value.split(",") if isinstance(value, str) else []
    if len(several) > 1 and all(each in classes for each in several):
        option = "--label " if condition.name == "label" else f"--condition {condition.name}="
        hint = f" Give each value separately: {' '.join(f'{option}{printable(each, 40)}' for each in several)}."
    return RequestError(f"There is no {condition.name} {_quoted(value)}; the model knows {known}.{hint}")


def _values(condition: Condition, given: Any) -> list[int | float]:
    values = [given] if isinstance(given, str | int | float | np.generic) else list(given)
    if not values:
        raise RequestError(f"{condition.name} needs at least one value.")
    found: list[int | float] = []
    for value in values:
        if condition.categorical and value == ALL and ALL not in condition.classes:
            found += range(len(condition.classes))
        else:
            found.append(resolve(condition, value))
    return list(dict.fromkeys(found))  # The same class asked for twice is one row of images.


def _number(condition: Condition, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise RequestError(f"{condition.name} is a number, got {_quoted(value)}.") from None
    low, high = condition.range or (-3e38, 3e38)
    if not math.isfinite(number) or not low <= number <= high:
        raise RequestError(f"{condition.name} goes from {low:g} to {high:g}, got {number:g}.")
    return number


def _check_names(manifest: Manifest, asked: Mapping[str, Any]) -> None:
    known = [condition.name for condition in manifest.conditions]
    for name in asked:
        if name not in known:
            what = f"its conditions are {_listed(known)}" if known else "it is unconditional"
            raise RequestError(f"{manifest.name} has no condition {printable(name, 60)}: {what}. Leave it out.")


def _quoted(value: object) -> str:
    """Return a value for a message, texts in quotes: what is empty or has spaces is to be seen."""
    return printable(repr(value.item() if isinstance(value, np.generic) else value), 60)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(printable(name, 40) for name in names)
