"""What `traverse` and `interpolate` share: options, and what they say."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kvae_serve.cli import completers, options
from kvae_serve.errors import RequestError, printable
from kvae_serve.progress import Busy
from kvae_serve.writers.stdout import STDOUT

if TYPE_CHECKING:
    import numpy as np

    from kvae_serve.latent.path import LatentPath
    from kvae_serve.readers import ReadOptions
    from kvae_serve.sealed.manifest import Manifest

F = TypeVar("F", bound=Callable[..., Any])


def labels(several: str) -> Callable[[F], F]:
    """`--label` and `--condition`; `several` says what becomes of more than one."""

    def add(function: F) -> F:
        function = click.option(
            "--condition",
            multiple=True,
            metavar="NAME=VALUE",
            shell_complete=completers.condition,
            help="Value of any condition; may be repeated, as --label.",
        )(function)
        return click.option(
            "--label",
            multiple=True,
            metavar="NAME|INDEX",
            shell_complete=completers.label,
            help=f"Class, by name or index; may be repeated: {several}",
        )(function)

    return add


def file(flag: str, name: str, text: str) -> Callable[[F], F]:
    """An option that takes `FILE` or, where it says so, `FILE:ROW`."""
    metavar = "FILE[:ROW]" if "row" in text else "FILE"
    return click.option(flag, name, metavar=metavar, shell_complete=completers.path, help=text)


def output(function: F) -> F:
    """`-o/--output` of a walk."""
    return click.option(
        "-o",
        "--output",
        metavar="PATH",
        shell_complete=completers.path,
        help="A .png (a grid), .gif or .webp (an animation), .npz, .npy or .csv; - for .npy on standard output. "
        "Without it, images are text, rows CSV.",
    )(function)


def style(function: F) -> F:
    """`--fps`, `--loop` and `--scale`."""
    for option in (
        click.option(
            "--scale", type=click.IntRange(1, 64), default=1, show_default=True, help="Enlarge pictures, crisply."
        ),
        click.option(
            "--loop",
            type=click.Choice(["bounce", "forward", "once"]),
            default="bounce",
            show_default=True,
            help="How an animation repeats: back and forth, from the start, not at all.",
        ),
        click.option(
            "--fps",
            type=click.FloatRange(0.1, 50),
            default=10.0,
            show_default=True,
            help="Frames a second of an animation.",
        ),
    ):
        function = option(function)
    return function


def rest(function: F) -> F:
    """`--batch-size`, `--force` and `--quiet`."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Do not say what was done."),
        click.option("--force", is_flag=True, help="Replace an output that exists."),
        click.option(
            "--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Rows decoded at a time."
        ),
    ):
        function = option(function)
    return function


def check(output: str | None, force: bool, as_json: bool) -> None:
    """Raise where the output cannot be, before any work is done."""
    if output is None:
        return
    from kvae_serve.writers import paths

    paths.check(output, force)
    if as_json and output == STDOUT:
        raise RequestError("--json and -o - both want standard output. Leave one of them out.")


def read_options(manifest: Manifest) -> ReadOptions:
    """Return how to read images for a model: with its channels."""
    from kvae_serve.readers import ReadOptions

    data = manifest.data
    return ReadOptions(channels=data.shape[2] if data.kind == "image" and data.shape[2] in (1, 3) else None)


def deliver(
    walk: LatentPath, output: str | None, *, fps: float, loop: str, scale: int, force: bool, as_json: bool, quiet: bool
) -> None:
    """Write a walk, or show it where nothing else wants standard output."""
    from kvae_serve.writers import paths

    if output is not None:
        with Busy("Writing", quiet):
            paths.write(output, walk, paths.Style(fps, loop, scale), force)  # type: ignore[arg-type]
    elif not as_json:
        paths.show(walk)


def report(manifest: Manifest, output: str | None, **facts: Any) -> None:
    """Print one JSON document: the model, then what was done."""
    options.echo_json({"model": manifest.name, "model_id": manifest.model_id} | facts | {"output": output})


def say(line: str) -> None:
    """Print a line on standard error."""
    if sys.stderr is not None:
        click.echo(line, err=True)


def where(output: str | None) -> str:
    """Return the words for an output that is a file."""
    return "" if output in (None, STDOUT) else f" to {printable(output)}"


def names(manifest: Manifest, columns: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """Return the distinct values of each condition as texts, in the order in which they come."""
    found = {}
    for condition in manifest.conditions:
        values = dict.fromkeys(columns[condition.name].ravel().tolist())
        found[condition.name] = [
            condition.classes[value] if condition.categorical else f"{value:.6g}" for value in values
        ]
    return found


def under(manifest: Manifest, columns: Mapping[str, np.ndarray]) -> str:
    """Return the words for the conditions, as in ` (label 3)`."""
    said = [
        f"{printable(name, 40)} {', '.join(printable(value, 40) for value in values[:12])}"
        + (", ..." if len(values) > 12 else "")
        for name, values in names(manifest, columns).items()
    ]
    return f" ({'; '.join(said)})" if said else ""
