"""Read arrays from .npz and .npy files (never pickled), and convert arrays to a `Dataset`."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers.checks import check_finite
from kvae_serve.readers.dataset import Dataset, MissingSplitError, Split, check_size
from kvae_serve.readers.npy import check_header

# Errors of numpy and zipfile about a damaged file. A header may even claim more memory than there is.
_DAMAGED = (ValueError, zipfile.BadZipFile, EOFError, zlib.error, OSError, RuntimeError, MemoryError)

MAX_CLASSES = 10_000

# Arrays that `kvae sample`, `encode` and `reconstruct` write next to x, and that are not conditions.
_NOT_CONDITIONS = {"x", "x_mean", "z", "z_mean", "z_log_var", "seed", "scheme", "start"}


def read_npz(path: Path, split: Split | None, source: str) -> Dataset:
    """Read `x` and its conditions, or one split of the arrays `x_train`, `y_train`, `x_test` and `y_test` of Keras."""
    arrays = load_npz(path, source)
    if "x" not in arrays:
        name = split or "train"
        if f"x_{name}" not in arrays:
            names = ", ".join(map(printable, arrays)) or "nothing"
            raise InputDataError(f"{source} contains {names}; expected an array named x (or x_{name}). Rename it.")
        arrays = {"x": arrays[f"x_{name}"]} | ({"label": arrays[f"y_{name}"]} if f"y_{name}" in arrays else {})
    elif split == "test":
        raise MissingSplitError(f"{source} does not have a test split: it contains x, not x_test. Leave out --split.")
    conditions = {name: array for name, array in arrays.items() if name not in _NOT_CONDITIONS}
    return as_dataset(arrays["x"], conditions, source)


def read_npy(path: Path, source: str, in_memory: int | None = None) -> Dataset:
    """Read x only. If it has more than `in_memory` bytes it is mapped from disk."""
    try:
        with path.open("rb") as file:
            check_header(file, path.stat().st_size, source)
        x = np.load(path, mmap_mode="r", allow_pickle=False)
        if in_memory is None or x.nbytes <= in_memory or x.dtype.kind not in "uifb":
            x = np.array(x)
    except InputDataError:
        raise
    except _DAMAGED as error:
        raise _unreadable(source, ".npy") from error
    return as_dataset(x, {}, source)


def as_dataset(x: np.ndarray, conditions: dict[str, np.ndarray], source: str) -> Dataset:
    """Convert x and its conditions to a `Dataset`.

    Args:
        x: Numbers `[num, ...]`, up to four axes.
        conditions: Class indices, class names or floats `[num]`, by name.
        source: Name of the data in messages.

    Raises:
        InputDataError: A shape or type does not fit, or a value is not finite.
    """
    if x.dtype.kind not in "uifb":
        raise InputDataError(f"x in {source} has the type {x.dtype}; expected numbers. Save it as integers or floats.")
    if x.ndim < 2 or x.ndim > 4 or 0 in x.shape[1:]:
        raise InputDataError(
            f"x in {source} has the shape {list(x.shape)}; expected [num, values] to [num, height, width, channels]. "
            "Reshape it."
        )
    if not len(x):
        raise InputDataError(f"{source} does not contain any examples. Use another file.")
    if x.ndim == 3:
        x = x[..., None]
    value_range = (0.0, 255.0) if x.dtype == np.uint8 else None
    if isinstance(x, np.memmap):
        _check_mapped(x, source)
    else:
        check_finite(x, "x", source)
        if x.dtype != np.uint8:
            with np.errstate(over="ignore"):
                x = x.astype(np.float32)
            check_finite(x, "x", source)
    columns: dict[str, np.ndarray] = {}
    class_names: dict[str, tuple[str, ...]] = {}
    for name, values in conditions.items():
        if values.ndim != 1:
            raise InputDataError(
                f"{printable(name)} in {source} has the shape {list(values.shape)}; expected one value per example."
            )
        if len(values) != len(x):
            raise InputDataError(
                f"{source} contains {len(x)} examples but {len(values)} values of {printable(name)}; expected one per "
                "example."
            )
        columns[name], names = _condition(values, name, source)
        if names is not None:
            class_names[name] = names
    return Dataset(x, columns, class_names, source, value_range)


def load_npz(path: Path, source: str) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz, never pickled ones.

    Raises:
        InputDataError: The file is damaged, too large when unpacked, or contains something else.
    """
    try:
        with zipfile.ZipFile(path) as bundle:
            members = bundle.infolist()
            check_size(sum(member.file_size for member in members), source, path.stat().st_size)
            for member in members:
                if not member.filename.endswith(".npy"):
                    raise InputDataError(
                        f"{source} contains {printable(member.filename, 40)}; expected arrays only. Save it with "
                        "np.savez."
                    )
                with bundle.open(member) as array:
                    check_header(array, member.file_size, source)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except InputDataError:
        raise
    except _DAMAGED as error:
        raise _unreadable(source, ".npz") from error


def release(x: np.ndarray) -> None:
    """Release the pages of a mapped array, which otherwise count as memory of the process."""
    import mmap

    mapped = getattr(x, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _unreadable(source: str, suffix: str) -> InputDataError:
    return InputDataError(f"{source} is not a readable {suffix} file: it is damaged or cut short. Save it again.")


def _check_mapped(x: np.memmap, source: str) -> None:
    """Check that a mapped array is finite as float32, one part at a time."""
    if x.dtype.kind != "f":
        return
    rows = max(1, 2**20 // max(1, x[0].size))
    for start in range(0, len(x), rows):
        with np.errstate(over="ignore"):
            check_finite(np.asarray(x[start : start + rows], np.float32), "x", source)
        release(x)


def _condition(values: np.ndarray, name: str, source: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return the values of a condition, and its class names if it is categorical."""
    if values.dtype.kind == "f":
        check_finite(values, name, source)
        return values.astype(np.float32), None
    if values.dtype.kind == "U":
        names, index = np.unique(values, return_inverse=True)
        return index.astype(np.int64), tuple(str(each) for each in names)
    if values.dtype.kind not in "uib":
        raise InputDataError(f"{printable(name)} in {source} has the type {values.dtype}; expected numbers or texts.")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= MAX_CLASSES:
        raise InputDataError(
            f"{printable(name)} in {source} has the classes {low} to {high}; expected at most 0 to {MAX_CLASSES - 1}. "
            "Save class names as texts, and a continuous condition as floats."
        )
    return values.astype(np.int64), tuple(str(each) for each in range(high + 1))
