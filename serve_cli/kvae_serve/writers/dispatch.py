"""Write a stream of rows in the format that the path asks for, or show it as text.

| path | content |
|---|---|
| `.png` | grid of the images, or of plots of sequences, one row per label |
| `.npz` | all arrays: `x`, `z`, one per condition; of samples also `seed`, `start` and `scheme` |
| `.npy` | `x` only; `z_mean` of latent vectors |
| `.csv` | rows below a header: conditions, then the columns of a table or a latent vector, classes by name |
| `.parquet` | rows of a table with the types of the training table |
| `.html` | rows of a table, and the distribution of each column beside the real one |
| a folder | one PNG per image or sequence |
| `-` | the bytes of an `.npy` on standard output |

Equal rows give equal bytes: no output contains a date.
"""
# os instead of pathlib: importing pathlib would slow down the start of `kvae sample`.
# ruff: noqa: PTH112, PTH119, PTH122

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Protocol, TextIO

from kvae_serve.errors import RequestError, printable
from kvae_serve.row_stream import Chunk, Dtype, RowStream, chunk_rows
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import atomic, disk_space, stdout
from kvae_serve.writers.captioned_grid import PictureStyle
from kvae_serve.writers.stdout import STDOUT

__all__ = ["Dtype", "PictureStyle", "check", "check_images", "check_table", "show", "stream", "write"]

MAX_TEXT_IMAGES = 10_000
"""Most images that are shown as text: they are all kept in memory."""


class Rows(Protocol):
    """Result with rows, such as samples."""

    def row_stream(self) -> RowStream:
        """Return the rows as a stream."""


_Writer = Callable[[str, RowStream, Dtype, PictureStyle, bool], None]


def check(path: str, force: bool = False) -> None:
    """Check an output path before long work.

    Raises:
        RequestError: The suffix is unknown.
        OutputError: The path exists and `force` is not set.
    """
    _writer(path)
    if path != STDOUT and not (_is_folder(path) and os.path.isdir(path) and not os.listdir(path)):  # noqa: PTH208
        atomic.check_target(path, force)


def write(
    path: str, draws: Rows, *, dtype: Dtype = "float32", style: PictureStyle | None = None, force: bool = False
) -> None:
    """Write samples to `path`. See `stream`."""
    stream(path, draws.row_stream(), dtype=dtype, style=style, force=force, quiet=True)


def stream(
    path: str,
    rows: RowStream,
    *,
    dtype: Dtype = "float32",
    style: PictureStyle | None = None,
    force: bool = False,
    quiet: bool = False,
) -> None:
    """Write rows while they are computed, in constant memory. The output appears complete or not at all.

    Args:
        path: Output, see the table of this module. A folder is a name without a suffix, or with a slash at its end.
            Rows that go to `-` cannot be taken back if a later one fails.
        rows: Rows to write.
        dtype: Type of the data in arrays. "uint8" rounds to integers from 0 to 255.
        style: Look of pictures.
        force: Replace an existing output, and do not check the free disk space.
        quiet: Do not show progress on stderr.

    Raises:
        RequestError: The suffix is unknown, or does not fit the data.
        OutputError: The path exists, does not fit on the disk, or cannot be written.
    """
    writer = _writer(path)
    with _prefetched(rows, quiet) as running:
        writer(path, running, dtype, style or PictureStyle(), force)


def show(draws: Rows | RowStream, stream: TextIO | None = None, quiet: bool = True) -> None:
    """Show images as characters, and other data as CSV, on a stream (by default standard output)."""
    stream = stream or stdout.text()
    rows = draws if isinstance(draws, RowStream) else draws.row_stream()
    if rows.holds_images and rows.num_rows > MAX_TEXT_IMAGES:
        raise RequestError(
            f"{rows.num_rows:,} images are too many to show as text, the most is {MAX_TEXT_IMAGES:,}. Use -o."
        )
    with _prefetched(rows, quiet) as running:
        if running.holds_images:
            import numpy as np

            from kvae_serve.writers import ascii

            images = np.concatenate([running.images(chunk) for chunk in running.chunks])
            per_row = running.group_size if 1 < running.group_size < running.num_rows else None
            ascii.write(stream, images, running.manifest.data.range, per_row)
        else:
            from kvae_serve.writers import csv

            csv.write(stdout.table(stream), running)


def check_pictures(path: str, rows: RowStream) -> None:
    """Raise `RequestError` if an output of pictures was requested, but the rows are neither images nor sequences."""
    if rows.manifest.data.kind != "sequence" or not rows.data_names:
        check_images(path, rows.manifest, None if rows.data_names else rows.main[0])


def check_images(path: str, manifest: Manifest, content: str | None = None) -> None:
    """Raise `RequestError` if an output of pictures was requested, but the rows are not images.

    Args:
        path: The output.
        manifest: Manifest of the model.
        content: Name of the rows if they are not data, such as "z_mean".
    """
    data = manifest.data
    if content is None:
        if data.kind == "image" and data.shape[2] in (1, 3):
            return
        content = f"{data.kind} data of shape {list(data.shape)}"
    table = ".csv, " if data.kind != "image" else ""
    raise RequestError(
        f"{printable(path)} stores pictures, but {printable(manifest.name, 60)} makes {content}. "
        f"Use {table}.npz or .npy."
    )


