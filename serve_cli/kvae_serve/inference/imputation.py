"""Draws of missing values: p(missing | observed) by importance resampling of z, without further training.

For a row with observed values o, K draws z_k come from a mixture of the prior p(z) and of encoders q(z|x_m). The rows
x_m are o with missing values filled in by a few sweeps of encoding and decoding. Weights correct for the mixture:

    w_k = p(o | z_k) p(z_k) / (a p(z_k) + sum_m b_m q(z_k | x_m)),   z ~ z_k with probability w_k,   missing ~ p(x | z)

The effective sample size, (sum w)^2 / sum w^2, is the number of draws that count. Missing values are assumed to be
missing at random. Draws depend on (seed, index of the row) and the row only.

Reference: Rezende et al. (2014), https://arxiv.org/abs/1401.4082, appendix F (filling in by sweeps); Rubin (1987), The
calculation of posterior distributions by data augmentation, doi:10.1080/01621459.1987.10478461 (importance resampling).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from kvae_serve import cells
from kvae_serve.class_indices import marked
from kvae_serve.inference.column_densities import log_probs, require, without_missing
from kvae_serve.inference.densities import Prior, log_normal, log_sum_exp
from kvae_serve.inference.likelihoods import get_likelihood
from kvae_serve.inference.mixed_autoregressive import MixedAutoregressive
from kvae_serve.inference.sampling import encode, under_prior
from kvae_serve.readers import frames
from kvae_serve.readers.column_types import UNSEEN
from kvae_serve.readers.partial import Partial, given_values, partial_rows
from kvae_serve.row_stream import RowStream, spans
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.runtime.session import BATCH_SIZE
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers.frames import to_arrays, to_frame

NUM_SAMPLES = 256
"""Default number of draws of z per row."""

_FILLS, _SWEEPS = 8, 10
_PRIOR_SHARE = 16
"""A sixteenth of the draws comes from the prior."""

_WIDER = 1.3
"""Factor of the variance of q in the mixture, because q of a filled row is narrower than the posterior."""

_CHUNK_DRAWS = 2**14


class Imputed(NamedTuple):
    """Rows with their missing values drawn.

    Attributes:
        x: float32 `[num, rows, *shape]` in data units. Observed values are unchanged.
        z: Latent vectors of the draws, float32 `[num, rows, latent_dim]`.
        effective: Effective sample size of each row, float64 `[rows]`, from 1 to the number of draws of z.
    """

    x: np.ndarray
    z: np.ndarray
    effective: np.ndarray


def impute(
    model: Graphs,
    x: np.ndarray,
    observed: np.ndarray,
    columns: Mapping[str, np.ndarray],
    index: np.ndarray,
    *,
    num: int = 1,
    num_samples: int = NUM_SAMPLES,
    seed: int,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], object] | None = None,
) -> Imputed:
    """Draw the missing values of rows.

    Args:
        model: A model with encoder and decoder, and with its prior if that is learned.
        x: `[rows, *shape]` in data units. Values that are not observed are ignored.
        observed: bool, same shape.
        columns: Each condition by name, `[rows]`.
        index: int64 `[rows]`: number of each row, which selects its noise.
        num: Number of draws of each row, which are independent given the draws of z.
        num_samples: K, number of draws of z per row.
        seed: Seed, 0 to 2**64 - 1.
        batch_size: Rows per run of a graph.
        progress: Called with the number of finished rows, and of all rows.

    Raises:
        RequestError: The likelihood of the model is not supported.
    """
    require(model.manifest)
    parts = []
    for start, end in spans(len(x), max(1, _CHUNK_DRAWS // num_samples)):
        part = slice(start, end)
        conditions = {name: values[part] for name, values in columns.items()}
        chunk = _Chunk(model, np.asarray(x[part], np.float32), observed[part], conditions, batch_size)
        parts.append(chunk.impute(index[part], num, num_samples, seed))
        if progress is not None:
            progress(end, len(x))
    return Imputed(*(np.concatenate(each, axis=-1 if each[0].ndim == 1 else 1) for each in zip(*parts, strict=True)))


def impute_frame(model: Any, frame: Any, conditions: Mapping[str, Any], **options: Any) -> Any:
    """Draw the missing values of rows of a DataFrame, or of a dict of columns.

    Args:
        model: A `kvae_serve.model.Model` of a table.
        frame: The rows. Some of the columns may be missing.
        conditions: Conditions by name that the rows do not have.
        **options: As of `Model.impute`.

    Returns:
        A table of the same kind; a list of them if `num` is above 1. Constants and identifiers are those of the rows.
    """
    manifest = model.manifest
    table = frames.from_frame(frame, "The table", frames.model_columns(manifest))
    rows = partial_rows(table, manifest, fixed=conditions)
    known = marked(rows.conditions, [each.name for each in manifest.conditions if each.categorical])
    requested = conditions_of.columns(manifest, known | dict(conditions), len(rows.x))
    drawn = model.impute(rows.x, known | dict(conditions), **options).x
    results = [to_frame(to_arrays(manifest, x, requested), frame) for x in drawn]
    for column in manifest.data.outside:
        if column["name"] in rows.table.cells:
            values = frame[column["name"]]
            for result in results:
                result[column["name"]] = values.to_numpy() if hasattr(values, "to_numpy") else values
    for name, is_altered in _altered(manifest, rows).items():
        for result in results:
            pairs = zip(is_altered, frames.column_values(frame[name]), frames.column_values(result[name]), strict=True)
            kept = [own if altered else written for altered, own, written in pairs]
            result[name] = np.array(kept) if isinstance(result, dict) else kept
    return results[0] if len(results) == 1 else results


def _altered(manifest: Manifest, rows: Partial) -> dict[str, np.ndarray]:
    """Return which observed cells the model writes as other values, bool `[rows]`, by column; only columns with some.

    These are classes that the model does not have, and numbers beyond its bounds or with more decimals.
    """
    altered = {}
    for at, column in enumerate(manifest.data.columns):
        values = rows.x[:, at].astype(np.float64)
        if "classes" in column:
            differs = values == UNSEEN
        elif "format" in column or "offset" in column:  # float32 can lose their last digits
            differs = ~np.isnan(values)
        else:
            exact = values + column.get("offset", 0.0)
            differs = ~np.isclose(cells.in_units(column, values), exact, rtol=1e-6, atol=1e-9, equal_nan=True)
        if differs.any():
            altered[str(column["name"])] = differs
    return altered


class _Chunk:
    """Some rows that are imputed together."""

    def __init__(
        self, model: Graphs, x: np.ndarray, observed: np.ndarray, columns: Mapping[str, np.ndarray], batch_size: int
    ) -> None:
        self.model, self.manifest, self.columns, self.batch_size = model, model.manifest, columns, batch_size
        self.observed, self.x = observed, np.where(observed, x, np.float32(0))
        self.likelihood = get_likelihood(model)
        self.draw_words = self.likelihood.num_words(self.manifest.data)
        self.is_autoregressive = isinstance(self.likelihood, MixedAutoregressive)

    def impute(self, index: np.ndarray, num: int, num_samples: int, seed: int) -> Imputed:
        """Return `num` draws of each row."""
        rows, dim = len(self.x), self.manifest.latent_dim
        words = _Words(seed, index, self._num_words(num_samples) + num * (1 + self.draw_words))
        mean, log_var = self._fills(words)
        from_prior = max(1, num_samples // _PRIOR_SHARE)
        fill = np.arange(num_samples - from_prior) % _FILLS
        z = mean[:, fill] + np.exp(log_var[:, fill] / 2) * words.normals(len(fill), dim)
        z = np.concatenate([self._prior_draws(words, from_prior), z], axis=1).astype(np.float32)
        prior = Prior(self.model, self.columns).log_prob(z)
        shares = np.bincount(fill, minlength=_FILLS) / num_samples
        with np.errstate(divide="ignore"):
            mixture = [np.log(from_prior / num_samples) + prior] + [
                np.log(shares[each]) + log_normal(z, mean[:, each, None], log_var[:, each, None])
                for each in range(_FILLS)
            ]
        log_likelihood, filled = self._log_likelihood(z, words)
        log_weights = log_likelihood + prior - log_sum_exp(np.stack(mixture, axis=-1))
        weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
        cumulative = np.cumsum(weights, axis=1)
        # The words of a draw lie together, so that it does not depend on the number of draws.
        last = words.take(num * (1 + self.draw_words), num)
        targets = noise.words_to_uniforms(last[:, 0]).reshape(rows, num) * cumulative[:, -1:]
        chosen = np.minimum((cumulative[:, None] <= targets[..., None]).sum(axis=-1), num_samples - 1)
        z = z[np.arange(rows)[:, None], chosen]
        drawn = self._filled(z, last[:, 1:]) if filled is None else filled[np.arange(rows)[:, None], chosen]
        effective = np.square(weights.sum(axis=1)) / np.square(weights).sum(axis=1)
        return Imputed(np.moveaxis(drawn, 1, 0), np.moveaxis(z, 1, 0), effective)

    def _num_words(self, num_samples: int) -> int:
        """Return a number of words that is enough for fills and draws of z: a normal and a uniform take one or two."""
        dim = self.manifest.latent_dim
        fills = num_samples * self.draw_words if self.is_autoregressive else 0
        return (_SWEEPS + 1) * _FILLS * (dim + 2 + self.draw_words) + num_samples * (dim + 2) + fills

    def _fills(self, words: _Words) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and widened log variance of q for some fillings of each row, `[rows, fills, latent_dim]`."""
        z = self._prior_draws(words, _FILLS)
        for sweep in range(_SWEEPS + 1):
            x = self._filled(z, words.take(_FILLS * self.draw_words, _FILLS))
            outputs = encode(self.model, {"x": _flat(x)} | self._repeated(_FILLS), self.batch_size)
            mean, log_var = (outputs[name].reshape(z.shape).astype(np.float64) for name in ("z_mean", "z_log_var"))
            if sweep < _SWEEPS:
                z = (mean + np.exp(log_var / 2) * words.normals(*z.shape[1:])).astype(np.float32)
        return mean, log_var + np.log(_WIDER)

    def _prior_draws(self, words: _Words, num: int) -> np.ndarray:
        """Return draws from the prior, float32 `[rows, num, latent_dim]`."""
        normals = words.normals(num, self.manifest.latent_dim)
        uniforms = words.uniforms(num).reshape(-1)
        drawn = under_prior(self.model, _flat(normals), uniforms, self._repeated(num), self.batch_size)
        return drawn.reshape(normals.shape)

    def _filled(self, z: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Return the rows with missing values drawn given z `[rows, num, latent_dim]`: `[rows, num, *shape]`."""
        return self._completed(self._decode(z), words, z.shape[1])

    def _completed(self, outputs: Mapping[str, np.ndarray], words: np.ndarray, num: int) -> np.ndarray:
        data, shape = self.manifest.data, (len(self.x), num, *self.manifest.data.shape)
        if isinstance(self.likelihood, MixedAutoregressive):
            x, observed = (np.repeat(each, num, axis=0) for each in (self.x, self.observed))
            return self.likelihood.fill(outputs, words, data, x, observed, present=True).reshape(shape)
        drawn = self.likelihood.draw(without_missing(outputs, self.manifest), words, data).reshape(shape)
        return np.where(self.observed[:, None], self.x[:, None], drawn)

    def _log_likelihood(self, z: np.ndarray, words: _Words) -> tuple[np.ndarray, np.ndarray | None]:
        """Return log p of the observed values given z, float64 `[rows, draws]`, and the rows that it depends on.

        Columns that depend on the columns before them need values for those that are missing. These are drawn, and
        belong to the draw of z: the weights are those of both.
        """
        outputs, num = self._decode(z), z.shape[1]
        x, filled = np.repeat(self.x, num, axis=0), None
        if isinstance(self.likelihood, MixedAutoregressive):
            filled = self._completed(outputs, words.take(num * self.draw_words, num), num)
            x = filled.reshape(x.shape)
            outputs = self.likelihood.given_columns(outputs, x)
        log_prob = log_probs(outputs, x, self.manifest).reshape(*z.shape[:2], -1)
        return np.where(self.observed.reshape(len(z), 1, -1), log_prob, 0.0).sum(axis=-1), filled

    def _decode(self, z: np.ndarray) -> dict[str, np.ndarray]:
        return self.model.run("decoder", {"z": _flat(z)} | self._repeated(z.shape[1]), self.batch_size)

    def _repeated(self, num: int) -> dict[str, np.ndarray]:
        return {name: np.repeat(values, num) for name, values in self.columns.items()}


class _Words:
    """Random words of some rows, used up from the front."""

    def __init__(self, seed: int, index: np.ndarray, total: int) -> None:
        from numpy.random import Philox

        # The index is the second word of the counter, so a row's words do not depend on their number.
        key = seed + (noise.STREAM_IMPUTE << 64)
        self._words = np.stack([Philox(key=key, counter=each << 64).random_raw(total) for each in index.tolist()])
        self._used = 0

    def take(self, num: int, groups: int) -> np.ndarray:
        """Return the next `num` words of each row as uint64 `[rows * groups, num / groups]`."""
        self._used += num
        return self._words[:, self._used - num : self._used].reshape(len(self._words) * groups, -1)

    def normals(self, num: int, dim: int) -> np.ndarray:
        """Return float32 `[rows, num, dim]`."""
        words = self.take(noise.num_normal_words(num * dim), 1)
        return noise.words_to_normals(words, num * dim).reshape(-1, num, dim)

    def uniforms(self, num: int) -> np.ndarray:
        """Return float64 `[rows, num]`."""
        return noise.words_to_uniforms(self.take(num, 1))


def _flat(values: np.ndarray) -> np.ndarray:
    """Merge the axes of rows and draws."""
    return values.reshape(values.shape[0] * values.shape[1], *values.shape[2:])


def sample_given(
    model: Graphs, rows: RowStream, texts: Mapping[str, str], seed: int, report: Callable[[dict[str, float]], object]
) -> RowStream:
    """Replace samples by draws given the values of some columns, which are written as they are given.

    Args:
        model: As of `impute`.
        rows: Samples, of which the conditions and the numbers of the rows are used.
        texts: Values by name of the column, as a CSV has them.
        seed: As of `impute`.
        report: Receives `summary` after the last row.

    Raises:
        RequestError: The likelihood of the model is not supported, or a value does not fit its column.
    """
    require(model.manifest)
    values, columns = given_values(texts, model.manifest)
    observed = ~np.isnan(values)

    def chunks() -> Iterator[dict[str, np.ndarray]]:
        effective, done = [], 0
        for chunk in rows.chunks:
            num = len(chunk["x"])
            index = rows.start + np.arange(done, done + num) % rows.group_size
            conditions = {each.name: chunk[each.name] for each in model.manifest.conditions}
            x, mask = (np.broadcast_to(each, (num, *each.shape)) for each in (values, observed))
            drawn = impute(model, x, mask, conditions, index, seed=seed)
            effective.append(drawn.effective)
            done += num
            yield dict(chunk) | {"x": drawn.x[0], "z": drawn.z[0]}
        report(summary(np.concatenate(effective), NUM_SAMPLES))

    data = dataclasses.replace(model.manifest.data, columns=columns)
    return dataclasses.replace(rows, chunks=chunks(), manifest=dataclasses.replace(model.manifest, data=data))


def summary(effective: np.ndarray, num_samples: int) -> dict[str, float]:
    """Return the median and the smallest effective sample size, and the number of draws of z, as JSON."""
    return {"median": float(np.median(effective)), "minimum": float(effective.min()), "of": num_samples}
