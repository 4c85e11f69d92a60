"""Columns in a manifest: checks of the form of a numeric one, and the class of missing cells."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypeGuard

from kvae_serve.numbers import is_number

FORMS = ("standard", "quantile", "classes")
MAX_KNOTS = 4096
#: Largest knot or atom. Products with slopes stay within float32.
MAX_NUMBER = 1e30
#: Largest score: its normal probability is 0 in float64.
MAX_SCORE = 40.0


def form_fault(column: Mapping[str, Any]) -> str:
    """Return the fault of the form of a numeric column and the expected value, or an empty text.

    Args:
        column: Its entry in `data.columns`. `form` may be missing; `knots` and `scores` belong to `quantile`, `atoms`
            to `classes`, which may have `unseen` (see `kvae_serve.sealed.unseen`).

    Example:
        >>> form_fault({"form": "classes", "atoms": [1.0, 2.0]})
        ''
    """
    form = column.get("form", "standard")
    if form not in FORMS:
        return f"the form {str(form)[:40]!r}; expected one of {', '.join(FORMS)}."
    if form == "classes":
        atoms = column.get("atoms")
        if not _is_list(atoms) or not all(a < b for a, b in pairwise(atoms)):
            return f"invalid atoms; expected 1 to {MAX_KNOTS} increasing numbers."
        return _unseen_fault(column) if "unseen" in column else ""
    if form == "quantile":
        knots, scores = column.get("knots"), column.get("scores")
        if not _is_list(knots) or not all(a <= b for a, b in pairwise(knots)) or knots[0] == knots[-1]:
            return f"invalid knots; expected 2 to {MAX_KNOTS} numbers that do not decrease, not all equal."
        if any(a == b == c for a, b, c in zip(knots, knots[1:], knots[2:], strict=False)):
            return "invalid knots; expected a value at most twice."
        if not _is_list(scores, MAX_SCORE) or len(scores) != len(knots) or not all(a < b for a, b in pairwise(scores)):
            return "invalid scores; expected one per knot, increasing."
    return ""


def _unseen_fault(column: Mapping[str, Any]) -> str:
    """Return the fault of the entry `unseen` of a column with valid atoms, or an empty text."""
    entry, atoms = column["unseen"], column["atoms"]
    if not isinstance(entry, dict) or len(atoms) < 2:
        return "an invalid entry unseen; expected step, tail, share and weight, and at least two atoms."
    if not _is_list([entry.get("step"), entry.get("tail")]) or min(entry["step"], entry["tail"]) <= 0:
        return "an invalid step or tail of unseen; expected positive numbers."
    for name in ("share", "weight"):
        values: Any = entry.get(name)
        if not _is_list(values) or len(values) != len(atoms) or min(values) < 0 or max(values) > 1:
            return f"an invalid {name} of unseen; expected a number from 0 to 1 for each atom."
    if max(entry["share"]) == 1:
        return "an invalid share of unseen; expected numbers below 1."
    return ""


def _is_list(values: Any, highest: float = MAX_NUMBER) -> TypeGuard[list[float]]:
    return (
        isinstance(values, list)
        and 0 < len(values) <= MAX_KNOTS
        and all(is_number(each) and abs(each) <= highest for each in values)
    )


def missing_class(column: Mapping[str, Any]) -> int | None:
    """Return the index of the class that stands for missing cells; None without one."""
    classes = list(column.get("classes", ()))
    return classes.index(column["missing"]) if column.get("missing") in classes else None
