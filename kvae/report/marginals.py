"""Samples against real data, column by column: what a table or a vector of numbers is judged by."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.report import svg
from kvae.report.markup import charts, legend, note, number, text
from kvae.report.subject import Subject

_COLUMNS, _CLASSES, _BINS = 24, 12, 24


def section(subject: Subject) -> str | None:
    """Return the marginals of samples beside those of the examples; None for images, which have none worth a look."""
    if subject.images:
        return None
    from kvae.sample_metrics.matched_samples import like

    real = subject.x
    drawn = like(subject.model, subject.columns, len(real), subject.seed, draw=True)
    given = " under the conditions of these" if subject.columns else ""
    said = f"{number(len(real))} examples, and as many samples, drawn from p(x given z){given}, seed {subject.seed}."
    data = subject.manifest.data
    if data.kind != "table" and data.num_values > _COLUMNS:
        said += " Lines are means; bands reach from the 5th to the 95th percentile."
        parts = _profiles(real, drawn)
    else:
        columns = data.columns or [{"name": f"x{index}", "kind": "numeric"} for index in range(data.num_values)]
        flat, made = real.reshape(len(real), -1), drawn.reshape(len(drawn), -1)
        parts = [
            (text(column["name"], 40), _column(f"m{index}", column, flat[:, index], made[:, index]))
            for index, column in enumerate(columns[:_COLUMNS])
        ]
        if len(columns) > _COLUMNS:
            said += f" The first {_COLUMNS} of {len(columns)} columns are shown."
    return note(said) + legend([(svg.FIRST_CSS, "real"), (svg.SECOND_CSS, "samples")]) + charts(parts)


def _column(name: str, column: dict[str, Any], real: np.ndarray, drawn: np.ndarray) -> str:
    if column["kind"] == "categorical":
        return _classes(name, column["classes"], real, drawn)
    both = np.concatenate([real, drawn]).astype(np.float64)
    low, high = np.quantile(both, (0.002, 0.998))  # one outlier would leave the rest a single bar
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)

    def plot(axes):
        for values, colour in ((real, svg.FIRST), (drawn, svg.SECOND)):
            share = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.25)
            axes.stairs(share, edges, color=colour, linewidth=1.4)
        axes.set_ylabel("share")
        axes.set_ylim(bottom=0)

    return svg.draw(name, f"Histogram of {column['name']}, real and samples", plot, (3.8, 2.3))


def _classes(name: str, classes: list[str], real: np.ndarray, drawn: np.ndarray) -> str:
    counts = [np.bincount(np.rint(values).astype(int), minlength=len(classes)) for values in (real, drawn)]
    order = np.argsort(-counts[0], kind="stable")[:_CLASSES]

    def plot(axes):
        for side, (count, colour) in enumerate(zip(counts, (svg.FIRST, svg.SECOND), strict=True)):
            places = np.arange(len(order)) + (side - 0.5) * 0.38
            axes.barh(places, count[order] / max(1, count.sum()), height=0.36, color=colour)
        shown = [classes[index] if len(classes[index]) <= 14 else classes[index][:13] + "…" for index in order]
        axes.set_yticks(np.arange(len(order)), [_plain(name) for name in shown])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("share")

    return svg.draw(
        name, f"Shares of {len(order)} classes, real and samples", plot, (3.8, max(1.5, 0.8 + 0.3 * len(order)))
    )


def _plain(name: str) -> str:
    """Without what no font has, which matplotlib would warn of."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _profiles(real: np.ndarray, drawn: np.ndarray) -> list[tuple[str, str]]:
    """Long vectors, and sequences `[rows, steps, features]`: how the values run along the example."""
    if real.ndim == 2:
        return [("values by index", _profile("m0", real, drawn, "index"))]
    return [
        (f"feature {index} by step", _profile(f"m{index}", real[..., index], drawn[..., index], "step"))
        for index in range(min(real.shape[-1], 6))
    ]


def _profile(name: str, real: np.ndarray, drawn: np.ndarray, along: str) -> str:
    def plot(axes):
        where = np.arange(real.shape[1])
        for values, colour in ((real, svg.FIRST), (drawn, svg.SECOND)):
            low, high = np.quantile(values, (0.05, 0.95), axis=0)
            axes.fill_between(where, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(where, values.mean(0), color=colour)
        axes.set_xlabel(along)

    return svg.draw(name, f"Mean and band of values by {along}, real and samples", plot)
