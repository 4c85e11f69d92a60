"""Walks between two points of the latent space, and between the conditions that they have.

Draws of a Gaussian in many dimensions lie near a sphere, of which a straight line leaves: half way between two draws
it passes points more typical than any draw. So the walk follows the great circle, in the coordinates in which the
prior is N(0, I).

References: Shoemake (1985), Animating rotation with quaternion curves, doi:10.1145/325334.325242; White (2016),
Sampling generative networks, https://arxiv.org/abs/1609.04468.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.latent.path import LatentPath, check_size, whole
from kvae_serve.latent.prior import encode_file, prior_spread
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime.session import BATCH_SIZE
from kvae_serve.sealed.manifest import Condition, Manifest

if TYPE_CHECKING:
    from kvae_serve.model import Model

Method = Literal["slerp", "lerp"]
Classes = Literal["blend", "switch"]
Side = Literal["nearer", "first", "last"]

STEPS = 9

# Below this the sine of an angle is mostly rounding error.
_SMALL = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class Interpolation:
    """Images on the way from one point to another, for each pair of points.

    Attributes:
        x: float32 `[pairs, steps, *shape]` in data units.
        z: float32 `[pairs, steps, latent_dim]`; the ends are the points themselves, bit for bit.
        t: float64 `[steps]`: how far along, 0 to 1.
        conditions: name to `[pairs, steps]`: float32 on the line between the ends' numbers, int64 the class of the
            nearer end.
        method: "slerp" or "lerp".
        classes: "blend" or "switch": what x is where the ends are of different classes.
        manifest: the model's.
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
        """Return it as rows of images, a row for each pair."""
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
    model: Model,
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
    """Walk from one point to another; `Model.interpolate` tells the whole story."""
    manifest = model.manifest
    if method not in ("slerp", "lerp") or classes not in ("blend", "switch"):
        raise RequestError(
            f"A method is slerp or lerp, classes are blend or switch; got {printable(method)}, {printable(classes)}."
        )
    batch_size = whole(batch_size, "A batch has", 1)
    t = np.linspace(0.0, 1.0, whole(steps, "A walk has", 2))
    start, end = (_points(points, manifest.latent_dim) for points in (z_from, z_to))
    if len(start) != len(end) and 1 not in (len(start), len(end)):
        raise RequestError(f"There are {len(start)} points to start from but {len(end)} to go to.")
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
    model: Model,
    source: str,
    target: str,
    conditions: Mapping[str, Any],
    to_conditions: Mapping[str, Any],
    num: int = 1,
    **how: Any,
) -> Interpolation:
    """Walk from the posterior means of examples to those of others.

    Args:
        model: a loaded model with its encoder.
        source: `FILE` or `FILE:ROW`.
        target: the same.
        conditions: of the source, for what its file does not say.
        to_conditions: of the target, likewise.
        num: so many consecutive examples of each, in pairs.
        how: `steps`, `method`, `classes` and `batch_size`, as for `interpolate`.
    """
    begin, end = encode_file(model, source, conditions, num), encode_file(model, target, to_conditions, num)
    return interpolate(model, begin.z, end.z, conditions=begin.conditions, to_conditions=end.conditions, **how)


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return points on the great circle from `a` to `b`, whose lengths pass from the one's to the other's.

    sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b, with w the angle between them. Where one is zero or both point
    the same way the circle is a straight line; where they point opposite ways, which leaves it open, it passes
    through the coordinate axis that is farthest from both.

    Args:
        a: float64 `[dim]`.
        b: float64 `[dim]`.
        t: float64 `[steps]`, 0 at `a` and 1 at `b`.

    Returns:
        float64 `[steps, dim]`.

    Reference: Shoemake (1985), section 3.3.
    """
    t = np.asarray(t, np.float64)[:, None]
    length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
    if not (length_a > 0 and length_b > 0):
        return (1 - t) * a + t * b
    unit_a, unit_b = a / length_a, b / length_b
    # Of two nearly equal or opposite directions the arc cosine of their product would lose half of the digits.
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
    model: Model,
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
        of_a, of_b = prior_spread(model, first, len(a)), prior_spread(model, last, len(b))
        u = np.stack(
            [slerp(*ends, t) for ends in zip((a - of_a.mean) / of_a.sd, (b - of_b.mean) / of_b.sd, strict=True)]
        )
        mean = (1 - along) * of_a.mean[:, None] + along * of_b.mean[:, None]
        sd = (1 - along) * of_a.sd[:, None] + along * of_b.sd[:, None]
        z = mean + sd * u
    z = z.astype(np.float32)
    z[:, 0], z[:, -1] = start, end
    return z


def _conditions(
    manifest: Manifest, first: Mapping[str, np.ndarray], last: Mapping[str, np.ndarray], t: np.ndarray, side: Side
) -> dict[str, np.ndarray]:
    """Return each condition `[pairs, steps]`: numbers on the line between the ends, classes of the side named."""
    return {each.name: _between(each, first[each.name], last[each.name], t, side) for each in manifest.conditions}


def _between(condition: Condition, first: np.ndarray, last: np.ndarray, t: np.ndarray, side: Side) -> np.ndarray:
    a, b = first[:, None], last[:, None]
    if condition.categorical:
        return np.where({"nearer": t < 0.5, "first": t < 2, "last": t < 0}[side], a, b)
    found = ((1 - t) * a.astype(np.float64) + t * b).astype(np.float32)
    found[:, 0], found[:, -1] = first, last
    # Rounding must not lead out of the range that the ends are in.
    return np.clip(found, np.minimum(a, b), np.maximum(a, b))


def _blend(
    model: Model,
    z: np.ndarray,
    first: Mapping[str, np.ndarray],
    last: Mapping[str, np.ndarray],
    t: np.ndarray,
    nearer: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
) -> np.ndarray:
    """Return the mean of x where the class is the last one with probability t and else the first.

    A graph takes a class, and there is none between two. But E[x] = (1 - t) E[x given the first] + t E[x given the
    last] is what x is on average where nobody knows which of them it is. Where x itself holds classes, which have no
    average, the nearer end's stay.
    """
    manifest = model.manifest
    sides: tuple[Side, Side] = ("first", "last")
    ends = [
        _decode(model, z[rows], {name: values[rows] for name, values in given.items()}, batch_size)
        for given in (_conditions(manifest, first, last, t, side) for side in sides)
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


def _decode(model: Model, z: np.ndarray, conditions: Mapping[str, np.ndarray], batch_size: int) -> np.ndarray:
    feeds = {"z": z.reshape(-1, z.shape[-1])} | {name: values.reshape(-1) for name, values in conditions.items()}
    x = model.run("decoder", feeds, batch_size, ["x_mean"])["x_mean"]
    return x.reshape(*z.shape[:2], *model.manifest.data.shape)


def _points(points: Any, latent_dim: int) -> np.ndarray:
    given = np.asarray(points)
    given = given[None] if given.ndim == 1 else given
    if given.dtype.kind not in "uifb" or given.ndim != 2 or given.shape[1] != latent_dim or not len(given):
        raise RequestError(
            f"A point has {latent_dim} numbers, several are [pairs, {latent_dim}]; "
            f"got {given.dtype} {list(np.shape(points))}."
        )
    with np.errstate(over="ignore"):
        found = given.astype(np.float32)
    if not np.isfinite(found).all():
        raise RequestError("A point has numbers that are NaN or infinite.")
    return found
