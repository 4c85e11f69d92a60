"""Options that several commands share. A group of options reaches a command as one frozen dataclass."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kvae_serve.cli import completers
from kvae_serve.errors import OutputError, RequestError, printable
from kvae_serve.runtime.locate import DEFAULT
from kvae_serve.writers.stdout import STDOUT

if TYPE_CHECKING:
    from kvae_serve.model import Model
    from kvae_serve.row_stream import Dtype
    from kvae_serve.sealed.manifest import Manifest

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]

STDIN = "-"
MIN_1 = click.IntRange(min=1)


class RenamedOption(click.Option):
    """Option with former names, which still work but are neither shown nor completed."""

    def __init__(self, *args: Any, former: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.former = former

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Add the option under its present and its former names."""
        present, self.opts = self.opts, [*self.opts, *self.former]
        super().add_to_parser(parser, ctx)
        self.opts = present


def group(name: str, args: type, *parameters: Decorator) -> Decorator:
    """Return a decorator that declares parameters and passes them to the command as one object.

    Args:
        name: Keyword argument of the command.
        args: Dataclass whose fields are the destinations of the parameters.
        parameters: Click decorators, in the order of the help.
    """
    fields = [field.name for field in dataclasses.fields(args)]

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(**values: Any) -> Any:
            grouped = {field: values.pop(field) for field in fields if field in values}
            return function(**values, **{name: args(**grouped)})

        for parameter in reversed(parameters):
            command = parameter(command)
        return command  # type: ignore[return-value]

    return decorate


model: Decorator = click.option(
    "-m",
    "--model",
    default=DEFAULT,
    envvar="KVAE_MODEL",
    show_default=True,
    show_envvar=True,
    metavar="MODEL",
    shell_complete=completers.model,
    help="Folder, .onnx file, name of a shipped model, or address hf://owner/repo.",
)
as_json: Decorator = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document; errors are JSON too."
)
force: Decorator = click.option(
    "--force", is_flag=True, help="Replace an existing output, and write even if the disk seems too full."
)
quiet: Decorator = click.option("-q", "--quiet", is_flag=True, help="Suppress progress and status messages.")
draw: Decorator = click.option("--draw", is_flag=True, help="Draw x from p(x given z) instead of its mean.")
seed: Decorator = click.option(
    "--seed",
    type=int,
    metavar="N",
    help="Seed from 0 to 2**64 - 1; the same seed gives the same output.  [default: a new one, which is reported]",
)


@dataclass(frozen=True)
class RuntimeArgs:
    """Runtime of a model: `--batch-size`, `--threads` and `--provider`."""

    threads: int
    provider: str
    batch_size: int = 64

    def load(self, path: str) -> Model:
        """Load a model."""
        from kvae_serve.model import load

        return load(path, threads=self.threads, provider=self.provider)


def runtime_args(batch_size: bool = True) -> Decorator:
    """Pass the options of `RuntimeArgs` as `runtime`."""
    batch = click.option(
        "--batch-size",
        type=MIN_1,
        metavar="N",
        default=64,
        show_default=True,
        help="Rows per run of a graph. Affects memory and speed, not the result.",
    )
    return group(
        "runtime",
        RuntimeArgs,
        *([batch] if batch_size else []),
        click.option(
            "--threads",
            type=click.IntRange(1, 256),
            metavar="N",
            default=1,
            show_default=True,
            help="Number of ONNX Runtime threads.",
        ),
        click.option(
            "--provider",
            default="cpu",
            show_default=True,
            metavar="NAME",
            help="ONNX Runtime execution provider: cpu, cuda, ... Only cpu repeats results bit for bit.",
        ),
    )


@dataclass(frozen=True)
class ConditionArgs:
    """Values of conditions: `--label` and `--condition`."""

    label: tuple[str, ...]
    condition: tuple[str, ...]

    def values(self) -> dict[str, list[str]]:
        """Return the values of each condition: `{"label": ["3", "5"]}`."""
        parsed: dict[str, list[str]] = {}
        for each in self.condition:
            name, equals, value = each.partition("=")
            if not (name and equals and value):
                raise RequestError(f"Condition {printable(each, 60)} is malformed; expected NAME=VALUE.")
            parsed.setdefault(name, []).append(value)
        if self.label and "label" in parsed:
            raise RequestError("The label is given twice, with --label and --condition label=. Leave one out.")
        return parsed | ({"label": list(self.label)} if self.label else {})

    def for_all_rows(self) -> dict[str, str]:
        """Return the only value of each condition."""
        parsed = self.values()
        for name, values in parsed.items():
            if len(values) > 1:
                raise RequestError(f"{printable(name, 40)} has {len(values)} values; give one, which all rows share.")
        return {name: values[0] for name, values in parsed.items()}


def condition_args(
    label: str = "Class of all rows, by name or index; short for the condition named label.  "
    "[default: the labels of the data]",
    condition: str = "Value of any condition for all rows. May be repeated for several conditions.",
) -> Decorator:
    """Pass the options of `ConditionArgs` as `conditions`; the arguments are their help."""
    return group(
        "conditions",
        ConditionArgs,
        click.option("--label", multiple=True, metavar="NAME|INDEX", shell_complete=completers.label, help=label),
        click.option(
            "--condition", multiple=True, metavar="NAME=VALUE", shell_complete=completers.condition, help=condition
        ),
    )


