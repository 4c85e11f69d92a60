"""Options that name a dataset, and reading it for a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from kvae_serve.cli import completers, options
from kvae_serve.errors import InputDataError, RequestError, printable

if TYPE_CHECKING:
    import numpy as np

    from kvae_serve.model import Model
    from kvae_serve.readers import Dataset, ReadOptions, Split
    from kvae_serve.sealed.manifest import Manifest

IN_MEMORY = 2**28
"""Bytes of x to read at once. Larger data stays on disk if its format allows."""

IN_MEMORY_IN_ORDER = 2**24
"""The same for commands that read the rows once, in order."""


class Examples(NamedTuple):
    """Examples, float32 or uint8 `[rows, *shape]` in data units, and their conditions by name.

    `row_names` tells which row is which: `file` of a folder of images, and the identifiers of a table. `ids` are all
    columns of identifiers of a table.
    """

    x: np.ndarray
    conditions: dict[str, Any]
    row_names: Mapping[str, Sequence[str]] = MappingProxyType({})
    ids: Mapping[str, Sequence[str]] = MappingProxyType({})


@dataclass(frozen=True)
class DatasetArgs:
    """Dataset to read: DATA, `--split` and the options of `read_options`."""

    data: str
    split: Split | None
    image_size: str | None = None
    channels: str | None = None
    key: tuple[str, ...] = ()
    delimiter: str | None = None
    skip_bad: bool = False

    def read(self, model: Model, conditions: Mapping[str, str], *, default_split: Split | None = None) -> Examples:
        """Read the examples for a model.

        Args:
            model: Model whose data shape and conditions apply.
            conditions: Values for all rows; they replace those of the file.
            default_split: Split to use without `--split`, if the data is split. `None` is the training split.

        Raises:
            InputDataError: The data is missing or bad, or lacks a condition of the model.
        """
        return self._read(model, conditions, default_split, IN_MEMORY)

    def read_for_any_label(self, model: Model) -> Examples:
        """Read examples without requiring the conditions of a model; those in the data are returned."""
        dataset = self._dataset(model.manifest, None, self._read_options(IN_MEMORY), ())
        names = {condition.name for condition in model.manifest.conditions}
        own = {name: values for name, values in dataset.conditions.items() if name in names}
        return Examples(dataset.x, own, _row_names(dataset))

    def read_in_order(self, model: Model, conditions: Mapping[str, str]) -> Examples:
        """Read examples that are used once, in order; `-` is an .npy file on standard input."""
        if self.data != options.STDIN:
            return self._read(model, conditions, None, IN_MEMORY_IN_ORDER)
        from kvae_serve.inference.latent_files import standard_input

        return Examples(standard_input(), dict(conditions))  # type: ignore[arg-type]

    def read_labels(self, model: Model, num: int) -> dict[str, tuple[np.ndarray, tuple[str, ...] | None]]:
        """Return labels in the data that are not conditions of the model: values `[num]`, and class names or None."""
        from kvae_serve.readers import read_dataset

        if model.manifest.conditions:
            return {}
        try:
            dataset = read_dataset(self.data, self.split, self._read_options(IN_MEMORY))
        except InputDataError:  # For example a table, which is read with the columns of the model.
            return {}
        return {
            name: (values, dataset.class_names.get(name))
            for name, values in dataset.conditions.items()
            if len(values) == num
        }

    def _read(
        self, model: Model, conditions: Mapping[str, str], default_split: Split | None, in_memory: int
    ) -> Examples:
        dataset = self._dataset(model.manifest, default_split, self._read_options(in_memory), conditions)
        if not click.get_current_context().params.get("quiet"):
            for note in dataset.notes:
                click.echo(note, err=True)
        missing = [
            each.name
            for each in model.manifest.conditions
            if each.name not in conditions and each.name not in dataset.conditions
        ]
        if missing:
            raise InputDataError(
                f"{printable(self.data)} does not hold {', '.join(printable(name, 40) for name in missing)}, which "
                f"{printable(model.manifest.name, 60)} needs. Give --label or --condition, or add it to the data."
            )
        return Examples(dataset.x, dataset.conditions | dict(conditions), _row_names(dataset), dataset.ids)

    def _dataset(
        self, manifest: Manifest, default_split: Split | None, read_options: ReadOptions, fixed: Collection[str]
    ) -> Dataset:
        from kvae_serve.readers import MissingSplitError, read_for

        split = self.split or default_split
        try:
            return read_for(self.data, manifest, split, read_options, fixed)
        except MissingSplitError:
            if self.split is not None:
                raise
        return read_for(self.data, manifest, None, read_options, fixed)

    def _read_options(self, in_memory: int) -> ReadOptions:
        from kvae_serve.readers import ReadOptions

        return ReadOptions(
            image_size=_parse_size(self.image_size),
            channels=int(self.channels) if self.channels else None,
            keys=self.key,
            delimiter=self.delimiter,
            skip_bad=self.skip_bad,
            in_memory=in_memory,
        )


def _row_names(dataset: Dataset) -> dict[str, Sequence[str]]:
    taken = (*dataset.conditions, "index", "file")
    return {"file": dataset.files} if dataset.files else {k: v for k, v in dataset.ids.items() if k not in taken}


def dataset_args() -> options.Decorator:
    """Pass the argument DATA and the options of `DatasetArgs` as `dataset`."""
    return options.group(
        "dataset",
        DatasetArgs,
        click.argument("data", metavar="DATA", shell_complete=completers.path),
        split(),
        *read_options(),
    )


def read_options() -> tuple[options.Decorator, ...]:
    """Options for data that can be read in several ways, see `kvae_serve.readers.ReadOptions`."""
    return (
        click.option("--image-size", metavar="HxW", help="Size to crop and resize images to.  [default: the model's]"),
        click.option("--channels", type=click.Choice(["1", "3"]), help="Channels to read images with: gray or RGB."),
        click.option(
            "--key",
            multiple=True,
            metavar="NAME=ARRAY",
            help="Array of an .npz to read, such as x=images or label=y. May be repeated.",
        ),
        click.option(
            "--delimiter", metavar="CHARACTER", help="Delimiter of a CSV, such as ; or tab.  [default: detected]"
        ),
        click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read."),
    )


def split(default: str = "train") -> options.Decorator:
    """`--split`."""
    return click.option(
        "--split",
        type=click.Choice(["train", "test"]),
        help=f"Split to use, if the data has a training and a test split.  [default: {default}]",
    )


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not all(each.isascii() and each.isdigit() and 0 < int(each[:6]) <= 65_535 for each in (height, width)):
        raise RequestError(f"--image-size is {printable(text, 40)}; expected HxW, such as 28x28.")
    return int(height), int(width)
