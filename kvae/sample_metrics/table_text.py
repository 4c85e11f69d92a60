"""Sample quality as a text table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvae_serve.errors import printable

_HEAD = ("", "samples", "+-", "real", "n", "")


def lines(figures: dict[str, dict[str, Any]], about: dict[str, Any]) -> list[str]:
    """Return the result of `measure` as lines of text."""
    classifier = about["classifier"]
    accuracy = "" if classifier["accuracy"] is None else f", accuracy {classifier['accuracy']:.2%} on real test images"
    rows = [_HEAD, *(_row(name, figure) for name, figure in figures.items() if figure["value"] is not None)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    shown = [
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 5)), row[5]]).rstrip()
        for row in rows
    ]
    return [
        f"{about['n']} samples ({about['images']}, temperature {about['temperature']:g}, seed {about['seed']}) "
        f"compared with {about['n']} real test images,",
        f"in the features of classifier {classifier['digest']}{accuracy}; the column real is the baseline",
        "",
        *shown,
        *_left_out(figures),
    ]


def _row(name: str, figure: dict[str, Any]) -> tuple[str, ...]:
    error = figure.get("standard_error")
    return (
        name.replace("_", " "),
        _number(figure["value"]),
        "" if error is None else f"{error:.3f}",
        _number(figure["floor"]),
        str(figure["n"]),
        _note(name, figure),
    )


def _note(name: str, figure: dict[str, Any]) -> str:
    if name == "label_consistency_worst":
        return f"labels {printable(figure['label'], 30)} and {printable(figure['floor_label'], 30)}"
    if "trained_on" in figure:
        return f"trained on {figure['trained_on']}"
    if name == "within_class_spread":
        return "of real test images"
    return f"k = {figure['k']}" if "k" in figure else ""


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def _left_out(figures: dict[str, dict[str, Any]]) -> Iterator[str]:
    whys: dict[str, list[str]] = {}
    for name, figure in figures.items():
        if figure["value"] is None:
            whys.setdefault(figure["left_out"], []).append(name.replace("_", " "))
    for why, names in whys.items():
        yield f"skipped: {', '.join(names)}, because {printable(why, 200)}."
