"""Interpolation between two points of the latent space, and between their conditions.

Draws of a Gaussian in many dimensions lie near a sphere, and a straight line between two of them leaves it. The path
therefore follows the great circle, in coordinates in which the prior is N(0, I).

References: Shoemake (1985), Animating rotation with quaternion curves, doi:10.1145/325334.325242; White (2016),
Sampling generative networks, https://arxiv.org/abs/1609.04468.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.inference import sampling
from kvae_serve.latent.prior import encode_file, prior_moments
from kvae_serve.latent_path import LatentPath, check_size
from kvae_serve.numbers import integer
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.runtime.session import BATCH_SIZE
from kvae_serve.sealed.manifest import Condition, Manifest
from kvae_serve.writers.notebook import PathView

Method = Literal["slerp", "lerp"]
Classes = Literal["blend", "switch"]
Side = Literal["nearer", "first", "last"]

STEPS = 9

_SMALL = 1e-6
"""Below this the sine of an angle is mostly rounding error."""


@dataclass(frozen=True, eq=False, repr=False)
class Interpolation(PathView):
    """Images between the points of each pair.

    Attributes:
        x: float32 `[pairs, steps, *shape]` in data units.
        z: float32 `[pairs, steps, latent_dim]`. Both ends equal the given points bit for bit.
        t: float64 `[steps]`, position from 0 to 1.
        conditions: Each condition by name, `[pairs, steps]`: float32 numbers between those of the ends, or the int64
            class of the nearer end.
        method: "slerp" or "lerp".
        classes: "blend" or "switch", the treatment of ends with different classes.
        manifest: Manifest of the model.
    """

    x: np.ndarray
    z: np.ndarray
    t: np.ndarray
    conditions: dict[str, np.ndarray]
    method: Method
    classes: Classes
    manifest: Manifest

    def __repr__(self) -> str:
        pairs, steps = self.z.shape[:2]
        return f"<interpolation of {printable(self.manifest.name, 60)}: {pairs} pairs, {steps} steps, {self.method}>"

    def path(self) -> LatentPath:
        """Return rows of images, one row per pair."""
        pairs, steps = self.z.shape[:2]
        return LatentPath(
            x=self.x,
            z=self.z,
            conditions=self.conditions,
            positions={
                "pair": np.broadcast_to(np.arange(pairs)[:, None], (pairs, steps)),
                "t": np.broadcast_to(self.t, (pairs, steps)),
            },
            metadata={"kvae walk": f"{self.method}, classes {self.classes}"},
            manifest=self.manifest,
        )


def interpolate(
    model: Graphs,
    z_from: np.ndarray,
    z_to: np.ndarray,
    *,
    conditions: Mapping[str, Any],
    to_conditions: Mapping[str, Any] | None,
    steps: int = STEPS,
    method: Method = "slerp",
    classes: Classes = "blend",
    batch_size: int = BATCH_SIZE,
) -> Interpolation:
    """Decode paths between pairs of points. `Model.interpolate` describes the arguments."""
    manifest = model.manifest
    if method not in ("slerp", "lerp"):
        raise RequestError(f"method is {printable(method)}; expected slerp or lerp.")
    if classes not in ("blend", "switch"):
        raise RequestError(f"classes is {printable(classes)}; expected blend or switch.")
    batch_size = integer(batch_size, "batch_size", 1)
    t = np.linspace(0.0, 1.0, integer(steps, "steps", 2))
    start, end = (_points(points, manifest.latent_dim) for points in (z_from, z_to))
    if len(start) != len(end) and 1 not in (len(start), len(end)):
        raise RequestError(
            f"There are {len(start)} points to start from but {len(end)} to end at. Give as many of each."
        )
    pairs = max(len(start), len(end))
    start, end = (np.ascontiguousarray(np.broadcast_to(each, (pairs, start.shape[1]))) for each in (start, end))
    first = conditions_of.columns(manifest, conditions, pairs)
    last = first if to_conditions is None else conditions_of.columns(manifest, to_conditions, pairs)
    check_size(manifest, pairs * len(t))
    z = _path(model, start, end, first, last, t, method)
    between = _conditions(manifest, first, last, t, "nearer")
    x = _decode(model, z, between, batch_size)
    differ = np.zeros(pairs, bool)
    for each in manifest.conditions:
        if each.categorical:
            differ |= first[each.name] != last[each.name]
    if classes == "blend" and differ.any():
        x[differ] = _blend(model, z, first, last, t, x, differ, batch_size)
    return Interpolation(x, z, t, between, method, classes, manifest)


def between_files(
    model: Graphs,
    source: str,
    target: str,
    conditions: Mapping[str, Any],
    to_conditions: Mapping[str, Any],
    num: int = 1,
    **options: Any,
) -> Interpolation:
    """Decode paths between the posterior means of examples.

    Args:
        model: A model with its encoder.
        source: `FILE` or `FILE:ROW` of the beginning.
        target: `FILE` or `FILE:ROW` of the end.
        conditions: Conditions that the source does not contain.
        to_conditions: Conditions that the target does not contain.
        num: Number of consecutive examples of each file, in pairs.
        **options: `steps`, `method`, `classes` and `batch_size`, as of `interpolate`.
    """
    begin, end = encode_file(model, source, conditions, num), encode_file(model, target, to_conditions, num)
    return interpolate(model, begin.z, end.z, conditions=begin.conditions, to_conditions=end.conditions, **options)


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return points on the great circle from `a` to `b`; their length changes from that of `a` to that of `b`.

    sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b, with w the angle between them. If one is zero or both have the same
    direction, the path is a straight line. If their directions are opposite, the circle is not unique; the path then
    passes through the coordinate axis that is farthest from both.

    Args:
        a: Begin, float64 `[dim]`.
        b: End, float64 `[dim]`.
        t: Positions, float64 `[steps]`, 0 at `a` and 1 at `b`.

    Returns:
        float64 `[steps, dim]`.

    Reference: Shoemake (1985), section 3.3.
    """
    t = np.asarray(t, np.float64)[:, None]
    length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
    if not (length_a > 0 and length_b > 0):
        return (1 - t) * a + t * b
    unit_a, unit_b = a / length_a, b / length_b
    # For nearly equal or opposite directions the arc cosine of their product would lose half of the digits.
    angle = 2.0 * np.arctan2(np.linalg.norm(unit_b - unit_a), np.linalg.norm(unit_b + unit_a))
    if np.sin(angle) > _SMALL:
        return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    if angle < 1 or len(a) == 1:
        return (1 - t) * a + t * b
    axis = np.zeros_like(unit_a)
    axis[np.argmin(np.abs(unit_a))] = 1.0
    across = axis - unit_a * (axis @ unit_a)
    across /= np.linalg.norm(across)
    length = (1 - t) * length_a + t * length_b
    return length * (np.cos(np.pi * t) * unit_a + np.sin(np.pi * t) * across)


