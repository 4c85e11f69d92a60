"""Examples themselves: originals beside reconstructions, samples by label, and walks along latent dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.report import pictures, svg
from kvae.report.markup import LeftOut, charts, legend, note, number, table, text
from kvae.report.subject import Subject

_ROW, _FREE, _WALKS, _STEPS = 12, 60, 10, 11
_PAIRS = {"image": 24, "table": 8}
_COLUMNS = 12


def reconstructions(subject: Subject) -> str:
    """Return the first examples, each with what the model keeps of it."""
    kind = subject.manifest.data.kind
    made = subject.reconstructions
    num = min(len(made), _PAIRS.get(kind, 6))
    real, made = subject.x[:num], made[:num]
    how = "The mean of p(x given z) at the mean of q(z given x)"
    if subject.images:
        tiles = []
        for index in range(num):
            about = f"Example {index} above its reconstruction"
            pair = pictures.tile(np.stack([real[index], made[index]]), subject.manifest.data, about, 1)
            name = _name(subject, index)
            tiles.append(f"<figure>{pair}<figcaption>{name}</figcaption></figure>")
        return note(f"Originals above, reconstructions below. {how}.") + f"<div class=tiles>{''.join(tiles)}</div>"
    if kind == "table":
        columns = subject.manifest.data.columns[:_COLUMNS]
        rows = []
        for index in range(num):
            for side, values in (("example", real), ("kept", made)):
                head = f"{number(index)} {side}" if side == "example" else f"<i>{side}</i>"
                rows.append((head, *(_cell(column, values[index, at]) for at, column in enumerate(columns))))
        shown = table(("", *(text(column["name"], 40) for column in columns)), rows, range(1, len(columns) + 1))
        return note(f"Rows of the data, each above its reconstruction. {how}.{_cut(subject)}") + shown
    parts = [
        (_name(subject, index) or f"example {index}", _pair(f"r{index}", real[index], made[index]))
        for index in range(num)
    ]
    return note(f"{how}.") + legend([(svg.FIRST_CSS, "example"), (svg.SECOND_CSS, "reconstruction")]) + charts(parts)


def samples(subject: Subject) -> str:
    """Return draws of the prior, label by label."""
    if not subject.model.has("decoder"):
        raise LeftOut("the model has no decoder here.")
    wanted, kind = subject.combinations(), subject.manifest.data.kind
    said = f"Drawn from the prior, decoded to the mean of p(x given z); seed {subject.seed}, temperature 1."
    if subject.images and len(wanted) > 1:
        said += " Images below each other share their z."
    if wanted == [{}]:
        num = _FREE if subject.images else 8
        x = subject.model.sample(num, seed=subject.seed, draw=kind == "table").x
        if subject.images:
            picture = pictures.tile(x, subject.manifest.data, f"{num} samples", _ROW)
            return note(said) + f"<div class=grid>{picture}</div>"
        return note(_drawn(said, kind)) + _others(subject, [("", each) for each in x])
    rows: list[tuple[str, np.ndarray]] = []
    strips = []
    for combination in wanted:
        num = _ROW if subject.images else 1
        x = subject.model.sample(num, conditions=combination, seed=subject.seed, draw=kind == "table").x
        told = subject.told(combination)
        if subject.images:
            strip = pictures.tile(x, subject.manifest.data, f"{num} samples", num)
            strips.append(f"<div class=strip><b>{told}</b>{strip}</div>")
        rows.append((told, x[0]))
    lone = subject.manifest.conditions[0]
    if len(subject.manifest.conditions) == 1 and lone.categorical and len(lone.classes) > len(wanted):
        said += f" The first {len(wanted)} of {len(lone.classes)} classes."
    return note(said) + "".join(strips) if subject.images else note(_drawn(said, kind)) + _others(subject, rows)


def traversals(subject: Subject) -> str:
    """Return walks along the most active dimensions, ordered by kl."""
    values = subject.document["kl_per_dimension"]
    dims = None
    if values is not None:
        dims = sorted(range(len(values)), key=lambda index: (-values[index], index))[:_WALKS]
    given = subject.row(0) if subject.manifest.conditions else {}
    if len(given) == 1 and subject.manifest.conditions[0].categorical:
        given = dict.fromkeys(given, 0)
    kind = subject.manifest.data.kind
    steps = _STEPS if subject.images else 5
    span = (-3.0, 3.0) if subject.images else (-2.0, 2.0)
    walk = subject.model.traverse(dims=dims, conditions=given, steps=steps, span=span)
    activity = walk.activity.values if values is None else values
    unit = walk.activity.unit if values is None else "nats"
    said = "The most active dimensions, by " + ("kl" if values is not None else text(walk.activity.unit, 40))
    said += (
        f". Each is moved from {walk.values[0]:g} to {walk.values[-1]:g} standard deviations of the prior, the others "
    )
    said += "at its mean" + (f"; given {subject.told(given)}." if given else ".")
    rows = [(f"z{dim}", f"{number(activity[dim])} {unit}", walk.x[0, at]) for at, dim in enumerate(walk.dims)]
    if subject.images:
        strips = (
            f"<div class=strip><b>{name}<small>{size}</small></b>"
            + pictures.tile(x, subject.manifest.data, f"Walk along {name}", steps)
            + "</div>"
            for name, size, x in rows
        )
        return note(said) + "".join(strips)
    if kind == "table":
        return note(said) + "".join(_walk_of_table(subject, *row, walk.values) for row in rows[:6])
    parts = [(f"{name} · {size}", _lines(f"t{at}", x)) for at, (name, size, x) in enumerate(rows[:6])]
    return note(said + " Faint lines are the lower end.") + charts(parts)


def _name(subject: Subject, index: int) -> str:
    """An example's label as HTML."""
    if subject.manifest.conditions:
        return subject.told(subject.row(index), 16)
    return "" if subject.labels is None else text(subject.labels.names[subject.labels.values[index]], 16)


