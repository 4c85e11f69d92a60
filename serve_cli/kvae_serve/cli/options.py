"""Options that mean the same in every verb."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kvae_serve.cli import completers
from kvae_serve.errors import RequestError, printable
from kvae_serve.runtime.locate import DEFAULT

if TYPE_CHECKING:
    from kvae_serve.readers import ReadOptions

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
        shell_complete=completers.model,
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


def provider(function: F) -> F:
    """`--provider`."""
    return click.option(
        "--provider",
        default="cpu",
        show_default=True,
        metavar="NAME",
        help="Execution provider of ONNX Runtime: cpu, cuda, ... Results repeat bit for bit on cpu alone.",
    )(function)


def batch_size(function: F) -> F:
    """`--batch-size`."""
    return click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=64,
        show_default=True,
        help="Rows in one run: memory and speed, not the result.",
    )(function)


def seed(function: F) -> F:
    """`--seed`."""
    return click.option(
        "--seed",
        type=int,
        help="0 to 2**64 - 1; the same seed draws the same.  [default: a new one, which is reported]",
    )(function)


def output(forms: str) -> Callable[[F], F]:
    """`-o/--output`; `forms` says what it may be, and what is done without it."""
    return click.option("-o", "--output", metavar="PATH", shell_complete=completers.path, help=forms)


def dtype(function: F) -> F:
    """`--dtype`."""
    return click.option(
        "--dtype",
        type=click.Choice(["float32", "uint8"]),
        default="float32",
        show_default=True,
        help="Of x in arrays; uint8 rounds.",
    )(function)


def force(function: F) -> F:
    """`--force`."""
    return click.option(
        "--force", is_flag=True, help="Replace an output that exists; write also where the disk seems too full."
    )(function)


def quiet(function: F) -> F:
    """`-q/--quiet`."""
    return click.option("-q", "--quiet", is_flag=True, help="Do not say what was done, nor how far it is.")(function)


def given_conditions(function: F) -> F:
    """`--label` and `--condition`, one value of each for all rows."""
    label = click.option(
        "--label",
        metavar="NAME|INDEX",
        shell_complete=completers.label,
        help="Class of all rows, by name or index. Short for the condition named label.  [default: that of the data]",
    )
    condition = click.option(
        "--condition",
        multiple=True,
        metavar="NAME=VALUE",
        shell_complete=completers.condition,
        help="Value of any condition for all rows; may be repeated.",
    )
    return label(condition(function))


def data(function: F) -> F:
    """The argument DATA, and how to read what can be read in several ways."""
    options = (
        click.argument("data", metavar="DATA", shell_complete=completers.path),
        click.option(
            "--split", type=click.Choice(["train", "test"]), help="Half of data that has two.  [default: train]"
        ),
        click.option("--image-size", metavar="HxW", help="Cut and resize images to this.  [default: as they are]"),
        click.option("--channels", type=click.Choice(["1", "3"]), help="Read images as grey or as RGB."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def parse_conditions(given: tuple[str, ...]) -> dict[str, list[str]]:
    """Turn `("label=3", "label=5")` into `{"label": ["3", "5"]}`."""
    parsed: dict[str, list[str]] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not (name and equals and value):
            raise RequestError(f"A condition is given as NAME=VALUE, got {printable(each, 60)}.")
        parsed.setdefault(name, []).append(value)
    return parsed


def for_all_rows(label: str | None, condition: tuple[str, ...]) -> dict[str, str]:
    """Return what `given_conditions` gave: one value for each condition that was named."""
    parsed = parse_conditions(condition)
    if label is not None and "label" in parsed:
        raise RequestError("The label is given twice: with --label, and with --condition label=.")
    if label is not None:
        parsed["label"] = [label]
    for name, values in parsed.items():
        if len(values) > 1:
            raise RequestError(f"{printable(name, 40)} is given {len(values)} times, but holds for all rows. Give one.")
    return {name: values[0] for name, values in parsed.items()}


def read_options(image_size: str | None, channels: str | None, in_memory: int | None = None) -> ReadOptions:
    """Return how to read, from the texts of `data`."""
    from kvae_serve.readers import ReadOptions

    size = None
    if image_size is not None:
        height, _, width = image_size.lower().partition("x")
        if not all(each.isascii() and each.isdigit() and 0 < int(each[:6]) <= 65_535 for each in (height, width)):
            raise RequestError(f"--image-size is HxW, such as 28x28; got {printable(image_size, 40)}.")
        size = int(height), int(width)
    return ReadOptions(image_size=size, channels=int(channels) if channels else None, in_memory=in_memory)


def echo_json(document: object) -> None:
    """Print one JSON document on standard output."""
    import json

    click.echo(json.dumps(document, indent=2, allow_nan=False))
