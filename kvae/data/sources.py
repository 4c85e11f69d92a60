"""Where training data come from: files and folders, or the sets that Keras fetches by name."""

from pathlib import Path

import numpy as np

from serve_cli.errors import InputDataError
from serve_cli.readers import Dataset, read_dataset

#: Names that `keras.datasets` fetches where there is a network, with their class names.
NAMED = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
}  # fmt: skip


#: 600 training and 200 test digits that ship with the package.
SAMPLE = "mnist-sample"


def load(source, split="train"):
    """Read a data set.

    Args:
        source: a file or folder that `serve_cli.readers` knows (IDX, `.npz`, `.npy`); `mnist` or `fashion_mnist`,
            which Keras downloads; or `mnist-sample`, a few hundred digits that ship with the package.
        split: `"train"` or `"test"`, where the source has both.

    Returns:
        `serve_cli.readers.Dataset`: `x` `[num, *shape]` in data units, `conditions` by name, class names, range.

    Raises:
        InputDataError: where the data are missing or bad; the line says which and what to do.
    """
    if str(source) == SAMPLE and not Path(source).exists():
        return read_dataset(Path(__file__).parent / "mnist_sample", split=split)._replace(source=SAMPLE)
    if str(source) in NAMED and not Path(source).exists():
        return _fetch(str(source), split)
    return read_dataset(source, split=split)


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
