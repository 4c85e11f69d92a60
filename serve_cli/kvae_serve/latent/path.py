"""Rows of images that belong together, as `traverse` and `interpolate` make them: written, or shown as text.

| path | holds |
|---|---|
| `.png` | a grid, a row of images for each row of the walk |
| `.gif`, `.webp` | an animation: every step is a frame, in which each row has its place |
| `.npz` | `x`, `z`, each condition, where each image stands (`dim`, `value`, `activity`, or `pair`, `t`) |
| `.npy` | `x` alone |
| `.csv` | of tables and vectors: where each row stands, conditions, columns |
| `-` | the bytes of an `.npy` on standard output |

In arrays the images stand one after another, row by row.
"""
# os rather than pathlib: importing pathlib would be felt in the start of the command.
# ruff: noqa: PTH122

from __future__ import annotations

import io
import operator
import os
import sys
from dataclasses import dataclass
from typing import Any, BinaryIO, TextIO

import numpy as np

from kvae_serve.errors import OutputError, RequestError, printable
from kvae_serve.readers.csv_escape import shielded
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import animation, atomic
from kvae_serve.writers.grid import grid

STDOUT = "-"
SUFFIXES = (".png", *animation.SUFFIXES, ".npz", ".npy", ".csv")
MAX_VALUES = 2**28
"""Numbers in one walk: 1 GiB of float32."""

MAX_SCALE = 64


@dataclass(frozen=True, eq=False)
class LatentPath:
    """Rows of images.

    Attributes:
        x: float32 `[rows, steps, *shape]` in data units.
        z: float32 `[rows, steps, latent_dim]`.
        conditions: each by name, `[rows, steps]`.
        positions: where each image stands, by name, `[rows, steps]`.
        metadata: keywords and texts for a picture, how to make it again.
        manifest: the model's.
    """

    x: np.ndarray
    z: np.ndarray
    conditions: dict[str, np.ndarray]
    positions: dict[str, np.ndarray]
    metadata: dict[str, str]
    manifest: Manifest


@dataclass(frozen=True)
class Style:
    """How pictures look: frames a second, how they repeat, and whole pixels for one of the model's."""

    fps: float = 10.0
    loop: animation.Loop = "bounce"
    scale: int = 1


def check(path: str, force: bool = False) -> None:
    """Raise before any work is done where `path` has an unknown suffix or exists already."""
    if path == STDOUT:
        return
    if _suffix(path) not in SUFFIXES or os.path.basename(path).lower() in SUFFIXES:  # noqa: PTH119
        raise RequestError(
            f"{printable(path)} is no name for a walk. Expected a file ending in {', '.join(SUFFIXES)}, "
            "or - for standard output."
        )
    atomic.refuse_existing(path, force)


def write(path: str, walk: LatentPath, style: Style | None = None, force: bool = False) -> None:
    """Write a walk to `path`, whose suffix decides the form; complete or not at all.

    Raises:
        RequestError: the suffix is unknown, or the data is not of that form.
        OutputError: the path exists, or cannot be written.
    """
    check(path, force)
    style = style or Style()
    suffix = _suffix(path)
    if path == STDOUT:
        _write_stdout(_flat(walk.x))
    elif suffix == ".png":
        from kvae_serve.writers import png

        _check_images(path, walk.manifest)
        atomic.write_whole(path, png.encode(_enlarged(_whole_grid(walk), style.scale), _facts(walk)), force)
    elif suffix in animation.SUFFIXES:
        _check_images(path, walk.manifest)
        comment = "; ".join(f"{key}: {value}" for key, value in _facts(walk).items())
        film = animation.encode(frames(walk, style.scale), suffix, style.fps, style.loop, comment)
        atomic.write_whole(path, film, force)
    elif suffix == ".npz":
        atomic.write_whole(path, lambda file: _write_npz(file, walk), force)
    elif suffix == ".npy":
        atomic.write_whole(path, lambda file: _write_npy(file, _flat(walk.x)), force)
    else:
        if walk.manifest.data.kind == "image":
            raise RequestError(f"{printable(path)} would hold a table, but {walk.manifest.name} makes images.")
        atomic.write_whole(path, lambda file: _write_csv(file, walk), force)


def show(walk: LatentPath, stream: TextIO | None = None) -> None:
    """Write a walk as text: images as cells of characters, a line of them for each row; other data as CSV."""
    stream = stream or sys.stdout
    if stream is None:
        raise OutputError("Standard output is closed. Give -o to write a file.")
    data = walk.manifest.data
    if data.kind == "image" and data.shape[2] in (1, 3):
        from kvae_serve.writers import ascii as text

        width, colour = text.terminal(stream)
        stream.write(text.render(_flat(walk.x), data.range, width, colour, walk.x.shape[1]))
    else:
        _write_rows(stream, walk)