def check_table(path: str, manifest: Manifest) -> None:
    """Raise `RequestError` if a table of images was requested."""
    if manifest.data.kind == "image":
        raise RequestError(
            f"{printable(path)} stores a table, but {printable(manifest.name, 60)} makes images. Use .npz or .npy."
        )


@contextlib.contextmanager
def _prefetched(rows: RowStream, quiet: bool) -> Iterator[RowStream]:
    """Compute chunks in a thread and show progress, until the block ends."""
    from kvae_serve.progress import Progress

    with contextlib.ExitStack() as stack:
        chunks = rows.chunks
        progress = stack.enter_context(Progress("Making rows", quiet))
        if rows.num_rows > chunk_rows(rows.manifest.data, 1):  # One chunk does not need a thread.
            from kvae_serve.prefetch import prefetch

            chunks = stack.enter_context(contextlib.closing(prefetch(chunks)))  # type: ignore[type-var]

        def counted() -> Iterator[Chunk]:
            done = 0
            for chunk in chunks:
                yield chunk
                done += len(chunk[rows.main[0]])
                progress(done, rows.num_rows)
            if done != rows.num_rows:
                raise AssertionError(f"The chunks have {done} rows, expected {rows.num_rows}.")

        yield dataclasses.replace(rows, chunks=counted())


def _writer(path: str) -> _Writer:
    if path == STDOUT:
        return _write_stdout
    suffix = os.path.splitext(path)[1].lower()
    name = os.path.basename(path)
    if not path or (name.lower() in _WRITERS and not os.path.isdir(path)):
        problem = f"{printable(path)} is a suffix without a name" if path else "The name of the output is empty"
        raise RequestError(f"{problem}. Use a name such as digits.png.")
    if _is_folder(path):
        return _write_folder
    if suffix not in _WRITERS:
        raise RequestError(
            f"{printable(path)} has the unknown suffix {printable(suffix)}. Expected .png, .npz, .npy, .csv, "
            ".parquet or .html, a folder (a name without a suffix, or with / at its end), or - for standard output."
        )
    return _WRITERS[suffix]


def _is_folder(path: str) -> bool:
    return path.endswith(("/", os.sep)) or not os.path.splitext(path)[1] or os.path.isdir(path)


def _write_png(path: str, rows: RowStream, dtype: Dtype, style: PictureStyle, force: bool) -> None:
    from kvae_serve.writers import images

    check_pictures(path, rows)
    images.check_grid(path, rows, style)
    atomic.write_whole(path, images.grid_png(rows, style), force)


def _write_npz(path: str, rows: RowStream, dtype: Dtype, style: PictureStyle, force: bool) -> None:
    from kvae_serve.writers import npz

    rows = rows.as_dtype(dtype).with_class_names()
    disk_space.check(path, npz.num_bytes(rows), force)
    atomic.write_whole(path, lambda file: npz.write(file, rows), force)


def _write_npy(path: str, rows: RowStream, dtype: Dtype, style: PictureStyle, force: bool) -> None:
    from kvae_serve.writers import npy

    rows = rows.as_dtype(dtype)
    disk_space.check(path, rows.num_rows * rows.arrays[rows.main[0]].bytes, force)
    atomic.write_whole(path, lambda file: npy.write(file, rows), force)


def _write_folder(path: str, rows: RowStream, dtype: Dtype, style: PictureStyle, force: bool) -> None:
    from kvae_serve.writers import images

    check_pictures(path, rows)
    disk_space.check(path, rows.num_rows * images.MIN_FILE_BYTES, force)
    with atomic.new_folder(path, force) as folder:
        images.write_folder(folder, rows, style.scale or 1)


def _write_stdout(path: str, rows: RowStream, dtype: Dtype, style: PictureStyle, force: bool) -> None:
    from kvae_serve.writers import npy

    npy.write(stdout.binary(), rows.as_dtype(dtype))


def _write_parquet(path: str, rows: RowStream, dtype: Dtype, style: PictureStyle, force: bool) -> None:
    from kvae_serve.writers import frames

    if rows.manifest.data.kind != "table" or not rows.data_names:
        raise RequestError(f"{printable(path)} stores rows of a table, but these are others. Use .npz, .npy or .csv.")
    atomic.write_whole(path, lambda file: frames.write_parquet(file, rows), force)


def _write_csv(path: str, rows: RowStream, dtype: Dtype, style: PictureStyle, force: bool) -> None:
    from kvae_serve.writers import csv

    if rows.data_names:
        check_table(path, rows.manifest)
    # Each value takes at least a digit and a comma.
    disk_space.check(path, 2 * rows.num_rows * sum(rows.arrays[name].bytes // 4 for name in rows.main), force)
    atomic.write_text(path, lambda text: csv.write(text, rows), force)


def _write_html(path: str, rows: RowStream, dtype: Dtype, style: PictureStyle, force: bool) -> None:
    from kvae_serve.writers import html

    if rows.manifest.data.kind != "table" or not rows.data_names:
        raise RequestError(f"{printable(path)} shows rows of a table, but these are others. Use .png, .npz or .npy.")
    atomic.write_whole(path, html.page(rows), force)


_WRITERS: dict[str, _Writer] = {
    ".png": _write_png,
    ".npz": _write_npz,
    ".npy": _write_npy,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".html": _write_html,
}