def _drawn(said: str, kind: str) -> str:
    return said.replace("decoded to the mean of p(x given z)", "then from p(x given z)") if kind == "table" else said


def _cut(subject: Subject) -> str:
    num = len(subject.manifest.data.columns)
    return f" The first {_COLUMNS} of {num} columns." if num > _COLUMNS else ""


def _cell(column: dict[str, Any], value: Any) -> str:
    if column["kind"] == "categorical":
        return text(column["classes"][int(np.clip(round(float(value)), 0, len(column["classes"]) - 1))], 30)
    return number(float(value))


def _others(subject: Subject, rows: list[tuple[str, np.ndarray]]) -> str:
    """Samples that are no images: a table of rows, or a chart of each."""
    data = subject.manifest.data
    if data.kind != "table":
        return charts([(told or f"sample {at}", _pair(f"s{at}", x, None)) for at, (told, x) in enumerate(rows[:6])])
    columns = data.columns[:_COLUMNS]
    told_rows = ((told, *(_cell(column, x[at]) for at, column in enumerate(columns))) for told, x in rows)
    head = ("given" if rows[0][0] else "", *(text(column["name"], 40) for column in columns))
    return table(head, told_rows, range(1, len(columns) + 1)) + (note(_cut(subject)) if _cut(subject) else "")


def _walk_of_table(subject: Subject, name: str, size: str, x: np.ndarray, values: np.ndarray) -> str:
    """The columns that one dimension moves, step by step: those that move most, in their scales, first."""
    columns = subject.manifest.data.columns
    moved = np.abs(x[-1] - x[0]).astype(np.float64)
    for at, column in enumerate(columns):
        moved[at] = (
            float(np.any(x[:, at] != x[0, at]))
            if column["kind"] == "categorical"
            else moved[at] / column.get("scale", 1.0)
        )
    order = np.argsort(-moved, kind="stable")[:_COLUMNS]
    rows = ((text(columns[at]["name"], 40), *(_cell(columns[at], value) for value in x[:, at])) for at in order)
    head = (f"{name} · {size}", *(("0" if value == 0 else f"{value:+.3g}").replace("-", "−") for value in values))
    return table(head, rows, range(1, len(values) + 1))


def _pair(name: str, first: np.ndarray, second: np.ndarray | None) -> str:
    def plot(axes):
        for values, colour in ((first, svg.FIRST), (second, svg.SECOND)):
            if values is not None:
                axes.plot(values if values.ndim == 1 else values[:, :3], color=colour)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("index" if first.ndim == 1 else "step")

    return svg.draw(name, "Values along the example", plot, (3.8, 2.2))


def _lines(name: str, x: np.ndarray) -> str:
    def plot(axes):
        for at, values in enumerate(x):
            axes.plot(
                values if values.ndim == 1 else values[:, 0], color=svg.FIRST, alpha=0.25 + 0.75 * at / (len(x) - 1)
            )
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("index" if x.ndim == 2 else "step, feature 0")

    return svg.draw(name, "Values along the example, for each step of the walk", plot, (3.8, 2.2))
