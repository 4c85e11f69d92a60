"""Write images, and plots of sequences, as PNG: all in one grid, or one file per row in a folder."""
# ruff: noqa: PTH118

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.row_stream import Chunk, RowStream
from kvae_serve.writers import plots, png
from kvae_serve.writers.grid import GAP, Grid, to_uint8

MAX_PIXELS = 2**26
"""Pixels of the largest grid that most programs, and the readers here, can open."""

MIN_FILE_BYTES = 4096
"""Disk space of a small file."""


def check_grid(path: str, rows: RowStream) -> None:
    """Raise `RequestError` if a grid would have more pixels than most programs can open."""
    height, width, _ = _image_shape(rows)
    if rows.num_rows * (height + GAP) * (width + GAP) > MAX_PIXELS:
        raise RequestError(
            f"{printable(path)} would be a grid of {rows.num_rows} images, more than most programs can open. "
            "Write fewer, several files with --start, an .npz, or a folder."
        )


def grid_png(rows: RowStream) -> bytes:
    """Return a PNG with all images in a grid, one row per label if each label has 2 to 32 images.

    Without a known data range, and for sequences, all rows are kept in memory, because the lowest and highest value
    set the scale. Otherwise only the pixels are.
    """
    num, columns = rows.num_rows, rows.group_size
    if not 1 < columns <= min(32, num - 1):
        columns = math.ceil(math.sqrt(num))
    picture = Grid(num, columns, _image_shape(rows))
    for chunk in _chunks(rows):
        picture.add(_pictures(rows, rows.data(chunk)))
    return png.encode(picture.pixels, rows.metadata)


def write_folder(folder: str, rows: RowStream) -> None:
    """Write one PNG per row, named by its conditions and its index."""
    first = 0
    for chunk in _chunks(rows):
        pixels = _pictures(rows, [chunk[rows.main[0]]])
        for image, name in zip(pixels, file_names(rows, chunk, first), strict=True):
            _write(os.path.join(folder, f"{name}.png"), png.encode(image, rows.metadata))
        first += len(pixels)


def file_names(rows: RowStream, chunk: Chunk, first: int) -> list[str]:
    """Return a name per row from its conditions and its index within the group, such as `label-3_000016`.

    Args:
        rows: The stream.
        chunk: Rows of the stream.
        first: Index of the first row of the chunk in the stream.
    """
    num = len(chunk[rows.main[0]])
    prefixes = [""] * num
    for condition in rows.manifest.conditions:
        if condition.name not in chunk:
            continue
        values = chunk[condition.name].tolist()
        if condition.categorical:
            names = [_file_name(name, f"{index}") for index, name in enumerate(condition.classes)]
            texts = [names[value] for value in values]
        else:
            texts = [f"{value:.9g}" for value in values]
        key = _file_name(condition.name, "condition")
        prefixes = [f"{prefix}{key}-{text}_" for prefix, text in zip(prefixes, texts, strict=True)]
    return [f"{prefix}{rows.start + (first + row) % rows.group_size:06d}" for row, prefix in enumerate(prefixes)]


def _write(path: str, data: bytes) -> None:
    """Write a new small file with few system calls."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def _pictures(rows: RowStream, data: Sequence[np.ndarray]) -> np.ndarray:
    """Return the pictures of some rows: uint8 `[rows, height, width, channels]`, arrays of `data` side by side."""
    if rows.manifest.data.kind == "sequence":
        bounds = plots.limits(np.concatenate(data))
        return np.concatenate([plots.draw(x, bounds) for x in data], axis=2)
    return to_uint8(np.concatenate(data, axis=2), rows.manifest.data.range)


def _chunks(rows: RowStream) -> Iterator[Chunk]:
    """Yield the chunks, or one chunk with all rows if all of them set the scale of the pictures."""
    data = rows.manifest.data
    if data.kind != "sequence" and data.range is not None:
        yield from rows.chunks
        return
    chunks = list(rows.chunks)
    yield {name: np.concatenate([chunk[name] for chunk in chunks]) for name in rows.arrays}


def _image_shape(rows: RowStream) -> tuple[int, int, int]:
    data = rows.manifest.data
    height, width, channels = plots.SHAPE if data.kind == "sequence" else data.shape
    return height, width * (2 if rows.pairs else 1), channels


def _file_name(name: str, prefix: str) -> str:
    """Return a name with safe characters only. A changed name gets the prefix, because two may become equal."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in name)[:40]
    return name if safe == name and not name.startswith((".", "-")) else f"{prefix}-{safe}"
