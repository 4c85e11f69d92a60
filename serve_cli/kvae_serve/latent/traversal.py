"""Latent traversals: images that show the effect of each dimension of z.

One coordinate of a base point moves over the range of the prior while the others stay fixed (Higgins et al. 2017,
https://openreview.net/forum?id=Sy2fzU9gl, section 4). The most active dimensions come first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.inference import sampling
from kvae_serve.latent.activity import Activity, measure
from kvae_serve.latent.prior import encode_file, prior_moments
from kvae_serve.latent_path import LatentPath, check_size
from kvae_serve.numbers import integer
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.runtime.session import BATCH_SIZE
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers.notebook import PathView

if TYPE_CHECKING:
    from kvae_serve.readers import Dataset

Spacing = Literal["even", "quantile"]

NUM_DIMS = 10
"""Default number of dimensions."""

STEPS = 11
SPAN = (-3.0, 3.0)
MAX_SPAN = 1e6


@dataclass(frozen=True, eq=False, repr=False)
class Traversal(PathView):
    """Images along latent dimensions, for each combination of conditions.

    Attributes:
        x: float32 `[combinations, dims, steps, *shape]` in data units.
        z: float32 `[combinations, dims, steps, latent_dim]`.
        dims: The dimensions in the order of `x`: the most active first, or as requested.
        values: float64 `[steps]`, positions in standard deviations of the prior from its mean.
        activity: Activity of every dimension of the model, and its source.
        base: float32 `[combinations, latent_dim]`, the fixed coordinates.
        conditions: Each condition by name, int64 (class index) or float32 `[combinations]`.
        manifest: Manifest of the model.
    """

    x: np.ndarray
    z: np.ndarray
    dims: tuple[int, ...]
    values: np.ndarray
    activity: Activity
    base: np.ndarray
    conditions: dict[str, np.ndarray]
    manifest: Manifest

    def __repr__(self) -> str:
        shown = ", ".join(map(str, self.dims[:12])) + (", ..." if len(self.dims) > 12 else "")
        return f"<traversal of {printable(self.manifest.name, 60)}: dimensions {shown}, {len(self.values)} steps>"

    def path(self) -> LatentPath:
        """Return rows of images: one row per dimension, ordered by combination."""
        combinations, num, steps = self.x.shape[:3]
        rows = combinations * num
        return LatentPath(
            x=self.x.reshape(rows, steps, *self.x.shape[3:]),
            z=self.z.reshape(rows, steps, -1),
            conditions={
                name: np.repeat(values, num * steps).reshape(rows, steps) for name, values in self.conditions.items()
            },
            positions={
                "dim": np.broadcast_to(np.tile(self.dims, combinations)[:, None], (rows, steps)),
                "value": np.broadcast_to(self.values, (rows, steps)),
                "activity": np.broadcast_to(
                    np.tile(self.activity.values[list(self.dims)], combinations)[:, None], (rows, steps)
                ),
            },
            metadata={
                "kvae dims": " ".join(map(str, self.dims)),
                "kvae values": " ".join(f"{value:.6g}" for value in self.values),
            },
            manifest=self.manifest,
        )


def examples(data: Dataset | Mapping[str, Any] | None) -> Dataset | None:
    """Return arrays by name (`x`, and each condition) as a `Dataset`; other values unchanged."""
    if not isinstance(data, Mapping):
        return data
    from kvae_serve.readers import Dataset

    if "x" not in data:
        raise RequestError(
            f"The examples are {printable(', '.join(map(str, data)) or 'empty', 60)}; expected an array x."
        )
    return Dataset(data["x"], {name: value for name, value in data.items() if name != "x"}, {}, "data", None)


def traverse(
    model: Graphs,
    *,
    conditions: Mapping[str, Any] | None = None,
    dims: Sequence[int] | None = None,
    num: int | None = None,
    steps: int = STEPS,
    span: tuple[float, float] = SPAN,
    spacing: Spacing = "even",
    base: np.ndarray | None = None,
    data: Dataset | None = None,
    batch_size: int = BATCH_SIZE,
) -> Traversal:
    """Move one latent coordinate at a time. `Model.traverse` describes the arguments."""
    manifest = model.manifest
    requested = combinations(manifest, conditions)
    columns = {
        each.name: np.array([values[axis] for values in requested], np.int64 if each.categorical else np.float32)
        for axis, each in enumerate(manifest.conditions)
    }
    activity = measure(model, columns, data)
    chosen = _dimensions(activity, dims, num)
    values = positions(steps, span, spacing)
    check_size(manifest, len(requested) * len(chosen) * len(values))
    moments = prior_moments(model, columns, len(requested))
    start = moments.mean.astype(np.float32) if base is None else _base(base, len(requested), manifest.latent_dim)
    z = np.tile(start[:, None, None], (1, len(chosen), len(values), 1))
    for index, dim in enumerate(chosen):
        z[:, index, :, dim] = moments.mean[:, dim, None] + moments.sd[:, dim, None] * values
    repeated = {name: np.repeat(column, len(chosen) * len(values)) for name, column in columns.items()}
    feeds = {"z": z.reshape(-1, manifest.latent_dim)} | repeated
    x = sampling.decode(model, feeds, integer(batch_size, "batch_size", 1))
    return Traversal(
        x.reshape(*z.shape[:3], *manifest.data.shape), z, tuple(chosen), values, activity, start, columns, manifest
    )


def from_example(model: Graphs, source: str, requested: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the posterior mean of an example `[1, latent_dim]`, and the conditions for decoding it.

    Args:
        model: A model with its encoder.
        source: `FILE` or `FILE:ROW`.
        requested: Conditions of the user. A single value also replaces a condition that the file does not contain.
    """
    single = {name: value for name, value in requested.items() if np.ndim(value) == 0 and value != conditions_of.ALL}
    single |= {name: value[0] for name, value in requested.items() if np.ndim(value) == 1 and len(value) == 1}
    point = encode_file(model, source, single)
    return point.z, {name: values.tolist() for name, values in point.conditions.items()} | dict(requested)


