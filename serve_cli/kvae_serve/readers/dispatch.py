"""From a path to examples: which reader reads it, and how a model wants it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers import arrays, builtin, idx, images
from kvae_serve.readers import csv as table
from kvae_serve.readers.dataset import Dataset, ReadOptions, Split
from kvae_serve.sealed.manifest import Condition, Manifest

_FORMS = "a folder, or an IDX, .npz, .npy, .csv, .png or .jpg file"


def read_dataset(path: str | Path, split: Split | None = None, options: ReadOptions | None = None) -> Dataset:
    """Read examples, and their labels or other conditions where there are any.

    Args:
        path: a folder with the four MNIST files (plain or .gz); an IDX file of images, whose labels are looked for
            beside it; an .npz with `x`, and `label` or one array for each condition (or Keras' `x_train`, `y_train`,
            `x_test`, `y_test`); an .npy with x alone; a .csv, or a folder with train.csv and test.csv; a .png or
            .jpg, or a folder of them, with a sub-folder for each class or none, maybe below `train` and `test`; or
            `mnist-sample`, a few hundred digits that ship with the package.
        split: which half of a source that has two, "train" where None. A source without halves has no "test".
        options: how to read what can be read in several ways.

    Raises:
        InputDataError: there is no such file, or what it holds is damaged, empty, not finite or does not fit together.
    """
    source, path, options = printable(path), builtin.located(path), options or ReadOptions()
    try:
        if path.is_dir():
            return _read_folder(path, split, options, source)
        suffix = _suffix(path, source)
        if suffix == ".npz":
            return arrays.read_npz(path, split, source)
        if split == "test":
            raise InputDataError(f"{source} has no test split. Give a data folder, or an .npz with x_test.")
        if suffix == ".npy":
            return arrays.read_npy(path, source, options.in_memory)
        if suffix == ".csv":
            return table.read_csv(path, options, source)
        if suffix in images.SUFFIXES:
            return images.read_one(path, options, source)
        if suffix in ("", ".gz", ".idx") or "ubyte" in path.name:
            return idx.read_pair(path, idx.labels_beside(path), source)
    except OSError as error:
        raise InputDataError(f"{source} cannot be read: {error.strerror or 'it is damaged'}.") from error
    raise InputDataError(f"{source} has an unknown suffix. Data comes as {_FORMS}.")


def read_for(
    path: str | Path, manifest: Manifest, split: Split | None = None, options: ReadOptions | None = None
) -> Dataset:
    """Read examples as a model takes them: its columns by name, its classes by name, its shape.

    Args:
        path: as for `read_dataset`.
        manifest: the model's.
        split: as for `read_dataset`.
        options: as for `read_dataset`; what is said of a table's columns there is no matter, for the model knows.

    Returns:
        A `Dataset` whose categorical conditions are indices into the model's classes. Conditions that the model does
        not have are left out; those that the file does not hold are missing.

    Raises:
        InputDataError: as for `read_dataset`, or the file holds other data than the model's.
    """
    path = Path(path)
    data = manifest.data
    if data.kind == "table" and (path.suffix.lower() == ".csv" or (path / "train.csv").is_file()):
        if path.is_dir():
            path = path / f"{split or 'train'}.csv"
        elif split == "test":
            raise InputDataError(f"{printable(path)} has no test split. Give a folder with train.csv and test.csv.")
        return table.apply(table.parse(path, printable(path)), data.columns, manifest.conditions)
    return fit_to(read_dataset(path, split, options), manifest)


def fit_to(dataset: Dataset, manifest: Manifest) -> Dataset:
    """Return examples that were read as a model takes them; see `read_for`."""
    data = manifest.data
    if dataset.x.shape[1:] != data.shape and dataset.x.shape[1:] != (*data.shape, 1):
        hint = " Give --image-size and --channels." if data.kind == "image" else ""
        raise InputDataError(
            f"{dataset.source} holds examples of shape {list(dataset.x.shape[1:])}, {printable(manifest.name, 60)} "
            f"takes {list(data.shape)}.{hint}"
        )
    given = known_conditions(dataset, manifest)
    class_names = {each.name: each.classes for each in manifest.conditions if each.name in given and each.categorical}
    x = dataset.x.reshape(len(dataset.x), *data.shape) if dataset.x.shape[1:] != data.shape else dataset.x
    return dataset._replace(x=x, conditions=given, class_names=class_names)


def known_conditions(dataset: Dataset, manifest: Manifest) -> dict[str, np.ndarray]:
    """Return those of a data set's conditions that a model has, in the model's terms."""
    return {
        condition.name: _as_known(dataset, condition)
        for condition in manifest.conditions
        if condition.name in dataset.conditions
    }


def _read_folder(path: Path, split: Split | None, options: ReadOptions, source: str) -> Dataset:
    if not idx.is_folder(path):
        if (path / "train.csv").is_file():
            return table.read_folder(path, split or "train", options, source)
        if images.holds_images(path):
            return images.read_folder(path, split, options, source)
    return idx.read_folder(path, split or "train", source)


def _suffix(path: Path, source: str) -> str:
    if not path.exists():
        raise InputDataError(f"{source} does not exist.{builtin.hint(path) or f' Give {_FORMS}.'}")
    if not path.is_file():
        raise InputDataError(f"{source} is no regular file. Give {_FORMS}.")
    return path.suffix.lower()


def _as_known(dataset: Dataset, condition: Condition) -> np.ndarray:
    """Return a condition's values in the model's terms: classes by name, or by index where they have no names."""
    values, names = dataset.conditions[condition.name], dataset.class_names.get(condition.name)
    if not condition.categorical:
        return values.astype(np.float32)
    where = f"{dataset.source} holds {printable(condition.name, 40)}"
    if names is None:
        raise InputDataError(f"{where} as numbers, the model takes classes such as {condition.classes[0]}.")
    if set(names) <= set(condition.classes):
        return np.array([condition.classes.index(name) for name in names], np.int64)[values]
    if names == tuple(str(index) for index in range(len(names))) and len(names) <= len(condition.classes):
        return values
    unknown = next(name for name in names if name not in condition.classes)
    raise InputDataError(f"{where} {printable(unknown, 40)}, which is none of the model's classes.")
