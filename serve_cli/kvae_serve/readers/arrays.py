"""Read arrays from .npz and .npy files (never pickled), and convert arrays to a `Dataset`."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers.checks import check_finite
from kvae_serve.readers.dataset import Dataset, MissingSplitError, ReadOptions, Split, check_size, natural_key
from kvae_serve.readers.npy import check_header

# Errors of numpy and zipfile about a damaged file. A header may even claim more memory than there is.
_DAMAGED = (ValueError, zipfile.BadZipFile, EOFError, zlib.error, OSError, RuntimeError, MemoryError)

MAX_CLASSES = 10_000

# Arrays that `kvae sample`, `encode` and `reconstruct` write next to x, and that are not conditions.
_NOT_CONDITIONS = {"x", "x_mean", "z", "z_mean", "z_log_var", "seed", "scheme", "start"}

_MOST_LOST = 0.01
"""Largest rounding error of a feature, relative to the range of its values."""

# Names of x and of the labels that other programs use, in lower case.
_X_NAMES = ("x", "images", "image", "imgs", "data", "features", "samples", "arr_0")
_LABEL_NAMES = ("label", "labels", "y", "target", "targets", "class", "classes")
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("val", "valid", "validation"),
}


def read_npz(path: Path, split: Split | None, options: ReadOptions, source: str) -> Dataset:
    """Read `x` and its conditions, or one split such as `x_train` and `y_train`; see docs/data.md for all names.

    The classes of a test split are those of the train split, so that both have the same indices.
    """
    arrays = load_npz(path, source)
    if options.keys:
        conditions = _by_key(arrays, options.keys, source)
        x = conditions.pop("x", None)
        return as_dataset(arrays[_name_of_x(arrays, source, options)] if x is None else x, conditions, source, options)
    by_split = {name: _names_of_split(arrays, name, source, options) for name in _SPLIT_NAMES}
    if "x" not in arrays and any(by_split[name][0] for name in ("train", "test")):
        x_name, label_name = by_split[split or "train"]
        if x_name is None:
            other = "train" if split == "test" else "test"
            kind = MissingSplitError if split == "test" else InputDataError
            raise kind(f"{source} contains only the {other} split: {_listed(arrays)}. Use --split {other}.")
        train_label = by_split["train"][1]
        known = {"label": arrays[train_label]} if split == "test" and train_label else None
        labels = {"label": arrays[label_name]} if label_name else {}
        read = {name for names in by_split.values() for name in names}
        dataset = _with_unread(as_dataset(arrays[x_name], labels, source, options, known), arrays, read, options)
        return dataset._replace(notes=(*_roles(by_split, source), *dataset.notes))
    x_name = _name_of_x(arrays, source, options)
    if split == "test":
        raise MissingSplitError(
            f"{source} does not have a test split: it contains {x_name}, not x_test. Leave out --split."
        )
    conditions = {name: array for name, array in arrays.items() if name not in {*_NOT_CONDITIONS, x_name}}
    label_names = [name for name in conditions if name.lower() in _LABEL_NAMES]
    if x_name == "arr_0" and not label_names and "arr_1" in conditions:
        label_names = ["arr_1"]
    if len(label_names) == 1 and "label" not in conditions:
        conditions = {"label": conditions[label_names[0]], **conditions}
    read = {x_name, *conditions}
    if x_name != "x":  # Files of other programs may contain more than conditions.
        conditions = {name: array for name, array in conditions.items() if name == "label"}
        read = {x_name, *(label_names if conditions else ())}
    return _with_unread(as_dataset(arrays[x_name], conditions, source, options), arrays, read, options)


def read_npy(path: Path, source: str, options: ReadOptions) -> Dataset:
    """Read x only. If it has more than `options.in_memory` bytes it is mapped from disk."""
    try:
        with path.open("rb") as file:
            check_header(file, path.stat().st_size, source)
        x = np.load(path, mmap_mode="r", allow_pickle=False)
        if options.in_memory is None or x.nbytes <= options.in_memory or x.dtype.kind not in "uifb":
            x = np.array(x)
    except InputDataError:
        raise
    except _DAMAGED as error:
        raise _unreadable(source, ".npy") from error
    return as_dataset(x, {}, source, options)


def as_dataset(
    x: np.ndarray,
    conditions: dict[str, np.ndarray],
    source: str,
    options: ReadOptions | None = None,
    train: dict[str, np.ndarray] | None = None,
) -> Dataset:
    """Convert x and its conditions to a `Dataset`.

    Args:
        x: Numbers `[num, ...]`, up to four axes.
        conditions: Classes (integers or texts) or floats by name, `[num]` or `[num, 1]`. Each integer or text that
            occurs is a class. Floats named `label` are classes if all are whole numbers.
        source: Name of the data in messages.
        options: `image_size` and `channels`, to which vectors are reshaped.
        train: Conditions of the train split, whose classes come first.

    Raises:
        InputDataError: A shape or type does not fit, or a value is not finite.
    """
    if x.dtype.kind not in "uifb":
        raise InputDataError(f"x in {source} has the type {x.dtype}; expected numbers. Save it as integers or floats.")
    if x.ndim < 2 or x.ndim > 4 or 0 in x.shape[1:]:
        raise InputDataError(
            f"x in {source} has the shape {list(x.shape)}; expected [num, values] to [num, height, width, channels]. "
            f"{'Cut a series into windows of equal length' if x.ndim == 1 else 'Reshape it'}."
        )
    if not len(x):
        raise InputDataError(f"{source} does not contain any examples. Use another file.")
    x = _as_requested(x if x.ndim != 3 else x[..., None], options or ReadOptions(), source)
    value_range = (0.0, 255.0) if x.dtype == np.uint8 else None
    if isinstance(x, np.memmap):
        _check_mapped(x, source)
        if options is None or options.check_digits:
            _check_digits(x, source)
    else:
        check_finite(x, "x", source)
        full = x
        if x.dtype != np.uint8:
            with np.errstate(over="ignore"):
                x = x.astype(np.float32, copy=False)
            check_finite(x, "x", source)
        if options is None or options.check_digits:
            _check_digits(full, source)
    columns: dict[str, np.ndarray] = {}
    class_names: dict[str, tuple[str, ...]] = {}
    for name, values in conditions.items():
        values = _one_per_example(values, name, source)
        if len(values) != len(x):
            raise InputDataError(
                f"{source} contains {len(x)} examples but {len(values)} values of {printable(name)}; expected one per "
                "example."
            )
        known = (train or {}).get(name)
        columns[name], names = _condition(
            values, name, source, None if known is None else _one_per_example(known, name, source)
        )
        if names is not None:
            class_names[name] = names
    return Dataset(x, columns, class_names, source, value_range)


def _check_digits(x: np.ndarray, source: str) -> None:
    """Raise `InputDataError` if float32 loses the differences between the values of a feature.

    A gray image may also be a sequence, so its columns are checked as features.
    """
    if x.dtype == np.float32 or x.dtype.itemsize <= 2:
        return
    axis = x.ndim - 1 - (x.ndim == 4 and x.shape[-1] == 1)
    others = tuple(each for each in range(x.ndim) if each != axis)
    low, high, lost = np.array(np.inf), np.array(-np.inf), np.array(0.0)
    rows = max(1, 2**20 // max(1, x[0].size))
    for start in range(0, len(x), rows):
        part = np.asarray(x[start : start + rows], np.float64)
        low, high = np.minimum(low, part.min(others)), np.maximum(high, part.max(others))
        lost = np.maximum(lost, np.abs(part - part.astype(np.float32)).max(others))
        if isinstance(x, np.memmap):
            release(x)
    # Smaller differences are rounding noise of float64.
    differ = high - low > 1e-12 * np.maximum(np.abs(low), np.abs(high))
    bad = np.flatnonzero(differ & (lost > _MOST_LOST * (high - low)))
    if bad.size:
        raise InputDataError(
            f"x in {source} has a feature with values from {low[bad[0]]:.12g} to {high[bad[0]]:.12g}, whose "
            "differences float32 cannot store. Subtract the lowest value of each feature first."
        )


def load_npz(path: Path, source: str) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz, never pickled ones.

    Raises:
        InputDataError: The file is damaged, too large when unpacked, or contains something else.
    """
    try:
        with zipfile.ZipFile(path) as bundle:
            members = bundle.infolist()
            check_size(sum(member.file_size for member in members), source, path.stat().st_size)
            if {"imgs.npy", "latents_classes.npy"} <= {member.filename for member in members}:
                raise InputDataError(
                    f"{source} is the original dSprites file, which contains pickled objects. "
                    f"Convert it with kvae sprites --from {source} -o sprites.npz."
                )
            for member in members:
                if not member.filename.endswith(".npy"):
                    raise InputDataError(
                        f"{source} contains {printable(member.filename, 40)}; expected arrays only. Save it with "
                        "np.savez."
                    )
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    # LZMA can claim a dictionary of 4 GiB. NumPy writes neither LZMA nor bzip2.
                    raise InputDataError(
                        f"{source} contains {printable(member.filename, 40)} in a compression that is not read. "
                        "Save it with np.savez or np.savez_compressed."
                    )
                with bundle.open(member) as array:
                    check_header(array, member.file_size, source)
        with np.load(path, allow_pickle=False) as arrays:
            loaded = {name: arrays[name] for name in arrays.files}
        for name, values in loaded.items():
            _check_text(values, name, source)
        return loaded
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


