"""Base points in the latent space: moments of the prior, and posterior means of examples."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError, RequestError, printable
from kvae_serve.inference.densities import mixture_components
from kvae_serve.inference.inputs import feeds
from kvae_serve.inference.sampling import encode
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.runtime.graphs import Graphs
from kvae_serve.sealed.manifest import MIXTURE_PRIORS

if TYPE_CHECKING:
    from kvae_serve.readers import ReadOptions


class Moments(NamedTuple):
    """Mean and standard deviation of z under the prior, float64 `[rows, latent_dim]` each."""

    mean: np.ndarray
    sd: np.ndarray


class Points(NamedTuple):
    """Posterior means of examples, float32 `[rows, latent_dim]`, and each condition by name, `[rows]`."""

    z: np.ndarray
    conditions: dict[str, np.ndarray]


def prior_moments(model: Graphs, columns: Mapping[str, np.ndarray], rows: int) -> Moments:
    """Compute mean and standard deviation of p(z|y), dimension by dimension.

    For a mixture with weights w, means m and variances v: mean = sum w m, variance = sum w (v + m^2) - mean^2.

    Args:
        model: A model, with prior.onnx if the prior is learned.
        columns: Each condition by name, `[rows]`.
        rows: Number of rows.

    Raises:
        ModelFileError: The prior is learned, and prior.onnx is missing or invalid.
    """
    manifest = model.manifest
    if manifest.prior["name"] == "standard_normal":
        shape = (rows, manifest.latent_dim)
        return Moments(np.zeros(shape), np.ones(shape))
    if manifest.prior["name"] not in MIXTURE_PRIORS:
        outputs = model.run("prior", dict(columns))
        return Moments(outputs["z_mean"].astype(np.float64), np.exp(outputs["z_log_var"].astype(np.float64) / 2))
    log_weights, means, log_vars = mixture_components(model, columns, rows)
    weights = np.exp(log_weights)
    mean = np.einsum("k,rkd->rd", weights, means)
    # Around the mean, so that no digits are lost if the components are far from zero.
    variance = np.einsum("k,rkd->rd", weights, np.exp(log_vars) + np.square(means - mean[:, None]))
    return Moments(mean, np.sqrt(variance))


def encode_file(
    model: Graphs, source: str, conditions: Mapping[str, Any], num: int = 1, options: ReadOptions | None = None
) -> Points:
    """Return the posterior means of `num` consecutive examples of a file.

    Args:
        model: A model with its encoder.
        source: `FILE` or `FILE:ROW`; see `split_row`.
        conditions: Conditions that the file does not contain. Those in the file have precedence.
        num: Number of examples.
        options: Options for reading images; by default with the size and channels of the model.

    Raises:
        InputDataError: The file or row does not exist, or the data do not fit the model.
    """
    from kvae_serve.readers import ReadOptions, read_for

    path, row = split_row(source)
    manifest = model.manifest
    dataset = read_for(path, manifest, options=options or ReadOptions(has_flags=False))
    if row + num > len(dataset.x):
        raise InputDataError(
            f"Rows {row} to {row + num - 1} of {printable(path)} do not all exist; it has rows 0 to "
            f"{len(dataset.x) - 1}. Use earlier rows, or fewer."
        )
    rows = slice(row, row + num)
    known = {name: values[rows] for name, values in dataset.conditions.items()}
    columns = conditions_of.columns(manifest, dict(conditions) | known, num)
    return Points(encode(model, feeds(manifest, columns, x=np.asarray(dataset.x[rows])))["z_mean"], columns)


def split_row(source: str) -> tuple[str, int]:
    """Split `FILE:ROW`. The default row is 0. An existing file of that whole name has precedence.

    ```python
    split_row("digits.npz:12")  # ("digits.npz", 12)
    ```
    """
    path, colon, digits = source.rpartition(":")
    if not (colon and path and digits.isascii() and digits.isdigit()) or os.path.exists(source):  # noqa: PTH110
        return source, 0
    if len(digits) > 18:
        raise RequestError(f"The row is {printable(digits, 40)}; expected an integer of at most 18 digits.")
    return path, int(digits)
