"""Write rows of a table as one HTML page: the distribution of each column beside the real one, and the first rows.

The real distribution is that of given rows. Without them it is what the model file stores: shares of classes and
quantiles of numbers. The page loads nothing and contains no script.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from kvae_serve import cells
from kvae_serve.row_stream import RowStream

SHOWN_ROWS = 100
MAX_ROWS = 200_000
"""Rows whose distributions are shown: they are kept in memory."""

_BINS, _CLASSES = 24, 12
_WIDTH, _HEIGHT = 288, 96
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1c1c; --faint: #6b6b6b; --line: #ddd; --real: #0072b2;
  --made: #e08a00 }
@media (prefers-color-scheme: dark) { :root { --paper: #161616; --ink: #eee; --faint: #aaa; --line: #3a3a3a;
  --real: #56b4e9; --made: #e69f00 } }
body { background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto;
  max-width: 72rem; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem } h3 { font-size: .95rem; margin: 0 0 .4rem }
.columns { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)) }
.column { border: 1px solid var(--line); border-radius: 6px; overflow-wrap: anywhere; padding: .8rem }
.column p, .ends { color: var(--faint); font-size: .85rem; margin: .3rem 0 0 }
.ends { display: flex; justify-content: space-between }
svg { display: block; width: 100% } .real { color: var(--real) } .made { color: var(--made) }
.class { align-items: center; display: grid; font-size: .85rem; gap: .1rem .5rem;
  grid-template-columns: 7rem 1fr 3.2rem; margin-bottom: .25rem }
.class .name { grid-row: span 2 } .bar { background: currentColor; height: .5rem; min-width: 1px }
.number { color: var(--faint); line-height: 1; text-align: right }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .7rem; text-align: left; white-space: nowrap }
td.n { font-variant-numeric: tabular-nums; text-align: right }
"""


def page(rows: RowStream) -> bytes:
    """Return the page of the rows of a table, with `rows.real` if it is given."""
    manifest, real = rows.manifest, rows.real
    parts: dict[str, list[np.ndarray]] = {}
    kept = 0
    for chunk in rows.chunks:
        if kept < MAX_ROWS:
            for name in (rows.main[0], *(each.name for each in manifest.conditions if each.name in rows.arrays)):
                parts.setdefault(name, []).append(chunk[name][: MAX_ROWS - kept])
            kept += len(chunk[rows.main[0]])
    generated = {name: np.concatenate(each) for name, each in parts.items()}
    x = generated[rows.main[0]]
    if real is not None:
        source = f"{len(real['x']):,} rows of the given data"
    else:
        source = "what the model file stores of the training data"
    blocks, unknown = [], []
    for at, column in enumerate(manifest.data.columns):
        truth = _stored(column) if real is None else _Values(real["x"][:, at])
        blocks.append(_block(column, x[:, at], truth))
        unknown += [column["name"]] if truth is None else []
    for condition in manifest.conditions:
        if condition.name not in generated:
            continue
        column = {"name": condition.name, **condition.column, "kind": condition.kind}
        column |= {"classes": condition.classes} if condition.categorical else {}
        stored: _Real | None = _Values(real[condition.name]) if real and condition.name in real else None
        if real is None and condition.categorical and condition.shares:
            stored = _Shares(np.array(condition.shares))
        elif real is None and condition.quantiles:
            stored = _Quantiles(np.array(condition.quantiles), np.linspace(0.0, 1.0, len(condition.quantiles)))
        blocks.append(_block(column, generated[condition.name], stored))
        unknown += [condition.name] if stored is None else []
    if any(len(np.unique(each)) == 1 and len(each) > 1 for name, each in generated.items() if name != rows.main[0]):
        source += ", under all conditions"
    headline = f'<b class="made">Generated</b> beside <b class="real">real</b>: {source}.'
    if unknown and real is None:
        all_unknown = len(unknown) == len(blocks)
        which = "the columns" if all_unknown else f"{len(unknown)} of {len(blocks)} columns"
        note = f"The model file does not store the real distribution of {which}. Use --data."
        headline = note if all_unknown else f"{headline} {note}"
    seed = f", seed {rows.metadata['kvae seed']}" if "kvae seed" in rows.metadata else ""
    name = html.escape(manifest.name)
    first = "" if kept == rows.num_rows else f"; the distributions are those of the first {len(x):,}"
    document = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{name}: generated rows</title><style>{_STYLE}</style></head><body>
