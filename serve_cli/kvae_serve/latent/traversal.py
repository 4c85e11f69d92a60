"""Walks along one latent axis after another: what does each dimension of z stand for?

One coordinate of a base point is moved over the prior's range while the others stay (Higgins et al. 2017,
https://openreview.net/forum?id=Sy2fzU9gl, section 4); the most active dimensions come first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.latent.activity import Activity, measure
from kvae_serve.latent.path import LatentPath, check_size, whole
from kvae_serve.latent.prior import encode_file, prior_spread
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime.session import BATCH_SIZE
from kvae_serve.sealed.manifest import Manifest

if TYPE_CHECKING:
    from kvae_serve.model import Model
    from kvae_serve.readers import Dataset

Spacing = Literal["even", "quantile"]

NUM_DIMS = 10
"""Dimensions that are walked where nothing is said."""

STEPS = 11
SPAN = (-3.0, 3.0)
MAX_SPAN = 1e6


@dataclass(frozen=True, eq=False, repr=False)
class Traversal:
    """Images along latent axes, for each combination of conditions.

    Attributes:
        x: float32 `[combinations, dims, steps, *shape]` in data units.
        z: float32 `[combinations, dims, steps, latent_dim]`.
        dims: the dimensions that are walked, in the order of `x`: the most active first unless they were asked for.
        values: float64 `[steps]`: where each step stands, in the prior's standard deviations from its mean.
        activity: how much each dimension of the model does, and how that is known.
        base: float32 `[combinations, latent_dim]`: the point that the walks pass or start from.
        conditions: name to int64 (class index) or float32 `[combinations]`.
        manifest: the model's.
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
        """Return it as rows of images: a row for each dimension, combination by combination."""
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
    """Return examples that are given as arrays by name (`x`, and each condition) in the form that readers give."""
    if not isinstance(data, Mapping):
        return data
    from kvae_serve.readers import Dataset

    if "x" not in data:
        raise RequestError(f"The examples hold {printable(', '.join(map(str, data)) or 'nothing', 60)}, expected x.")
    return Dataset(data["x"], {name: value for name, value in data.items() if name != "x"}, {}, "data", None)


