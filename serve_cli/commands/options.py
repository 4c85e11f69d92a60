"""Options that mean the same in every verb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from serve_cli.catalog import DEFAULT

F = TypeVar("F", bound=Callable[..., Any])


def model(function: F) -> F:
    """`-m/--model`, also from `$KVAE_MODEL`."""
    return click.option(
        "-m",
        "--model",
        default=DEFAULT,
        envvar="KVAE_MODEL",
        show_default=True,
        show_envvar=True,
        metavar="MODEL",
        help="Folder, .onnx file or the name of a shipped model.",
    )(function)


def as_json(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document, errors too.")(function)


def threads(function: F) -> F:
    """`--threads`."""
    return click.option(
        "--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Threads of ONNX Runtime."
    )(function)


def echo_json(document: object) -> None:
    """Print one JSON document on standard output."""
    import json

    click.echo(json.dumps(document, indent=2, allow_nan=False))