<h1>{rows.num_rows:,} generated row{"" if rows.num_rows == 1 else "s"} of {name}{html.escape(seed)}{first}</h1>
<p>{headline}</p>
<div class="columns">{"".join(blocks)}</div>
<h2>{"Rows" if rows.num_rows <= SHOWN_ROWS else f"First {SHOWN_ROWS} rows"}</h2>
<div class="scroll">{_table(rows, {name: each[:SHOWN_ROWS] for name, each in generated.items()})}</div>
</body></html>
"""
    return document.encode()


class _Real:
    """Real distribution of a column."""

    missing: float | None = None

    def bounds(self) -> tuple[float, float]:
        """Return the values between which nearly all of a number lie."""
        raise NotImplementedError

    def shares(self, edges: np.ndarray) -> np.ndarray:
        """Return the share of each bin."""
        raise NotImplementedError

    def class_shares(self, num: int) -> np.ndarray:
        """Return the share of each class."""
        raise NotImplementedError


class _Values(_Real):
    """Distribution of values. NaN is missing. An index that is not a class counts in no class."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = np.asarray(values, np.float64)
        present = np.isfinite(self._values)
        self.missing = 1.0 - float(present.mean()) if len(present) else 0.0
        self._values = self._values[present]

    def bounds(self) -> tuple[float, float]:
        if not len(self._values):
            return 0.0, 0.0
        low, high = np.quantile(self._values, (0.002, 0.998))  # without outliers, which would leave a single bar
        return float(low), float(high)

    def shares(self, edges: np.ndarray) -> np.ndarray:
        counts = np.histogram(np.clip(self._values, edges[0], edges[-1]), edges)[0]
        return counts / max(1, len(self._values))

    def class_shares(self, num: int) -> np.ndarray:
        index = np.rint(self._values).astype(int)
        return np.bincount(index[(index >= 0) & (index < num)], minlength=num) / max(1, len(index))


class _Quantiles(_Real):
    """Distribution with these values at these probabilities, and linear between them."""

    def __init__(self, values: np.ndarray, probabilities: np.ndarray) -> None:
        self._values, self._probabilities = values, probabilities

    def bounds(self) -> tuple[float, float]:
        low, high = np.interp((0.002, 0.998), self._probabilities, self._values)
        return float(low), float(high)

    def shares(self, edges: np.ndarray) -> np.ndarray:
        # The last knot at or below an edge counts, so that an atom belongs to the bin that it begins.
        inner = np.interp(np.nextafter(edges[1:-1], -np.inf), self._values, self._probabilities)
        return np.diff(np.concatenate([[0.0], inner, [1.0]]))


class _Shares(_Real):
    """Shares of classes."""

    def __init__(self, shares: np.ndarray) -> None:
        self._shares = shares

    def class_shares(self, num: int) -> np.ndarray:
        return self._shares


class _Atoms(_Values):
    """Distribution of a number with few values, which have these shares."""

    def __init__(self, values: np.ndarray, shares: np.ndarray) -> None:
        super().__init__(values)
        self.missing, self._shares = None, shares

    def bounds(self) -> tuple[float, float]:
        below = np.cumsum(self._shares)
        low, high = (min(int(np.searchsorted(below, each)), len(below) - 1) for each in (0.002, 0.998))
        return float(self._values[low]), float(self._values[high])

    def shares(self, edges: np.ndarray) -> np.ndarray:
        return np.histogram(np.clip(self._values, edges[0], edges[-1]), edges, weights=self._shares)[0]


def _stored(column: Mapping[str, Any]) -> _Real | None:
    """Return the distribution of a column that its description contains, or None."""
    if "shares" in column:
        shares = np.array(column["shares"], np.float64)
        return _Atoms(np.array(column["atoms"], np.float64), shares) if "atoms" in column else _Shares(shares)
    if column.get("form") != "quantile":
        return None
    normal = NormalDist()
    probabilities = [normal.cdf(score) for score in column["scores"]]
    return _Quantiles(np.array(column["knots"], np.float64), np.array(probabilities))


def _block(column: Mapping[str, Any], values: np.ndarray, real: _Real | None) -> str:
    """Return the distribution of a column."""
    generated = _Values(values)
    notes = []
    if generated.missing or (real and real.missing):
        known = "" if real is None or real.missing is None else f", real {real.missing:.1%}"
        notes.append(f"Missing: generated {generated.missing:.1%}{known}.")
    body = _classes(column["classes"], generated, real) if "classes" in column else _histogram(column, generated, real)
    text = "".join(f"<p>{note}</p>" for note in notes)
    return f'<section class="column"><h3>{html.escape(str(column["name"]))}</h3>{body}{text}</section>'


