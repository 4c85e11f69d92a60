"""Cost of smaller weights, measured on the exported files: size, time, difference of the outputs, and elbo.

The first of several folders is the baseline. Times are medians of interleaved runs on one thread, so that other load
on the machine slows all of them equally.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvae_serve.errors import VerificationError
from kvae_serve.model import Model
from kvae_serve.sealed import golden

TURNS, WARM_UP = 30, 3
DIFFERENCE_ROWS = 256
SMALLER, FASTER = 0.99, 0.9
"""Ratios to the baseline below which a size counts as smaller and both times, given their noise, as faster."""


class Row(NamedTuple):
    """Measurements of one folder.

    Attributes:
        weights: Storage of the weights, such as `float16`.
        num_bytes: Size of all graphs together.
        single: Microseconds per row, decoded one at a time.
        batched: Microseconds per row, decoded 64 at a time.
        max_difference: Largest difference of a decoded value, as a share of the data range or of the scale of its
            feature (in data units if there is neither).
        mean_difference: Mean difference, in the same unit.
        elbo: Nats per example on held-out data, or None without such data.
    """

    weights: str
    num_bytes: int
    single: float
    batched: float
    max_difference: float
    mean_difference: float
    elbo: float | None


def measure(models: Sequence[Model], held_out: tuple[np.ndarray, Mapping[str, Any] | None] | None = None) -> list[Row]:
    """Return one row per model; the first model is the baseline.

    Args:
        models: Loaded exports of the same model, each with a decoder.
        held_out: Held-out data `[num, *shape]` and its conditions.
    """
    feeds = golden.golden_inputs(models[0].manifest, models[0].session("decoder").inputs, seed=1, num=DIFFERENCE_ROWS)
    means = [model.run("decoder", feeds, outputs=["x_mean"])["x_mean"].astype(np.float64) for model in models]
    data = models[0].manifest.data
    low, high = data.range or (0.0, 1.0)
    width = np.array(data.scale) if data.scale else high - low
    single, batched = (_times(models, feeds, batch) for batch in (1, 64))
    elbos = [_elbo(model, held_out) for model in models]
    rows = []
    for index, model in enumerate(models):
        differences = np.abs(means[index] - means[0]) / width
        row = Row(
            weights=str(model.manifest.raw.get("weights", "float32")),
            num_bytes=sum(len(model.sealed(graph)[0].data) for graph in model.graphs),
            single=single[index],
            batched=batched[index],
            max_difference=float(differences.max()),
            mean_difference=float(differences.mean()),
            elbo=elbos[index],
        )
        rows.append(row)
    return rows


def require_gain(rows: Sequence[Row]) -> None:
    """Raise `VerificationError` if the last row is neither smaller nor faster than the first."""
    first, last = rows[0], rows[-1]
    smaller = last.num_bytes < SMALLER * first.num_bytes
    faster = max(last.single / first.single, last.batched / first.batched) < FASTER
    if len(rows) > 1 and not smaller and not faster:
        raise VerificationError(
            f"Weights as {last.weights} do not make a model of this size smaller or faster: {last.num_bytes:,} bytes, "
            f"{first.num_bytes:,} as {first.weights}. Nothing was written. Export it as {first.weights}."
        )


def table_cells(rows: Sequence[Row], unit: str) -> list[tuple[str, ...]]:
    """Return a table as text, header first.

    Args:
        rows: Rows from `measure`.
        unit: Name of a decoded row for the header: `image`, `row`, ...
    """
    header = ("Weights", "Bytes", f"µs per {unit}", "µs, batch of 64", "Max difference", "Mean difference", "Elbo")
    table: list[tuple[str, ...]] = [header]
    for row in rows:
        baseline = row is rows[0]
        elbo = "not measured"
        if row.elbo is not None and rows[0].elbo is not None:
            elbo = f"{row.elbo:.3f}" + ("" if baseline else f" ({row.elbo - rows[0].elbo:+.4f})")
        differences = (row.max_difference, row.mean_difference)
        shown = ["0" if baseline else f"{value:.1e}" for value in differences]
        table.append((row.weights, f"{row.num_bytes:,}", f"{row.single:.0f}", f"{row.batched:.1f}", *shown, elbo))
    return table


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Return a table as lines for a terminal, with aligned columns."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in table)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def processor() -> str:
    """Return the name of this machine's processor."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine() or "an unknown processor"


def _times(models: Sequence[Model], feeds: Mapping[str, np.ndarray], batch: int) -> list[float]:
    """Return microseconds per row for each model, the median of interleaved runs."""
    rows = {name: values[:batch] for name, values in feeds.items()}
    durations: list[list[float]] = [[] for _ in models]
    for _ in range(WARM_UP + TURNS):
        for model, taken in zip(models, durations, strict=True):
            start = time.perf_counter()
            model.run("decoder", rows, batch)
            taken.append(time.perf_counter() - start)
    return [1e6 * float(np.median(taken[WARM_UP:])) / batch for taken in durations]


def _elbo(model: Model, held_out: tuple[np.ndarray, Mapping[str, Any] | None] | None) -> float | None:
    from kvae_serve.inference import scoring

    if held_out is None or not len(held_out[0]) or not {"encoder", "likelihood"} <= set(model.graphs):
        return None
    return float(scoring.score(model, held_out[0], held_out[1]).elbo.mean())
