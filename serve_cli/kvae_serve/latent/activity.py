"""Activity of the latent dimensions: which of them the model uses, and how much.

Three sources, in this order:

1. Data of the user: the mean kl of each dimension, from the encoder. The kl to a mixture does not have a closed form;
   then the variance of the posterior means.
2. The model file: the kl of each dimension on held-out or training data, stored in the manifest by training.
3. The decoder: the change of x if z moves from one standard deviation below the prior's mean to one above.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kvae_serve.inference.densities import Prior
from kvae_serve.inference.inputs import feeds
from kvae_serve.inference.sampling import encode
from kvae_serve.latent.prior import prior_moments
from kvae_serve.numbers import is_number
from kvae_serve.row_stream import spans
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import Data, Manifest

if TYPE_CHECKING:
    from kvae_serve.readers import Dataset

NUM_POINTS = 16
"""Number of points of the prior at which the decoder is evaluated."""

_MAX_ROWS = 4096


class Activity(NamedTuple):
    """Activity of each dimension; higher is more.

    Attributes:
        values: float64 `[latent_dim]`.
        source: "data", "model file" or "decoder".
        unit: Unit of the values: "nats of kl", "variance of z_mean" or "change of x_mean".
    """

    values: np.ndarray
    source: str
    unit: str

    def order(self) -> list[int]:
        """Return the dimensions, the most active first; ties by index."""
        return [int(index) for index in np.argsort(-self.values, kind="stable")]


def measure(model: Graphs, columns: Mapping[str, np.ndarray], data: Dataset | None = None) -> Activity:
    """Measure the activity of each dimension, from the best available source.

    Args:
        model: A model with its decoder, and with its encoder if there are data.
        columns: Conditions of the decoder by name, `[rows]` each.
        data: Examples with all conditions of the model, as returned by `read_for`.
    """
    if data is not None:
        return _from_data(model, data)
    return _from_manifest(model.manifest) or _from_decoder(model, columns)


def _from_data(model: Graphs, data: Dataset) -> Activity:
    num, manifest = len(data.x), model.manifest
    columns = conditions_of.columns(manifest, data.conditions, num)
    total = np.zeros(manifest.latent_dim)
    means, closed = [], True
    for start, end in spans(num, _MAX_ROWS):
        part = {name: values[start:end] for name, values in columns.items()}
        q = encode(model, feeds(manifest, part, x=np.asarray(data.x[start:end])))
        kl = Prior(model, part).kl(q["z_mean"], q["z_log_var"]) if closed else None
        closed = kl is not None
        if kl is None:
            means.append(q["z_mean"])
        else:
            total += kl.sum(0)
    if closed:
        return Activity(total / num, "data", "nats of kl")
    return Activity(np.concatenate(means).astype(np.float64).var(axis=0), "data", "variance of z_mean")


def _from_manifest(manifest: Manifest) -> Activity | None:
    training = manifest.training or {}
    for key in ("validation", "final"):
        metrics = training.get(key)
        values = metrics.get("kl_per_dim") if isinstance(metrics, dict) else None
        # Training metadata is not verified, so anything else than a list of numbers counts as missing.
        if isinstance(values, list) and len(values) == manifest.latent_dim and all(map(is_number, values)):
            return Activity(np.array(values, np.float64), "model file", "nats of kl")
    return None


def _from_decoder(model: Graphs, columns: Mapping[str, np.ndarray]) -> Activity:
    """Root mean square, over values of x and points of the prior, of x(one sd above) - x(one sd below)."""
    manifest = model.manifest
    latent_dim, data = manifest.latent_dim, manifest.data
    combinations = len(next(iter(columns.values()))) if columns else 1
    num = max(NUM_POINTS, min(combinations, 64)) if columns else NUM_POINTS
    repeated = {name: np.resize(values, num) for name, values in columns.items()}
    moments = prior_moments(model, repeated, num)
    normals, _ = noise.latent_noise(0, 0, num, latent_dim)
    points = moments.mean + moments.sd * normals
    values = np.empty(latent_dim)
    for first, end in spans(latent_dim, max(1, _MAX_ROWS // (2 * num))):
        dims = np.arange(first, end)
        z = np.tile(points, (len(dims), 2, 1, 1))  # [dims, side, points, latent_dim]
        for side, sign in enumerate((-1.0, 1.0)):
            z[np.arange(len(dims)), side, :, dims] = (moments.mean + sign * moments.sd)[:, dims].T
        conditions = {name: np.tile(column, 2 * len(dims)) for name, column in repeated.items()}
        x = model.run("decoder", {"z": z.reshape(-1, latent_dim).astype(np.float32)} | conditions, outputs=["x_mean"])
        low, high = np.moveaxis(x["x_mean"].reshape(len(dims), 2, num, data.num_values), 1, 0)
        values[dims] = np.sqrt(np.square(_change(low, high, data)).mean((1, 2)))
    return Activity(values, "decoder", "change of x_mean")


def _change(low: np.ndarray, high: np.ndarray, data: Data) -> np.ndarray:
    """Return the change of each value in data units. Numbers of a table: in standard deviations; classes: 0 or 1."""
    change = high.astype(np.float64) - low
    for index, column in enumerate(data.columns):
        if column["kind"] == "categorical":
            change[..., index] = change[..., index] != 0
        else:
            change[..., index] /= column.get("scale", 1.0)
    return change