def _classes(classes: Sequence[str], generated: _Real, real: _Real | None) -> str:
    """Return a pair of bars for each of the most frequent classes."""
    shares = [("made", generated.class_shares(len(classes)))]
    if real is not None:
        shares.insert(0, ("real", real.class_shares(len(classes))))
    order = np.argsort(-shares[0][1], kind="stable")[:_CLASSES]
    highest = max(max(float(each[order].max()) for _, each in shares), 1e-9)
    lines = []
    for index in order.tolist():
        bars = "".join(
            f'<div class="bar {kind}" style="width:{100 * each[index] / highest:.1f}%"></div>'
            f'<div class="number">{each[index]:.1%}</div>'
            for kind, each in shares
        )
        lines.append(
            f'<div class="class"><div class="name">{html.escape(str(classes[index])) or "(empty)"}</div>{bars}</div>'
        )
    more = f"<p>{len(classes) - _CLASSES} more classes.</p>" if len(classes) > _CLASSES else ""
    return "".join(lines) + more


def _histogram(column: Mapping[str, Any], generated: _Values, real: _Real | None) -> str:
    """Return the histogram of a number: bars of the generated values, a line of the real ones."""
    ends = [generated.bounds(), *([real.bounds()] if real is not None else [])]
    low, high = min(each[0] for each in ends), max(each[1] for each in ends)
    high = high if high > low else low + 1.0
    edges = cells.bin_edges(column, low, high, _BINS)
    shares = generated.shares(edges)
    truth = real.shares(edges) if real is not None else None
    highest = max(float(shares.max()), 0.0 if truth is None else float(truth.max()), 1e-9)
    width = _WIDTH / len(shares)
    bars = "".join(
        f'<rect x="{at * width:.1f}" y="{_HEIGHT * (1 - share / highest):.1f}" width="{width - 1:.1f}" '
        f'height="{_HEIGHT * share / highest:.1f}"/>'
        for at, share in enumerate(shares.tolist())
    )
    line = ""
    if truth is not None:
        heights = (_HEIGHT * (1 - truth / highest)).tolist()
        steps = "".join(f"L{at * width:.1f} {y:.1f}h{width:.1f}" for at, y in enumerate(heights))
        line = (
            f'<path class="real" d="M0 {_HEIGHT}{steps}V{_HEIGHT}" fill="none" stroke="currentColor" '
            'stroke-width="2" stroke-linejoin="round"/>'
        )
    labels = [html.escape(text) for text in cells.texts(column, np.array([low, high]))]
    name = html.escape(str(column["name"]), quote=True)
    return (
        f'<svg viewBox="0 -2 {_WIDTH} {_HEIGHT + 3}" role="img" aria-label="Histogram of {name}, generated and real">'
        f'<g class="made" fill="currentColor" fill-opacity=".55">{bars}</g>{line}</svg>'
        f'<div class="ends"><span>{labels[0]}</span><span>{labels[1]}</span></div>'
    )


def _table(rows: RowStream, values: Mapping[str, np.ndarray]) -> str:
    """Return the first rows, in the columns of the training table."""
    data = rows.manifest.data
    x = values[rows.main[0]]
    texts = {str(each["name"]): cells.texts(each, x[:, at]) for at, each in enumerate(data.columns)}
    numeric = {str(each["name"]) for each in data.columns if "classes" not in each}
    for each in data.outside:
        ids = cells.identifiers(each, rows.start, rows.ids) if each["type"] == "id" else None
        texts[each["name"]] = cells.outside(each, ids, len(x))
    for condition in rows.manifest.conditions:
        if condition.name in values:
            described = {**condition.column, **({"classes": condition.classes} if condition.categorical else {})}
            texts[described.get("name", condition.name)] = cells.texts(described, values[condition.name])
    order = [name for name in data.order or texts if name in texts]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in order)
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' if name in numeric else ''}>{html.escape(cell)}</td>" for name, cell in row)
        + "</tr>"
        for row in zip(*([(name, cell) for cell in texts[name]] for name in order), strict=True)
    )
    return f"<table><tr>{head}</tr>{body}</table>"
