"""Write images, and plots of sequences, as PNG: all in one grid, or one file per row in a folder."""
# ruff: noqa: PTH118

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.row_stream import Chunk, RowStream
from kvae_serve.sealed.manifest import Condition, Data
from kvae_serve.writers import captioned_grid, plots, png
from kvae_serve.writers.captioned_grid import Captions, PictureStyle
from kvae_serve.writers.grid import GAP, MAX_PIXELS, Grid, to_uint8

_MAX_COLUMNS, _MAX_TITLE = 32, 60

MIN_FILE_BYTES = 4096
"""Disk space of a small file."""


def check_grid(path: str, rows: RowStream, style: PictureStyle) -> None:
    """Raise `RequestError` if a grid would have more pixels than most programs can open."""
    height, width, _ = _image_shape(rows)
    scale = _scale(rows, style) ** 2
    if rows.num_rows * scale * (height + GAP) * (width + GAP) > MAX_PIXELS:
        raise RequestError(
            f"{printable(path)} would be a grid of {rows.num_rows} images, more than most programs can open. "
            f"{'Lower --scale, or write' if scale > 1 else 'Write'} fewer, several files with --start, an .npz, or a "
            "folder."
        )


def grid_png(rows: RowStream, style: PictureStyle | None = None) -> bytes:
    """Return a PNG with all images in a grid, one row per label if each label has 2 to 32 images.

    Without a known data range, and for sequences, all rows are kept in memory, because the lowest and highest value
    set the scale. Otherwise only the pixels are.
    """
    style = style or PictureStyle()
    scale = _scale(rows, style)
    if not style.plain:
        return png.encode(_captioned(rows, scale), rows.metadata)
    num, columns = rows.num_rows, rows.group_size
    if not 1 < columns <= min(_MAX_COLUMNS, num - 1):
        columns = math.ceil(math.sqrt(num))
    picture = Grid(num, columns, _image_shape(rows))
    for chunk in _chunks(rows):
        picture.add(_pictures(rows, rows.data(chunk)))
    return png.encode(captioned_grid.enlarged(picture.pixels, scale), rows.metadata)


def pictures(data: Data, x: np.ndarray, bounds: Any = None, scale: int = 1) -> np.ndarray:
    """Return images, or line plots of sequences, uint8 `[num, height, width, channels]`.

    Args:
        data: Description of x in the manifest.
        x: `[num, *shape]` in data units.
        bounds: Limits that pictures share: `plots.limits`, or the lowest and the highest value. By default the range of
            the model, or the limits of `x`.
        scale: Factor that enlarges the pictures.
    """
    if data.kind == "sequence":
        return plots.draw(x, plots.limits(x) if bounds is None else bounds, scale)
    return captioned_grid.enlarged(to_uint8(x, data.range or bounds), scale)


def sequence_key(data: Data, bounds: np.ndarray) -> list[tuple[str, str]]:
    """Return a line for each feature of a sequence: its colour, and the values at the bottom and the top of a plot."""
    lines = []
    for feature, (low, high) in enumerate(bounds.T[: len(plots.COLOURS)].tolist()):
        name = f"feature {feature}, " if data.shape[1] > 1 else ""
        lines.append((f"{name}{low:.4g} (bottom) to {high:.4g} (top)", plots.COLOURS[feature]))
    return lines


def condition_text(condition: Condition, value: float) -> str:
    """Return a value of a condition as a caption: the name of its class, or a number."""
    if condition.categorical:
        return captioned_grid.ascii_name(condition.classes[int(value)], f"{condition.name} {int(value)}")
    return f"{value:.4g}"