def _path(
    model: Graphs,
    start: np.ndarray,
    end: np.ndarray,
    first: Mapping[str, np.ndarray],
    last: Mapping[str, np.ndarray],
    t: np.ndarray,
    method: Method,
) -> np.ndarray:
    """Return float32 `[pairs, steps, latent_dim]`."""
    a, b = start.astype(np.float64), end.astype(np.float64)
    along = t[:, None]
    if method == "lerp":
        z = (1 - along) * a[:, None] + along * b[:, None]
    else:
        p, q = prior_moments(model, first, len(a)), prior_moments(model, last, len(b))
        u = np.stack([slerp(*ends, t) for ends in zip((a - p.mean) / p.sd, (b - q.mean) / q.sd, strict=True)])
        mean = (1 - along) * p.mean[:, None] + along * q.mean[:, None]
        sd = (1 - along) * p.sd[:, None] + along * q.sd[:, None]
        z = mean + sd * u
    z = z.astype(np.float32)
    z[:, 0], z[:, -1] = start, end
    return z


def _conditions(
    manifest: Manifest, first: Mapping[str, np.ndarray], last: Mapping[str, np.ndarray], t: np.ndarray, side: Side
) -> dict[str, np.ndarray]:
    """Return each condition `[pairs, steps]`: numbers between those of the ends, classes of one side."""
    return {each.name: _between(each, first[each.name], last[each.name], t, side) for each in manifest.conditions}


def _between(condition: Condition, first: np.ndarray, last: np.ndarray, t: np.ndarray, side: Side) -> np.ndarray:
    a, b = first[:, None], last[:, None]
    if condition.categorical:
        return np.where({"nearer": t < 0.5, "first": t < 2, "last": t < 0}[side], a, b)
    values = ((1 - t) * a.astype(np.float64) + t * b).astype(np.float32)
    values[:, 0], values[:, -1] = first, last
    # Rounding must not exceed the range of the ends.
    return np.clip(values, np.minimum(a, b), np.maximum(a, b))


def _blend(
    model: Graphs,
    z: np.ndarray,
    first: Mapping[str, np.ndarray],
    last: Mapping[str, np.ndarray],
    t: np.ndarray,
    nearer: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
) -> np.ndarray:
    """Return the mean of x if its class is the last one with probability t, and the first one otherwise.

    E[x] = (1 - t) E[x | first class] + t E[x | last class]. Values of x that are classes cannot be averaged; they are
    those of the nearer end.
    """
    manifest = model.manifest
    sides: tuple[Side, Side] = ("first", "last")
    ends = [
        _decode(model, z[rows], {name: values[rows] for name, values in conditions.items()}, batch_size)
        for conditions in (_conditions(manifest, first, last, t, side) for side in sides)
    ]
    weight = t.reshape(-1, *[1] * len(manifest.data.shape))
    mixed = ((1 - weight) * ends[0] + weight * ends[1]).astype(np.float32)
    mixed[:, 0], mixed[:, -1] = ends[0][:, 0], ends[1][:, -1]
    if manifest.likelihood["name"] == "categorical":
        return nearer[rows]
    for index, column in enumerate(manifest.data.columns):
        if column["kind"] == "categorical":
            mixed[..., index] = nearer[rows][..., index]
    return mixed


def _decode(model: Graphs, z: np.ndarray, conditions: Mapping[str, np.ndarray], batch_size: int) -> np.ndarray:
    feeds = {"z": z.reshape(-1, z.shape[-1])} | {name: values.reshape(-1) for name, values in conditions.items()}
    return sampling.decode(model, feeds, batch_size).reshape(*z.shape[:2], *model.manifest.data.shape)


def _points(points: Any, latent_dim: int) -> np.ndarray:
    values = np.asarray(points)
    values = values[None] if values.ndim == 1 else values
    if values.dtype.kind not in "uifb" or values.ndim != 2 or values.shape[1] != latent_dim or not len(values):
        raise RequestError(
            f"A point is {values.dtype} {list(np.shape(points))}; expected {latent_dim} numbers, or "
            f"[pairs, {latent_dim}]."
        )
    with np.errstate(over="ignore"):
        z = values.astype(np.float32)
    if not np.isfinite(z).all():
        raise RequestError("A point contains numbers that are NaN or infinite.")
    return z