def _condition(
    values: np.ndarray, name: str, source: str, train: np.ndarray | None = None
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return the values of a condition, and its class names if it is categorical."""
    if values.dtype.kind == "f":
        check_finite(values, name, source)
        if name != "label" or not _are_whole(values):
            return values.astype(np.float32), None
        values = values.astype(np.int64)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind not in "Uuib":
        raise InputDataError(f"{printable(name)} in {source} has the type {values.dtype}; expected numbers or texts.")
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    distinct, index = np.unique(values, return_inverse=True)
    if len(distinct) > MAX_CLASSES:
        raise InputDataError(
            f"{printable(name)} in {source} has {len(distinct)} different values; expected at most {MAX_CLASSES} "
            "classes. Save a continuous condition as floats."
        )
    found = [str(each) for each in distinct]
    known = () if train is None else _condition(train, name, source)[1] or ()
    names = (*known, *sorted(set(found) - set(known), key=natural_key))
    position = {each: place for place, each in enumerate(names)}
    return np.array([position[each] for each in found], np.int64)[index.reshape(-1)], names


def _check_text(values: np.ndarray, name: str, source: str) -> None:
    """Refuse text whose code points are not Unicode characters, which raises errors wherever the text is used."""
    if values.dtype.kind != "U" or not values.dtype.itemsize:
        return
    points = np.ascontiguousarray(values).view(values.dtype.byteorder + "u4")
    if ((points > 0x10FFFF) | ((points >= 0xD800) & (points < 0xE000))).any():
        raise InputDataError(
            f"{printable(name, 40)} in {source} contains text that is not valid Unicode: the file is damaged. Save it "
            "again."
        )


def _are_whole(values: np.ndarray) -> bool:
    return bool((np.floor(values) == values).all() and (np.abs(values) < 2**53).all())


def _one_per_example(values: np.ndarray, name: str, source: str) -> np.ndarray:
    """Return `[num]` for `[num]` or `[num, 1]`."""
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim == 1:
        return values
    shown = printable(name)
    if (
        values.ndim == 2
        and values.dtype.kind in "uifb"
        and (values.sum(1) == 1).all()
        and ((values == 0) | (values == 1)).all()
    ):
        raise InputDataError(
            f"{shown} in {source} is one-hot, {list(values.shape)}; expected one class per example. "
            f"Save np.argmax({shown}, axis=1)."
        )
    raise InputDataError(f"{shown} in {source} has the shape {list(values.shape)}; expected one value per example.")


def _as_requested(x: np.ndarray, options: ReadOptions, source: str) -> np.ndarray:
    """Reshape vectors to images if an image size is requested; refuse options that the array contradicts."""
    if options.image_size is None and options.channels is None:
        return x
    if x.ndim == 2 and options.image_size is not None:
        pixels = options.image_size[0] * options.image_size[1]
        if x.shape[1] == pixels * (options.channels or max(1, x.shape[1] // pixels)):
            return x.reshape(len(x), *options.image_size, -1)
    first = x.ndim == 4 and x.shape[1] in (1, 3) and min(x.shape[2:]) > 4
    if first and options.image_size in (None, x.shape[2:]) and options.channels in (None, x.shape[1]):
        return x  # `dispatch` moves the channels to the last axis.
    wanted = (*(options.image_size or x.shape[1:3]), options.channels or x.shape[-1])
    if x.ndim != 4 or x.shape[1:] != wanted:
        raise InputDataError(
            f"{source} contains an array of the shape {list(x.shape)}; --image-size and --channels change image files, "
            "and reshape vectors of the same number of values. Leave them out, or resize the array."
        )
    return x


def _by_key(arrays: dict[str, np.ndarray], keys: Sequence[str], source: str) -> dict[str, np.ndarray]:
    """Return the arrays under the names that `--key NAME=ARRAY` gives them."""
    chosen = {}
    for key in keys:
        name, _, array = key.partition("=")
        if not name or array not in arrays:
            raise InputDataError(
                f"--key {printable(key, 60)} does not name an array of {source}; it contains {_listed(arrays)}. "
                "Give NAME=ARRAY, such as x=images."
            )
        chosen[name] = arrays[array]
    return chosen


def _names_of_split(
    arrays: dict[str, np.ndarray], split: str, source: str, options: ReadOptions
) -> tuple[str | None, str | None]:
    """Return the names of x and of the labels of one split; None if they are not there."""

    def find(names: tuple[str, ...]) -> str | None:
        wanted = {
            each for name in names for word in _SPLIT_NAMES[split] for each in (f"{name}_{word}", f"{word}_{name}")
        }
        found = [name for name in arrays if name.lower() in wanted]
        if len(found) > 1:
            raise _unclear(arrays, source, options)
        return found[0] if found else None

    return find(_X_NAMES), find(_LABEL_NAMES)


def _roles(by_split: dict[str, tuple[str | None, str | None]], source: str) -> list[str]:
    """Return a note about the use of each array, if some are validation data."""
    train, test, validation = (
        " and ".join(printable(name, 40) for name in by_split[split] if name) for split in _SPLIT_NAMES
    )
    if not validation:
        return []
    used = [f"the {split} split is {names}" for split, names in (("training", train), ("test", test)) if names]
    return [
        f"In {source}, {', '.join(used)}; {validation} are not used, because validation data are held out of the "
        "training split."
    ]


def _name_of_x(arrays: dict[str, np.ndarray], source: str, options: ReadOptions) -> str:
    if "x" in arrays:
        return "x"
    found = [name for name in arrays if name.lower() in _X_NAMES]
    if len(found) != 1:
        raise _unclear(arrays, source, options)
    return found[0]


def _unclear(arrays: dict[str, np.ndarray], source: str, options: ReadOptions) -> InputDataError:
    advice = options.advice("Use --key x=NAME, and --key label=NAME for labels.", "Rename the array of examples to x.")
    return InputDataError(f"{source} contains {_listed(arrays)}; it is not clear which array is x. {advice}")


def _with_unread(
    dataset: Dataset, arrays: dict[str, np.ndarray], read: Collection[str | None], options: ReadOptions
) -> Dataset:
    """Add a note about the arrays of a file that are neither x nor conditions."""
    unread = {name: array for name, array in arrays.items() if name not in {*read, *_NOT_CONDITIONS}}
    if not unread:
        return dataset
    advice = options.advice("; --key NAME=ARRAY reads one", "")
    note = f"Arrays of {dataset.source} that are not read, because of their names: {_listed(unread)}{advice}."
    return dataset._replace(notes=(*dataset.notes, note))


def _listed(arrays: dict[str, np.ndarray]) -> str:
    shown = [f"{printable(name, 40)} {list(array.shape)}" for name, array in arrays.items()]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "") or "nothing"
