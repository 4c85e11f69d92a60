"""IDX files, plain or gzip, and the folder of four of them that MNIST comes in."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers.arrays import as_dataset
from kvae_serve.readers.dataset import Dataset, Split, check_size

_NAMES = {"train": "train", "test": "t10k"}
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> np.ndarray:
    """Read one IDX file, plain or gzip, into an array of its own type and shape.

    Reference: http://yann.lecun.com/exdb/mnist/, "THE IDX FILE FORMAT".
    """
    path = Path(path)
    source = printable(path)
    try:
        if not path.is_file():  # A FIFO would be waited for.
            raise InputDataError(f"{source} is no regular file. Give an IDX file, plain or gzip.")
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stored = path.stat().st_size
            if not zipped:
                return _parse(file, source, None)
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _parse(unzipped, source, stored)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputDataError(f"{source} is damaged or cut short: it does not unzip. Copy it again.") from error
    except OSError as error:
        raise InputDataError(f"{source} cannot be read: {error.strerror or 'it is damaged'}.") from error


def is_folder(folder: Path) -> bool:
    """Tell whether a folder holds any of the four MNIST files."""
    return any(_find(folder, name) for split in _NAMES.values() for name in _file_names(split))


def read_folder(folder: Path, split: Split, source: str) -> Dataset:
    """Read the images and labels of one split."""
    paths = []
    for name in _file_names(_NAMES[split]):
        found = _find(folder, name)
        if found is None:
            raise InputDataError(
                f"{source} holds no {name} (plain or .gz), no {split}.csv and no .png or .jpg images. "
                "Give a folder with the four MNIST files, or with a folder of images for each class."
            )
        paths.append(found)
    return read_pair(paths[0], paths[1], source)


def labels_beside(path: Path) -> Path | None:
    """Return the file of labels that goes with a file of images by its name, if it is there."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    bare = name.removesuffix(".gz")
    places = [path.with_name(place) for place in (name, bare, f"{bare}.gz") if place != path.name]
    return next((place for place in places if place.is_file()), None)


def read_pair(images: Path, labels: Path | None, source: str) -> Dataset:
    """Read a file of images and one of labels, where there is one."""
    x = read_idx(images)
    if x.ndim < 2:
        raise InputDataError(f"{printable(images)} holds no images: its array is {list(x.shape)}.")
    if labels is None:
        return as_dataset(x, {}, source)
    label = read_idx(labels)
    if label.ndim != 1:
        raise InputDataError(f"{printable(labels)} holds no labels: its array is {list(label.shape)}.")
    return as_dataset(x, {"label": label}, source)


def _file_names(prefix: str) -> tuple[str, str]:
    return f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)


def _parse(file: IO[bytes] | gzip.GzipFile, source: str, stored: int | None) -> np.ndarray:
    head = file.read(4)
    if len(head) < 4:
        raise InputDataError(f"{source} is cut short: an IDX file begins with 4 bytes, found {len(head)}.")
    code, num_dims = head[2], head[3]
    if head[:2] != b"\0\0" or code not in _DTYPES or not 1 <= num_dims <= 4:
        raise InputDataError(
            f"{source} is no IDX file: it begins with 0x{head.hex()}, expected 0x00000803 for images "
            "or 0x00000801 for labels."
        )
    sizes = file.read(4 * num_dims)
    if len(sizes) < 4 * num_dims:
        raise InputDataError(f"{source} is cut short within its header. Copy it again.")
    shape = tuple(int.from_bytes(sizes[4 * axis : 4 * axis + 4], "big") for axis in range(num_dims))
    if 0 in shape:  # The other sizes may be whatever they like then, and NumPy minds.
        raise InputDataError(f"{source} holds no examples: its header says {list(shape)}.")
    dtype = np.dtype(_DTYPES[code])
    expected = dtype.itemsize
    for size in shape:
        expected *= size
    check_size(expected, source, stored)
    body = bytearray()
    # In pieces, for the header of a damaged file may claim far more than there is.
    while len(body) <= expected and (piece := file.read(min(2**24, expected + 1 - len(body)))):
        body += piece
    if len(body) != expected:
        found = f"{len(body)}" if len(body) < expected else "more"
        raise InputDataError(
            f"{source} is damaged or cut short: {list(shape)} takes {expected} bytes, found {found}. Copy it again."
        )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