def _scale(rows: RowStream, style: PictureStyle) -> int:
    height, width, _ = _image_shape(rows)
    num, group = rows.num_rows, rows.group_size
    columns = group if 1 < group < num else _columns(rows, num)
    if rows.pairs and not style.plain:
        return captioned_grid.scale_of(style, (height, width // 2), columns, 2 * num)
    return captioned_grid.scale_of(style, (height, width), columns, num)


def _columns(rows: RowStream, num: int) -> int:
    """Return the images per row, if they are not in groups. A pair is an image above another."""
    height, width, _ = _image_shape(rows)
    return captioned_grid.balanced_columns(num, (4 if rows.pairs else 1) * height / width)


def _captioned(rows: RowStream, scale: int) -> np.ndarray:
    """Return the picture of all rows with captions."""
    data = rows.manifest.data
    names = [each.name for each in rows.manifest.conditions if each.name in rows.arrays]
    parts: list[np.ndarray] = []
    values: dict[str, list] = {name: [] for name in names}
    key: list[tuple[str, str]] = []
    for chunk in _chunks(rows):
        stacked = np.stack(rows.data(chunk), axis=1)
        flat = stacked.reshape(-1, *data.shape)
        bounds = None
        if data.kind == "sequence":
            bounds = plots.limits(flat)
            key = sequence_key(data, bounds)
        drawn = pictures(data, flat, bounds, scale if data.kind == "sequence" else 1)
        parts.append(drawn.reshape(*stacked.shape[:2], *drawn.shape[1:]))
        for name in names:
            values[name] += chunk[name].tolist()
    images = np.concatenate(parts)
    if data.kind != "sequence":
        images = captioned_grid.enlarged(images, scale)
    places, captions = _layout(rows, values)
    return captioned_grid.draw(images, places, dataclasses.replace(captions, key=key))


def _layout(rows: RowStream, values: dict[str, list]) -> tuple[list[range], Captions]:
    """Return the images of each row of a picture, and the captions.

    Conditions that all images share are part of the title. The others name a row if its images share them, else each
    image.
    """
    num, group, start = rows.num_rows, rows.group_size, rows.start
    conditions = {each.name: each for each in rows.manifest.conditions}
    texts = {name: [condition_text(conditions[name], each) for each in column] for name, column in values.items()}
    title = [captioned_grid.ascii_name(rows.manifest.name, "model")[:_MAX_TITLE]]
    title += [f"{name} {column[0]}" for name, column in texts.items() if len(set(values[name])) == 1]
    if "kvae seed" in rows.metadata:
        title.append(f"seed {rows.metadata['kvae seed']}")
    varying = [name for name in texts if len(set(values[name])) > 1]
    joined = [", ".join(each) for each in zip(*(texts[name] for name in varying), strict=True)]
    kinds = {name: len(set(values[name])) for name in varying}
    by_row = not joined or all(
        len(set(column[first : first + group])) == 1
        for column in (values[name] for name in varying)
        for first in range(0, num, group)
    )
    if rows.pairs:
        columns = _columns(rows, num)
        cells = joined or _indices(start, num)
        return _split(num, columns), Captions(
            [*title, "originals above their reconstructions"], cells=cells, parts=("original", "reconstruction")
        )
    if not by_row:
        return _split(num, _columns(rows, num)), Captions([*title, *_by(varying)], cells=joined)
    if group == num:
        columns = _columns(rows, num)
        noun = "sample" if "kvae start" in rows.metadata else "row"
        if num == 1:
            return [range(1)], Captions([*title, f"{noun} {start}"])
        places = _split(num, columns)
        return places, Captions(
            [*title, f"{noun}s {start} to {start + num - 1}"], corner=noun, rows=[f"{start + row[0]}" for row in places]
        )
    if group == 1:
        title.append(f"sample {start}")
        product = list(kinds.values())
        if len(product) == 2 and product[0] * product[1] == num:  # One axis of the picture for each condition.
            along_rows, along_columns = (texts[name] for name in varying)
            return _split(num, product[1]), Captions(
                [*title, f"{varying[0]} by {varying[1]}"],
                rows=along_rows[:: product[1]],
                columns=along_columns[: product[1]],
            )
        return _split(num, _columns(rows, num)), Captions([*title, *_by(varying)], cells=joined)
    columns = group if group <= _MAX_COLUMNS else captioned_grid.balanced_columns(group, 400 / group)  # 20 to 30
    places, row_names = [], []
    for first in range(0, num, group):
        for offset in range(0, group, columns):
            places.append(range(first + offset, first + min(group, offset + columns)))
            row_names.append("" if offset else joined[first])
    return places, Captions(
        [*title, f"samples {start} to {start + group - 1}"],
        corner=", ".join(varying),
        rows=row_names,
        columns=_indices(start, columns) if columns == group else (),
    )


def _split(num: int, columns: int) -> list[range]:
    return [range(first, min(num, first + columns)) for first in range(0, num, columns)]


def _indices(start: int, num: int) -> list[str]:
    return [str(index) for index in range(start, start + num)]


def _by(names: list[str]) -> list[str]:
    return [f"by {' and '.join(names)}"] if names else []


def write_folder(folder: str, rows: RowStream, scale: int = 1) -> None:
    """Write one PNG per row, named by its conditions and its index, enlarged by `scale`."""
    first = 0
    for chunk in _chunks(rows):
        pixels = pictures(rows.manifest.data, chunk[rows.main[0]], scale=scale)
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
