"""What verbs that turn rows into rows share: where their output goes, and what they say of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from kvae_serve.cli import options
from kvae_serve.errors import RequestError, printable
from kvae_serve.writers.stdout import STDOUT

if TYPE_CHECKING:
    from kvae_serve.cli.dataset_args import Given
    from kvae_serve.model import Model
    from kvae_serve.row_stream import RowStream

STDIN = "-"
IN_MEMORY = 2**24
"""Bytes of x beyond which it is read as it is needed: rows are taken in order, once."""

SHOWN = 16
"""Rows shown as text where nothing is said."""


def check(output: str | None, as_json: bool, force: bool) -> None:
    """Raise before any work is done where the output cannot be as it was asked for."""
    from kvae_serve.writers import dispatch

    if output is not None:
        dispatch.check(output, force)
    if as_json and output == STDOUT:
        raise RequestError("--json and -o - both want standard output. Leave one of them out.")


def examples(
    model: Model, data: str, split: str | None, said: dict[str, str], image_size: str | None, channels: str | None
) -> Given:
    """Read examples as `given.read` does; `-` is an .npy on standard input, read as it comes."""
    from kvae_serve.cli import dataset_args

    if data != STDIN:
        return dataset_args.read(model, data, split, said, image_size, channels, IN_MEMORY)
    from kvae_serve.inference.latent_files import standard_input

    return dataset_args.Given(standard_input(), dict(said), data)  # type: ignore[arg-type]


def deliver(
    rows: RowStream,
    output: str | None,
    *,
    dtype: str = "float32",
    force: bool = False,
    quiet: bool = False,
    as_json: bool = False,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write or show the rows, then say what was done, as words or as JSON."""
    from kvae_serve.writers import dispatch

    manifest = rows.manifest
    if output is not None:
        dispatch.stream(output, rows, dtype=dtype, force=force, quiet=quiet)  # type: ignore[arg-type]
    elif not as_json:
        dispatch.show(rows, quiet=quiet)
    else:
        for _ in rows.chunks:  # What cannot be made is still to be an error.
            pass
    more = dict(more or {})
    if as_json:
        facts = {"model": manifest.name, "model_id": manifest.model_id, "rows": rows.num_rows}
        options.echo_json(facts | more | {"output": output})
    elif not quiet and sys.stderr is not None:
        where = "" if output in (None, STDOUT) else f" to {printable(output)}"
        noun = "image" if manifest.data.kind == "image" and rows.data_names else "row"
        seed = f", seed {more['seed']}" if "seed" in more else ""
        click.echo(
            f"{rows.num_rows} {noun}{'s' if rows.num_rows > 1 else ''} of {printable(manifest.name, 60)}{where}{seed}",
            err=True,
        )
