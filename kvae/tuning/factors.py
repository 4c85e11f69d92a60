"""Factors that generated the data, such as those of sprites, to measure disentanglement."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvae_serve.errors import InputDataError, printable

#: Arrays of an .npz that hold factors: those of `kvae sprites` and of the original dSprites.
NAMES = ("z", "latents_classes")


class Factors(NamedTuple):
    """Factors of each example.

    Attributes:
        classes: int64 `[num, num_factors]`, class of each factor that varies, counted from 0.
        sizes: Number of values of each.
    """

    classes: np.ndarray
    sizes: tuple[int, ...]


def read(source: str, num: int, name: str | None = None) -> Factors | None:
    """Read the factors of an `.npz`.

    Args:
        source: Path of the data.
        num: Number of examples.
        name: Array with the factors, `[num, num_factors]`. By default an array of integers named `z` or
            `latents_classes`, if there is one.

    Returns:
        The factors that have at least 2 values. None if the data do not have at least 2 of them.

    Raises:
        InputDataError: If `name` is given and the file does not contain such factors.
    """
    arrays = _arrays(source, [name] if name else NAMES)
    for array_name, array in arrays.items():
        if array.ndim != 2 or len(array) != num or (not name and array.dtype.kind not in "iu"):
            if name:
                raise InputDataError(
                    f"{source} contains {printable(array_name, 40)} {list(array.shape)}; expected factors "
                    f"[{num}, num_factors]. Name another array with --factors."
                )
            continue
        columns = [np.unique(column, return_inverse=True) for column in array.T]
        varied = [(len(values), classes) for values, classes in columns if len(values) > 1]
        if len(varied) > 1:
            return Factors(np.stack([classes for _, classes in varied], 1).astype(np.int64), _sizes(varied))
        if name:
            raise InputDataError(f"{source}: {printable(name, 40)} has fewer than 2 columns that vary. Name another.")
    if name and name not in arrays:
        raise InputDataError(f"{source} does not contain an array {printable(name, 40)}. Leave out --factors.")
    return None


def _sizes(varied: list[tuple[int, Any]]) -> tuple[int, ...]:
    return tuple(size for size, _ in varied)


def _arrays(source: str, names: Any) -> dict[str, np.ndarray]:
    """Return the arrays of an `.npz` that exist; none if the source is not an `.npz`."""
    if Path(source).suffix.lower() != ".npz" or not Path(source).is_file():
        return {}
    try:
        with np.load(source, allow_pickle=False) as bundle:
            return {name: bundle[name] for name in names if name in bundle.files}
    except (OSError, ValueError, zipfile.BadZipFile):  # the reader of the examples reports a damaged file
        return {}
