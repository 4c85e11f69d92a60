"""Sample quality as a text table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvae_serve.errors import printable

_HEAD = ("", "samples", "+-", "real", "n", "")


def lines(figures: dict[str, dict[str, Any]], about: dict[str, Any]) -> list[str]:
    """Return the result of `measure` as lines of text."""
    rows = [_HEAD, *(_row(name, figure) for name, figure in figures.items() if figure["value"] is not None)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    shown = [
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 5)), row[5]]).rstrip()
        for row in rows
    ]
    return [*_heading(about), "", *shown, *_left_out(figures)]


def _heading(about: dict[str, Any]) -> list[str]:
    options = f"temperature {about['temperature']:g}, seed {about['seed']}"
    if "classifier" not in about:
        return [
            f"{about['n']} samples ({about['rows']}, {options}) compared with {about['n']} real test rows "
            f"and {about['train_rows']} training rows; the column real is the baseline"
        ]
    classifier = about["classifier"]
    accuracy = "" if classifier["accuracy"] is None else f", accuracy {classifier['accuracy']:.2%} on real test images"
    return [
        f"{about['n']} samples ({about['images']}, {options}) compared with {about['n']} real test images,",
        f"in the features of classifier {classifier['digest']}{accuracy}; the column real is the baseline",
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
    if "worst" in figure:
        worst, value = figure["worst"][0]
        name = worst if isinstance(worst, str) else " and ".join(worst)
        return f"lowest: {value:.3f}, {printable(name, 60)}"
    if "target" in figure:
        metric = "AUC" if figure["metric"] == "auc" else "R2"
        return f"{metric} of {printable(figure['target'], 40)}, trained on {figure['trained_on']}"
    if "of" in figure:
        return f"of {figure['of']}"
    if "trained_on" in figure:
        return f"trained on {figure['trained_on']}"
    if name == "within_class_spread":
        return "of real test images"
    return f"k = {figure['k']}" if "k" in figure else ""


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def _left_out(figures: dict[str, dict[str, Any]]) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for name, figure in figures.items():
        if figure["value"] is None:
            by_reason.setdefault(figure["left_out"], []).append(name.replace("_", " "))
    for reason, names in by_reason.items():
        yield f"skipped: {', '.join(names)}, because {printable(reason, 200)}."
