"""PNG files: one that shows all images as a grid, or a folder of one for each."""
# ruff: noqa: PTH118

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.row_stream import Chunk, RowStream
from kvae_serve.writers import png
from kvae_serve.writers.grid import GAP, to_uint8

MAX_PIXELS = 2**26
"""Of a grid: what most programs, and our own reader, still open."""

LEAST_BYTES = 4096
"""What a small file takes on most disks."""


def check_grid(path: str, rows: RowStream) -> None:
    """Raise `RequestError` where a grid would have more pixels than programs open."""
    height, width, _ = _cell(rows)
    if rows.num_rows * (height + GAP) * (width + GAP) > MAX_PIXELS:
        raise RequestError(
            f"{printable(path)} would be a picture of {rows.num_rows} images, larger than programs open. "
            "Draw them in parts, take fewer, or write .npz or a folder."
        )


def grid_png(rows: RowStream) -> bytes:
    """Return a grid of all images, a row of it for each label where there are several with a handful of images each.

    Only the pixels are kept, a byte each, unless the range of the data is not known: then black and white are its
    lowest and highest value, for which all of it must be seen.
    """
    height, width, channels = _cell(rows)
    num, columns = rows.num_rows, rows.group_size
    if not 1 < columns <= min(32, num - 1):
        columns = min(math.ceil(math.sqrt(num)), num)
    value_range = rows.manifest.data.range
    step_y, step_x = height + GAP, width + GAP
    lines = -(-num // columns)
    picture = np.zeros((lines * step_y - GAP, columns * step_x - GAP, channels), np.uint8)
    index = 0
    for chunk in _chunks(rows):
        for pixels in to_uint8(rows.images(chunk), value_range):
            y, x = index // columns * step_y, index % columns * step_x
            picture[y : y + height, x : x + width] = pixels
            index += 1
    return png.encode(picture, rows.metadata)


def write_folder(folder: str, rows: RowStream) -> None:
    """Write one PNG for each row, named by its conditions and its index."""
    first = 0
    for chunk in _chunks(rows):
        pixels = to_uint8(chunk[rows.main[0]], rows.manifest.data.range)
        for image, name in zip(pixels, file_names(rows, chunk, first), strict=True):
            _write(os.path.join(folder, f"{name}.png"), png.encode(image, rows.metadata))
        first += len(pixels)


def file_names(rows: RowStream, chunk: Chunk, first: int) -> list[str]:
    """Return a name for each row: its conditions, and its index within its label, as in `label-3_000016`."""
    num = len(chunk[rows.main[0]])
    prefixes = [""] * num
    for condition in rows.manifest.conditions:
        if condition.name not in chunk:
            continue
        values = chunk[condition.name].tolist()
        if condition.categorical:
            # The index goes first where a class name needs changing, for two might become the same.
            names = [_safe(name, f"{index}") for index, name in enumerate(condition.classes)]
            texts = [names[value] for value in values]
        else:
            texts = [f"{value:.9g}" for value in values]
        key = _safe(condition.name, "condition")
        prefixes = [f"{prefix}{key}-{text}_" for prefix, text in zip(prefixes, texts, strict=True)]
    return [f"{prefix}{rows.start + (first + row) % rows.group_size:06d}" for row, prefix in enumerate(prefixes)]


def _write(path: str, data: bytes) -> None:
    """Write one of many small files, without what makes `open` slow."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def _chunks(rows: RowStream) -> Iterator[Chunk]:
    """Give the chunks, or one of all rows where black and white depend on all of them."""
    if rows.manifest.data.range is not None:
        yield from rows.chunks
        return
    chunks = list(rows.chunks)
    yield {name: np.concatenate([chunk[name] for chunk in chunks]) for name in rows.arrays}


def _cell(rows: RowStream) -> tuple[int, int, int]:
    height, width, channels = rows.manifest.data.shape
    return height, width * (2 if rows.pairs else 1), channels


def _safe(name: str, index: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in name)[:40]
    return name if kept == name and not name.startswith((".", "-")) else f"{index}-{kept}"
