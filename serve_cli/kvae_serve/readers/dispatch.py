"""Choose the reader for a path, and convert the examples to the data of a model."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from kvae_serve.class_indices import marked
from kvae_serve.csv_escape import NUMBER
from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers import arrays, builtin, csv, frames, idx, images
from kvae_serve.readers.dataset import Dataset, MissingSplitError, ReadOptions, Split, check_file
from kvae_serve.sealed.manifest import Condition, Data, Manifest

_FORMATS = "a folder, or an IDX, .npz, .npy, .csv, .parquet or image file"


def read_dataset(path: str | Path, split: Split | None = None, options: ReadOptions | None = None) -> Dataset:
    """Read examples with their labels or other conditions.

    Args:
        path: One of these:
            a folder with the four MNIST files (plain or .gz);
            an IDX file of images, with its labels in the same folder;
            an .npz with `x`, and `label` or one array per condition, or with `x_train`, `y_train`, `x_test`, `y_test`;
            an .npy with x only;
            a .csv, a .parquet (needs pyarrow), or a folder with train.csv and test.csv;
            an image, or a folder of images, with or without a sub-folder per class, also below `train` and `test`;
            `mnist-sample`, a few hundred digits in the package.
        split: Split of data that has two, by default "train".
        options: Options for data that can be read in several ways.

    Raises:
        InputDataError: The file does not exist, is damaged or empty, or contains values that are not finite.

    Example:
        >>> read_dataset("mnist-sample", "test").x.shape
        (200, 28, 28, 1)
    """
    return _marked(_channels_last(_read(path, split, options or ReadOptions())))


def read_for(
    path: str | Path,
    manifest: Manifest,
    split: Split | None = None,
    options: ReadOptions | None = None,
    fixed: Collection[str] = (),
) -> Dataset:
    """Read examples in the shape of a model, with its columns and classes, which are matched by name.

    Args:
        path: Path as for `read_dataset`.
        manifest: Manifest of the model.
        split: Split as for `read_dataset`.
        options: Options as for `read_dataset`. Those for columns are ignored, because the manifest has the columns.
        fixed: Names of conditions whose values are known. Those of the file are not read.

    Returns:
        `Dataset` whose categorical conditions are indices of the model's classes. It contains those conditions of the
        model that are in the file.

    Raises:
        InputDataError: As for `read_dataset`, or the data does not fit the model.
    """
    options = replace(options or ReadOptions(), check_digits=False)
    return _marked(_read_for(Path(path), manifest, split, options, fixed))


def _marked(dataset: Dataset) -> Dataset:
    return dataset._replace(conditions=marked(dataset.conditions, dataset.class_names))


def _read_for(
    path: Path, manifest: Manifest, split: Split | None, options: ReadOptions, fixed: Collection[str]
) -> Dataset:
    data, names = manifest.data, [each.name for each in manifest.conditions]
    manifest = replace(manifest, conditions=tuple(each for each in manifest.conditions if each.name not in fixed))
    if path.suffix.lower() in (*csv.SUFFIXES, frames.SUFFIX) or (
        (path / "train.csv").is_file() and not idx.is_folder(path)
    ):
        if path.is_dir():
            path = path / f"{split or 'train'}.csv"
            if split == "test" and not path.is_file():
                raise MissingSplitError(f"{printable(path)} does not exist. Leave out --split, or add the file.")
        elif split == "test":
            raise MissingSplitError(
                f"{printable(path)} does not have a test split. Use a folder with train.csv and test.csv."
            )
        if path.suffix.lower() == frames.SUFFIX:
            table = frames.read_parquet(path, printable(path), frames.model_columns(manifest))
        else:
            table = csv.parse(path, printable(path), options, may_be_single=data.num_values == 1)
        if data.kind == "table":
            ids = [each["name"] for each in data.outside if each["type"] == "id" and each["name"]]
            return csv.apply(table, data.columns, manifest.conditions, options.missing_values, ids)
        if len(table.cells) < data.num_values:
            raise InputDataError(
                f"{printable(path)} is a table of {len(table.cells)} columns; {printable(manifest.name, 60)} expects "
                f"examples of the shape {list(data.shape)}. Use other data, or another model."
            )
        if data.kind == "image":
            options = replace(options, image_size=options.image_size or (data.shape[0], data.shape[1]))
        return fit_to(csv.as_numbers(table, names, options), manifest)
    if data.kind == "image" and holds_images(path):
        shape = data.shape
        channels = options.channels or (shape[2] if shape[2] in (1, 3) else None)
        options = replace(options, image_size=options.image_size or (shape[0], shape[1]), channels=channels)
        dataset = _pixels_in_units(_read(path, split, options), data)
    else:
        dataset = _read(path, split, options)
    return fit_to(_with_class_of_folder(dataset, path, manifest), manifest)


def _pixels_in_units(dataset: Dataset, data: Data) -> Dataset:
    """Divide pixels of 0 to 255 by 255 for a model of 0 to 1, such as one of masks. Those up to 1 are kept."""
    x = dataset.x
    if data.range != (0.0, 1.0) or not isinstance(x, np.ndarray) or x.dtype != np.uint8 or not len(x) or x.max() <= 1:
        return dataset
    note = f"The pixels of {dataset.source} are divided by 255, because the model has values from 0 to 1."
    return dataset._replace(x=x.astype(np.float32) / 255, notes=(*dataset.notes, note))


def holds_images(path: Path) -> bool:
    """Return whether a path is an image or a folder of images."""
    if path.is_dir():
        return not idx.is_folder(path) and images.holds_images(path)
    return path.suffix.lower() in images.SUFFIXES


def fit_to(dataset: Dataset, manifest: Manifest) -> Dataset:
    """Convert a dataset to the shape and the classes of a model. See `read_for`."""
    data, x = manifest.data, dataset.x
    shape = x.shape[1:]
    if shape != data.shape:
        if data.kind == "image" and len(shape) == 3 and (*shape[1:], shape[0]) == data.shape:
            x = np.moveaxis(x, 1, -1)
        elif data.kind == "sequence" and shape == (*data.shape[::-1], 1):
            x = np.swapaxes(x, 1, 2)[..., 0]  # Arrays that were trained on as `[num, features, steps]`.
        elif shape == (*data.shape, 1) or (data.kind != "table" and shape == (data.num_values,)):
            x = x.reshape(len(x), *data.shape)
        else:
            raise InputDataError(
                f"{dataset.source} has examples of the shape {list(shape)}; {printable(manifest.name, 60)} expects "
                f"{list(data.shape)}. Resize or reshape them."
            )
    conditions = known_conditions(dataset, manifest)
    categorical = [each for each in manifest.conditions if each.name in conditions and each.categorical]
    return dataset._replace(x=x, conditions=conditions, class_names={each.name: each.classes for each in categorical})


def known_conditions(dataset: Dataset, manifest: Manifest) -> dict[str, np.ndarray]:
    """Return the conditions of a dataset that a model has, with the class indices of the model."""
    return {
        condition.name: _as_known(dataset, condition)
        for condition in manifest.conditions
        if condition.name in dataset.conditions
    }


def _read(path: str | Path, split: Split | None, options: ReadOptions) -> Dataset:
    """Read examples in the layout of their file."""
    source, path = printable(path), builtin.located(path)
    try:
        if path.is_dir():
            return _read_folder(path, split, options, source)
        suffix = _suffix(path, source)
        if suffix == ".npz":
            _refuse_unused(options, ("image_size", "channels", "keys"), source)
            return arrays.read_npz(path, split, options, source)
        if split == "test":
            raise MissingSplitError(f"{source} does not have a test split. Use a data folder, or an .npz with x_test.")
        if suffix == ".npy":
            _refuse_unused(options, ("image_size", "channels"), source)
            return arrays.read_npy(path, source, options)
        if suffix in csv.SUFFIXES:
            _refuse_unused(options, ("image_size", "channels", "delimiter"), source)
            return csv.read_csv(path, options, source)
        if suffix == frames.SUFFIX:
            _refuse_unused(options, ("image_size", "channels"), source)
            return csv.infer(frames.read_parquet(path, source), options)
        if suffix in images.SUFFIXES:
            _refuse_unused(options, ("image_size", "channels", "skip_bad"), source)
            return images.read_one(path, options, source)
        if suffix in ("", ".gz", ".idx") or "ubyte" in path.name:
            _refuse_unused(options, ("image_size", "channels"), source)
            return idx.read_pair(path, idx.labels_beside(path), source, options)
    except OSError as error:
        raise InputDataError(f"{source} cannot be read: {error.strerror or 'it is damaged'}.") from error
    raise InputDataError(f"{source} has an unknown suffix. Expected {_FORMATS}.")


def _read_folder(path: Path, split: Split | None, options: ReadOptions, source: str) -> Dataset:
    if not idx.is_folder(path):
        if (path / "train.csv").is_file():
            _refuse_unused(options, ("image_size", "channels", "delimiter"), source)
            return csv.read_folder(path, split or "train", options, source)
        if images.holds_images(path):
            _refuse_unused(options, ("image_size", "channels", "skip_bad"), source)
            return images.read_folder(path, split, options, source)
    _refuse_unused(options, ("image_size", "channels"), source)
    return idx.read_folder(path, split or "train", source, options)


def _refuse_unused(options: ReadOptions, used: tuple[str, ...], source: str) -> None:
    """Raise `InputDataError` if an option does not apply to the format of the data."""
    formats = {"keys": "an .npz file", "delimiter": "a CSV file", "skip_bad": "a folder of images"}
    for name, kind in formats.items():
        if getattr(options, name) and name not in used:
            flag = "key" if name == "keys" else name.replace("_", "-")
            raise InputDataError(f"{source} is not {kind}, so --{flag} does not apply. Leave it out.")


def _channels_last(dataset: Dataset) -> Dataset:
    """Move the channels of `[num, channels, height, width]` to the last axis."""
    shape = dataset.x.shape
    if len(shape) == 4 and shape[1] in (1, 3) and min(shape[2:]) > 4:
        note = f"x has the shape {list(shape)}; axis 1 was read as the channels."
        return dataset._replace(x=np.moveaxis(dataset.x, 1, -1), notes=(*dataset.notes, note))
    return dataset


def _suffix(path: Path, source: str) -> str:
    if not path.exists() and (hint := builtin.hint(path)):
        raise InputDataError(f"{source} does not exist.{hint}")
    check_file(path, source, _FORMATS)
    return path.suffix.lower()


def _with_class_of_folder(dataset: Dataset, path: Path, manifest: Manifest) -> Dataset:
    """Take the label of images from the name of their folder, if that is a class of the model."""
    condition = manifest.condition("label")
    folder = (path if path.is_dir() else path.parent).absolute().name
    if not dataset.files or condition is None or "label" in dataset.conditions or folder not in condition.classes:
        return dataset
    label = np.full(len(dataset.files), 0, np.int64)
    return dataset._replace(
        conditions={**dataset.conditions, "label": label},
        class_names={**dataset.class_names, "label": (folder,)},
        notes=(*dataset.notes, f"The label of all images is {printable(folder, 40)}, the name of their folder."),
    )


def _as_known(dataset: Dataset, condition: Condition) -> np.ndarray:
    """Return values with the class indices of the model.

    Classes match by name, or by index if they are numbers and not all are names. If all classes of the model are
    integers, a mixture of names and indices is refused.
    """
    values, names = dataset.conditions[condition.name], dataset.class_names.get(condition.name)
    prefix = f"{printable(condition.name, 40)} in {dataset.source}"
    if not condition.categorical:
        if names is None:
            return values.astype(np.float32)
        if not all(NUMBER.fullmatch(name) for name in names):
            raise InputDataError(f"{prefix} has texts such as {printable(names[0], 40)}; expected numbers.")
        return np.array([float(name) for name in names], np.float32)[values]
    if names is None:
        raise InputDataError(f"{prefix} has floats; expected classes such as {printable(condition.classes[0], 40)}.")
    classes = condition.classes
    present = [names[index] for index in np.unique(values)]  # A test split may lack some classes of its file.
    if set(present) <= set(classes):
        indices = [classes.index(name) if name in classes else 0 for name in names]
        return np.array(indices, np.int64)[values]
    unknown = next(name for name in present if name not in classes)
    if all(re.fullmatch(r"0|[1-9]\d{0,8}", name) and int(name) < len(classes) for name in present):
        named = [name for name in present if name in classes]
        if named and all(re.fullmatch(r"-?\d+", name) for name in classes):
            raise InputDataError(
                f"{prefix} has two readings: {printable(named[0], 40)} is the name of a class, but "
                f"{printable(unknown, 40)} is only an index (0 to {len(classes) - 1}). Save the class names as texts."
            )
        return np.array([int(name) if name in present else 0 for name in names], np.int64)[values]
    raise InputDataError(
        f"{prefix} has the class {printable(unknown, 40)}; expected a class of the model. Run kvae info for the list."
    )
