"""Sources of training data: files, folders, and the data sets that Keras downloads by name."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from kvae.data import column_file
from kvae.data.disk import OnDisk, chunks
from kvae_serve.class_indices import marked
from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers import Dataset, ReadOptions, csv, frames, read_dataset
from kvae_serve.readers.csv import graph_name
from kvae_serve.readers.dataset import Split
from kvae_serve.sealed.manifest import RESERVED

#: Names that `keras.datasets` downloads, with their class names.
NAMED = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
}  # fmt: skip

#: Size of x in bytes above which an .npy or a folder of images stays on disk.
IN_MEMORY = 2 * 2**30
#: The limit is at most 1 / _SHARE of the machine's memory, because the examples exist there several times: as read,
#: split, and as batches.
_SHARE = 8


def load(
    source: Any,
    split: str = "train",
    *,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    condition_columns: Sequence[str] = (),
    categorical_columns: Sequence[str] = (),
    drop_columns: Sequence[str] = (),
    columns: str | os.PathLike[str] | Mapping[str, Mapping[str, Any]] | None = None,
    missing_values: Sequence[str] = (),
    keys: Mapping[str, str] | None = None,
    delimiter: str | None = None,
    skip_bad: bool = False,
    in_memory: int | None = None,
) -> Dataset:
    """Read a data set.

    Args:
        source: A file or folder (IDX, `.npz`, `.npy`, images, CSV, Parquet); `mnist` or `fashion_mnist`, which Keras
            downloads; `mnist-sample`, a few hundred digits that are part of the package; or a DataFrame or table of
            pyarrow.
        split: `"train"` or `"test"`. Data without a split are read as a whole.
        image_size: (height, width) to which images are cropped and resized, and vectors are reshaped. By default all
            images must have one size.
        channels: 1 for gray, 3 for RGB; by default those of the images.
        condition_columns: CSV columns that are conditions and not part of x.
        categorical_columns: CSV columns of numbers that are class names.
        drop_columns: CSV columns to leave out.
        columns: Settings of CSV columns by name, or a `columns.toml` with them: `type` (integer, number, category,
            boolean, datetime, constant, id or ignore), `format`, `decimals` and `missing`.
        missing_values: Further texts of a CSV that stand for a missing value.
        keys: Arrays of an `.npz` by the name that they get, such as `{"x": "images", "label": "y"}`.
        delimiter: Delimiter of a CSV. By default it is detected.
        skip_bad: Whether to leave out images that cannot be read.
        in_memory: Size of x in bytes above which arrays and image folders stay on disk; None reads everything.

    Returns:
        `kvae_serve.readers.Dataset`: `x` `[num, *shape]` in data units, `conditions` by name, class names, range, and
        `notes` about how the data were read.

    Raises:
        InputDataError: If the data are missing or invalid. The message names them and the remedy.

    Example:
        >>> import kvae
        >>> data = kvae.data.load("mnist-sample")
        >>> data.x.shape, str(data.x.dtype), data.range
        ((600, 28, 28, 1), 'uint8', (0.0, 255.0))
    """
    if isinstance(source, str | Path) and str(source) in NAMED and not Path(source).exists():
        return _fetch(str(source), split)
    options = ReadOptions(
        image_size=image_size,
        channels=channels,
        condition_columns=tuple(condition_columns),
        categorical_columns=tuple(categorical_columns),
        drop_columns=tuple(drop_columns),
        column_settings=_settings(columns),
        missing_values=tuple(missing_values),
        keys=tuple(f"{name}={array}" for name, array in (keys or {}).items()),
        delimiter=delimiter,
        skip_bad=skip_bad,
        in_memory=in_memory,
    )
    if frames.is_frame(source):
        table = csv.infer(frames.from_frame(source, "The table"), options)
        return table._replace(conditions=marked(table.conditions, table.class_names))
    return read_dataset(source, cast(Split, split), options)


def from_config(data: Any, split: str = "train") -> Dataset:
    """Read the data of a configuration, with exactly the conditions that it names.

    Args:
        data: `kvae.training.config.DataConfig`.
        split: `"train"` or `"test"`, if the source has both.

    Returns:
        `kvae_serve.readers.Dataset`; x is a `kvae.data.disk.OnDisk` if it does not fit into memory.

    Raises:
        InputDataError: If the data are missing or invalid, or lack a condition.
    """
    dataset = load(
        data.data,
        split,
        image_size=data.height_and_width,
        channels=data.channels or None,
        condition_columns=data.condition_names,
        categorical_columns=data.categorical_columns,
        drop_columns=data.drop_columns,
        columns=data.columns or None,
        missing_values=data.missing_values,
        keys=dict(key.split("=", 1) for key in data.key),
        delimiter=data.delimiter or None,
        skip_bad=data.skip_bad,
        in_memory=_in_memory(),
    )
    for name in ("categorical_columns", "drop_columns", "columns", "missing_values"):
        if not dataset.columns and getattr(data, name):
            raise InputDataError(f"{dataset.source} is not a table; leave out --{name.replace('_', '-')}.")
    if isinstance(dataset.x, np.memmap) or not isinstance(dataset.x, np.ndarray):
        dataset = dataset._replace(x=OnDisk(dataset.x))  # type: ignore[arg-type]  # rows on demand
    names = [graph_name(name) if dataset.columns else name for name in data.condition_names]
    for name in names:
        _check_condition(dataset, name)
    if data.class_names:
        dataset = _rename_classes(dataset, data.class_names, names)
    _check_varies(dataset)
    return dataset._replace(
        conditions={name: dataset.conditions[name] for name in names},
        notes=(*dataset.notes, *_unused(dataset, names)),
    )


def _settings(columns: Any) -> dict[str, dict[str, Any]]:
    if columns is None:
        return {}
    return column_file.check(columns, "columns") if isinstance(columns, Mapping) else column_file.read(columns)


def _in_memory() -> int:
    try:
        return min(IN_MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _SHARE)
    except (AttributeError, OSError, ValueError):  # not on Windows
        return IN_MEMORY


def _rename_classes(dataset: Dataset, class_names: Sequence[str], conditions: Sequence[str]) -> Dataset:
    """Return the data set with other names for the classes of `label`.

    Names of integer labels are by index from 0, so they may include classes without examples. Other labels get one
    name each, in order.
    """
    classes = dataset.class_names.get("label", ())
    if "label" not in conditions or not classes:
        raise InputDataError(
            "class_names need the condition label, which this model does not have; add --conditional, or leave them "
            "out."
        )
    num = len(class_names)
    # Later data may hold the same integers, which are read as indices.
    integers = [int(name) for name in classes if re.fullmatch(r"0|[1-9][0-9]{0,8}", name)]
    if len(set(class_names)) == num and len(integers) == len(classes) and max(integers) < num:
        empty = [name for index, name in enumerate(class_names) if index not in integers]
        note = f"Classes without examples: {', '.join(printable(name, 40) for name in empty[:12])}."
        label = np.array(integers, np.int64)[dataset.conditions["label"]]
        dataset = dataset._replace(
            conditions={**dataset.conditions, "label": label}, notes=(*dataset.notes, *([note] if empty else []))
        )
    elif not num == len(set(class_names)) == len(classes) or any(
        each < num and classes[each] != str(each) for each in integers
    ):
        listed = ", ".join(printable(name, 40) for name in (*classes[:8], *(["..."] if len(classes) > 8 else [])))
        counted = f" Names of integers count from 0: {max(integers)} needs {max(integers) + 1}." if integers else ""
        raise InputDataError(
            f"{dataset.source} has {len(classes)} classes of label ({listed}), got {len(set(class_names))} different "
            f"class names in {num}; give one per class, separated by commas.{counted}"
        )
    return dataset._replace(class_names={**dataset.class_names, "label": tuple(class_names)})


def _check_varies(dataset: Dataset) -> None:
    """Raise InputDataError if all examples are identical, such as black images."""
    first = np.asarray(dataset.x[:1])
    if len(dataset.x) > 1 and not any((chunk != first).any() for chunk in chunks(dataset.x)):
        constant = f"the value {float(first.min()):g}" if first.min() == first.max() else "the same values"
        raise InputDataError(
            f"All {len(dataset.x)} examples of {dataset.source} are identical: each has {constant}. Use others."
        )


def _unused(dataset: Dataset, names: Sequence[str]) -> list[str]:
    """Return notes about the conditions of a data set that are not in `names`, except classes named `label`."""
    others = [name for name in dataset.conditions if name not in names and name != "label"]
    notes = []
    if "label" in dataset.conditions and "label" not in dataset.class_names:
        notes.append(f"The model ignores label: {_fractions(dataset)}.")
    if others:
        shown = ", ".join(printable(name, 40) for name in others[:8])
        more = f" and {len(others) - 8} more" if len(others) > 8 else ""
        notes.append(f"The model ignores {shown}{more}, see --condition-columns.")
    return notes


def _fractions(dataset: Dataset) -> str:
    """Return the reason why a label of floats is not a class, and the options for a number as a condition."""
    label = dataset.conditions["label"]
    first = label[int(np.argmax(label != np.round(label)))]
    return (
        f"it contains {first:g}, and classes are texts or whole numbers. To use it as a number, name its array: --key "
        "amount=ARRAY --condition-columns amount"
    )


def _check_condition(dataset: Dataset, name: str) -> None:
    """Raise InputDataError unless `name` can be a condition of a model."""
    if name not in dataset.conditions:
        if name == "label":
            raise InputDataError(f"{dataset.source} has no labels; leave out --conditional.")
        names = ", ".join(printable(each, 40) for each in dataset.conditions) or "none"
        raise InputDataError(f"{dataset.source} has no condition {printable(name, 60)}; it has {names}.")
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name) or name in RESERVED:
        raise InputDataError(
            f"{dataset.source}: {printable(name, 60)} cannot be the name of a condition; rename it, with lower-case "
            "letters, digits and _ only."
        )
    values, classes = dataset.conditions[name], dataset.class_names.get(name, ())
    if name == "label" and not classes:
        raise InputDataError(f"{dataset.source} does not have classes in label: {_fractions(dataset)}.")
    if (name == "label" and len(classes) < 2) or len(classes) == 1:
        only = f", but all have the class {printable(classes[0], 40)}" if classes else ""
        raise InputDataError(f"{dataset.source} needs at least 2 classes of {name} for a conditional model{only}.")
    if not classes and not values.min() < values.max():
        raise InputDataError(f"{dataset.source} has the same {name} for every example; leave this condition out.")


def _fetch(name: str, split: str) -> Dataset:
    import keras

    try:
        train, test = getattr(keras.datasets, name).load_data()
    except Exception as error:  # urllib, socket and ssl do not share a base class
        reason = printable(str(error), 200) or type(error).__name__
        raise InputDataError(
            f"{name} could not be downloaded: {reason}. Give a folder with its files, or mnist-sample, which is part "
            "of the package."
        ) from None
    x, label = train if split == "train" else test
    return Dataset(
        x=np.expand_dims(x, -1),
        conditions={"label": label.astype("int64")},
        class_names={"label": NAMED[name]},
        source=name,
        range=(0.0, 255.0),
    )
