"""Quantile form of numeric columns: a monotone piecewise-linear map of values to normal scores, and its inverse.

A value has the standard normal quantile of its rank, its score. A value that occurs often is an atom: it owns an
interval of scores, the probability of which is its own. All other values are in linear pieces between knots.
"""

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from kvae.types import Tensor

#: Columns with at most this many different values consist of atoms only.
MAX_ATOMS = 256
#: Values with at least this share of the rows are atoms, the most frequent ones first.
_ATOM_SHARE, _MAX_SHARED_ATOMS = 0.005, 64
#: Atoms occur this many times as often as the values around them, of which this many on each side are counted. Values
#: of a measurement that is rounded to a few digits are as frequent as their neighbours, and the map stays smooth.
_ATOM_EXCESS, _NEIGHBOURS = 3.0, 8
#: Linear pieces of a column at most.
_MAX_PIECES = 128
#: Knots of all columns together at most, so that they fit into the manifest of a file.
_MAX_KNOTS = 12_000
#: Probability of all values between neighbouring atoms that did not occur in training.
_GAPS = 1e-3
_NORMAL = NormalDist()
_TINY = np.finfo("float32").tiny


def learn(values: Any, num_columns: int = 1) -> dict[str, Any]:
    """Choose the knots of a column from its values.

    Args:
        values: Finite numbers `[num]`, at least two of them different.
        num_columns: Number of columns that share the space of the manifest.

    Returns:
        `{"knots", "scores"}`: values that do not decrease, and their scores, which increase. A value that occurs twice
        is an atom, and its two scores are the ends of its interval. All numbers are exact in float32.

    Example:
        >>> learn([0.0] * 60 + [1.0] * 40)["knots"]
        [0.0, 0.0, 1.0, 1.0]
    """
    distinct, counts = np.unique(np.asarray(values, "float32"), return_counts=True)
    most = max(8, _MAX_KNOTS // num_columns)
    knots: list[float] = []
    masses: list[float] = []
    for is_atom, low, high in _segments(counts, min(MAX_ATOMS, most // 2)):
        part, weights = distinct[low:high].astype("float64"), counts[low:high].astype("float64")
        if knots:  # A gap between two segments, of a small probability that is set below.
            masses.append(math.nan)
        if is_atom:
            part, inner = part[[0, 0]], weights
        else:
            part, inner = _thin(part, weights, min(_MAX_PIECES, most // 2))
        knots += part.tolist()
        masses += inner.tolist()
    gaps = np.isnan(masses)
    probability = np.where(gaps, _GAPS / max(1, gaps.sum()), np.array(masses) / counts.sum())
    # Half a row lies beyond either end.
    cumulative = np.concatenate([[0.0], np.cumsum(probability)]) / probability.sum()
    inside = 1.0 / (counts.sum() + 1.0)
    scores = [_NORMAL.inv_cdf(each) for each in (0.5 * inside + (1.0 - inside) * cumulative).tolist()]
    return {"knots": [_short(each) for each in knots], "scores": [float(f"{each:.8g}") for each in scores]}


def _segments(counts: np.ndarray, max_atoms: int) -> list[tuple[bool, int, int]]:
    """Split the different values of a column into atoms and runs of continuous values: (is atom, first, end)."""
    num = len(counts)
    atoms = np.zeros(num, bool)
    if num <= max_atoms and counts.sum() >= 2 * num:
        atoms[:] = True
    else:
        order = np.argsort(-counts, kind="stable")[: min(_MAX_SHARED_ATOMS, max_atoms // 2)]
        is_frequent = counts[order] >= max(_ATOM_SHARE * counts.sum(), 5)
        atoms[order] = is_frequent & (counts[order] > _ATOM_EXCESS * _around(counts)[order])
    segments = []
    start = 0
    while start < num:
        end = start + 1
        while not atoms[start] and end < num and not atoms[end]:
            end += 1
        segments.append((bool(atoms[start]) or end == start + 1, start, end))
        start = end
    return segments


def _around(counts: np.ndarray) -> np.ndarray:
    """Return the median count of each value and its neighbours."""
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(counts, _NEIGHBOURS, mode="symmetric"), 2 * _NEIGHBOURS + 1
    )
    return np.median(windows, axis=1)


def _thin(values: np.ndarray, weights: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `most` + 1 of the values as knots, and the weight between neighbours.

    Half of the knots are spread evenly over the rows, half evenly over the scores, which reach into the tails.
    """
    rank = np.cumsum(weights) - 0.5 * weights
    rank[0], rank[-1] = 0.0, weights.sum()
    even = np.linspace(0, 1, most // 2 + 1)
    tails = np.array([_NORMAL.cdf(each) for each in np.linspace(-4.5, 4.5, most // 2 - 1)])
    chosen = np.searchsorted(rank, np.concatenate([even, tails]) * rank[-1])
    chosen = np.unique(np.clip(np.concatenate([chosen, [0, len(values) - 1]]), 0, len(values) - 1))
    return values[chosen], np.diff(rank[chosen])


def _short(value: float) -> float:
    """Return the shortest decimal number that is the same in float32."""
    return float(str(np.float32(value)))


class Pieces(NamedTuple):
    """Piece of the map that each score is in, float32 `[batch, num_columns]` each.

    `is_atom` is 1 for an atom. `low` and `width` are the first score and the width of the piece, and `log_slope` is the
    log of scores per value; 0 for an atom.
    """

    is_atom: Tensor
    low: Tensor
    width: Tensor
    log_slope: Tensor


class Quantiles:
    """Map of several columns to scores and back, with operators that convert to ONNX.

    Args:
        columns: For each column `{"knots", "scores"}` as from `learn`, or `{"mean", "scale"}` for a linear map.

    Beyond the outermost knots the map to scores continues as a line, and the inverse returns the outermost value.
    """

    def __init__(self, columns: Sequence[dict[str, Any]]) -> None:
        tables = [_table(column) for column in columns]
        self.num_columns = len(tables)
        self._steps = [2**k for k in reversed(range(max(len(table["slope"]) for table in tables).bit_length()))]
        size = 2 * self._steps[0]
        fill = {"from_value": math.inf, "from_score": math.inf}
        # One flat table per quantity, because a gather from a flat table is cheap in every backend.
        self._tables = {
            name: np.concatenate(
                [np.pad(t[name], (0, size - len(t[name])), constant_values=fill.get(name, 0.0)) for t in tables]
            ).astype("float32")
            for name in tables[0]
        }
        self._first = (size * np.arange(self.num_columns)).astype("int32")

    def to_scores(self, values: Tensor) -> Tensor:
        """Convert values `[batch, num_columns]` to scores. An atom gets the median score of its interval."""
        piece = self._find(values, "from_value")
        away = values - self._at("value", piece)
        return self._at("score", piece) + self._at("slope", piece) * away

    def to_values(self, scores: Tensor) -> Tensor:
        """Convert scores `[batch, num_columns]` to values within the outermost knots."""
        piece = self._find(scores, "from_score")
        away = scores - self._at("score", piece)
        return self._at("value", piece) + self._at("inverse", piece) * away

    def pieces(self, scores: Tensor) -> Pieces:
        """Find the piece of each score."""
        piece = self._find(scores, "from_score")
        return Pieces(*(self._at(name, piece) for name in ("is_atom", "low", "width", "log_slope")))

    def _find(self, x: Tensor, name: str) -> Tensor:
        """Find by bisection the last piece that starts at or below each number, as an index of the flat tables."""
        # Zeros, also for NaN. zeros_like would export arithmetic on shapes.
        zeros = ops.cast(ops.less(x, -math.inf), "int32")
        index = zeros + self._first
        for step in self._steps:
            further = ops.greater_equal(x, self._at(name, index + step))
            index = index + step * ops.cast(further, "int32")
        return index

    def _at(self, name: str, index: Tensor) -> Tensor:
        return ops.take(self._tables[name], index, axis=0)


def _table(column: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the quantities of each piece of a column, in order of its values.

    `from_value` and `from_score` are the numbers that a piece starts from.
    """
    if "knots" not in column:
        unit = float(1.0 / np.float32(column["scale"]))
        line = {"from_value": -math.inf, "from_score": -math.inf, "value": column["mean"], "slope": unit}
        line |= {"score": 0.0, "inverse": column["scale"], "is_atom": 0.0, "low": 0.0, "width": 0.0, "log_slope": 0.0}
        return {name: np.array([each]) for name, each in line.items()}
    values = np.asarray(column["knots"], "float64")
    scores = np.asarray(column["scores"], "float64")
    rise, width = np.diff(values), np.diff(scores)
    atom = rise == 0
    with np.errstate(divide="ignore"):
        slope = np.where(atom, 0.0, width / np.where(atom, 1.0, rise))
    overall = (scores[-1] - scores[0]) / (values[-1] - values[0])
    ends = [each or overall for each in (slope[0], slope[-1])]
    slope = np.concatenate([ends[:1], slope, ends[1:]])
    atom = np.concatenate([[False], atom, [False]])
    start = np.concatenate([values[:1], values])
    low = np.concatenate([scores[:1], scores])
    # A piece after an atom starts at the next float32. Backends take numbers below the smallest normal one as 0.
    after = np.nextafter(values.astype("float32"), np.float32(math.inf))
    after = np.where(np.abs(after) < _TINY, _TINY, after)
    from_value = np.where(atom[:-1], after, values)
    middle = np.array([_NORMAL.inv_cdf((_NORMAL.cdf(a) + _NORMAL.cdf(b)) / 2) for a, b in itertools.pairwise(scores)])
    score = low.copy()
    score[1:-1] = np.where(atom[1:-1], middle, score[1:-1])
    inverse = np.where(atom, 0.0, 1.0 / np.where(atom, 1.0, slope))
    inverse[[0, -1]] = 0.0
    return {
        "from_value": np.concatenate([[-math.inf], from_value]),
        "from_score": np.concatenate([[-math.inf], scores]),
        "value": start,
        "score": score,
        "slope": slope,
        "inverse": inverse,
        "is_atom": atom,
        "low": low,
        "width": np.concatenate([[0.0], width, [0.0]]),
        "log_slope": np.log(np.where(atom, 1.0, slope)),
    }
