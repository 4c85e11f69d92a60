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
from kvae_serve.writers import animation, atomic, csv, dispatch, stdout
from kvae_serve.writers.grid import grid
from kvae_serve.writers.stdout import STDOUT

SUFFIXES = (".png", *animation.SUFFIXES, ".npz", ".npy", ".csv")
MAX_SCALE = 64


@dataclass(frozen=True)
class Style:
    """Look of pictures.

    Attributes:
        fps: Frames per second of an animation.
        loop: How an animation repeats.
        scale: Pixels of the picture per pixel of the model, in each direction.
    """

    fps: float = 10.0
    loop: animation.Loop = "bounce"
    scale: int = 1


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
    atomic.refuse_existing(path, force)


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


def frames(latent_path: LatentPath, scale: int = 1) -> np.ndarray:
    """Return one picture per step, in which each row has its place: uint8 `[steps, height, width, channels]`."""
    value_range = _range(latent_path)
    pictures = [grid(latent_path.x[:, step], None, value_range) for step in range(latent_path.x.shape[1])]
    size = pictures[0].nbytes * len(pictures) * scale**2
    if size > animation.MAX_BYTES:
        raise RequestError(
            f"The animation would have {size >> 20} MiB of pixels, more than {animation.MAX_BYTES >> 20}. "
            "Lower --scale, or use fewer rows or steps."
        )
    return np.stack([_enlarge(picture, scale) for picture in pictures])


def _picture(suffix: str, latent_path: LatentPath, style: Style) -> bytes:
    from kvae_serve.writers import png

    metadata = model_metadata(latent_path.manifest) | latent_path.metadata
    if suffix == ".png":
        pixels = grid(_flat(latent_path.x), latent_path.x.shape[1], _range(latent_path))
        return png.encode(_enlarge(pixels, style.scale), metadata)
    comment = "; ".join(f"{key}: {value}" for key, value in metadata.items())
    return animation.encode(frames(latent_path, style.scale), suffix, style.fps, style.loop, comment)


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


def _enlarge(picture: np.ndarray, scale: int) -> np.ndarray:
    if not 1 <= scale <= MAX_SCALE:
        raise RequestError(f"scale is {scale}; expected an integer from 1 to {MAX_SCALE}.")
    if picture.nbytes * scale**2 > animation.MAX_BYTES:
        raise RequestError(
            f"The picture would have {picture.nbytes * scale**2 >> 20} MiB of pixels, more than "
            f"{animation.MAX_BYTES >> 20}. Lower --scale, or use fewer rows or steps."
        )
    return picture if scale == 1 else picture.repeat(scale, axis=0).repeat(scale, axis=1)
