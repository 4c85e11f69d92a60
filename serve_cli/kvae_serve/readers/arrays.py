"""Arrays in .npz and .npy files, never pickled; and any arrays brought into the form of a `Dataset`."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers.checks import check_finite
from kvae_serve.readers.dataset import Dataset, Split, check_size
from kvae_serve.readers.npy import check_header

# What numpy and zipfile raise over a damaged file; the header of one may even ask for more memory than there is.
_DAMAGED = (ValueError, zipfile.BadZipFile, EOFError, zlib.error, OSError, RuntimeError, MemoryError)

MAX_CLASSES = 10_000

# Arrays of an .npz that are no conditions: what `kvae sample`, `encode` and `reconstruct` write beside x.
_NOT_CONDITIONS = {"x", "x_mean", "z", "z_mean", "z_log_var", "seed", "scheme", "start"}


def read_npz(path: Path, split: Split | None, source: str) -> Dataset:
    """Read `x` and its conditions, or one split of Keras' `x_train`, `y_train`, `x_test` and `y_test`."""
    arrays = load_npz(path, source)
    if "x" not in arrays:
        half = split or "train"
        if f"x_{half}" not in arrays:
            found = ", ".join(map(printable, arrays)) or "nothing"
            raise InputDataError(f"{source} holds {found}, expected an array named x (or x_{half}).")
        arrays = {"x": arrays[f"x_{half}"]} | ({"label": arrays[f"y_{half}"]} if f"y_{half}" in arrays else {})
    elif split == "test":
        raise InputDataError(f"{source} has no test split: it holds x, not x_test.")
    conditions = {name: array for name, array in arrays.items() if name not in _NOT_CONDITIONS}
    return as_dataset(arrays["x"], conditions, source)


def read_npy(path: Path, source: str, in_memory: int | None = None) -> Dataset:
    """Read x alone; where it takes more than `in_memory` bytes it stays on disk."""
    try:
        with path.open("rb") as file:
            check_header(file, path.stat().st_size, source)
        x = np.load(path, mmap_mode="r", allow_pickle=False)
        if in_memory is None or x.nbytes <= in_memory or x.dtype.kind not in "uifb":
            x = np.array(x)
    except InputDataError:
        raise
    except _DAMAGED as error:
        raise _unreadable(error, source, "an .npy") from error
    return as_dataset(x, {}, source)


def as_dataset(x: np.ndarray, conditions: dict[str, np.ndarray], source: str) -> Dataset:
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
    if x.ndim == 3:
        x = x[..., None]
    value_range = (0.0, 255.0) if x.dtype == np.uint8 else None
    if isinstance(x, np.memmap):
        _check_pieces(x, source)
    else:
        check_finite(x, "x", source)
        if x.dtype != np.uint8:
            with np.errstate(over="ignore"):
                x = x.astype(np.float32)
            check_finite(x, "x", source)
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


def load_npz(path: Path, source: str) -> dict[str, np.ndarray]:
    """Read every array of an .npz, none of them pickled."""
    try:
        with zipfile.ZipFile(path) as bundle:
            members = bundle.infolist()
            check_size(sum(member.file_size for member in members), source, path.stat().st_size)
            for member in members:
                if not member.filename.endswith(".npy"):
                    raise InputDataError(
                        f"{source} holds {printable(member.filename, 40)}, which is no array. Save it anew."
                    )
                with bundle.open(member) as array:
                    check_header(array, member.file_size, source)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except InputDataError:
        raise
    except _DAMAGED as error:
        raise _unreadable(error, source, "an .npz") from error


def release(x: np.ndarray) -> None:
    """Let go of what was read of an array on disk: its pages count as memory of the process until then."""
    import mmap

    mapped = getattr(x, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _unreadable(error: Exception, source: str, kind: str) -> InputDataError:
    return InputDataError(f"{source} is no readable file of {kind}: it is damaged or cut short. Save it again.")


def _check_pieces(x: np.memmap, source: str) -> None:
    """Look at all of an array on disk, a piece at a time: as float32 it must be finite."""
    if x.dtype.kind != "f":
        return
    rows = max(1, 2**20 // max(1, x[0].size))
    for start in range(0, len(x), rows):
        with np.errstate(over="ignore"):
            check_finite(np.asarray(x[start : start + rows], np.float32), "x", source)
        release(x)


def _condition(values: np.ndarray, name: str, source: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return a condition's values, and its class names where it is categorical."""
    if values.dtype.kind == "f":
        check_finite(values, name, source)
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
