"""PNG files: one that shows all images as a grid, or a folder of one for each."""
# ruff: noqa: PTH118

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.row_stream import Flow, Piece
from kvae_serve.writers import png
from kvae_serve.writers.grid import GAP, to_uint8

MAX_PIXELS = 2**26
"""Of a grid: what most programs, and our own reader, still open."""

LEAST_BYTES = 4096
"""What a small file takes on most disks."""


def check_grid(path: str, flow: Flow) -> None:
    """Raise `RequestError` where a grid would have more pixels than programs open."""
    height, width, _ = _cell(flow)
    if flow.rows * (height + GAP) * (width + GAP) > MAX_PIXELS:
        raise RequestError(
            f"{printable(path)} would be a picture of {flow.rows} images, larger than programs open. "
            "Draw them in parts, take fewer, or write .npz or a folder."
        )


def grid_png(flow: Flow) -> bytes:
    """Return a grid of all images, a row of it for each label where there are several with a handful of images each.

    Only the pixels are kept, a byte each, unless the range of the data is not known: then black and white are its
    lowest and highest value, for which all of it must be seen.
    """
    height, width, channels = _cell(flow)
    columns = flow.num if 1 < flow.num <= 32 and flow.rows > flow.num else math.ceil(math.sqrt(flow.rows))
    columns = min(columns, flow.rows)
    value_range = flow.manifest.data.range
    step_y, step_x = height + GAP, width + GAP
    lines = -(-flow.rows // columns)
    picture = np.zeros((lines * step_y - GAP, columns * step_x - GAP, channels), np.uint8)
    index = 0
    for piece in _pieces(flow):
        for pixels in to_uint8(flow.images(piece), value_range):
            y, x = index // columns * step_y, index % columns * step_x
            picture[y : y + height, x : x + width] = pixels
            index += 1
    return png.encode(picture, flow.facts)


def write_folder(folder: str, flow: Flow) -> None:
    """Write one PNG for each row, named by its conditions and its index."""
    first = 0
    for piece in _pieces(flow):
        pixels = to_uint8(piece[flow.main[0]], flow.manifest.data.range)
        for image, name in zip(pixels, file_names(flow, piece, first), strict=True):
            _write(os.path.join(folder, f"{name}.png"), png.encode(image, flow.facts))
        first += len(pixels)


def file_names(flow: Flow, piece: Piece, first: int) -> list[str]:
    """Return a name for each row: its conditions, and its index within its label, as in `label-3_000016`."""
    rows = len(piece[flow.main[0]])
    prefixes = [""] * rows
    for condition in flow.manifest.conditions:
        if condition.name not in piece:
            continue
        values = piece[condition.name].tolist()
        if condition.categorical:
            # The index goes first where a class name needs changing, for two might become the same.
            names = [_safe(name, f"{index}") for index, name in enumerate(condition.classes)]
            texts = [names[value] for value in values]
        else:
            texts = [f"{value:.9g}" for value in values]
        key = _safe(condition.name, "condition")
        prefixes = [f"{prefix}{key}-{text}_" for prefix, text in zip(prefixes, texts, strict=True)]
    return [f"{prefix}{flow.start + (first + row) % flow.num:06d}" for row, prefix in enumerate(prefixes)]


def _write(path: str, data: bytes) -> None:
    """Write one of many small files, without what makes `open` slow."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def _pieces(flow: Flow) -> Iterator[Piece]:
    """Give the pieces, or one of all rows where black and white depend on all of them."""
    if flow.manifest.data.range is not None:
        yield from flow.pieces
        return
    pieces = list(flow.pieces)
    yield {name: np.concatenate([piece[name] for piece in pieces]) for name in flow.arrays}


def _cell(flow: Flow) -> tuple[int, int, int]:
    height, width, channels = flow.manifest.data.shape
    return height, width * (2 if flow.pairs else 1), channels


def _safe(name: str, index: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in name)[:40]
    return name if kept == name and not name.startswith((".", "-")) else f"{index}-{kept}"
