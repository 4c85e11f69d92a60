"""Data sets from files: IDX (plain or gzip), the MNIST folder, .npz and .npy, with numpy alone.

What is read is checked at once, so that nothing later meets a NaN, an empty array or labels of another length.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np

from serve_cli.errors import InputDataError, printable

Split = Literal["train", "test"]

# What numpy and zipfile raise over a damaged file; the header of one may even ask for more memory than there is.
_DAMAGED = (ValueError, zipfile.BadZipFile, EOFError, zlib.error, OSError, RuntimeError, MemoryError)

MAX_BYTES = 16 * 2**30
"""No array is read that takes more than this unpacked: a small file can claim any size."""

MAX_CLASSES = 10_000

_IDX_NAMES = {"train": "train", "test": "t10k"}
_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# Arrays of an .npz that are no conditions: what `kvae sample -o draws.npz` writes beside x.
_NOT_CONDITIONS = {"x", "z", "seed", "scheme", "start"}


class Dataset(NamedTuple):
    """Examples as their file holds them.

    Attributes:
        x: `[num, *shape]` in data units: uint8 where the file has 8-bit values, float32 otherwise. Images are
            `[num, height, width, channels]`.
        conditions: name to int64 `[num]` (class index) or float32 `[num]` (continuous), in the file's order.
        class_names: for each categorical condition the names of its classes, by index.
        source: the path that was read, for messages and manifests.
        range: lowest and highest value that the file's type can hold: (0, 255) for 8-bit data, else None.
    """

    x: np.ndarray
    conditions: dict[str, np.ndarray]
    class_names: dict[str, tuple[str, ...]]
    source: str
    range: tuple[float, float] | None


def read_dataset(path: str | Path, split: Split | None = None) -> Dataset:
    """Read examples, and their labels where there are any.

    Args:
        path: a folder with the four MNIST files (plain or .gz); an IDX file of images, whose labels are looked for
            beside it; an .npz with `x`, and `label` or one array for each condition (or Keras' `x_train`, `y_train`,
            `x_test`, `y_test`); or an .npy with x alone.
        split: which half of a source that has two, "train" where None. A source without halves has no "test".

    Raises:
        InputDataError: there is no such file, or what it holds is damaged, empty, not finite or does not fit together.
    """
    path = Path(path)
    source = printable(path)
    try:
        if path.is_dir():
            return _read_mnist_folder(path, split or "train", source)
        if not path.exists():
            raise InputDataError(f"{source} does not exist. Give a data folder, or an IDX, .npz or .npy file.")
        if not path.is_file():
            raise InputDataError(f"{source} is no regular file. Give a data folder, or an IDX, .npz or .npy file.")
        suffix = path.suffix.lower()
        if suffix == ".npz":
            return _read_npz(path, split, source)
        if split == "test":
            raise InputDataError(f"{source} has no test split. Give a data folder, or an .npz with x_test.")
        if suffix == ".npy":
            return _dataset(_load_npy(path, source), {}, source)
        if suffix in ("", ".gz", ".idx") or "ubyte" in path.name:
            return _read_idx_pair(path, _labels_beside(path), source)
    except OSError as error:
        raise InputDataError(f"{source} cannot be read: {error.strerror or 'it is damaged'}.") from error
    raise InputDataError(f"{source} has an unknown suffix. Data comes as a folder, IDX, .npz or .npy.")


def read_idx(path: str | Path) -> np.ndarray:
    """Read one IDX file, plain or gzip, into an array of its own type and shape.

    Reference: http://yann.lecun.com/exdb/mnist/, "THE IDX FILE FORMAT".
    """
    path = Path(path)
    source = printable(path)
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not zipped:
                return _parse_idx(file, source)
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _parse_idx(unzipped, source)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputDataError(f"{source} is damaged or cut short: it does not unzip. Copy it again.") from error
    except OSError as error:
        raise InputDataError(f"{source} cannot be read: {error.strerror or 'it is damaged'}.") from error


def check_range(x: np.ndarray, value_range: tuple[float, float] | None, source: str) -> None:
    """Raise `InputDataError` where a value is not finite or lies outside the range of a model's data."""
    _check_finite(x, "x", source)
    if value_range is None or not x.size:
        return
    low, high = float(x.min()), float(x.max())
    if low < value_range[0] or high > value_range[1]:
        raise InputDataError(
            f"{source} has values from {low:g} to {high:g}, expected {value_range[0]:g} to {value_range[1]:g}. "
            "Give data in the units that the model was trained on."
        )


