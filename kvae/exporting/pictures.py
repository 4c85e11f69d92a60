"""Pictures of a model in training: samples from the prior, and originals above their reconstructions."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.priors import StandardNormal
from kvae_serve.sealed import noise
from kvae_serve.sealed.manifest import Data
from kvae_serve.writers import captioned_grid, images, plots, png
from kvae_serve.writers.captioned_grid import Captions, PictureStyle

_ROWS = 30


def samples(model: keras.Model, title: Sequence[str] = (), columns: int = 10, seed: int = 0) -> bytes | None:
    """Draw samples as a PNG file, or return None if the data are neither images nor sequences.

    The picture has one row for each of the first classes, at most 30, or ten rows without classes. Equal calls use
    the same noise and the same conditions, so that pictures of one model after different epochs can be compared.

    Args:
        model: The model.
        title: Texts above the picture.
        columns: Number of samples per row.
        seed: Seed of z, drawn as `kvae sample` draws it.
    """
    if not exist(model):
        return None
    conditions = [(each, each.manifest()) for each in getattr(model, "conditions", [])]
    rows = min(next((len(each["classes"]) for _, each in conditions if each["kind"] == "categorical"), 10), _ROWS)
    normals, uniforms = noise.latent_noise(seed, 0, columns if conditions else rows * columns, model.latent_dim)
    values: dict[str, np.ndarray] = {}
    names: list[list[str]] = []
    if conditions:
        normals, uniforms = np.tile(normals, (rows, 1)), np.tile(uniforms, rows)
    for condition, described in conditions:
        if described["kind"] == "categorical":
            values[condition.name] = np.repeat(np.arange(rows), columns) % len(described["classes"])
        else:
            values[condition.name] = np.full(rows * columns, np.mean(described["range"]), "float32")
        names.append(_texts(described, values[condition.name][::columns]))
    vector = (model.condition_vector(values),) if values else ()
    z = _under_prior(model, normals, uniforms, vector)
    x = ops.convert_to_numpy(model.data.to_data(model.likelihood.mean(model._decode(z, vector))))
    first_indices = [str(row * columns) for row in range(rows)]
    captions = Captions(
        [*title, f"seed {seed}, samples 0 to {len(normals) // (rows if conditions else 1) - 1}"],
        corner=", ".join(condition.name for condition, _ in conditions) or "sample",
        rows=[", ".join(each) for each in zip(*names, strict=True)] if names else first_indices,
        columns=[str(column) for column in range(columns)] if conditions else (),
    )
    return _png(model, x[:, None], [range(row * columns, (row + 1) * columns) for row in range(rows)], captions)


def reconstructions(
    model: keras.Model, x: np.ndarray, conditions: Mapping[str, np.ndarray] | None, columns: int = 10
) -> bytes | None:
    """Draw originals above their reconstructions as a PNG file; None if the data are neither images nor sequences.

    Args:
        model: The model.
        x: Examples `[num, *shape]` in data units.
        conditions: Each condition by name, `[num]`, if the model has any.
        columns: Number of examples per row.
    """
    if not exist(model):
        return None
    x = np.asarray(x, "float32")
    decoded = ops.convert_to_numpy(model((x, dict(conditions)) if conditions else (x,)))
    names = [_texts(each.manifest(), conditions[each.name]) for each in model.conditions] if conditions else []
    captions = Captions(
        ["originals above their reconstructions"],
        cells=[", ".join(each) for each in zip(*names, strict=True)],
        parts=("original", "reconstruction"),
    )
    rows = [range(first, min(len(x), first + columns)) for first in range(0, len(x), columns)]
    return _png(model, np.stack([x, decoded], axis=1), rows, captions)


def exist(model: keras.Model) -> bool:
    """Return whether there are pictures of the data of a model: images of 1 or 3 channels, or sequences."""
    return model.data.kind == "sequence" or (model.data.kind == "image" and model.data.shape[-1] in (1, 3))


def _texts(condition: Mapping[str, Any], values: np.ndarray) -> list[str]:
    """Return values of a condition as captions."""
    if condition["kind"] != "categorical":
        return [f"{value:.4g}" for value in np.asarray(values).tolist()]
    names = [
        captioned_grid.ascii_name(each, f"{condition['name']} {at}") for at, each in enumerate(condition["classes"])
    ]
    return [names[value] for value in np.asarray(values).tolist()]


def _png(model: keras.Model, x: np.ndarray, rows: list[range], captions: Captions) -> bytes:
    """Return the picture of x `[num, parts, *shape]` in data units."""
    data = Data(model.data.kind, tuple(model.data.shape), model.data.range)
    flat = x.reshape(-1, *data.shape)
    bounds: Any = None
    key: list[tuple[str, str]] = []
    if data.kind == "sequence":
        bounds = plots.limits(flat)
        key = images.sequence_key(data, bounds)
        shape: tuple[int, ...] = plots.SHAPE
    else:
        shape = data.shape
    scale = captioned_grid.scale_of(PictureStyle(), shape, len(rows[0]), len(flat))
    pictures = images.pictures(data, flat, bounds, scale)
    pictures = pictures.reshape(*x.shape[:2], *pictures.shape[1:])
    return png.encode(captioned_grid.draw(pictures, rows, dataclasses.replace(captions, key=key)))


def _under_prior(model: keras.Model, normals: np.ndarray, uniforms: np.ndarray, vector: tuple[Any, ...]) -> np.ndarray:
    """Return z for the noise of each row, as `kvae_serve.inference.sampling.under_prior` does with `prior.onnx`."""
    if isinstance(model.prior, StandardNormal):
        return normals
    mean, log_var, log_weights = map(ops.convert_to_numpy, model.prior.components(vector, model._encode))
    cumulative = np.cumsum(np.exp(log_weights.astype("float64")))
    component = np.searchsorted(cumulative / cumulative[-1], uniforms, side="right")
    index = np.arange(len(normals)) % len(mean), np.minimum(component, len(log_weights) - 1)
    return mean[index] + np.exp(log_var[index] / 2) * normals
