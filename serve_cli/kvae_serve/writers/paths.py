"""Write a path through the latent space, as `traverse` and `interpolate` make it, or show it as text.

| path | content |
|---|---|
| `.png` | grid with one row of images per row of the path |
| `.gif`, `.webp` | animation with one frame per step, in which each row has its place |
| `.npz` | `x`, `z`, each condition, and positions (`dim`, `value`, `activity`, or `pair`, `t`) |
| `.npy` | `x` only |
| `.csv` | of tables and vectors: positions, conditions, columns |
| `-` | the bytes of an `.npy` on standard output |

Arrays hold the images one after another, row by row.
"""
# os instead of pathlib: importing pathlib would slow down the start of the command.
# ruff: noqa: PTH122

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TextIO

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.latent_path import LatentPath
from kvae_serve.row_stream import Array, RowStream, model_metadata
from kvae_serve.sealed.manifest import Data
from kvae_serve.writers import animation, atomic, captioned_grid, csv, dispatch, images, plots, stdout
from kvae_serve.writers.captioned_grid import Captions, PictureStyle
from kvae_serve.writers.grid import grid
from kvae_serve.writers.stdout import STDOUT

SUFFIXES = (".png", *animation.SUFFIXES, ".npz", ".npy", ".csv")


@dataclass(frozen=True)
class Style(PictureStyle):
    """Look of pictures and animations.

    Attributes:
        fps: Frames per second of an animation.
        loop: How an animation repeats.
    """

    fps: float = 10.0
    loop: animation.Loop = "bounce"


def check(path: str, force: bool = False) -> None:
    """Check an output path before long work.

    Raises:
        RequestError: The suffix is unknown.
        OutputError: The path exists and `force` is not set.
    """
    if path == STDOUT:
        return
    if _suffix(path) not in SUFFIXES or os.path.basename(path).lower() in SUFFIXES:  # noqa: PTH119
        raise RequestError(
            f"{printable(path)} has an unknown suffix. Expected {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, "
            "or - for standard output."
        )
    atomic.check_target(path, force)


def write(path: str, latent_path: LatentPath, style: Style | None = None, force: bool = False) -> None:
    """Write a latent path in the format of the suffix of `path`. The file appears complete or not at all.

    Raises:
        RequestError: The suffix is unknown, or does not fit the data.
        OutputError: The path exists or cannot be written.
    """
    check(path, force)
    suffix, manifest = _suffix(path), latent_path.manifest
    if path == STDOUT or suffix in (".npz", ".npy"):
        dispatch.stream(path, _row_stream(latent_path), force=force, quiet=True)
    elif suffix == ".csv":
        dispatch.check_table(path, manifest)
        atomic.write_text(path, lambda text: _write_csv(text, latent_path), force)
    else:
        if manifest.data.kind != "sequence":
            dispatch.check_images(path, manifest)
        atomic.write_whole(path, _picture(suffix, latent_path, style or Style()), force)


def show(latent_path: LatentPath, stream: TextIO | None = None) -> None:
    """Show images as characters, one line per row, and other data as CSV, on a stream (by default standard output)."""
    stream = stream or stdout.text()
    data = latent_path.manifest.data
    if data.kind == "image" and data.shape[2] in (1, 3):
        from kvae_serve.writers import ascii

        ascii.write(stream, _flat(latent_path.x), data.range, latent_path.x.shape[1])
    else:
        _write_csv(stream, latent_path)


def frames(latent_path: LatentPath, style: PictureStyle | None = None) -> np.ndarray:
    """Return one picture per step, in which each row has its place: uint8 `[steps, height, width, channels]`."""
    style = style or PictureStyle()
    num_rows, steps = latent_path.x.shape[:2]
    data = latent_path.manifest.data
    height, width = _shape(data)[:2]
    columns = captioned_grid.balanced_columns(num_rows, height / width)
    scale = captioned_grid.scale_of(style, (height, width), columns, num_rows * steps)
    if not style.plain:
        captions = _captions(latent_path, scale)
        pictures = _pixels(latent_path, scale)
        places = [range(first, min(num_rows, first + columns)) for first in range(0, num_rows, columns)]
        _check_size(pictures.nbytes)
        title = captions.title[: -1 if _axis(latent_path) == "value" else None]
        unit = {"value": "{} standard deviations", "t": "t = {}"}[_axis(latent_path)]
        titles = [[*title, unit.format(name)] for name in captions.columns]
        return _same_size(
            [
                captioned_grid.draw(
                    pictures[:, step, None], places, Captions(title, key=captions.key, cells=captions.rows)
                )
                for step, title in enumerate(titles)
            ]
        )
    value_range = _range(latent_path)
    if data.kind == "sequence":
        plain = [grid(each, None, (0, 255)) for each in _pixels(latent_path, 1).swapaxes(0, 1)]
    else:
        plain = [grid(latent_path.x[:, step], None, value_range) for step in range(steps)]
    _check_size(plain[0].nbytes * len(plain) * scale**2)
    return np.stack([captioned_grid.enlarged(picture, scale) for picture in plain])


def _picture(suffix: str, latent_path: LatentPath, style: Style) -> bytes:
    from kvae_serve.writers import png

    metadata = model_metadata(latent_path.manifest) | latent_path.metadata
    if suffix == ".png":
        return png.encode(picture(latent_path, style), metadata)
    comment = "; ".join(f"{key}: {value}" for key, value in metadata.items())
    return animation.encode(frames(latent_path, style), suffix, style.fps, style.loop, comment)