def from_draw(model: Graphs, requested: Mapping[str, Any], seed: int, start: int) -> np.ndarray:
    """Return a draw from the prior for each combination of conditions, float32 `[combinations, latent_dim]`."""
    names = [condition.name for condition in model.manifest.conditions]
    draws = [
        sampling.plan(model, 1, conditions=dict(zip(names, values, strict=True)), seed=seed, start=start).draw_all()
        for values in combinations(model.manifest, requested)
    ]
    return np.concatenate([each.z for each in draws])


def combinations(manifest: Manifest, conditions: Mapping[str, Any] | None) -> list[tuple[int | float, ...]]:
    """Return the requested combinations of conditions; by default the first class of a single condition."""
    if not conditions and len(manifest.conditions) == 1 and manifest.conditions[0].categorical:
        return [(0,)]
    return conditions_of.combinations(manifest, conditions)


def positions(steps: int, span: tuple[float, float], spacing: Spacing) -> np.ndarray:
    """Return the positions of the steps in standard deviations, float64 `[steps]`, both ends included.

    Args:
        steps: Number of steps.
        span: Lowest and highest position.
        spacing: "even", or "quantile" for steps of equal probability under a normal distribution.

    Raises:
        RequestError: An argument is out of range.
    """
    steps = integer(steps, "steps", 2)
    if len(span) != 2:
        raise RequestError(f"span has {len(span)} numbers; expected the lowest and the highest position.")
    low, high = (float(end) for end in span)
    if not -MAX_SPAN <= low < high <= MAX_SPAN:  # Refuses NaN as well.
        raise RequestError(
            f"The range is {low:g} to {high:g}; expected a lower and a higher number of standard deviations, up to "
            f"{MAX_SPAN:g}."
        )
    if spacing == "even":
        return np.linspace(low, high, steps)
    if spacing != "quantile":
        raise RequestError(f"spacing is {printable(spacing, 40)}; expected even or quantile.")
    from statistics import NormalDist

    normal = NormalDist()
    if max(-low, high) > 8:
        raise RequestError(f"The range is {low:g} to {high:g}; expected -8 to 8 standard deviations for quantiles.")
    # Above 0 the mirrored lower tail is used, because floats resolve small probabilities much better.
    bottom, top = normal.cdf(low), normal.cdf(high)
    upper_bottom, upper_top = normal.cdf(-low), normal.cdf(-high)
    inner = []
    for index in range(1, steps - 1):
        part = index / (steps - 1)
        below = bottom + part * (top - bottom)
        above = upper_bottom + part * (upper_top - upper_bottom)
        inner.append(normal.inv_cdf(below) if below < 0.5 else -normal.inv_cdf(above))
    return np.array([low, *inner, high])


def _dimensions(activity: Activity, dims: Sequence[int] | None, num: int | None) -> list[int]:
    latent_dim = len(activity.values)
    if dims is None:
        return activity.order()[: NUM_DIMS if num is None else integer(num, "num", 1)]
    if num is not None:
        raise RequestError(
            "dims and num exclude each other. Give the dimensions, or the number of the most active ones."
        )
    if not len(dims):
        raise RequestError("dims is empty; expected at least one dimension.")
    return list(dict.fromkeys(integer(dim, "A dimension", 0, latent_dim - 1) for dim in dims))


def _base(base: np.ndarray, rows: int, latent_dim: int) -> np.ndarray:
    values = np.asarray(base)
    if values.dtype.kind not in "uifb" or values.shape not in ((latent_dim,), (1, latent_dim), (rows, latent_dim)):
        raise RequestError(
            f"base is {values.dtype} {list(values.shape)}; expected {latent_dim} numbers, or {latent_dim} for each "
            "combination of conditions."
        )
    with np.errstate(over="ignore"):
        point = np.broadcast_to(values, (rows, latent_dim)).astype(np.float32)
    if not np.isfinite(point).all():
        raise RequestError("base contains numbers that are NaN or infinite.")
    return point