def frames(walk: LatentPath, scale: int = 1) -> np.ndarray:
    """Return a picture for each step, in which each row has its place: uint8 `[steps, height, width, channels]`."""
    value_range = _range(walk)
    pictures = [grid(walk.x[:, step], None, value_range) for step in range(walk.x.shape[1])]
    size = pictures[0].nbytes * len(pictures) * scale**2
    if size > animation.MAX_BYTES:
        raise RequestError(f"An animation of {size >> 20} MiB of pixels is too large. Lower --scale, or take fewer.")
    return np.stack([_enlarged(picture, scale) for picture in pictures])


def check_size(manifest: Manifest, num: int) -> None:
    """Raise `RequestError` where `num` images are too many to hold."""
    if num * (manifest.data.num_values + manifest.latent_dim) > MAX_VALUES:
        raise RequestError(f"{num} images are too many to hold at once. Take fewer steps, dimensions or rows.")


def whole(value: Any, what: str, low: int) -> int:
    """Return a whole number of at least `low` as int, or raise `RequestError` that begins with `what`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool | np.bool_) or not low <= number < 2**31:
        raise RequestError(f"{what} a whole number of at least {low}, got {printable(repr(value), 40)}.")
    return number


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *values.shape[2:])


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _range(walk: LatentPath) -> tuple[float, float]:
    return walk.manifest.data.range or (float(walk.x.min()), float(walk.x.max()))


def _whole_grid(walk: LatentPath) -> np.ndarray:
    return grid(_flat(walk.x), walk.x.shape[1], _range(walk))


def _enlarged(picture: np.ndarray, scale: int) -> np.ndarray:
    if not 1 <= scale <= MAX_SCALE:
        raise RequestError(f"A scale is a whole number from 1 to {MAX_SCALE}, got {scale}.")
    if picture.nbytes * scale**2 > animation.MAX_BYTES:
        raise RequestError(f"A picture {scale} times as large would be too large. Lower --scale, or take fewer.")
    return picture if scale == 1 else picture.repeat(scale, axis=0).repeat(scale, axis=1)


def _facts(walk: LatentPath) -> dict[str, str]:
    manifest = walk.manifest
    name = f"{manifest.name} {manifest.model_id}".encode("ascii", "replace").decode()
    return {"Software": "kvae", "kvae model": name} | walk.metadata


def _check_images(path: str, manifest: Manifest) -> None:
    data = manifest.data
    if data.kind != "image" or data.shape[2] not in (1, 3):
        raise RequestError(
            f"{printable(path)} would hold pictures, but {manifest.name} makes {data.kind} data of shape "
            f"{list(data.shape)}. Write .npz, .npy or .csv."
        )


def _write_npz(file: BinaryIO, walk: LatentPath) -> None:
    import zipfile

    per_image = walk.conditions | walk.positions
    arrays = {"x": _flat(walk.x), "z": _flat(walk.z)} | {name: _flat(values) for name, values in per_image.items()}
    with zipfile.ZipFile(file, "w") as bundle:
        for name, array in arrays.items():
            # A bare ZipInfo dates all members 1980, so that the same walk gives the same bytes.
            with bundle.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def _write_npy(file: BinaryIO, x: np.ndarray) -> None:
    out = io.BytesIO()
    np.save(out, x, allow_pickle=False)
    rest = out.getbuffer()
    while rest:
        rest = rest[file.write(rest) :]  # Unbuffered (PYTHONUNBUFFERED), it may take a part alone.


def _write_stdout(x: np.ndarray) -> None:
    stdout = getattr(sys.stdout, "buffer", None)
    if stdout is None:
        raise OutputError("Standard output is closed. Give a path to write a file.")
    if stdout.isatty():
        raise RequestError("Standard output is a terminal, which cannot show .npy bytes. Redirect it, or leave out -o.")
    _write_npy(stdout, x)


def _write_csv(file: BinaryIO, walk: LatentPath) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    _write_rows(text, walk)
    text.detach()


def _write_rows(stream: TextIO, walk: LatentPath) -> None:
    """A line for each image: where it stands, its conditions, its values; classes by name."""
    import csv

    manifest = walk.manifest
    data = manifest.data
    writer = csv.writer(stream, lineterminator="\n")
    names = [str(column["name"]) for column in data.columns] or [f"x{index}" for index in range(data.num_values)]
    writer.writerow(map(shielded, [*walk.positions, *walk.conditions, *names]))
    columns = [_texts(_flat(values), None) for values in walk.positions.values()]
    for name, values in walk.conditions.items():
        condition = manifest.condition(name)
        columns.append(_texts(_flat(values), condition.classes if condition and condition.categorical else None))
    for index, values in enumerate(_flat(walk.x).reshape(-1, data.num_values).T):
        columns.append(_texts(values, data.columns[index].get("classes") if data.columns else None))
    writer.writerows(zip(*columns, strict=True))


def _texts(values: np.ndarray, classes: Any) -> list[str]:
    if classes:
        shown = [shielded(name) for name in classes]
        return [shown[min(max(round(value), 0), len(shown) - 1)] for value in values.tolist()]
    return [f"{value:.9g}" for value in values.tolist()]
