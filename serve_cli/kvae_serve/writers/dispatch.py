"""What was made, written in the form that the path asks for, or shown as text.

| path | holds |
|---|---|
| `.png` | a grid of the images, a row for each label |
| `.npz` | every array: `x`, `z`, one for each condition; `seed`, `start` and `scheme` of what was drawn |
| `.npy` | `x` alone, of codes `z_mean` |
| `.csv` | rows below a header; of a table conditions, then columns, classes by name |
| a folder | one PNG for each image |
| `-` | the bytes of an `.npy` on standard output |

Rows are written as they come, see `kvae_serve.row_stream`. The same rows give the same bytes: nothing tells when
they were
written.
"""
# os rather than pathlib: importing pathlib would be felt in the start of `kvae sample`.
# ruff: noqa: PTH112, PTH119, PTH122

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, TextIO

from kvae_serve.errors import OutputError, RequestError, printable
from kvae_serve.row_stream import Chunk, Dtype, RowStream, chunk_rows
from kvae_serve.writers import atomic, disk_space

if TYPE_CHECKING:
    from kvae_serve.inference.sampling import Draws

__all__ = ["STDOUT", "Dtype", "check", "facts", "show", "stream", "write"]

STDOUT = "-"
MAX_SHOWN = 10_000
"""Images as text, which are held until all are there."""


def check(path: str, force: bool = False) -> None:
    """Raise before any work is done where `path` has an unknown suffix or exists already."""
    _writer(path)
    if path != STDOUT and not (_is_folder(path) and os.path.isdir(path) and not os.listdir(path)):  # noqa: PTH208
        atomic.refuse_existing(path, force)


def write(path: str, draws: Draws, *, dtype: Dtype = "float32", force: bool = False) -> None:
    """Write draws to `path`, whose suffix decides the form; complete or not at all.

    Args:
        path: `.png`, `.npz`, `.npy`, `.csv`, a folder (no suffix, or a slash at its end), or `-`.
        draws: what to write.
        dtype: of x in arrays; "uint8" rounds to whole numbers from 0 to 255.
        force: replace what exists, and write also where the disk seems too full.

    Raises:
        RequestError: the suffix is unknown, or the data is not of that form.
        OutputError: the path exists, or cannot be written.
    """
    stream(path, draws.row_stream(), dtype=dtype, force=force, quiet=True)


def stream(path: str, rows: RowStream, *, dtype: Dtype = "float32", force: bool = False, quiet: bool = False) -> None:
    """Write rows as they are made, in memory that does not grow with them; complete or not at all.

    Args:
        path: as for `write`. What goes to `-` is gone at once, so there an error comes after the first rows.
        rows: what to write.
        dtype: of data in arrays.
        force: as for `write`.
        quiet: show no progress on standard error.

    Raises:
        RequestError: the suffix is unknown, or the data is not of that form.
        OutputError: the path exists, does not fit on the disk, or cannot be written.
    """
    writer = _writer(path)
    with _under_way(rows, quiet) as running:
        writer(path, running, dtype, force)


def show(draws: Draws | RowStream, stream: TextIO | None = None, quiet: bool = True) -> None:
    """Write rows as text: images as cells of characters, other data as rows of CSV."""
    stream = stream or sys.stdout
    if stream is None:
        raise OutputError("Standard output is closed. Give -o to write a file.")
    rows = draws if isinstance(draws, RowStream) else draws.row_stream()
    if rows.holds_images and rows.num_rows > MAX_SHOWN:
        raise RequestError(f"{rows.num_rows:,} images are too many to show as text, of {MAX_SHOWN:,} at most. Give -o.")
    with _under_way(rows, quiet) as running:
        if running.holds_images:
            import numpy as np

            from kvae_serve.writers import ascii as text

            images = np.concatenate([running.images(chunk) for chunk in running.chunks])
            width, colour = text.terminal(stream)
            per_row = running.group_size if 1 < running.group_size < running.num_rows else None
            stream.write(text.render(images, running.manifest.data.range, width, colour, per_row))
        else:
            from kvae_serve.writers import csv as table

            table.write(stream, running)


def facts(draws: Draws) -> dict[str, str]:
    """Return how to draw the same again, as texts."""
    return draws.row_stream().metadata


