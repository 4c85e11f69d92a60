"""How much each latent dimension does: which ones are worth a look, and which the model leaves unused.

Three sources, the best one that is at hand:

1. data that is given: the mean kl of each dimension, from the encoder; under a mixture, whose kl has no closed form,
   the variance of the posterior means;
2. the file: the kl of each dimension on held-out or training data, which training wrote into the manifest;
3. the decoder alone: how far x moves when z goes from one standard deviation below to one above the prior's mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kvae_serve.inference.densities import Prior
from kvae_serve.latent.prior import prior_spread
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import Data, Manifest

if TYPE_CHECKING:
    from kvae_serve.model import Model
    from kvae_serve.readers import Dataset

NUM_POINTS = 16
"""Points of the prior from which the decoder is asked."""

_MAX_ROWS = 4096


class Activity(NamedTuple):
    """How much each dimension does; higher is more.

    Attributes:
        values: float64 `[latent_dim]`.
        source: "data", "model file" or "decoder".
        unit: what the values are, for people: "nats of kl", "variance of z_mean" or "change of x_mean".
    """

    values: np.ndarray
    source: str
    unit: str

    def order(self) -> list[int]:
        """Return the dimensions, the most active first; of equals the lower index first."""
        return [int(index) for index in np.argsort(-self.values, kind="stable")]


def measure(model: Model, columns: Mapping[str, np.ndarray], data: Dataset | None = None) -> Activity:
    """Return how much each dimension does, from the best source that is at hand.

    Args:
        model: a loaded model.
        columns: each condition by name, `[rows]`: what the decoder is asked under.
        data: examples with all conditions of the model, as `read_for` gives them.
    """
    if data is not None:
        return _from_data(model, data)
    return _from_manifest(model.manifest) or _from_decoder(model, columns)


def _from_data(model: Model, data: Dataset) -> Activity:
    from kvae_serve.runtime import conditions as conditions_of

    num = len(data.x)
    columns = conditions_of.columns(model.manifest, data.conditions, num)
    total = np.zeros(model.manifest.latent_dim)
    means, closed = [], True
    for start in range(0, num, _MAX_ROWS):
        rows = slice(start, start + _MAX_ROWS)
        part = {name: values[rows] for name, values in columns.items()}
        z_mean, z_log_var = model.encode(np.asarray(data.x[rows]), part)
        kl = Prior(model, part).kl(z_mean, z_log_var) if closed else None
        closed = kl is not None
        if kl is None:
            means.append(z_mean)
        else:
            total += kl.sum(0)
    if closed:
        return Activity(total / num, "data", "nats of kl")
    return Activity(np.concatenate(means).astype(np.float64).var(axis=0), "data", "variance of z_mean")


def _from_manifest(manifest: Manifest) -> Activity | None:
    training = manifest.training or {}
    for key in ("validation", "final"):
        figures = training.get(key)
        values = figures.get("kl_per_dim") if isinstance(figures, dict) else None
        # People may have written here whatever they like: what is no list of numbers is as good as missing.
        if isinstance(values, list) and len(values) == manifest.latent_dim and all(map(_is_number, values)):
            return Activity(np.array(values, np.float64), "model file", "nats of kl")
    return None


def _from_decoder(model: Model, columns: Mapping[str, np.ndarray]) -> Activity:
    """Root mean square, over values of x and points of the prior, of x(one sd above) - x(one sd below)."""
    manifest = model.manifest
    latent_dim, data = manifest.latent_dim, manifest.data
    combinations = len(next(iter(columns.values()))) if columns else 1
    given = {name: np.resize(values, max(NUM_POINTS, min(combinations, 64))) for name, values in columns.items()}
    num = len(next(iter(given.values()))) if given else NUM_POINTS
    spread = prior_spread(model, given, num)
    normals, _ = noise.latent_noise(0, 0, num, latent_dim)
    points = spread.mean + spread.sd * normals
    values = np.empty(latent_dim)
    each = max(1, _MAX_ROWS // (2 * num))
    for first in range(0, latent_dim, each):
        dims = np.arange(first, min(first + each, latent_dim))
        z = np.tile(points, (len(dims), 2, 1, 1))  # [dims, side, points, latent_dim]
        for side, sign in enumerate((-1.0, 1.0)):
            z[np.arange(len(dims)), side, :, dims] = (spread.mean + sign * spread.sd)[:, dims].T
        feeds = {name: np.tile(column, 2 * len(dims)) for name, column in given.items()}
        x = model.run("decoder", {"z": z.reshape(-1, latent_dim).astype(np.float32)} | feeds, wanted=["x_mean"])
        low, high = np.moveaxis(x["x_mean"].reshape(len(dims), 2, num, data.num_values), 1, 0)
        values[dims] = np.sqrt(np.square(_change(low, high, data)).mean((1, 2)))
    return Activity(values, "decoder", "change of x_mean")


def _change(low: np.ndarray, high: np.ndarray, data: Data) -> np.ndarray:
    """Return how far each value moves: in data units, for the columns of a table in standard deviations.

    A class of a table counts 1 where it becomes another.
    """
    change = high.astype(np.float64) - low
    for index, column in enumerate(data.columns):
        if column["kind"] == "categorical":
            change[..., index] = change[..., index] != 0
        else:
            change[..., index] /= column.get("scale", 1.0)
    return change


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
