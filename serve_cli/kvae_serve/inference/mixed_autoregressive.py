"""Draws and parameters of p(x|z) of tables whose columns depend on the columns before them.

The decoder returns the parameters of p(x_j | z) of each column j. `columns.onnx` returns for each feature of a row (see
`kvae_serve.sealed.features`) an embedding and an effect. With the residuals r of the features before column j, its
logits and means change by r E W_j, see docs/format.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np

from kvae_serve.errors import ModelFileError, printable
from kvae_serve.inference.decoder_outputs import parameter, pick
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.sealed import features, noise, unseen
from kvae_serve.sealed.columns import missing_class
from kvae_serve.sealed.manifest import Data

Outputs = Mapping[str, np.ndarray]

_TINY = 1e-30
"""Smallest probability whose logit is used."""

_BLOCK = 64
"""Rows of one matrix product, whose rounding depends on their number."""

_NORMAL = NormalDist()


class MixedAutoregressive:
    """Columns of a table that are drawn one after the other, given z and the columns before.

    The words of a row are one normal per column, used by the numbers, one uniform per column for its class or the
    normal of its mixture, and one uniform per column for whether it is missing. A missing number is NaN.

    Args:
        model: A model with `columns.onnx`.

    Raises:
        ModelFileError: `columns.onnx` is missing.
    """

    def __init__(self, model: Graphs) -> None:
        self.data = model.manifest.data
        self.components = int(model.manifest.likelihood["components"])
        self.missing = str(model.manifest.likelihood.get("missing"))
        names = model.manifest.likelihood.get("probabilities")
        self.probabilities: list[str | None] = names if isinstance(names, list) else []
        self.blocks = features.of_columns(self.data.columns)
        has_classes = [name is not None for name in self.probabilities]
        if has_classes != [_has_classes(column) for column in self.data.columns]:
            raise ModelFileError(
                f"likelihood.probabilities of the manifest is {printable(self.probabilities, 60)}; expected the name "
                "of an output for each column with classes, and null for each number."
            )
        numbers = zip(self.data.columns, self.probabilities, strict=True)
        self._to_scores = [None if name else Scores(column) for column, name in numbers]
        rows = np.arange(features.num_features(self.data.columns), dtype=np.int64)
        vectors = model.run("columns", {"feature": rows})
        self.embedding, self.effect = vectors["embedding"], vectors["effect"]

    def num_words(self, data: Data) -> int:
        """Return the words of a normal and two uniforms per column, for any kind of column."""
        return noise.num_normal_words(data.num_values) + 2 * data.num_values

    def draw(self, outputs: Outputs, words: np.ndarray, data: Data) -> np.ndarray:
        """Draw column by column."""
        return self.fill(outputs, words, data)

    def fill(
        self,
        outputs: Outputs,
        words: np.ndarray,
        data: Data,
        x: np.ndarray | None = None,
        observed: np.ndarray | None = None,
        present: bool = False,
    ) -> np.ndarray:
        """Draw the columns that are not observed, each given the columns before it.

        Args:
            outputs: Outputs of the decoder by name, `[rows, ...]`.
            words: uint64 `[rows, num_words]`.
            data: Description of x.
            x: Rows with observed values, `[rows, num_columns]` in data units.
            observed: bool, same shape.
            present: Whether drawn values are never missing.

        Returns:
            float32 `[rows, num_columns]` in data units.
        """
        num = data.num_values
        split = noise.num_normal_words(num)
        normal = noise.words_to_normals(words[:, :split], num)
        uniform = noise.words_to_uniforms(words[:, split:])
        drawn = np.zeros((len(words), num), np.float32)

        def choose(at: int, given: dict[str, np.ndarray]) -> np.ndarray:
            values = self._draw_column(at, given, normal[:, at], uniform[:, at], uniform[:, num + at], present)
            if x is not None and observed is not None:
                values = np.where(observed[:, at], x[:, at], values)
            drawn[:, at] = values
            return drawn[:, at]

        with np.errstate(all="ignore"):
            self._walk(outputs, choose, np.float32)
        return drawn + np.float32(0)  # every zero positive

    def given_columns(self, outputs: Outputs, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the decoder's outputs with the parameters of each column given z and the columns before it.

        Args:
            outputs: Outputs of the decoder by name, `[rows, ...]`.
            x: Rows in data units, `[rows, num_columns]`.
        """
        return self._walk(outputs, lambda at, given: x[:, at], np.float64)

    def _walk(
        self, outputs: Outputs, choose: Callable[[int, dict[str, np.ndarray]], np.ndarray], dtype: Any
    ) -> dict[str, np.ndarray]:
        """Compute the parameters of each column in order, given the values that `choose` returns for those before."""
        embedding, effect = self.embedding.astype(dtype), self.effect.astype(dtype)
        base = {**outputs, **self._parameters(outputs, dtype)}
        given = base | {name: base[name].copy() for name in ("x_score", self.missing) if name in base}
        state = np.zeros((len(outputs["x_mean"]), embedding.shape[1]), dtype)
        for at, (block, column) in enumerate(zip(self.blocks, self.data.columns, strict=True)):
            shift = _product(state, effect[block.first : block.end].T)
            name, to_scores = self.probabilities[at], self._to_scores[at]
            if name is not None:
                odds = np.maximum(base[name], _TINY) * np.exp(shift - shift.max(axis=1, keepdims=True))
                given[name] = odds / odds.sum(axis=1, keepdims=True)
            else:
                given["x_score"][:, :, at] += shift
            if block.flag is not None:
                probability = np.clip(base[self.missing][:, at], _TINY, 1.0)
                # p e^s / (p e^s + 1 - p), the probability with the shift s of its logit.
                odds = probability * np.exp(np.clip(_product(state, effect[block.flag, :, None])[:, 0], -60.0, 60.0))
                given[self.missing][:, at] = odds / (odds + 1.0 - probability)
            values = choose(at, given)
            present = ~np.isnan(values) if block.flag is not None else np.ones(len(values), bool)
            if to_scores is None:
                state = state + present[:, None] * (
                    self._embedded(values, column, embedding[block.first : block.end])
                    - _product(base[str(name)], embedding[block.first : block.end])
                )
            else:
                expected = (base["x_score"][:, :, at] * base["x_weight"][:, :, at]).sum(axis=1)
                residual = np.where(present, to_scores(np.where(present, values, 0.0)) - expected, 0.0)
                state = state + np.outer(residual.astype(dtype), embedding[block.first])
            if block.flag is not None:
                away = (~present).astype(dtype) - base[self.missing][:, at]
                state = state + np.outer(away, embedding[block.flag])
        return given

    def _parameters(self, outputs: Outputs, dtype: Any) -> dict[str, np.ndarray]:
        """Return the outputs that describe columns, checked."""
        columns = self.data.columns
        shapes: dict[str, tuple[int | None, ...]] = {}
        if None in self.probabilities:
            shapes |= dict.fromkeys(("x_score", "x_log_var", "x_weight"), (self.components, len(columns)))
        for name, block in zip(self.probabilities, self.blocks, strict=True):
            shapes |= {name: (block.end - block.first,)} if name is not None else {}
        if any(block.flag is not None for block in self.blocks):
            shapes[self.missing] = (len(columns),)
        return {name: parameter(outputs, name, shape, dtype) for name, shape in shapes.items()}

    @staticmethod
    def _embedded(values: np.ndarray, column: Mapping[str, Any], embedding: np.ndarray) -> np.ndarray:
        """Return the embedding of each value of a column with classes; 0 for an unknown class."""
        if column["kind"] == "numeric":
            atoms = np.array(column["atoms"], np.float32)
            index = np.minimum(np.searchsorted(atoms, values), len(atoms) - 1)
            if (atoms[index] == values).all():
                return embedding[index]
            return _product(unseen.closeness(values.astype(np.float32), column).astype(embedding.dtype), embedding)
        known = (values >= 0) & (values < len(embedding))
        return np.where(known[:, None], embedding[np.where(known, values, 0).astype(np.int64)], 0)

    def _draw_column(
        self, at: int, given: Outputs, normal: np.ndarray, uniform: np.ndarray, second: np.ndarray, present: bool
    ) -> np.ndarray:
        """Return a draw of each row's value of one column."""
        column, name = self.data.columns[at], self.probabilities[at]
        if name is not None:
            values = np.array(column.get("atoms", range(len(column.get("classes", ())))), np.float32)
            probability = given[name]
            if present and (missing := missing_class(column)) is not None and len(values) > 1:
                probability = np.maximum(probability, _TINY)  # Other classes can have probability 0.
                probability[:, missing] = 0.0
            x = values[pick(probability, uniform)]
        else:
            rows, chosen = np.arange(len(normal)), pick(given["x_weight"][:, :, at], uniform)
            deviation = np.exp(given["x_log_var"][rows, chosen, at].astype(np.float64) / 2)
            x = to_values(given["x_score"][rows, chosen, at] + deviation * normal, column).astype(np.float32)
        if self.blocks[at].flag is not None and not present:
            x = np.where(second < given[self.missing][:, at], np.float32(np.nan), x)
        return x


