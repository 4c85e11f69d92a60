"""The command `kvae sprites`: a dataset with known factors, to measure disentanglement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from kvae_serve.cli import options

if TYPE_CHECKING:
    import numpy as np

COUNTS = (
    ("--shapes", "shape", 3, "square, ellipse, heart"),
    ("--scales", "scale", 6, "0.5 to 1"),
    ("--orientations", "orientation", 40, "0 to 2 pi"),
    ("--xs", "position_x", 32, "left to right"),
    ("--ys", "position_y", 32, "top to bottom"),
)


def _counts(function):
    for flag, name, size, values in reversed(COUNTS):
        text = f"Number of values of {name}, spaced evenly ({values})."
        option = click.option(flag, name, type=click.IntRange(1, size), default=size, show_default=True, help=text)
        function = option(function)
    return function


@click.command(epilog="Example: kvae sprites --orientations 10 --xs 16 --ys 16 -o sprites.npz")
@click.option("-o", "--output", metavar="FILE.npz", required=True, help="File to write: images as x, factors as z.")
@click.option(
    "-n",
    "--num",
    type=click.IntRange(min=1),
    help="Number of images, drawn without replacement.  [default: all]",
)
@click.option("--seed", type=int, help="Seed of the draw with -n, 0 to 2**64 - 1.  [default: a new one, reported]")
@_counts
@click.option(
    "--as-condition", multiple=True, metavar="FACTOR", help="Factor to write as a condition as well. May be repeated."
)
@click.option("--from", "original", metavar="DSPRITES.npz", help="Original dSprites file to copy the pixels from.")
@options.force
@options.as_json
@options.quiet
def sprites(
    output: str,
    num: int | None,
    seed: int | None,
    as_condition: tuple[str, ...],
    original: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    **counts: int,
) -> None:
    """Render 64 x 64 images of a white square, ellipse or heart with the factors of dSprites.

    The factors are shape, scale, orientation, position_x and position_y. The default is all 737,280 combinations.
    `kvae.metrics` uses the array z of the file as factors.
    """
    from kvae.data.sprites import files, render
    from kvae_serve.errors import RequestError
    from kvae_serve.sealed import noise
    from kvae_serve.writers import atomic

    files.check_request(output, as_condition)
    atomic.check_target(output, force)
    if num is None and seed is not None:
        raise RequestError("--seed applies to a random subset. Give -n as well.")
    if num is not None and seed is None:
        seed = noise.random_seed()
    source = files.OriginalDSprites(original) if original else None
    index = render.select(counts, num, seed or 0, among=None if source is None else source.index)
    images = files.render_chunks(index) if source is None else source.images(index)
    files.write(
        output,
        index,
        _counted(images, len(index), quiet),
        scheme=render.SCHEME if source is None else files.DSPRITES_SCHEME,
        seed=seed,
        as_conditions=as_condition,
        force=force,
    )
    if as_json:
        options.echo_json({"output": output, "images": len(index), "factors": list(render.FACTORS), "seed": seed})
    if not quiet:
        drawn = "" if seed is None else f", seed {seed}"
        click.echo(f"{output}: {len(index):,} image{'s' if len(index) > 1 else ''}{drawn}", err=True)


def _counted(images: Iterable[np.ndarray], num: int, quiet: bool) -> Iterator[np.ndarray]:
    """Yield the chunks, and show progress."""
    from kvae_serve.progress import Progress

    done = 0
    with Progress("Rendering", quiet) as progress:
        for chunk in images:
            yield chunk
            done += len(chunk)
            progress(done, num)
