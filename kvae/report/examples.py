"""Sections with examples: reconstructions, samples by label, traversals, and samples compared with real data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvae.report import charts
from kvae.report.blocks import Block, Number, Picture, SectionSkipped, note, pixels, table
from kvae.report.subject import Subject
from kvae_serve import cells

_ROW, _UNCONDITIONAL, _DIMENSIONS, _STEPS = 12, 60, 10, 11
_PAIRS = {"image": 24, "table": 8}
_COLUMNS, _MARGINALS, _CLASSES, _BINS = 12, 24, 12, 24


def reconstructions(subject: Subject) -> list[Block]:
    """Return the first examples and their reconstructions."""
    data = subject.manifest.data
    decoded = subject.reconstructions
    num = min(len(decoded), _PAIRS.get(data.kind, 6))
    real, decoded = subject.x[:num], decoded[:num]
    text = "The mean of p(x given z) at the mean of q(z given x)."
    if subject.images:
        pictures = [
            pixels(
                np.stack([real[at], decoded[at]]), data, f"Example {at} above its reconstruction", _name(subject, at), 1
            )
            for at in range(num)
        ]
        return [note(f"Originals above, reconstructions below. {text}"), {"tiles": pictures}]
    if data.kind == "table":
        columns = data.columns[:_COLUMNS]
        rows = []
        for at in range(num):
            for side, values in ((f"{at} example", real), ("reconstruction", decoded)):
                rows.append((side, *(_cell(column, values[at, place]) for place, column in enumerate(columns))))
        return [
            note(f"Rows of the data, each above its reconstruction. {text}{_shown_columns(subject)}"),
            table(("", *(column["name"] for column in columns)), rows),
        ]
    lines = [_lines([real[at], decoded[at]], _name(subject, at) or f"example {at}") for at in range(num)]
    legend = [(charts.FIRST, "example"), (charts.SECOND, "reconstruction")]
    return [note(text), {"legend": legend}, {"charts": lines}]


def samples(subject: Subject) -> list[Block]:
    """Return samples from the prior, by label."""
    if not subject.model.has("decoder"):
        raise SectionSkipped("the model has no decoder here.")
    data, is_table = subject.manifest.data, subject.manifest.data.kind == "table"
    source = "values drawn from p(x given z)" if is_table else "decoded to the mean of p(x given z)"
    text = f"Drawn from the prior, {source}; seed {subject.seed}, temperature 1."
    combinations = subject.combinations()
    if len(subject.manifest.conditions) == 1:
        num_classes = len(subject.manifest.conditions[0].classes)
        text += f" The first {len(combinations)} of {num_classes} classes." if num_classes > len(combinations) else ""
    if subject.images and len(combinations) > 1:
        text += " Images in the same column share their z."

    def drawn(num: int, combination: dict[str, Any]) -> np.ndarray:
        return subject.model.sample(num, conditions=subject.named(combination), seed=subject.seed, draw=is_table).x

    if subject.images and combinations == [{}]:
        return [
            note(text),
            {"picture": pixels(drawn(_UNCONDITIONAL, {}), data, f"{_UNCONDITIONAL} samples", columns=_ROW)},
        ]
    if subject.images:
        strips = [
            (subject.condition_text(each), "", pixels(drawn(_ROW, each), data, f"{_ROW} samples", columns=_ROW))
            for each in combinations
        ]
        return [note(text), _strips("sample", [str(at) for at in range(_ROW)], strips)]
    if combinations == [{}]:
        rows = [("", x) for x in drawn(8, {})]
    else:
        rows = [(subject.condition_text(each), drawn(1, each)[0]) for each in combinations]
    if not is_table:
        lines = [_lines([x], caption or f"sample {at}") for at, (caption, x) in enumerate(rows[:6])]
        return [note(text), {"charts": lines}]
    columns = data.columns[:_COLUMNS]
    drawn_rows = [(caption, *(_cell(column, x[at]) for at, column in enumerate(columns))) for caption, x in rows]
    head = ("condition" if rows[0][0] else "", *(column["name"] for column in columns))
    return [note(text + _shown_columns(subject)), table(head, drawn_rows)]


def traversals(subject: Subject) -> list[Block]:
    """Return traversals of the most active dimensions, the highest KL first."""
    values = subject.document["kl_per_dimension"]
    dims = None
    if values is not None:
        dims = sorted(range(len(values)), key=lambda index: (-values[index], index))[:_DIMENSIONS]
    conditions = subject.row(0)
    if len(conditions) == 1 and subject.manifest.conditions[0].categorical:
        conditions = dict.fromkeys(conditions, 0)
    span, steps = ((-3.0, 3.0), _STEPS) if subject.images else ((-2.0, 2.0), 5)
    path = subject.model.traverse(dims=dims, conditions=subject.named(conditions), steps=steps, span=span)
    activity, unit = (path.activity.values, path.activity.unit) if values is None else (values, "nats")
    text = (
        f"The most active dimensions, by {unit if values is None else 'KL'}. Each moves from {path.values[0]:g} to "
        f"{path.values[-1]:g} standard deviations of the prior; the others stay at its mean"
        + (f"; condition {subject.condition_text(conditions)}." if conditions else ".")
    )
    rows = [(f"z{dim}", f"{Number(activity[dim])} {unit}", path.x[0, at]) for at, dim in enumerate(path.dims)]
    if subject.images:
        strips = [
            (name, size, pixels(x, subject.manifest.data, f"Traversal of {name}", columns=steps))
            for name, size, x in rows
        ]
        return [note(text), _strips("standard deviations", _signed(path.values), strips)]
    if subject.manifest.data.kind == "table":
        return [note(text), *(_table_traversal(subject, *row, path.values) for row in rows[:6])]
    fading = [_lines(list(x), f"{name}, {size}", fade=True) for name, size, x in rows[:6]]
    return [note(text + " Faint lines are the lower end."), {"charts": fading}]


def marginals(subject: Subject) -> list[Block] | None:
    """Return the distribution of each column in samples and real data; None for images."""
    if subject.images:
        return None
    real, drawn, data = subject.x, subject.drawn, subject.manifest.data
    same = " under the same conditions" if subject.columns else ""
    text = f"{len(real)} examples and as many samples, drawn from p(x given z){same}, seed {subject.seed}."
    if data.kind != "table" and data.num_values > _MARGINALS:
        text += " Lines are means; bands reach from the 5th to the 95th percentile."
        if real.ndim == 2:
            pictures = [_profile(real, drawn, "values by index", "index")]
        else:
            pictures = [
                _profile(real[..., at], drawn[..., at], f"feature {at} by step", "step")
                for at in range(min(real.shape[-1], 6))
            ]
    else:
        columns = data.columns or [{"name": f"x{at}", "kind": "numeric"} for at in range(data.num_values)]
        flat, flat_drawn = real.reshape(len(real), -1), drawn.reshape(len(drawn), -1)
        pictures = [_marginal(column, flat[:, at], flat_drawn[:, at]) for at, column in enumerate(columns[:_MARGINALS])]
        if len(columns) > _MARGINALS:
            text += f" The first {_MARGINALS} of {len(columns)} columns are shown."
    legend = [(charts.FIRST, "real"), (charts.SECOND, "samples")]
    return [note(text), {"legend": legend}, {"charts": pictures}]


def _name(subject: Subject, index: int) -> str:
    """Return the label of an example."""
    if subject.manifest.conditions:
        return subject.condition_text(subject.row(index))
    return "" if subject.labels is None else subject.labels.names[subject.labels.values[index]]


def _shown_columns(subject: Subject) -> str:
    num = len(subject.manifest.data.columns)
    return f" The first {_COLUMNS} of {num} columns." if num > _COLUMNS else ""


def _cell(column: dict[str, Any], value: Any) -> Number | str:
    if column["kind"] == "categorical" or "type" in column:
        return cells.texts(column, np.array([value]))[0]
    return Number(float(value))


def _table_traversal(subject: Subject, name: str, size: str, x: np.ndarray, values: np.ndarray) -> Block:
    """Return the columns that one dimension changes, the largest change (in units of its scale) first."""
    columns = subject.manifest.data.columns
    change = np.abs(x[-1] - x[0]).astype(np.float64)
    for at, column in enumerate(columns):
        categorical = column["kind"] == "categorical"
        change[at] = float(np.any(x[:, at] != x[0, at])) if categorical else change[at] / column.get("scale", 1.0)
    order = np.argsort(-change, kind="stable")[:_COLUMNS]
    rows = ((columns[at]["name"], *(_cell(columns[at], value) for value in x[:, at])) for at in order)
    return table((f"{name}, {size}", *_signed(values)), rows)


def _strips(corner: str, columns: list[str], rows: list[tuple[str, str, Picture]]) -> Block:
    """Return rows of images, each with its name and a remark, under the names of their columns."""
    return {"strips": {"corner": corner, "columns": columns, "rows": rows}}


def _signed(values: np.ndarray) -> list[str]:
    return [f"{value:+.3g}".replace("-", "−") if value else "0" for value in np.round(values, 6).tolist()]


def _lines(parts: Sequence[np.ndarray], caption: str, fade: bool = False) -> Picture:
    """Return vectors or sequences as lines: two in two colours, or all in one colour with the first ones faint."""

    def plot(axes: Any) -> None:
        for at, values in enumerate(parts):
            colour = charts.FIRST if fade or at == 0 else charts.SECOND
            shown = values if values.ndim == 1 else values[:, : 1 if fade else 3]
            axes.plot(shown, color=colour, alpha=0.25 + 0.75 * at / max(1, len(parts) - 1) if fade else 1.0)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("index" if parts[0].ndim == 1 else "step, feature 0" if fade else "step")

    return charts.draw("Values along the example", plot, caption, (3.8, 2.2))


def _marginal(column: dict[str, Any], real: np.ndarray, drawn: np.ndarray) -> Picture:
    if column["kind"] == "categorical":
        return _class_shares(column, real, drawn)
    missing = [f"{np.isnan(values).mean():.1%}" for values in (real, drawn)]
    real, drawn = (values[~np.isnan(values)].astype(np.float64) for values in (real, drawn))
    name = column["name"] + (f" ({missing[0]} missing, samples {missing[1]})" if set(missing) != {"0.0%"} else "")
    both = np.concatenate([real, drawn]) if len(real) + len(drawn) else np.zeros(1)
    low, high = np.quantile(both, (0.002, 0.998))  # without outliers, which would leave a single bar
    edges = cells.bin_edges(column, float(low), float(high if high > low else low + 1), _BINS)
    shown = edges + column.get("offset", 0.0)
    if is_date := "format" in column:
        shown = shown / 86_400  # matplotlib counts days since 1970

    def plot(axes: Any) -> None:
        for values, colour in ((real, charts.FIRST), (drawn, charts.SECOND)):
            share = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / max(1, len(values))
            axes.stairs(share, shown, fill=True, color=colour, alpha=0.25)
            axes.stairs(share, shown, color=colour, linewidth=1.4)
        if is_date:
            _date_axis(axes, column["format"])
        axes.set_ylabel("share")
        axes.set_ylim(bottom=0)

    return charts.draw(f"Histogram of {column['name']}, real and samples", plot, name, (3.8, 2.3))


def _date_axis(axes: Any, form: str) -> None:
    """Write the ticks of an axis in days since 1970 as dates, or as times of the day if the format contains no date."""
    from matplotlib import dates

    locator = dates.AutoDateLocator(minticks=2, maxticks=4)
    axes.xaxis.set_major_locator(locator)
    has_date = "%d" in form or "%-d" in form
    axes.xaxis.set_major_formatter(dates.AutoDateFormatter(locator) if has_date else dates.DateFormatter("%H:%M"))


def _class_shares(column: dict[str, Any], real: np.ndarray, drawn: np.ndarray) -> Picture:
    classes = column["classes"]
    known = [values[(values >= 0) & (values < len(classes))] for values in (real, drawn)]
    counts = [np.bincount(np.rint(values).astype(int), minlength=len(classes)) for values in known]
    order = np.argsort(-counts[0], kind="stable")[:_CLASSES]

    def plot(axes: Any) -> None:
        for side, (count, colour) in enumerate(zip(counts, (charts.FIRST, charts.SECOND), strict=True)):
            places = np.arange(len(order)) + (side - 0.5) * 0.38
            axes.barh(places, count[order] / max(1, count.sum()), height=0.36, color=colour)
        names = [classes[index] if len(classes[index]) <= 14 else classes[index][:13] + "…" for index in order]
        axes.set_yticks(np.arange(len(order)), [_without_controls(name) or "(empty)" for name in names])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("share")

    about = f"Shares of {len(order)} classes of {column['name']}, real and samples"
    return charts.draw(about, plot, column["name"], (3.8, max(1.5, 0.8 + 0.3 * len(order))))


def _without_controls(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _profile(real: np.ndarray, drawn: np.ndarray, caption: str, axis: str) -> Picture:
    def plot(axes: Any) -> None:
        for values, colour in ((real, charts.FIRST), (drawn, charts.SECOND)):
            low, high = np.quantile(values, (0.05, 0.95), axis=0)
            axes.fill_between(np.arange(real.shape[1]), low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(values.mean(0), color=colour)
        axes.set_xlabel(axis)

    return charts.draw(f"Mean and band of values by {axis}, real and samples", plot, caption)
