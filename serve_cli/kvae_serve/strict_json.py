"""Strict JSON: one parser for manifests and requests, both of which may come from an untrusted source."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

# The closing quote may be missing. Without the question mark, unclosed strings would take quadratic time.
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")
_DEPTH_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}


def loads(text: str, max_depth: int) -> Any:
    """Parse JSON without recursion beyond `max_depth`.

    Raises:
        ValueError: If the text is not JSON, repeats a key, nests deeper than `max_depth`, or contains NaN, an infinite
            number or half of a surrogate pair.
    """
    _check_depth(text, max_depth)
    value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    _check_values(value)
    return value


def _check_depth(text: str, max_depth: int) -> None:
    """Refuse deep nesting before the parser, which is recursive, reads it."""
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub("", text)):
        depth += _DEPTH_STEPS[bracket[0]]
        if depth > max_depth:
            raise ValueError(f"it is nested more than {max_depth} deep")


def _check_values(value: Any) -> None:
    """Refuse infinite numbers (1e400) and halves of surrogate pairs, without recursion."""
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, float) and not math.isfinite(node):
            raise ValueError("a number is too large")
        if isinstance(node, str):
            node.encode()
        elif isinstance(node, dict):
            pending += [*node, *node.values()]
        elif isinstance(node, list):
            pending += node


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a key appears twice")
    return unique


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not allowed")
