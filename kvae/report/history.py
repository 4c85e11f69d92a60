"""Curves of training, from the `history.csv` of a run."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from kvae.report import svg
from kvae.report.markup import LeftOut, charts, legend, note, words
from kvae_serve.errors import InputDataError, printable

NAME = "history.csv"
MOST = 2**24
"""Bytes of a history that is read."""

_FIRST = ("elbo", "reconstruction", "kl", "loss", "beta", "active_units")
_CHARTS = 9

History = dict[str, list[float]]


def read_history(path: str | Path, needed: bool = True) -> History | None:
    """Return the columns of a history, NaN where nothing stands; None where there is no file and none is needed.

    Raises:
        InputDataError: it is missing although needed, or it is no table of numbers.
    """
    path = Path(path)
    if not needed and not path.is_file():
        return None
    try:
        if path.stat().st_size > MOST:
            raise ValueError("it is too large")
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        columns = {
            name: [math.nan if row[index] in ("", "NA") else float(row[index]) for row in rows]
            for index, name in enumerate(head)
        }
        if "epoch" not in columns:
            raise ValueError("it has no column epoch")
    except (OSError, UnicodeDecodeError, ValueError, IndexError, csv.Error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputDataError(
            f"{printable(path)} is no history of a run: {printable(why)}. Give the {NAME} that `kvae train` wrote."
        ) from error
    return columns


def section(history: History | None) -> str:
    """Return the curves as HTML."""
    if not history or not history["epoch"]:
        raise LeftOut(f"there is no {NAME} beside the model; <code>--history FILE</code> names one.")
    epochs = history["epoch"]
    found = dict.fromkeys(name.removeprefix("val_") for name in history if name != "epoch")
    # The kl of each dimension has a chart of its own, and beta is the same in validation.
    bases = [base for base in found if not base.startswith("kl_")]
    bases.sort(key=lambda base: _FIRST.index(base) if base in _FIRST else len(_FIRST))
    parts: list[tuple[str, str]] = []
    held_out = False
    for base in bases[:_CHARTS]:
        trained = _finite(history.get(base))
        validated = [] if base == "beta" else _finite(history.get(f"val_{base}"))
        if (not trained and not validated) or (base in ("beta", "active_units") and _constant(trained or validated)):
            continue
        held_out = held_out or bool(validated)
        parts.append((words(base), _curve(f"h{len(parts)}", base, epochs, trained, validated)))
    if not parts:
        raise LeftOut(f"the {NAME} holds no figures.")
    last = f"{len(epochs)} epochs; nats an example. The elbo is the plain bound, whatever beta was."
    entries = [(svg.FIRST_CSS, "training"), (svg.SECOND_CSS, "held out")]
    shown = legend(entries if held_out else entries[:1])
    return note(last) + shown + charts(parts)


def _finite(values: list[float] | None) -> list[float]:
    return values if values is not None and any(map(math.isfinite, values)) else []


def _constant(values: list[float]) -> bool:
    return len({value for value in values if math.isfinite(value)}) < 2


def _curve(name: str, base: str, epochs: list[float], trained: list[float], validated: list[float]) -> str:
    def plot(axes):
        for values, colour in ((trained, svg.FIRST), (validated, svg.SECOND)):
            if values:
                axes.plot(epochs, values, color=colour, marker="." if len(epochs) < 4 else None)
        known = sorted(value for value in (*trained, *validated) if math.isfinite(value))
        low, high = known[len(known) // 20], known[-1 - len(known) // 20]
        if high > low:  # The first epochs are often so far off that nothing else would be seen.
            room = (high - low) * 0.15
            axes.set_ylim(max(known[0], low - 5 * room) - room / 3, min(known[-1], high + 5 * room) + room / 3)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("epoch")

    return svg.draw(name, f"{base} over {len(epochs)} epochs", plot)
