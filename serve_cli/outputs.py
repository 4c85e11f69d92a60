"""What was drawn, written in the form that the path asks for, or shown as text.

| path | holds |
|---|---|
| `.png` | a grid of the images, a row for each label |
| `.npz` | `x`, `z`, one array for each condition, `seed`, `start`, `scheme` |
| `.npy` | `x` alone |
| `.csv` | rows below a header; of a table conditions, then columns, classes by name |
| a folder | one PNG for each image |
| `-` | the bytes of an `.npy` on standard output |

The same draws give the same bytes: nothing tells when they were written.
"""
# os rather than pathlib: importing pathlib would be felt in the start of `kvae sample`.
# ruff: noqa: PTH112, PTH118, PTH119, PTH122

from __future__ import annotations

import io
import os
import sys
import types
from collections.abc import Callable
from typing import BinaryIO, Literal, TextIO

import numpy as np

from serve_cli import files, png
from serve_cli.errors import OutputError, RequestError, printable
from serve_cli.grid import grid, to_uint8
from serve_cli.sampling import Draws

Dtype = Literal["float32", "uint8"]
STDOUT = "-"


def check(path: str, force: bool = False) -> None:
    """Raise before any work is done where `path` has an unknown suffix or exists already."""
    _writer(path)
    if path != STDOUT and not (_is_folder(path) and os.path.isdir(path) and not os.listdir(path)):  # noqa: PTH208
        files.refuse_existing(path, force)


def write(path: str, draws: Draws, *, dtype: Dtype = "float32", force: bool = False) -> None:
    """Write draws to `path`, whose suffix decides the form; complete or not at all.

    Args:
        path: `.png`, `.npz`, `.npy`, `.csv`, a folder (no suffix, or a slash at its end), or `-`.
        draws: what to write.
        dtype: of x in arrays; "uint8" rounds to whole numbers from 0 to 255.
        force: replace what exists.

    Raises:
        RequestError: the suffix is unknown, or the data is not of that form.
        OutputError: the path exists, or cannot be written.
    """
    _writer(path)(path, draws, dtype, force)


def show(draws: Draws, stream: TextIO | None = None) -> None:
    """Write draws as text: images as cells of characters, other data as rows of CSV."""
    stream = stream or sys.stdout
    if stream is None:
        raise OutputError("Standard output is closed. Give -o to write a file.")
    data = draws.manifest.data
    if data.kind == "image" and data.shape[2] in (1, 3):
        from serve_cli import text

        width, colour = text.terminal(stream)
        stream.write(text.render(draws.x, data.range, width, colour, draws.num if draws.num > 1 else None))
    else:
        _write_rows(stream, draws)


def facts(draws: Draws) -> dict[str, str]:
    """Return how to draw the same again, as texts."""
    manifest = draws.manifest
    return {
        "Software": "kvae",
        "kvae model": f"{manifest.name} {manifest.model_id}".encode("ascii", "replace").decode(),
        "kvae seed": str(draws.seed),
        "kvae start": str(draws.start),
        "kvae scheme": draws.scheme,
    }


def _writer(path: str) -> Callable[[str, Draws, Dtype, bool], None]:
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


def _array(draws: Draws, dtype: Dtype) -> np.ndarray:
    if dtype == "float32":
        return draws.x
    value_range = draws.manifest.data.range
    if value_range is None or value_range[0] < 0 or value_range[1] > 255:
        raise RequestError(f"{draws.manifest.name} has data beyond 0 to 255, so it cannot be written as uint8.")
    pixels = np.empty(draws.x.shape, np.uint8)
    for start in range(0, len(pixels), 1024):  # In parts, for each step makes a copy.
        pixels[start : start + 1024] = np.rint(np.clip(draws.x[start : start + 1024], 0, 255))
    return pixels


def _write_png(path: str, draws: Draws, dtype: Dtype, force: bool) -> None:
    _check_images(path, draws)
    # A row for each label, where there are several and each has a handful.
    columns = draws.num if 1 < draws.num <= 32 and len(draws) > draws.num else None
    picture = grid(draws.x, columns, draws.manifest.data.range)
    files.write_whole(path, png.encode(picture, facts(draws)), force)


def _write_npz(path: str, draws: Draws, dtype: Dtype, force: bool) -> None:
    arrays = {
        "x": _array(draws, dtype),
        "z": draws.z,
        **draws.conditions,
        "seed": np.uint64(draws.seed),
        "start": np.int64(draws.start),
        "scheme": np.array(draws.scheme),
    }

    def write_arrays(file: BinaryIO) -> None:
        import zipfile

        with zipfile.ZipFile(file, "w") as bundle:
            for name, array in arrays.items():
                # A bare ZipInfo dates all members 1980, so that the same draws give the same bytes.
                with bundle.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)

    files.write_whole(path, write_arrays, force)