def picture(latent_path: LatentPath, style: PictureStyle | None = None) -> np.ndarray:
    """Return the path as one picture, one row of images per row: uint8 `[height, width, channels]`."""
    style = style or PictureStyle()
    num_rows, steps = latent_path.x.shape[:2]
    data = latent_path.manifest.data
    scale = captioned_grid.scale_of(style, _shape(data), steps, num_rows * steps)
    _check_size(num_rows * steps * np.prod(_shape(data), dtype=int) * scale**2)
    if not style.plain:
        pictures = _pixels(latent_path, scale)
        places = [range(first, first + steps) for first in range(0, num_rows * steps, steps)]
        return captioned_grid.draw(_flat(pictures)[:, None], places, _captions(latent_path, scale))
    if data.kind == "sequence":
        return captioned_grid.enlarged(grid(_flat(_pixels(latent_path, 1)), steps, (0, 255)), scale)
    return captioned_grid.enlarged(grid(_flat(latent_path.x), steps, _range(latent_path)), scale)


def _axis(latent_path: LatentPath) -> str:
    """Return the name of the position that changes along a row."""
    return "value" if "value" in latent_path.positions else "t"


def _captions(latent_path: LatentPath, scale: int) -> Captions:
    """Return the captions of a path: rows are dimensions or pairs, columns are positions."""
    manifest, positions = latent_path.manifest, latent_path.positions
    title, ends = [captioned_grid.ascii_name(manifest.name, "model")[:60]], []
    for condition in manifest.conditions:
        values = latent_path.conditions[condition.name]
        if len(np.unique(values)) == 1:
            title.append(f"{condition.name} {images.condition_text(condition, values[0, 0])}")
            continue
        first, last = ([images.condition_text(condition, each) for each in values[:, at].tolist()] for at in (0, -1))
        texts = [a if a == b else f"{a} to {b}" for a, b in zip(first, last, strict=True)]
        if len(set(texts)) == 1:
            title.append(f"{condition.name} {texts[0]}")
        else:
            ends.append(texts)
    if "kvae seed" in latent_path.metadata:
        title.append(f"seed {latent_path.metadata['kvae seed']}")
        if latent_path.metadata["kvae start"] != "0":
            title.append(f"start {latent_path.metadata['kvae start']}")
    num_rows = len(latent_path.x)
    names = [", ".join(each[row] for each in ends) for row in range(num_rows)]
    axis = _axis(latent_path)
    if axis == "value":
        dims = [f"z{dim}" for dim in positions["dim"][:, 0].tolist()]
        names = [f"{name}, {dim}" if name else dim for name, dim in zip(names, dims, strict=True)]
        title.append("standard deviations of the prior along each dimension of z")
    elif num_rows > 1:
        names = [f"{row}: {name}" if name else f"{row}" for row, name in enumerate(names)]
    corner = "" if axis == "value" else "t"
    columns = [f"{value + 0.0:.3g}" for value in np.round(positions[axis][0], 6).tolist()]
    key = []
    if manifest.data.kind == "sequence":
        key = images.sequence_key(manifest.data, plots.limits(_flat(latent_path.x)))
    return Captions(title, key=key, corner=corner, rows=names if any(names) else (), columns=columns)


def _pixels(latent_path: LatentPath, scale: int) -> np.ndarray:
    """Return the pictures, uint8 `[rows, steps, height, width, channels]`, on a scale that all of them share."""
    x = _flat(latent_path.x)
    bounds = None if latent_path.manifest.data.kind == "sequence" else _range(latent_path)
    pictures = images.pictures(latent_path.manifest.data, x, bounds, scale)
    return pictures.reshape(*latent_path.x.shape[:2], *pictures.shape[1:])


def _shape(data: Data) -> tuple[int, ...]:
    return plots.SHAPE if data.kind == "sequence" else data.shape


def _same_size(pictures: list[np.ndarray]) -> np.ndarray:
    """Return pictures as one array; narrow ones are extended with their last column."""
    width = max(picture.shape[1] for picture in pictures)
    height = max(picture.shape[0] for picture in pictures)
    return np.stack(
        [np.pad(each, ((0, height - each.shape[0]), (0, width - each.shape[1]), (0, 0)), "edge") for each in pictures]
    )


def _check_size(num_bytes: int) -> None:
    if num_bytes > animation.MAX_BYTES:
        raise RequestError(
            f"The picture would have {num_bytes >> 20} MiB of pixels, more than {animation.MAX_BYTES >> 20}. "
            "Lower --scale, or use fewer rows or steps."
        )


def _row_stream(latent_path: LatentPath) -> RowStream:
    columns = {"x": latent_path.x, "z": latent_path.z} | latent_path.conditions | latent_path.positions
    chunk = {name: _flat(values) for name, values in columns.items()}
    arrays = {name: Array(values.dtype, values.shape[1:]) for name, values in chunk.items()}
    return RowStream(latent_path.manifest, len(chunk["x"]), arrays, ("x",), iter([chunk]))


def _write_csv(stream: TextIO, latent_path: LatentPath) -> None:
    data = latent_path.manifest.data
    columns = [csv.column_texts(_flat(values)) for values in latent_path.positions.values()]
    for name, values in latent_path.conditions.items():
        condition = latent_path.manifest.condition(name)
        columns.append(csv.column_texts(_flat(values), (condition and condition.classes) or None))
    columns += csv.data_texts(data, _flat(latent_path.x).reshape(-1, data.num_values))
    header = [*latent_path.positions, *latent_path.conditions, *csv.column_names(data)]
    csv.write_columns(stream, header, [columns])


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *values.shape[2:])


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _range(latent_path: LatentPath) -> tuple[float, float]:
    return latent_path.manifest.data.range or (float(latent_path.x.min()), float(latent_path.x.max()))
