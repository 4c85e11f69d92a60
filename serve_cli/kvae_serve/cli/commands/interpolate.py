"""The command `kvae interpolate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvae_serve.cli import options, path_output
from kvae_serve.errors import RequestError, printable
from kvae_serve.progress import Busy

if TYPE_CHECKING:
    from kvae_serve.latent.interpolation import Interpolation
    from kvae_serve.model import Model


@click.command(epilog="Example: kvae interpolate --label 3 --label 8 --seed 1 -n 4 -o walk.gif")
@options.model
@path_output.file("--from", "source", "First example, with the row if the file has several. Needs --to.")
@path_output.file("--to", "target", "Last example, with the row if the file has several. Needs --from.")
@click.option(
    "--seed",
    type=int,
    metavar="N",
    multiple=True,
    help="Seed of the draws at the ends. Two seeds connect their draws; one seed connects each draw to the next.  "
    "[default: a new one, which is reported]",
)
@options.start("Index of the first draw.")
@path_output.condition_args("the first is that of the start, the second that of the end.  [default: the first class]")
@click.option(
    "-n",
    "--num",
    type=options.MIN_1,
    metavar="N",
    default=1,
    show_default=True,
    help="Number of interpolations, one per row.",
)
@click.option(
    "--steps",
    type=click.IntRange(2, 10_000),
    metavar="N",
    default=9,
    show_default=True,
    help="Number of images, including both ends.",
)
@click.option("--lerp", is_flag=True, help="Linear interpolation instead of the great circle (slerp).")
@click.option(
    "--classes",
    type=click.Choice(["blend", "switch"]),
    default="blend",
    show_default=True,
    help="Images between two classes: the weighted mean of both, or the nearer class.",
)
@options.output_args(path_output.FORMATS)
@path_output.style_args
@options.runtime_args()
def interpolate(
    model: str,
    source: str | None,
    target: str | None,
    seed: tuple[int, ...],
    start: int,
    conditions: options.ConditionArgs,
    num: int,
    steps: int,
    lerp: bool,
    classes: str,
    output: options.OutputArgs,
    style: path_output.StyleArgs,
    runtime: options.RuntimeArgs,
) -> None:
    """Interpolate between two examples, two draws of the prior, or two conditions.

    --from and --to interpolate between examples of files; two seeds between draw i of each; one seed between each draw
    and the next; one seed and two labels keep the draw and change the label. Numbers, as in --condition age=20
    --condition age=60, change linearly.
    """
    if (source is None) != (target is None):
        raise RequestError("Only one of --from and --to is given. Give both, or neither.")
    if source is not None and seed:
        raise RequestError("--from and --seed both set the start. Give one of them.")
    if len(seed) > 2:
        raise RequestError(f"{len(seed)} seeds are given; expected at most two, one for each end.")
    # Imported here, so that --help imports neither numpy nor onnxruntime.
    from kvae_serve.latent.interpolation import between_files
    from kvae_serve.writers import paths

    output.check(paths.check)
    loaded = runtime.load(model)
    manifest = loaded.manifest
    first, last = _ends(conditions.values())
    seeds: list[int] = []
    method: dict[str, Any] = {
        "method": "lerp" if lerp else "slerp",
        "classes": classes,
        "steps": steps,
        "batch_size": runtime.batch_size,
    }
    with Busy("Decoding", output.quiet):
        if source is not None and target is not None:
            interpolation = between_files(loaded, source, target, first, last, num, **method)
        else:
            interpolation, seeds = _between_draws(loaded, seed, start, num, first, last, method)
    path_output.deliver(interpolation.path(), output, style, seeds, start)
    facts = {
        "rows": num,
        "steps": steps,
        "method": interpolation.method,
        "classes": interpolation.classes,
        "conditions": path_output.condition_names(manifest, interpolation.conditions),
        "seed": seeds or None,
        "start": start if seeds else None,
        "ends": [source, target] if source is not None else None,
    }
    output.report(
        manifest,
        facts,
        f"{num} interpolation{'s' if num > 1 else ''} of {steps} steps in {printable(manifest.name, 60)}"
        f"{path_output.condition_summary(manifest, interpolation.conditions)}{output.destination}"
        + (f", seed {' to '.join(map(str, seeds))}" if seeds else ""),
    )


def _ends(values: dict[str, list[str]]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the conditions of both ends; a single value applies to both."""
    for name, several in values.items():
        if len(several) > 2:
            raise RequestError(f"{printable(name, 40)} has {len(several)} values; expected at most two, one per end.")
    return {name: each[0] for name, each in values.items()}, {name: each[-1] for name, each in values.items()}


def _between_draws(
    loaded: Model, seed: tuple[int, ...], start: int, num: int, first: dict, last: dict, method: dict[str, Any]
) -> tuple[Interpolation, list[int]]:
    """Interpolate between draws; return the seeds as well, because a new one may be drawn."""
    conditions = loaded.manifest.conditions
    if not first and len(conditions) == 1 and conditions[0].categorical:
        first = last = {conditions[0].name: 0}
    begin = loaded.sample(num, conditions=first, seed=seed[0] if seed else None, start=start)
    seeds = list(seed) or [begin.seed]
    # With one seed and the same conditions at both ends, interpolate from each draw to the next.
    onward = 1 if len(seeds) == 1 and first == last else 0
    end = loaded.sample(num, conditions=last, seed=seeds[-1], start=start + onward)
    return loaded.interpolate(begin.z, end.z, conditions=first, to_conditions=last, **method), seeds