def _product(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Multiply rows by a matrix. A row gives the same bits in any number of rows, because blocks have one size."""
    num = -(-len(rows) // _BLOCK)
    padded = np.zeros((num * _BLOCK, rows.shape[1]), rows.dtype)
    padded[: len(rows)] = rows
    blocks = padded.reshape(num, _BLOCK, -1) @ np.ascontiguousarray(matrix)
    return blocks.reshape(num * _BLOCK, -1)[: len(rows)]


def to_values(scores: np.ndarray, column: Mapping[str, Any]) -> np.ndarray:
    """Convert scores of a number, or standard numbers, to data units."""
    if column.get("form") == "quantile":
        return np.interp(scores, column["scores"], column["knots"])
    return column.get("mean", 0.0) + column.get("scale", 1.0) * scores


class Scores:
    """Map from the numbers of a column to scores. An atom has the median of its interval; see `kvae.data.quantiles`.

    Args:
        column: Entry of a numeric column in the manifest.
    """

    def __init__(self, column: Mapping[str, Any]) -> None:
        self._mean, self._scale = column.get("mean", 0.0), column.get("scale", 1.0)
        self._knots = None
        if column.get("form") == "quantile":
            knots, scores = (np.array(column[name], np.float64) for name in ("knots", "scores"))
            knots = knots.astype(np.float32).astype(np.float64)
            self._knots, self._scores, self._slopes = knots, scores, end_slopes(knots, scores)
            first = np.flatnonzero(np.diff(knots) == 0)
            self._atoms = knots[first]
            ends = zip(scores[first].tolist(), scores[first + 1].tolist(), strict=True)
            middle = [_NORMAL.inv_cdf((_NORMAL.cdf(low) + _NORMAL.cdf(high)) / 2) for low, high in ends]
            self._middle = np.array(middle)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the scores of numbers, float64 of the same shape; standard numbers without the quantile form."""
        values = values.astype(np.float32).astype(np.float64)
        if self._knots is None:
            return (values - self._mean) / self._scale
        result = np.interp(values, self._knots, self._scores)
        result += self._slopes[0] * np.minimum(values - self._knots[0], 0.0)
        result += self._slopes[1] * np.maximum(values - self._knots[-1], 0.0)
        if len(self._atoms):
            found = np.minimum(np.searchsorted(self._atoms, values), len(self._atoms) - 1)
            result = np.where(self._atoms[found] == values, self._middle[found], result)
        return result


def end_slopes(knots: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Return the scores per value below the first and above the last knot."""
    rise, width = np.diff(knots), np.diff(scores)
    overall = (scores[-1] - scores[0]) / (knots[-1] - knots[0])
    first, last = (width[at] / rise[at] if rise[at] else overall for at in (0, -1))
    return float(first), float(last)


def _has_classes(column: Mapping[str, Any]) -> bool:
    return column["kind"] != "numeric" or column.get("form") == "classes"
