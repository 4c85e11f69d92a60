"""Options and output that `traverse` and `interpolate` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from kvae_serve.cli import completers, options
from kvae_serve.errors import printable
from kvae_serve.progress import Busy

if TYPE_CHECKING:
    import numpy as np

    from kvae_serve.latent_path import LatentPath
    from kvae_serve.sealed.manifest import Manifest

FORMATS = (
    "Output: .png (a grid), .gif or .webp (an animation), .npz, .npy or .csv; - is .npy on standard output.  "
    "[default: images as text, other data as CSV]"
)


@dataclass(frozen=True)
class StyleArgs:
    """Style of pictures and animations: `--scale`, `--plain`, `--fps` and `--loop`."""

    scale: int | None
    plain: bool
    fps: float
    loop: str


style_args: options.Decorator = options.group(
    "style",
    StyleArgs,
    *options.picture_options,
    click.option(
        "--fps",
        type=click.FloatRange(0.1, 50),
        metavar="N",
        default=10.0,
        show_default=True,
        help="Frames per second of an animation.",
    ),
    click.option(
        "--loop",
        type=click.Choice(["bounce", "forward", "once"]),
        default="bounce",
        show_default=True,
        help="Repetition of an animation: back and forth, from the start, or none.",
    ),
)


def condition_args(several: str) -> options.Decorator:
    """Pass `ConditionArgs` as `conditions`; `several` is the help for more than one label."""
    return options.condition_args(
        f"Class, by name or index. May be repeated: {several}",
        "Value of any condition. May be repeated, for several conditions or values.",
    )


def file(flag: str, name: str, text: str, row: bool = True) -> options.Decorator:
    """Declare an option whose value is a file, and with `row` a row of it."""
    return click.option(flag, name, metavar="FILE[:ROW]" if row else "FILE", shell_complete=completers.path, help=text)


def deliver(
    path: LatentPath, output: options.OutputArgs, style: StyleArgs, seeds: Sequence[int] = (), start: int = 0
) -> None:
    """Write a path, or show it as text. A picture names the seeds of the draws at its ends, and the first draw."""
    from kvae_serve.writers import paths

    if seeds:
        draws = {"kvae seed": " to ".join(map(str, seeds)), "kvae start": str(start)}
        path = replace(path, metadata=path.metadata | draws)
    if output.path is not None:
        with Busy("Writing", output.quiet):
            paths.write(output.path, path, paths.Style(**asdict(style)), output.force)
    elif output.shows_text:
        paths.show(path)


def condition_names(manifest: Manifest, columns: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """Return the distinct values of each condition as text, in order of appearance."""
    names = {}
    for condition in manifest.conditions:
        values: dict[Any, None] = dict.fromkeys(columns[condition.name].ravel().tolist())
        names[condition.name] = [
            condition.classes[value] if condition.categorical else f"{value:.6g}" for value in values
        ]
    return names


def condition_summary(manifest: Manifest, columns: Mapping[str, np.ndarray]) -> str:
    """Return the conditions for a message, such as ` (label 3)`."""
    parts = [
        f"{printable(name, 40)} {', '.join(printable(value, 40) for value in values[:12])}"
        + (", ..." if len(values) > 12 else "")
        for name, values in condition_names(manifest, columns).items()
    ]
    return f" ({'; '.join(parts)})" if parts else ""
