"""Choose the reader for a path, and convert the examples to the data of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers import arrays, builtin, csv, idx, images
from kvae_serve.readers.dataset import Dataset, MissingSplitError, ReadOptions, Split
from kvae_serve.sealed.manifest import Condition, Manifest

_FORMATS = "a folder, or an IDX, .npz, .npy, .csv, .png or .jpg file"


def read_dataset(path: str | Path, split: Split | None = None, options: ReadOptions | None = None) -> Dataset:
    """Read examples with their labels or other conditions.

    Args:
        path: One of these:
            a folder with the four MNIST files (plain or .gz);
            an IDX file of images, with its labels in the same folder;
            an .npz with `x`, and `label` or one array per condition, or with `x_train`, `y_train`, `x_test`, `y_test`;
            an .npy with x only;
            a .csv, or a folder with train.csv and test.csv;
            a .png or .jpg, or a folder of them, with or without a sub-folder per class, also below `train` and `test`;
            `mnist-sample`, a few hundred digits in the package.
        split: Split of data that has two, by default "train".
        options: Options for data that can be read in several ways.

    Raises:
        InputDataError: The file does not exist, is damaged or empty, or contains values that are not finite.

    Example:
        >>> read_dataset("mnist-sample", "test").x.shape
        (200, 28, 28, 1)
    """
    source, path, options = printable(path), builtin.located(path), options or ReadOptions()
    try:
        if path.is_dir():
            return _read_folder(path, split, options, source)
        suffix = _suffix(path, source)
        if suffix == ".npz":
            return arrays.read_npz(path, split, source)
        if split == "test":
            raise MissingSplitError(f"{source} does not have a test split. Use a data folder, or an .npz with x_test.")
        if suffix == ".npy":
            return arrays.read_npy(path, source, options.in_memory)
        if suffix == ".csv":
            return csv.read_csv(path, options, source)
        if suffix in images.SUFFIXES:
            return images.read_one(path, options, source)
        if suffix in ("", ".gz", ".idx") or "ubyte" in path.name:
            return idx.read_pair(path, idx.labels_beside(path), source)
    except OSError as error:
        raise InputDataError(f"{source} cannot be read: {error.strerror or 'it is damaged'}.") from error
    raise InputDataError(f"{source} has an unknown suffix. Expected {_FORMATS}.")


def read_for(
    path: str | Path, manifest: Manifest, split: Split | None = None, options: ReadOptions | None = None
) -> Dataset:
    """Read examples in the shape of a model, with its columns and classes, which are matched by name.

    Args:
        path: Path as for `read_dataset`.
        manifest: Manifest of the model.
        split: Split as for `read_dataset`.
        options: Options as for `read_dataset`. Those for columns are ignored, because the manifest has the columns.

    Returns:
        `Dataset` whose categorical conditions are indices of the model's classes. It contains those conditions of the
        model that are in the file.

    Raises:
        InputDataError: As for `read_dataset`, or the data does not fit the model.
    """
    path = Path(path)
    data = manifest.data
    if data.kind == "table" and (path.suffix.lower() == ".csv" or (path / "train.csv").is_file()):
        if path.is_dir():
            path = path / f"{split or 'train'}.csv"
        elif split == "test":
            raise MissingSplitError(
                f"{printable(path)} does not have a test split. Use a folder with train.csv and test.csv."
            )
        return csv.apply(csv.parse(path, printable(path)), data.columns, manifest.conditions)
    return fit_to(read_dataset(path, split, options), manifest)


def fit_to(dataset: Dataset, manifest: Manifest) -> Dataset:
    """Convert a dataset to the shape and the classes of a model. See `read_for`."""
    data = manifest.data
    if dataset.x.shape[1:] != data.shape and dataset.x.shape[1:] != (*data.shape, 1):
        hint = " Use --image-size and --channels." if data.kind == "image" else ""
        raise InputDataError(
            f"{dataset.source} has examples of the shape {list(dataset.x.shape[1:])}; {printable(manifest.name, 60)} "
            f"expects {list(data.shape)}.{hint}"
        )
    conditions = known_conditions(dataset, manifest)
    categorical = [each for each in manifest.conditions if each.name in conditions and each.categorical]
    x = dataset.x.reshape(len(dataset.x), *data.shape) if dataset.x.shape[1:] != data.shape else dataset.x
    return dataset._replace(x=x, conditions=conditions, class_names={each.name: each.classes for each in categorical})


def known_conditions(dataset: Dataset, manifest: Manifest) -> dict[str, np.ndarray]:
    """Return the conditions of a dataset that a model has, with the class indices of the model."""
    return {
        condition.name: _as_known(dataset, condition)
        for condition in manifest.conditions
        if condition.name in dataset.conditions
    }


def _read_folder(path: Path, split: Split | None, options: ReadOptions, source: str) -> Dataset:
    if not idx.is_folder(path):
        if (path / "train.csv").is_file():
            return csv.read_folder(path, split or "train", options, source)
        if images.holds_images(path):
            return images.read_folder(path, split, options, source)
    return idx.read_folder(path, split or "train", source)


def _suffix(path: Path, source: str) -> str:
    if not path.exists():
        raise InputDataError(f"{source} does not exist.{builtin.hint(path) or f' Expected {_FORMATS}.'}")
    if not path.is_file():
        raise InputDataError(f"{source} is not a regular file. Expected {_FORMATS}.")
    return path.suffix.lower()


def _as_known(dataset: Dataset, condition: Condition) -> np.ndarray:
    """Return values with the class indices of the model. Classes match by name, or by index if they are numbers."""
    values, names = dataset.conditions[condition.name], dataset.class_names.get(condition.name)
    if not condition.categorical:
        return values.astype(np.float32)
    prefix = f"{printable(condition.name, 40)} in {dataset.source}"
    if names is None:
        raise InputDataError(f"{prefix} has floats; expected classes such as {printable(condition.classes[0], 40)}.")
    if set(names) <= set(condition.classes):
        return np.array([condition.classes.index(name) for name in names], np.int64)[values]
    if names == tuple(str(index) for index in range(len(names))) and len(names) <= len(condition.classes):
        return values
    unknown = next(name for name in names if name not in condition.classes)
    raise InputDataError(
        f"{prefix} has the class {printable(unknown, 40)}; expected a class of the model. Run kvae info for the list."
    )