@contextlib.contextmanager
def _under_way(rows: RowStream, quiet: bool) -> Iterator[RowStream]:
    """Prefetch the chunks and show progress; both have ended on exit."""
    from kvae_serve.progress import Progress

    with contextlib.ExitStack() as stack:
        chunks = rows.chunks
        progress = stack.enter_context(Progress("Making rows", quiet))
        if rows.num_rows > chunk_rows(rows.manifest.data, 1):  # For a few rows a thread would only cost its start.
            from kvae_serve.prefetch import prefetch

            chunks = stack.enter_context(contextlib.closing(prefetch(chunks)))  # type: ignore[type-var]

        def counted() -> Iterator[Chunk]:
            done = 0
            for chunk in chunks:
                yield chunk
                done += len(chunk[rows.main[0]])
                progress(done, rows.num_rows)
            if done != rows.num_rows:
                raise AssertionError(f"{done} rows were made, {rows.num_rows} were to be.")

        yield dataclasses.replace(rows, chunks=counted())


def _writer(path: str) -> Callable[[str, RowStream, Dtype, bool], None]:
    if path == STDOUT:
        return _write_stdout
    suffix = os.path.splitext(path)[1].lower()
    name = os.path.basename(path)
    if not path or (name.lower() in _WRITERS and not os.path.isdir(path)):
        what = f"{printable(path)} is a suffix without a name" if path else "The output has an empty name"
        raise RequestError(f"{what}. Give one before the suffix, such as digits.png.")
    if _is_folder(path):
        return _write_folder
    if suffix not in _WRITERS:
        raise RequestError(
            f"{printable(path)} has the suffix {printable(suffix)}, which is unknown. Expected .png, .npz, .npy "
            "or .csv, a folder (a name without a suffix, or with / at its end), or - for standard output."
        )
    return _WRITERS[suffix]


def _is_folder(path: str) -> bool:
    return path.endswith(("/", os.sep)) or not os.path.splitext(path)[1] or os.path.isdir(path)


def _write_png(path: str, rows: RowStream, dtype: Dtype, force: bool) -> None:
    from kvae_serve.writers import images as pictures

    _check_images(path, rows)
    pictures.check_grid(path, rows)
    atomic.write_whole(path, pictures.grid_png(rows), force)


def _write_npz(path: str, rows: RowStream, dtype: Dtype, force: bool) -> None:
    from kvae_serve.writers import npz

    rows = rows.as_dtype(dtype)
    disk_space.check(path, npz.num_bytes(rows), force)
    atomic.write_whole(path, lambda file: npz.write(file, rows), force)


def _write_npy(path: str, rows: RowStream, dtype: Dtype, force: bool) -> None:
    from kvae_serve.writers import npy

    rows = rows.as_dtype(dtype)
    disk_space.check(path, rows.num_rows * rows.arrays[rows.main[0]].bytes, force)
    atomic.write_whole(path, lambda file: npy.write(file, rows), force)


def _write_folder(path: str, rows: RowStream, dtype: Dtype, force: bool) -> None:
    from kvae_serve.writers import images as pictures

    _check_images(path, rows)
    disk_space.check(path, rows.num_rows * pictures.LEAST_BYTES, force)
    with atomic.new_folder(path, force) as folder:
        pictures.write_folder(folder, rows)


def _write_stdout(path: str, rows: RowStream, dtype: Dtype, force: bool) -> None:
    from kvae_serve.writers import npy

    stdout = getattr(sys.stdout, "buffer", None)
    if stdout is None:
        raise OutputError("Standard output is closed. Give a path to write a file.")
    if stdout.isatty():
        raise RequestError("Standard output is a terminal, which cannot show .npy bytes. Redirect it, or leave out -o.")
    npy.write(stdout, rows.as_dtype(dtype))


def _write_csv(path: str, rows: RowStream, dtype: Dtype, force: bool) -> None:
    from kvae_serve.writers import csv as table

    manifest = rows.manifest
    if manifest.data.kind == "image" and rows.data_names:
        raise RequestError(
            f"{printable(path)} would hold a table, but {printable(manifest.name, 60)} makes images. Write .npz."
        )
    # A value is a digit and a comma at least.
    disk_space.check(path, 2 * rows.num_rows * sum(rows.arrays[name].bytes // 4 for name in rows.main), force)

    def write_rows(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        table.write(text, rows)
        text.detach()

    atomic.write_whole(path, write_rows, force)


def _check_images(path: str, rows: RowStream) -> None:
    if rows.holds_images:
        return
    data = rows.manifest.data
    made = f"{data.kind} data of shape {list(data.shape)}" if rows.data_names else rows.main[0]
    raise RequestError(
        f"{printable(path)} would hold pictures, but {printable(rows.manifest.name, 60)} makes {made}. "
        "Write .npz or .npy."
    )


_WRITERS: dict[str, Callable[[str, RowStream, Dtype, bool], None]] = {
    ".png": _write_png,
    ".npz": _write_npz,
    ".npy": _write_npy,
    ".csv": _write_csv,
}
