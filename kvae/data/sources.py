"""Where training data come from: files and folders, or the sets that Keras fetches by name."""

import os
import re
from pathlib import Path

import numpy as np

from kvae.data.disk import OnDisk
from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers import Dataset, ReadOptions, read_dataset
from kvae_serve.readers.csv import graph_name
from kvae_serve.sealed.manifest import RESERVED

#: Names that `keras.datasets` fetches where there is a network, with their class names.
NAMED = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
}  # fmt: skip

#: Bytes of x beyond which an .npy or a folder of images stays on disk; less on a machine with little memory.
IN_MEMORY = 2 * 2**30
#: Of the machine's memory, for the examples are there several times: as read, split, and as batches take them.
_SHARE = 8


def from_config(data, split="train"):
    """Read what a configuration names, with the conditions that it asks for and no others.

    Args:
        data: `kvae.training.config.DataConfig`.
        split: `"train"` or `"test"`, where the source has both.

    Returns:
        `kvae_serve.readers.Dataset`; x is a `kvae.data.disk.OnDisk` where memory would not hold it.

    Raises:
        InputDataError: where the data are missing or bad, or lack a condition.
    """
    options = ReadOptions(
        image_size=data.height_and_width,
        channels=data.channels or None,
        condition_columns=data.condition_names,
        categorical_columns=data.categorical_columns,
        drop_columns=data.drop_columns,
        in_memory=_in_memory(),
    )
    dataset = load(data.data, split, options)
    if not dataset.columns and (data.categorical_columns or data.drop_columns):
        raise InputDataError(f"{dataset.source} is no CSV; leave out --categorical-columns and --drop-columns.")
    if isinstance(dataset.x, np.memmap) or not isinstance(dataset.x, np.ndarray):
        dataset = dataset._replace(x=OnDisk(dataset.x))
    names = [graph_name(name) if dataset.columns else name for name in data.condition_names]
    for name in names:
        _check_condition(dataset, name)
    if data.class_names:
        dataset = _renamed(dataset, data.class_names, names)
    return dataset._replace(
        conditions={name: dataset.conditions[name] for name in names},
        class_names={name: dataset.class_names[name] for name in names if name in dataset.class_names},
    )


def load(source, split="train", options=None):
    """Read a data set.

    Args:
        source: a file or folder that `kvae_serve.readers` knows (IDX, `.npz`, `.npy`, images, CSV); `mnist` or
            `fashion_mnist`, which Keras downloads; or `mnist-sample`, a few hundred digits that ship with the package.
        split: `"train"` or `"test"`, where the source has both.
        options: `kvae_serve.readers.ReadOptions`: image size and channels, columns of a CSV that are conditions.

    Returns:
        `kvae_serve.readers.Dataset`: `x` `[num, *shape]` in data units, `conditions` by name, class names, range.

    Raises:
        InputDataError: where the data are missing or bad; the line says which and what to do.
    """
    if str(source) in NAMED and not Path(source).exists():
        return _fetch(str(source), split)
    # A file without halves is all for training.
    return read_dataset(source, split, options)


def _in_memory():
    try:
        return min(IN_MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _SHARE)
    except (AttributeError, OSError, ValueError):  # not on Windows
        return IN_MEMORY


def _renamed(dataset, class_names, conditions):
    """The data set with other names for the classes of `label`."""
    known = dataset.class_names.get("label", ())
    if "label" not in conditions or not known:
        raise InputDataError(
            "class_names name the classes of label, which the model is not given; add --conditional, or leave them out."
        )
    if len(class_names) != len(known) or len(set(class_names)) != len(class_names):
        raise InputDataError(
            f"{dataset.source} has {len(known)} classes of label, got {len(set(class_names))} different class names in "
            f"{len(class_names)}; give one for each, separated by commas."
        )
    return dataset._replace(class_names={**dataset.class_names, "label": tuple(class_names)})


def _check_condition(dataset, name):
    """Raise InputDataError unless a model can be given this condition."""
    if name not in dataset.conditions:
        if name == "label":
            raise InputDataError(f"{dataset.source} has no labels, so no conditional model; leave --conditional out.")
        known = ", ".join(printable(each, 40) for each in dataset.conditions) or "none"
        raise InputDataError(f"{dataset.source} has no condition {printable(name, 60)}; it has {known}.")
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name) or name in RESERVED:
        raise InputDataError(
            f"{dataset.source}: {printable(name, 60)} cannot be the name of a condition; rename it, with lower-case "
            "letters, digits and _ alone."
        )
    values, classes = dataset.conditions[name], dataset.class_names.get(name, ())
    if (name == "label" and len(classes) < 2) or len(classes) == 1:
        raise InputDataError(f"{dataset.source} needs at least 2 classes of {name} for a conditional model.")
    if not classes and not values.min() < values.max():
        raise InputDataError(f"{dataset.source} has the same {name} for every example, which is no condition.")


def _fetch(name, split):
    import keras

    try:
        train, test = getattr(keras.datasets, name).load_data()
    except Exception as error:  # urllib, socket and ssl raise what they like
        raise InputDataError(
            f"{name} could not be downloaded ({type(error).__name__}); give --data a folder that holds its files."
        ) from error
    x, label = train if split == "train" else test
    return Dataset(
        x=np.expand_dims(x, -1),
        conditions={"label": label.astype("int64")},
        class_names={"label": NAMED[name]},
        source=name,
        range=(0.0, 255.0),
    )
