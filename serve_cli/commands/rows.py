"""What verbs that turn rows into rows share: where their output goes, and what they say of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from serve_cli.commands import options
from serve_cli.errors import RequestError, printable

if TYPE_CHECKING:
    from serve_cli.commands.given import Given
    from serve_cli.flow import Flow
    from serve_cli.model import Model

STDIN = STDOUT = "-"
IN_MEMORY = 2**24
"""Bytes of x beyond which it is read as it is needed: rows are taken in order, once."""

SHOWN = 16
"""Rows shown as text where nothing is said."""


def check(output: str | None, as_json: bool, force: bool) -> None:
    """Raise before any work is done where the output cannot be as it was asked for."""
    from serve_cli import outputs

    if output is not None:
        outputs.check(output, force)
    if as_json and output == STDOUT:
        raise RequestError("--json and -o - both want standard output. Leave one of them out.")


def examples(
    model: Model, data: str, split: str | None, said: dict[str, str], image_size: str | None, channels: str | None
) -> Given:
    """Read examples as `given.read` does; `-` is an .npy on standard input, read as it comes."""
    from serve_cli.commands import given

    if data != STDIN:
        return given.read(model, data, split, said, image_size, channels, IN_MEMORY)
    from serve_cli.codes import standard_input

    return given.Given(standard_input(), dict(said), data)  # type: ignore[arg-type]


def deliver(
    flow: Flow,
    output: str | None,
    *,
    dtype: str = "float32",
    force: bool = False,
    quiet: bool = False,
    as_json: bool = False,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write or show the rows of a flow, then say what was done, as words or as JSON."""
    from serve_cli import outputs

    manifest = flow.manifest
    if output is not None:
        outputs.stream(output, flow, dtype=dtype, force=force, quiet=quiet)  # type: ignore[arg-type]
    elif not as_json:
        outputs.show(flow, quiet=quiet)
    else:
        for _ in flow.pieces:  # What cannot be made is still to be an error.
            pass
    more = dict(more or {})
    if as_json:
        facts = {"model": manifest.name, "model_id": manifest.model_id, "rows": flow.rows}
        options.echo_json(facts | more | {"output": output})
    elif not quiet and sys.stderr is not None:
        where = "" if output in (None, STDOUT) else f" to {printable(output)}"
        noun = "image" if manifest.data.kind == "image" and flow.data_names else "row"
        seed = f", seed {more['seed']}" if "seed" in more else ""
        click.echo(
            f"{flow.rows} {noun}{'s' if flow.rows > 1 else ''} of {printable(manifest.name, 60)}{where}{seed}", err=True
        )