def traverse(
    model: Model,
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
    """Walk along latent axes; `Model.traverse` tells the whole story."""
    manifest = model.manifest
    wanted = combinations(manifest, conditions)
    columns = {
        each.name: np.array([values[axis] for values in wanted], np.int64 if each.categorical else np.float32)
        for axis, each in enumerate(manifest.conditions)
    }
    activity = measure(model, columns, data)
    chosen = _dims(activity, dims, num)
    values = positions(steps, span, spacing)
    check_size(manifest, len(wanted) * len(chosen) * len(values))
    spread = prior_spread(model, columns, len(wanted))
    start = spread.mean.astype(np.float32) if base is None else _base(base, len(wanted), manifest.latent_dim)
    z = np.tile(start[:, None, None], (1, len(chosen), len(values), 1))
    for index, dim in enumerate(chosen):
        z[:, index, :, dim] = spread.mean[:, dim, None] + spread.sd[:, dim, None] * values
    each = len(chosen) * len(values)
    feeds = {name: np.repeat(column, each) for name, column in columns.items()}
    rows = z.reshape(-1, manifest.latent_dim)
    x = model.run("decoder", {"z": rows} | feeds, whole(batch_size, "A batch has", 1), ["x_mean"])["x_mean"]
    return Traversal(
        x.reshape(*z.shape[:3], *manifest.data.shape), z, tuple(chosen), values, activity, start, columns, manifest
    )


def from_example(model: Model, where: str, asked: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Return an example's posterior mean `[1, latent_dim]`, and the conditions to decode under."""
    # What the example is, where its file does not say: the class asked for, unless several are.
    lone = {name: value for name, value in asked.items() if np.ndim(value) == 0 and value != conditions_of.ALL}
    lone |= {name: value[0] for name, value in asked.items() if np.ndim(value) == 1 and len(value) == 1}
    point = encode_file(model, where, lone)
    return point.z, {name: values.tolist() for name, values in point.conditions.items()} | dict(asked)


def from_draw(model: Model, asked: Mapping[str, Any], seed: int, start: int) -> np.ndarray:
    """Return a draw of the prior for each combination of conditions, float32 `[combinations, latent_dim]`."""
    wanted = combinations(model.manifest, asked)
    names = [condition.name for condition in model.manifest.conditions]
    drawn = [
        model.sample(1, conditions=dict(zip(names, values, strict=True)), seed=seed, start=start).z for values in wanted
    ]
    return np.concatenate(drawn)


def combinations(manifest: Manifest, conditions: Mapping[str, Any] | None) -> list[tuple[int | float, ...]]:
    """Return the combinations of conditions asked for; where nothing is, the first class of a lone condition."""
    only = manifest.conditions[0] if len(manifest.conditions) == 1 else None
    if not conditions and only is not None and only.categorical:
        return [(0,)]
    return conditions_of.combinations(manifest, conditions)


def positions(steps: int, span: tuple[float, float], spacing: Spacing) -> np.ndarray:
    """Return where the steps stand, in standard deviations: float64 `[steps]`, both ends included.

    Args:
        steps: how many.
        span: lowest and highest.
        spacing: "even", or "quantile" for steps of equal probability under a normal: more of them where z often is.
    """
    steps = whole(steps, "A walk has", 2)
    if len(span) != 2:
        raise RequestError(f"A range has two ends, got {len(span)} numbers.")
    low, high = (float(end) for end in span)
    if not (math.isfinite(low) and math.isfinite(high) and -MAX_SPAN <= low < high <= MAX_SPAN):
        raise RequestError(
            f"A range goes from a lower to a higher number of standard deviations, got {low:g} to {high:g}."
        )
    if spacing == "even":
        return np.linspace(low, high, steps)
    if spacing != "quantile":
        raise RequestError(f"A spacing is even or quantile, got {printable(spacing, 40)}.")
    from statistics import NormalDist

    normal = NormalDist()
    if max(-low, high) > 8:
        raise RequestError(f"Quantiles reach from -8 to 8 standard deviations, got {low:g} to {high:g}.")
    # Beyond 0 the upper tail is the mirrored lower one, which floats resolve much further out.
    bottom, top = normal.cdf(low), normal.cdf(high)
    upper_bottom, upper_top = normal.cdf(-low), normal.cdf(-high)
    found = [low]
    for index in range(1, steps - 1):
        part = index / (steps - 1)
        below = bottom + part * (top - bottom)
        above = upper_bottom + part * (upper_top - upper_bottom)
        found.append(normal.inv_cdf(below) if below < 0.5 else -normal.inv_cdf(above))
    return np.array([*found, high])


def _dims(activity: Activity, dims: Sequence[int] | None, num: int | None) -> list[int]:
    latent_dim = len(activity.values)
    if dims is None:
        num = min(NUM_DIMS, latent_dim) if num is None else whole(num, "The number of dimensions is", 1)
        return activity.order()[:num]
    if num is not None:
        raise RequestError("Give the dimensions themselves, or how many of the most active; not both.")
    found = [whole(dim, "A dimension is", 0) for dim in dims]
    if not found:
        raise RequestError("There are no dimensions to walk along. Name at least one.")
    if max(found) >= latent_dim:
        raise RequestError(f"There is no dimension {max(found)}; the model has 0 to {latent_dim - 1}.")
    return list(dict.fromkeys(found))


def _base(base: np.ndarray, rows: int, latent_dim: int) -> np.ndarray:
    given = np.asarray(base)
    if given.dtype.kind not in "uifb" or given.shape not in ((latent_dim,), (1, latent_dim), (rows, latent_dim)):
        raise RequestError(
            f"A base is one point of {latent_dim} numbers, or one for each combination of conditions; "
            f"got {given.dtype} {list(given.shape)}."
        )
    with np.errstate(over="ignore"):
        point = np.broadcast_to(given, (rows, latent_dim)).astype(np.float32)
    if not np.isfinite(point).all():
        raise RequestError("A base has numbers that are NaN or infinite.")
    return point