def _read_mnist_folder(folder: Path, split: Split, source: str) -> Dataset:
    prefix = _IDX_NAMES[split]
    paths = []
    for name in (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"):
        found = next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)
        if found is None:
            raise InputDataError(
                f"{source} holds no {name} (plain or .gz). Give a folder with the four MNIST files, or an .npz."
            )
        paths.append(found)
    return _read_idx_pair(paths[0], paths[1], source)


def _labels_beside(path: Path) -> Path | None:
    """Return the file of labels that goes with a file of images by its name, if it is there."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    bare = name.removesuffix(".gz")
    places = [path.with_name(place) for place in (name, bare, f"{bare}.gz") if place != path.name]
    return next((place for place in places if place.is_file()), None)


def _read_idx_pair(images: Path, labels: Path | None, source: str) -> Dataset:
    x = read_idx(images)
    if x.ndim < 2:
        raise InputDataError(f"{printable(images)} holds no images: its array is {list(x.shape)}.")
    if labels is None:
        return _dataset(x, {}, source)
    label = read_idx(labels)
    if label.ndim != 1:
        raise InputDataError(f"{printable(labels)} holds no labels: its array is {list(label.shape)}.")
    return _dataset(x, {"label": label}, source)


def _parse_idx(file: IO[bytes] | gzip.GzipFile, source: str) -> np.ndarray:
    head = file.read(4)
    if len(head) < 4:
        raise InputDataError(f"{source} is cut short: an IDX file begins with 4 bytes, found {len(head)}.")
    code, num_dims = head[2], head[3]
    if head[:2] != b"\0\0" or code not in _IDX_DTYPES or not 1 <= num_dims <= 4:
        raise InputDataError(
            f"{source} is no IDX file: it begins with 0x{head.hex()}, expected 0x00000803 for images "
            "or 0x00000801 for labels."
        )
    sizes = file.read(4 * num_dims)
    if len(sizes) < 4 * num_dims:
        raise InputDataError(f"{source} is cut short within its header. Copy it again.")
    shape = tuple(int.from_bytes(sizes[4 * axis : 4 * axis + 4], "big") for axis in range(num_dims))
    dtype = np.dtype(_IDX_DTYPES[code])
    expected = dtype.itemsize
    for size in shape:
        expected *= size
    _check_size(expected, source)
    body = bytearray()
    # In pieces, for the header of a damaged file may claim far more than there is.
    while len(body) <= expected and (piece := file.read(min(2**24, expected + 1 - len(body)))):
        body += piece
    if len(body) != expected:
        found = f"{len(body)}" if len(body) < expected else "more"
        raise InputDataError(
            f"{source} is damaged or cut short: {list(shape)} takes {expected} bytes, found {found}. Copy it again."
        )
    return np.frombuffer(bytes(body), dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read_npz(path: Path, split: Split | None, source: str) -> Dataset:
    arrays = _load_npz(path, source)
    if "x" not in arrays:
        half = split or "train"
        if f"x_{half}" not in arrays:
            found = ", ".join(map(printable, arrays)) or "nothing"
            raise InputDataError(f"{source} holds {found}, expected an array named x (or x_{half}).")
        arrays = {"x": arrays[f"x_{half}"]} | ({"label": arrays[f"y_{half}"]} if f"y_{half}" in arrays else {})
    elif split == "test":
        raise InputDataError(f"{source} has no test split: it holds x, not x_test.")
    conditions = {name: array for name, array in arrays.items() if name not in _NOT_CONDITIONS}
    return _dataset(arrays["x"], conditions, source)


def _load_npz(path: Path, source: str) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as bundle:
            _check_size(sum(member.file_size for member in bundle.infolist()), source)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except InputDataError:
        raise
    except _DAMAGED as error:
        raise _unreadable(error, source, "an .npz") from error


def _load_npy(path: Path, source: str) -> np.ndarray:
    try:
        # A map first: the header of a damaged file may claim far more than there is.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except _DAMAGED as error:
        raise _unreadable(error, source, "an .npy") from error


def _unreadable(error: Exception, source: str, kind: str) -> InputDataError:
    if "pickle" in str(error).lower() or "object" in str(error).lower():
        return InputDataError(f"{source} holds pickled objects, which are never loaded. Save plain numbers.")
    return InputDataError(f"{source} is no readable file of {kind}: it is damaged or cut short. Save it again.")


def _dataset(x: np.ndarray, conditions: dict[str, np.ndarray], source: str) -> Dataset:
    """Bring x and its conditions into the form that `Dataset` promises."""
    if x.dtype.kind not in "uifb":
        raise InputDataError(f"{source} holds x as {x.dtype}, expected numbers.")
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise InputDataError(f"{source} holds x of shape {list(x.shape)}, expected [num, ...] with values in each row.")
    if not len(x):
        raise InputDataError(f"{source} holds no examples.")
    if x.ndim > 4:
        raise InputDataError(
            f"{source} holds x of shape {list(x.shape)}, expected at most [num, height, width, channels]."
        )
    _check_finite(x, "x", source)
    if x.ndim == 3:
        x = x[..., None]
    value_range = (0.0, 255.0) if x.dtype == np.uint8 else None
    if x.dtype != np.uint8:
        with np.errstate(over="ignore"):
            x = x.astype(np.float32)
        _check_finite(x, "x", source)
    ready: dict[str, np.ndarray] = {}
    class_names: dict[str, tuple[str, ...]] = {}
    for name, values in conditions.items():
        if values.ndim != 1:
            raise InputDataError(
                f"{source} holds {printable(name)} of shape {list(values.shape)}, expected one value for each example."
            )
        if len(values) != len(x):
            raise InputDataError(f"{source} holds {len(x)} examples but {len(values)} values of {printable(name)}.")
        ready[name], names = _condition(values, name, source)
        if names is not None:
            class_names[name] = names
    return Dataset(x, ready, class_names, source, value_range)


def _condition(values: np.ndarray, name: str, source: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return a condition's values, and its class names where it is categorical."""
    if values.dtype.kind == "f":
        _check_finite(values, name, source)
        return values.astype(np.float32), None
    if values.dtype.kind == "U":
        names, index = np.unique(values, return_inverse=True)
        return index.astype(np.int64), tuple(str(each) for each in names)
    if values.dtype.kind not in "uib":
        raise InputDataError(f"{source} holds {printable(name)} as {values.dtype}, expected numbers or texts.")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= MAX_CLASSES:
        raise InputDataError(
            f"{source} holds classes {low} to {high} of {printable(name)}, expected 0 to {MAX_CLASSES - 1} at most."
            " Save class names as texts, and a continuous condition as floats."
        )
    return values.astype(np.int64), tuple(str(each) for each in range(high + 1))


def _check_finite(values: np.ndarray, name: str, source: str) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        num = int(values.size - np.isfinite(values).sum())
        raise InputDataError(f"{source} holds {num} values of {printable(name)} that are NaN or infinite.")


def _check_size(num_bytes: int, source: str) -> None:
    if num_bytes > MAX_BYTES:
        raise InputDataError(
            f"{source} claims {num_bytes} bytes of data, more than the {MAX_BYTES} that are read at most."
        )