@dataclass(frozen=True)
class RowArgs:
    """Range of rows: `-n` and `--start`."""

    num: int | None
    start: int


def row_args(num: str = "Number of rows to use.  [default: all]") -> Decorator:
    """Pass the options of `RowArgs` as `rows`."""
    return group(
        "rows",
        RowArgs,
        click.option("-n", "--num", type=MIN_1, metavar="N", help=num),
        start("Index of the first row, for splitting the work into several runs."),
    )


def start(text: str) -> Decorator:
    """`--start`."""
    return click.option("--start", type=click.IntRange(min=0), metavar="N", default=0, show_default=True, help=text)


@dataclass(frozen=True)
class OutputArgs:
    """Destination of the result: `-o`, `--dtype`, `--force`, `--json` and `--quiet`."""

    path: str | None
    force: bool
    as_json: bool
    quiet: bool
    dtype: Dtype = "float32"

    @property
    def shows_text(self) -> bool:
        """True if the result itself is printed as text."""
        return self.path is None and not self.as_json

    @property
    def destination(self) -> str:
        """` to FILE` for messages; empty if the output is not a file."""
        return "" if self.path in (None, STDOUT) else f" to {printable(self.path)}"

    def check(self, check_path: Callable[[str, bool], object]) -> None:
        """Raise `RequestError` or `OutputError` before the work starts if the output cannot be written.

        Args:
            check_path: Check of the path; its second argument is `force`.
        """
        if self.path is not None:
            check_path(self.path, self.force)
        if self.as_json and self.path == STDOUT:
            raise RequestError("--json and -o - both write to standard output. Leave one out.")

    def report(self, manifest: Manifest, facts: Mapping[str, Any], summary: str) -> None:
        """Report a finished command: a JSON document on standard output, or a summary on standard error."""
        if self.as_json:
            echo_json({"model": manifest.name, "model_id": manifest.model_id} | dict(facts) | {"output": self.path})
        elif not self.quiet:
            click.echo(summary, err=True)


def output_args(formats: str, dtype: bool = False, metavar: str = "PATH") -> Decorator:
    """Pass the options of `OutputArgs` as `output`.

    Args:
        formats: Help of `-o`: the formats, and the default.
        dtype: Whether the command has `--dtype`.
        metavar: Placeholder of the path.
    """
    kind = click.option(
        "--dtype",
        type=click.Choice(["float32", "uint8"]),
        default="float32",
        show_default=True,
        help="Data type of x in array outputs; uint8 rounds to integers.",
    )
    path = click.option("-o", "--output", "path", metavar=metavar, shell_complete=completers.path, help=formats)
    return group("output", OutputArgs, path, *([kind] if dtype else []), force, as_json, quiet)


picture_options: tuple[Decorator, ...] = (
    click.option(
        "--scale",
        type=click.IntRange(1, 64),
        metavar="N",
        help="Factor that enlarges pictures, without smoothing.  [default: at least 56 x 56 pixels per image]",
    ),
    click.option("--plain", is_flag=True, help="Pictures without captions; images are not enlarged without --scale."),
)


@dataclass(frozen=True)
class PictureArgs:
    """Look of pictures: `--scale` and `--plain`."""

    scale: int | None
    plain: bool


picture_args: Decorator = group("picture", PictureArgs, *picture_options)
"""Pass the options of `PictureArgs` as `picture`."""


def effective_sample_size(facts: Mapping[str, Any]) -> str:
    """Return the effective sample size of an imputation for a summary; nothing if there was none."""
    size = facts.get("effective_sample_size")
    if size is None:
        return ""
    few = "; few draws of z fit some rows, raise --num-samples" if size["minimum"] < 10 else ""
    return f"; effective sample size {size['median']:.0f} of {size['of']} (lowest {size['minimum']:.0f}){few}"


def check_file(suffixes: Collection[str], stdout: bool = False) -> Callable[[str, bool], None]:
    """Return a check for `OutputArgs.check`: the file has one of the suffixes and can be written, or is `-`."""

    def check(path: str, force: bool) -> None:
        if not (stdout and path == STDOUT):
            _check_file(path, suffixes, force)

    return check


def _check_file(path: str, suffixes: Collection[str], force: bool) -> None:
    """Check that a file can be written.

    Raises:
        RequestError: The suffix is not one of `suffixes`.
        OutputError: The file exists and `force` is not set, the path is a folder, or its folder does not exist.
    """
    from kvae_serve.writers import atomic

    if os.path.splitext(path)[1].lower() not in suffixes:  # noqa: PTH122
        raise RequestError(f"{printable(path)} has an unknown suffix; expected {' or '.join(suffixes)}.")
    atomic.check_target(path, force)
    if os.path.isdir(path):  # noqa: PTH112
        raise OutputError(f"{printable(path)} is a folder; expected the name of a file.")


def echo_json(document: object) -> None:
    """Print one JSON document on standard output."""
    import json

    click.echo(json.dumps(document, indent=2, allow_nan=False))
