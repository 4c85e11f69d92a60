"""Section with associations: heat maps of all pairs of columns of a table, in real rows and in samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvae.report import charts
from kvae.report.blocks import Block, Picture, note
from kvae.report.subject import Subject
from kvae.sample_metrics.tables.associations import association_matrix
from kvae.sample_metrics.tables.measure import all_columns, rows

_COLUMNS, _NAME = 24, 16


def associations(subject: Subject) -> list[Block] | None:
    """Return the association of each pair of columns in real rows and in samples; None unless the data is a table."""
    if subject.manifest.data.kind != "table":
        return None
    columns = all_columns(subject.manifest)
    shown = columns[:_COLUMNS]
    real, drawn = (rows(x, subject.columns, subject.manifest)[:, : len(shown)] for x in (subject.x, subject.drawn))
    matrices = association_matrix(real, shown), association_matrix(drawn, shown, real)
    largest = float(np.abs(matrices[0] - matrices[1]).max())
    text = (
        f"{len(real)} examples and as many samples. Two numbers have their Spearman correlation, -1 (blue) to 1 (red); "
        f"other pairs have Cramer's V, 0 to 1, numbers in deciles. The largest difference is {largest:.2f}."
    )
    if len(columns) > _COLUMNS:
        text += f" The first {_COLUMNS} of {len(columns)} columns."
    names = [_short(str(column["name"])) for column in shown]
    pictures = [_heat_map(each, names, title) for each, title in zip(matrices, ("real", "samples"), strict=True)]
    return [note(text), {"charts": pictures}]


def _heat_map(matrix: np.ndarray, names: list[str], title: str) -> Picture:
    def plot(axes: Any) -> None:
        axes.pcolormesh(matrix, cmap="RdBu_r", vmin=-1.0, vmax=1.0)
        places = np.arange(len(names)) + 0.5
        axes.set_xticks(places, names, rotation=90, fontsize=7)
        axes.set_yticks(places, names, fontsize=7)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.grid(visible=False)

    return charts.draw(f"Associations of {len(names)} columns, {title}", plot, title, (4.2, 4.2))


def _short(name: str) -> str:
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"
