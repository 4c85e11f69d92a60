"""`kvae interpolate`: walk between two examples, two draws or two conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvae_serve.cli import options, path_output
from kvae_serve.errors import RequestError, printable
from kvae_serve.progress import Busy

if TYPE_CHECKING:
    from kvae_serve.model import Model

EXAMPLE = "Example: kvae interpolate --label 3 --label 8 --seed 1 -n 4 -o walk.gif"


@click.command(epilog=EXAMPLE)
@options.model
@path_output.file("--from", "source", "Walk from this example: a file, and a row where it has several. Needs --to.")
@path_output.file("--to", "target", "Walk to this example, with --from: a file, and a row.")
@click.option(
    "--seed",
    type=int,
    multiple=True,
    help="Walk between draws: two seeds, or one, and then from its draws to the next ones.  "
    "[default: a new one, which is reported]",
)
@click.option("--start", type=click.IntRange(min=0), default=0, show_default=True, help="Index of the first draw.")
@path_output.labels("the first is where the walk begins, the second where it ends.  [default: the first class]")
@click.option("-n", "--num", type=click.IntRange(min=1), default=1, show_default=True, help="Walks, a row for each.")
@click.option(
    "--steps", type=click.IntRange(2, 10_000), default=9, show_default=True, help="Images, the ends included."
)
@click.option("--lerp", is_flag=True, help="Walk in a straight line, rather than along the great circle (slerp).")
@click.option(
    "--classes",
    type=click.Choice(["blend", "switch"]),
    default="blend",
    show_default=True,
    help="Between two classes: the mean over both, weighted by the way; or each half of the way its own class.",
)
@path_output.output
@path_output.style
@options.threads
@options.provider
@options.as_json
@path_output.rest
def interpolate(
    model: str,
    source: str | None,
    target: str | None,
    seed: tuple[int, ...],
    start: int,
    label: tuple[str, ...],
    condition: tuple[str, ...],
    num: int,
    steps: int,
    lerp: bool,
    classes: str,
    output: str | None,
    fps: float,
    loop: str,
    scale: int,
    batch_size: int,
    threads: int,
    provider: str,
    as_json: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Walk between two examples, two draws of the prior, or two conditions.

    With --from and --to from one file's example to another's; with two seeds from draw i of one to draw i of the
    other; with one seed from each draw to the next; with one seed and two labels the draw stays and its label
    changes. There is no class between two classes: see --classes. Numbers (--condition age=20 --condition age=60)
    go in a straight line.
    """
    if (source is None) != (target is None):
        raise RequestError("--from and --to are the two ends of a walk between examples. Give both, or neither.")
    if source is not None and seed:
        raise RequestError("--from and --seed are two places to start from. Give one of them.")
    if len(seed) > 2:
        raise RequestError(f"A walk has two ends, got {len(seed)} seeds.")
    path_output.check(output, force, as_json)
    from kvae_serve.latent.interpolation import between_files
    from kvae_serve.model import load

    loaded = load(model, threads=threads, provider=provider)
    manifest = loaded.manifest
    asked = options.parse_conditions(condition)
    if label:
        if "label" in asked:
            raise RequestError("The label is given twice: as --label, and as --condition label=...")
        if not manifest.conditions:
            raise RequestError(f"{manifest.name} is unconditional, so it takes no label. Leave it out.")
        asked["label"] = list(label)
    first, last = _ends(asked)
    seeds: list[int] = []
    how = _how(lerp, classes, steps, batch_size)
    with Busy("Walking", quiet):
        if source is not None and target is not None:
            found = between_files(loaded, source, target, first, last, num, **how)
        else:
            seeds = list(seed)
            found = _between_draws(loaded, seeds, start, num, first, last, how)
    path_output.deliver(
        found.path(), output, fps=fps, loop=loop, scale=scale, force=force, as_json=as_json, quiet=quiet
    )
    if as_json:
        path_output.report(
            manifest,
            output,
            rows=num,
            steps=steps,
            method=found.method,
            classes=found.classes,
            conditions=path_output.names(manifest, found.conditions),
            seed=seeds or None,
            start=start if seeds else None,
            ends=[source, target] if source is not None else None,
        )
    elif not quiet:
        noun = "walk" if num == 1 else "walks"
        by = f", seed {' to '.join(map(str, seeds))}" if seeds else ""
        path_output.say(
            f"{num} {noun} of {steps} steps in {printable(manifest.name, 60)}"
            f"{path_output.under(manifest, found.conditions)}{path_output.where(output)}{by}"
        )


def _how(lerp: bool, classes: str, steps: int, batch_size: int) -> dict[str, Any]:
    return {"method": "lerp" if lerp else "slerp", "classes": classes, "steps": steps, "batch_size": batch_size}


def _ends(asked: dict[str, list[str]]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the conditions of both ends: a value that is given once is that of both."""
    for name, values in asked.items():
        if len(values) > 2:
            raise RequestError(f"A walk has two ends, got {len(values)} values of {printable(name, 40)}.")
    return {name: values[0] for name, values in asked.items()}, {name: values[-1] for name, values in asked.items()}


def _between_draws(
    loaded: Model, seeds: list[int], start: int, num: int, first: dict, last: dict, how: dict[str, Any]
) -> Any:
    """Walk between draws; `seeds` gets the seed that was drawn where there was none."""
    only = loaded.manifest.conditions[0] if len(loaded.manifest.conditions) == 1 else None
    if not first and only is not None and only.categorical:
        first = last = {only.name: 0}
    begin = loaded.sample(num, conditions=first, seed=seeds[0] if seeds else None, start=start)
    if not seeds:
        seeds.append(begin.seed)
    # One seed and one condition: from each draw to the next, for there would be no walk otherwise.
    onward = 1 if len(seeds) == 1 and first == last else 0
    end = loaded.sample(num, conditions=last, seed=seeds[-1], start=start + onward)
    return loaded.interpolate(begin.z, end.z, conditions=first, to_conditions=last, **how)
