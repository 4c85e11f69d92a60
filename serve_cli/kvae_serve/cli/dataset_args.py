"""Examples as a command is given them: a path, and the conditions that the file holds or the command line says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kvae_serve.cli import options
from kvae_serve.errors import InputDataError, printable

if TYPE_CHECKING:
    import numpy as np

    from kvae_serve.model import Model
    from kvae_serve.readers import Dataset, ReadOptions

IN_MEMORY = 2**28
"""Bytes of x that are read at once; what is larger stays on disk where its form allows."""


ALL = ""
"""As a split: what there is, and of data with two halves the training half."""


class Given(NamedTuple):
    """Examples, float32 or uint8 `[rows, *shape]` in data units, their conditions by name, and what to call them."""

    x: np.ndarray
    conditions: dict[str, Any]
    source: str


def read(
    model: Model,
    data: str,
    split: str | None,
    said: dict[str, str],
    image_size: str | None = None,
    channels: str | None = None,
    in_memory: int = IN_MEMORY,
) -> Given:
    """Read examples as a model takes them.

    Args:
        model: what they are for.
        data: a path.
        split: half of data that have two, or `ALL`; where None the test half of such data, and all of others.
        said: conditions of all rows; they win over the file's.
        image_size: as of `options.data`; for pictures the model's where None.
        channels: likewise.
        in_memory: bytes of x beyond which it stays on disk where its form allows.

    Raises:
        InputDataError: the data are missing or bad, or a condition is neither there nor said.
    """
    shape = model.manifest.data.shape
    if model.manifest.data.kind == "image" and _is_pictures(data):
        image_size = image_size or f"{shape[0]}x{shape[1]}"
        channels = channels or (str(shape[2]) if shape[2] in (1, 3) else None)
    dataset = _read(model, data, split, options.read_options(image_size, channels, in_memory))
    missing = [
        each.name for each in model.manifest.conditions if each.name not in said and each.name not in dataset.conditions
    ]
    if missing:
        raise InputDataError(
            f"{printable(data)} does not hold {', '.join(printable(name, 40) for name in missing)}, which "
            f"{printable(model.manifest.name, 60)} is given. Say it with --label or --condition, or add it to the data."
        )
    return Given(dataset.x, dataset.conditions | said, data)


def _read(model: Model, data: str, split: str | None, how: ReadOptions) -> Dataset:
    from kvae_serve.readers import read_for

    if split is not None:
        return read_for(data, model.manifest, split or None, how)  # type: ignore[arg-type]
    try:
        return read_for(data, model.manifest, "test", how)
    except InputDataError as error:
        if "no test split" not in str(error):
            raise
    return read_for(data, model.manifest, None, how)


def _is_pictures(data: str) -> bool:
    from pathlib import Path

    from kvae_serve.readers import images

    path = Path(data)
    return images.holds_images(path) if path.is_dir() else path.suffix.lower() in images.SUFFIXES
