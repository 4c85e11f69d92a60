"""Read IDX files, plain or gzip, and the folder of four such files that MNIST consists of."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers.arrays import as_dataset
from kvae_serve.readers.dataset import Dataset, MissingSplitError, ReadOptions, Split, check_size

_NAMES = {"train": "train", "test": "t10k"}
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> np.ndarray:
    """Read one IDX file, plain or gzip, with its type and shape.

    Reference: http://yann.lecun.com/exdb/mnist/, "THE IDX FILE FORMAT".
    """
    path = Path(path)
    source = printable(path)
    try:
        if not path.is_file():  # Opening a named pipe would block.
            raise InputDataError(f"{source} is not a regular file. Use an IDX file, plain or gzip.")
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stored = path.stat().st_size
            if not zipped:
                return _parse(file, source, None)
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _parse(unzipped, source, stored)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputDataError(f"{source} cannot be unzipped: it is damaged or cut short. Copy it again.") from error
    except OSError as error:
        raise InputDataError(f"{source} cannot be read: {error.strerror or 'it is damaged'}.") from error


def is_folder(folder: Path) -> bool:
    """Return whether a folder contains one of the four MNIST files."""
    return any(_find(folder, name) for split in _NAMES.values() for name in _file_names(split))


def read_folder(folder: Path, split: Split, source: str, options: ReadOptions | None = None) -> Dataset:
    """Read the images and labels of one split. The classes of both splits are those of the train split."""
    paths = []
    for name in _file_names(_NAMES[split]):
        path = _find(folder, name)
        if path is None:
            other = "train" if split == "test" else "test"
            if is_folder(folder) and not any(_find(folder, each) for each in _file_names(_NAMES[split])):
                kind = MissingSplitError if split == "test" else InputDataError
                raise kind(f"{source} contains only the {other} split: {name} is missing. Use --split {other}.")
            raise InputDataError(
                f"{source} does not contain {name} (plain or .gz), {split}.csv, or images. "
                "Use a folder with the four MNIST files, or with one folder of images per class."
            )
        paths.append(path)
    train = _find(folder, _file_names(_NAMES["train"])[1]) if split == "test" else None
    return read_pair(paths[0], paths[1], source, options, train)


def labels_beside(path: Path) -> Path | None:
    """Return the file of labels that goes with a file of images by its name, if it is there."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    bare = name.removesuffix(".gz")
    places = [path.with_name(place) for place in (name, bare, f"{bare}.gz") if place != path.name]
    return next((place for place in places if place.is_file()), None)


def read_pair(
    images: Path,
    labels: Path | None,
    source: str,
    options: ReadOptions | None = None,
    train_labels: Path | None = None,
) -> Dataset:
    """Read a file of images and its file of labels, if there is one. Classes of `train_labels` come first."""
    x = read_idx(images)
    if x.ndim < 2:
        raise InputDataError(
            f"{printable(images)} has an array of the shape {list(x.shape)}; expected images. Use the file of images."
        )
    if labels is None:
        return as_dataset(x, {}, source, options)
    label = read_idx(labels)
    if label.ndim != 1:
        raise InputDataError(
            f"{printable(labels)} has an array of the shape {list(label.shape)}; expected labels [num]. Replace it."
        )
    train = None if train_labels is None else {"label": read_idx(train_labels)}
    return as_dataset(x, {"label": label}, source, options, train)


def _file_names(prefix: str) -> tuple[str, str]:
    return f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"


def _find(folder: Path, name: str) -> Path | None:
    # File managers replace the hyphen before idx by a dot when they unpack a file.
    names = [each + suffix for each in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    return next((folder / each for each in names if (folder / each).exists()), None)


def _parse(file: IO[bytes] | gzip.GzipFile, source: str, stored: int | None) -> np.ndarray:
    head = file.read(4)
    if len(head) < 4:
        raise InputDataError(f"{source} is cut short: it has {len(head)} bytes; expected at least 4. Copy it again.")
    code, num_dims = head[2], head[3]
    if head[:2] != b"\0\0" or code not in _DTYPES or not 1 <= num_dims <= 4:
        raise InputDataError(
            f"{source} is not an IDX file: it begins with 0x{head.hex()}; expected 0x00000803 (images) or 0x00000801 "
            "(labels)."
        )
    sizes = file.read(4 * num_dims)
    if len(sizes) < 4 * num_dims:
        raise InputDataError(f"{source} is cut short in its header. Copy it again.")
    shape = tuple(int.from_bytes(sizes[4 * axis : 4 * axis + 4], "big") for axis in range(num_dims))
    if 0 in shape:  # Another size may be too large for NumPy.
        raise InputDataError(f"{source} does not contain any examples: its header has the shape {list(shape)}.")
    dtype = np.dtype(_DTYPES[code])
    expected = dtype.itemsize
    for size in shape:
        expected *= size
    check_size(expected, source, stored)
    body = bytearray()
    # In parts, because the header of a damaged file may claim far more bytes than there are.
    while len(body) <= expected and (piece := file.read(min(2**24, expected + 1 - len(body)))):
        body += piece
    if len(body) != expected:
        length = f"{len(body)}" if len(body) < expected else "more"
        raise InputDataError(
            f"{source} is damaged or cut short: {list(shape)} needs {expected} bytes, it has {length}. Copy it again."
        )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