def _write_npy(path: str, draws: Draws, dtype: Dtype, force: bool) -> None:
    x = _array(draws, dtype)
    files.write_whole(path, lambda file: _save(file, x), force)


def _save(file: BinaryIO, x: np.ndarray) -> None:
    """Write .npy piece by piece: the quick way of numpy into a file keeps the reason of a failure to itself."""

    def write(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]  # Unbuffered (PYTHONUNBUFFERED), it may take a part alone.

    np.save(types.SimpleNamespace(write=write), x)


def _write_folder(path: str, draws: Draws, dtype: Dtype, force: bool) -> None:
    _check_images(path, draws)
    pixels = to_uint8(draws.x, draws.manifest.data.range)
    text = facts(draws)
    with files.new_folder(path, force) as folder:
        for row, name in enumerate(_file_names(draws)):
            with open(os.path.join(folder, f"{name}.png"), "wb") as file:  # noqa: PTH123
                file.write(png.encode(pixels[row], text))


def _write_stdout(path: str, draws: Draws, dtype: Dtype, force: bool) -> None:
    stdout = getattr(sys.stdout, "buffer", None)
    if stdout is None:
        raise OutputError("Standard output is closed. Give a path to write a file.")
    if stdout.isatty():
        raise RequestError("Standard output is a terminal, which cannot show .npy bytes. Redirect it, or leave out -o.")
    _save(stdout, _array(draws, dtype))


def _write_csv(path: str, draws: Draws, dtype: Dtype, force: bool) -> None:
    if draws.manifest.data.kind == "image":
        raise RequestError(f"{printable(path)} would hold a table, but {draws.manifest.name} makes images. Write .npz.")

    def write_rows(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        _write_rows(text, draws)
        text.detach()

    files.write_whole(path, write_rows, force)


def _write_rows(stream: TextIO, draws: Draws) -> None:
    """Rows as CSV below a header: of a table its conditions and columns, classes by name, as readers take them back."""
    import csv

    data = draws.manifest.data
    writer = csv.writer(stream, lineterminator="\n")
    names = [str(column["name"]) for column in data.columns] or [f"x{index}" for index in range(data.num_values)]
    conditions = [each.name for each in draws.manifest.conditions if data.columns]
    writer.writerow([*conditions, *names])
    columns = [draws.names(name) for name in conditions]
    for index, values in enumerate(draws.x.reshape(len(draws), -1).T.tolist()):
        classes = data.columns[index].get("classes") if data.columns else None
        if classes:
            columns.append([classes[min(max(round(value), 0), len(classes) - 1)] for value in values])
        else:
            columns.append([f"{value:.9g}" for value in values])
    writer.writerows(zip(*columns, strict=True))


def _check_images(path: str, draws: Draws) -> None:
    data = draws.manifest.data
    if data.kind != "image" or data.shape[2] not in (1, 3):
        raise RequestError(
            f"{printable(path)} would hold pictures, but {draws.manifest.name} makes {data.kind} data of shape "
            f"{list(data.shape)}. Write .npz or .npy."
        )


def _file_names(draws: Draws) -> list[str]:
    """Return a name for each row: its conditions, and its index within its label, as in `label-3_000016`."""
    prefixes = [""] * len(draws)
    for condition in draws.manifest.conditions:
        values = draws.conditions[condition.name].tolist()
        if condition.categorical:
            # The index goes first where a class name needs changing, for two might become the same.
            names = [_safe(name, f"{index}") for index, name in enumerate(condition.classes)]
            texts = [names[value] for value in values]
        else:
            texts = [f"{value:.9g}" for value in values]
        key = _safe(condition.name, "condition")
        prefixes = [f"{prefix}{key}-{text}_" for prefix, text in zip(prefixes, texts, strict=True)]
    return [f"{prefix}{draws.start + row % draws.num:06d}" for row, prefix in enumerate(prefixes)]


def _safe(name: str, index: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in name)[:40]
    return name if kept == name and not name.startswith((".", "-")) else f"{index}-{kept}"


_WRITERS: dict[str, Callable[[str, Draws, Dtype, bool], None]] = {
    ".png": _write_png,
    ".npz": _write_npz,
    ".npy": _write_npy,
    ".csv": _write_csv,
}
