"""What smaller weights cost, measured on the files themselves: size, time, difference, and the change of the elbo.

The first of several folders is what the others are compared with. Times are medians of runs in turns, one thread, so
that a busy machine slows all of them alike.
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

TURNS = 30
DIFFERENCE_ROWS = 256
SMALLER, FASTER = 0.99, 0.9
"""Of the size and of both times compared with: what counts as smaller and, given the noise of a clock, as faster."""


class Row(NamedTuple):
    """One folder of files.

    Attributes:
        weights: how they are stored.
        num_bytes: of all graphs together.
        one: microseconds an image, decoded one at a time.
        many: microseconds an image, decoded 64 at a time.
        largest: largest difference of a decoded value, as a part of the data range (in data units where unbounded).
        mean: mean difference, likewise.
        elbo: nats per example on held-out data, None where there are none.
    """

    weights: str
    num_bytes: int
    one: float
    many: float
    largest: float
    mean: float
    elbo: float | None


def measure(models: Sequence[Model], held_out: tuple[np.ndarray, Mapping[str, Any] | None] | None = None) -> list[Row]:
    """Return a row for each model; the first is what the others are compared with.

    Args:
        models: folders of the same model, loaded, each with a decoder.
        held_out: data `[num, *shape]` that was not trained on, and its conditions.
    """
    feeds = golden.golden_inputs(models[0].manifest, models[0].session("decoder").inputs, seed=1, num=DIFFERENCE_ROWS)
    means = [model.run("decoder", feeds, wanted=["x_mean"])["x_mean"].astype(np.float64) for model in models]
    low, high = models[0].manifest.data.range or (0.0, 1.0)
    one, many = (_times(models, feeds, batch) for batch in (1, 64))
    elbos = [_elbo(model, held_out) for model in models]
    rows = []
    for index, model in enumerate(models):
        apart = np.abs(means[index] - means[0]) / (high - low)
        size = sum(len(model.sealed(graph)[0].data) for graph in model.graphs)
        weights = str(model.manifest.raw.get("weights", "float32"))
        rows.append(Row(weights, size, one[index], many[index], float(apart.max()), float(apart.mean()), elbos[index]))
    return rows


def require_gain(rows: Sequence[Row]) -> None:
    """Raise `VerificationError` where the last row is neither smaller nor faster than the first: it is only worse."""
    first, last = rows[0], rows[-1]
    smaller = last.num_bytes < SMALLER * first.num_bytes
    faster = max(last.one / first.one, last.many / first.many) < FASTER
    if len(rows) > 1 and not smaller and not faster:
        raise VerificationError(
            f"Weights as {last.weights} win nothing in a model this small: {last.num_bytes:,} bytes for "
            f"{first.num_bytes:,} as {first.weights}, and no faster; nothing was written. Export it as {first.weights}."
        )


def cells(rows: Sequence[Row], unit: str) -> list[tuple[str, ...]]:
    """Return the table as text, its head first.

    Args:
        rows: what `measure` gave.
        unit: of what is decoded, for the head: `image`, `row`, ...
    """
    head = ["weights", "bytes", f"µs an {unit}" if unit[0] in "aeiou" else f"µs a {unit}", "64 at a time"]
    head += ["largest difference", "mean difference", "elbo, held out"]
    table = [tuple(head)]
    for row in rows:
        elbo = "not measured"
        if row.elbo is not None and rows[0].elbo is not None:
            elbo = f"{row.elbo:.3f}" + (f" ({row.elbo - rows[0].elbo:+.4f})" if row is not rows[0] else "")
        apart = [f"{value:.1e}" for value in (row.largest, row.mean)] if row is not rows[0] else ["0", "0"]
        table.append((row.weights, f"{row.num_bytes:,}", f"{row.one:.0f}", f"{row.many:.1f}", *apart, elbo))
    return table


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Return a table as lines for a terminal, its columns aligned."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in table)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def processor() -> str:
    """Return the name of this machine's processor, where the system tells it."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine() or "an unknown processor"


def _times(models: Sequence[Model], feeds: Mapping[str, np.ndarray], batch: int) -> list[float]:
    """Return microseconds a row for each model, the median of runs in turns."""
    some = {name: values[:batch] for name, values in feeds.items()}
    taken: list[list[float]] = [[] for _ in models]
    for turn in range(-3, TURNS):
        for model, times in zip(models, taken, strict=True):
            start = time.perf_counter()
            model.run("decoder", some, batch)
            if turn >= 0:
                times.append(time.perf_counter() - start)
    return [1e6 * float(np.median(times)) / batch for times in taken]


def _elbo(model: Model, held_out: tuple[np.ndarray, Mapping[str, Any] | None] | None) -> float | None:
    from kvae_serve.inference import scoring

    if held_out is None or not len(held_out[0]) or not {"encoder", "likelihood"} <= set(model.graphs):
        return None
    return float(scoring.score(model, held_out[0], held_out[1]).elbo.mean())
