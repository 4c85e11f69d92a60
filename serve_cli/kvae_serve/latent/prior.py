"""Points of the latent space to start from: where the prior lies, and where examples are encoded to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError, ModelFileError, RequestError, printable
from kvae_serve.runtime import conditions as conditions_of
from kvae_serve.sealed.manifest import MIXTURE_PRIORS

if TYPE_CHECKING:
    from kvae_serve.model import Model
    from kvae_serve.readers import ReadOptions


class Spread(NamedTuple):
    """Mean and standard deviation of z under the prior, float64 `[rows, latent_dim]` each."""

    mean: np.ndarray
    sd: np.ndarray


class Points(NamedTuple):
    """Examples as points: posterior means float32 `[rows, latent_dim]`, and each condition `[rows]`."""

    z: np.ndarray
    conditions: dict[str, np.ndarray]


def prior_spread(model: Model, columns: Mapping[str, np.ndarray], rows: int) -> Spread:
    """Return where z lies under p(z given the conditions), dimension by dimension.

    Of a mixture these are the moments of the whole: mean = sum w m, variance = sum w (s^2 + m^2) - mean^2.

    Args:
        model: a loaded model.
        columns: each condition by name, `[rows]`.
        rows: how many rows.

    Raises:
        ModelFileError: the prior is learned, and prior.onnx is missing.
    """
    manifest = model.manifest
    shape = (rows, manifest.latent_dim)
    if manifest.prior["name"] == "standard_normal":
        return Spread(np.zeros(shape), np.ones(shape))
    if not model.has("prior"):
        raise ModelFileError(
            f"{printable(model.path)} has a learned prior, so where z lies is not known without prior.onnx. "
            "Copy prior.onnx beside it and give the folder."
        )
    if manifest.prior["name"] not in MIXTURE_PRIORS:
        outputs = model.run("prior", dict(columns))
        return Spread(outputs["z_mean"].astype(np.float64), np.exp(outputs["z_log_var"].astype(np.float64) / 2))
    log_weights = np.array(manifest.prior["log_weights"], np.float64)
    weights = np.exp(log_weights - np.logaddexp.reduce(log_weights))
    num = len(weights)
    feeds = {name: np.repeat(values, num) for name, values in columns.items()}
    feeds["component"] = np.tile(np.arange(num, dtype=np.int64), rows)
    outputs = model.run("prior", feeds)
    means = outputs["z_mean"].astype(np.float64).reshape(rows, num, -1)
    variances = np.exp(outputs["z_log_var"].astype(np.float64)).reshape(rows, num, -1)
    mean = np.einsum("k,rkd->rd", weights, means)
    # Around the mean, so that no digits are lost where the components lie far from zero.
    variance = np.einsum("k,rkd->rd", weights, variances + np.square(means - mean[:, None]))
    return Spread(mean, np.sqrt(variance))


def encode_file(
    model: Model,
    where: str,
    conditions: Mapping[str, Any],
    num: int = 1,
    options: ReadOptions | None = None,
) -> Points:
    """Return the posterior means of `num` examples of a file, from a row on.

    Args:
        model: a loaded model with its encoder.
        where: `FILE` or `FILE:ROW`, as `split_row` takes it apart.
        conditions: values for what the file itself does not say of its examples; the file's word goes first.
        num: how many consecutive examples.
        options: how to read images; by default with as many channels as the model has.

    Raises:
        InputDataError: there is no such file or row, or it is of other data than the model's.
    """
    from kvae_serve.readers import ReadOptions, read_for

    path, row = split_row(where)
    manifest = model.manifest
    channels = manifest.data.shape[2] if manifest.data.kind == "image" and manifest.data.shape[2] in (1, 3) else None
    dataset = read_for(path, manifest, options=options or ReadOptions(channels=channels))
    if row + num > len(dataset.x):
        raise InputDataError(
            f"{printable(path)} has rows 0 to {len(dataset.x) - 1}, asked for {num} from row {row} on. "
            "Take earlier rows, or fewer."
        )
    rows = slice(row, row + num)
    known = {name: values[rows] for name, values in dataset.conditions.items()}
    given = {name: value for name, value in conditions.items() if name not in known}
    columns = conditions_of.columns(manifest, known | given, num)
    z_mean, _ = model.encode(np.asarray(dataset.x[rows]), columns)
    return Points(z_mean, columns)


def split_row(where: str) -> tuple[str, int]:
    """Take `FILE:ROW` apart; without a row it is 0. What exists under its whole name is a file.

    ```python
    split_row("digits.npz:12")  # ("digits.npz", 12)
    ```
    """
    import os

    path, colon, digits = where.rpartition(":")
    if not colon or os.path.exists(where):  # noqa: PTH110
        return where, 0
    if not (path and digits.isascii() and digits.isdigit()):
        return where, 0
    if len(digits) > 18:
        raise RequestError(f"A row is a whole number from 0 on, got {printable(digits, 40)}.")
    return path, int(digits)
