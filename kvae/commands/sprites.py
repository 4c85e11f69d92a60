"""`kvae sprites`: a data set whose factors are known, to measure disentanglement on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

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
        text = f"Values of {name} to keep, spread evenly ({values})."
        option = click.option(flag, name, type=click.IntRange(1, size), default=size, show_default=True, help=text)
        function = option(function)
    return function


@click.command(epilog="Example: kvae sprites --orientations 10 --xs 16 --ys 16 -o sprites.npz")
@click.option("-o", "--output", metavar="FILE.npz", required=True, help="File to write: x, and its factors as z.")
@click.option("-n", "--num", type=click.IntRange(min=1), help="So many at random, none twice.  [default: all]")
@click.option("--seed", type=int, help="0 to 2**64 - 1, of the draw with -n.  [default: a new one, which is reported]")
@_counts
@click.option(
    "--as-condition", multiple=True, metavar="FACTOR", help="Write a factor as a condition too; may be repeated."
)
@click.option("--from", "original", metavar="DSPRITES.npz", help="Take the pixels of the original dSprites file.")
@click.option("--force", is_flag=True, help="Replace an output that exists.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as one JSON document, errors too.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
def sprites(output, num, seed, as_condition, original, force, as_json, quiet, **counts):
    """Render 64 x 64 images of a white square, ellipse or heart whose factors are known, those of dSprites.

    The factors are shape, scale, orientation, position_x and position_y; without more flags all 737,280 combinations
    are written. `kvae.metrics` takes the array z of the file as factors.
    """
    from kvae.data.sprites import files, render
    from kvae_serve.errors import RequestError
    from kvae_serve.sealed import noise
    from kvae_serve.writers import atomic

    files.check_request(output, as_condition)
    atomic.refuse_existing(output, force)
    if num is None and seed is not None:
        raise RequestError("--seed is for a draw of some of the images: give -n too.")
    if num is not None and seed is None:
        seed = noise.random_seed()
    source = files.OriginalDSprites(original) if original else None
    index = render.select(counts, num, seed or 0, among=None if source is None else source.index)
    images = files.render_chunks(index) if source is None else source.images(index)
    files.write(
        output,
        index,
        images if quiet else _shown(images, len(index)),
        scheme=render.SCHEME if source is None else files.DSPRITES_SCHEME,
        seed=seed,
        as_conditions=as_condition,
        force=force,
    )
    if as_json:
        from kvae_serve.cli.options import echo_json

        echo_json({"output": output, "images": len(index), "factors": list(render.FACTORS), "seed": seed})
    if not quiet:
        drawn = "" if seed is None else f", seed {seed}"
        click.echo(f"{output}: {len(index):,} image{'s' if len(index) > 1 else ''}{drawn}", err=True)


def _shown(images: Iterable[np.ndarray], num: int) -> Iterator[np.ndarray]:
    """Give the parts on, and show on a terminal how far they are."""
    live = sys.stderr is not None and sys.stderr.isatty()
    done = 0
    for part in images:
        yield part
        done += len(part)
        if live:
            click.echo(f"\r\x1b[K{done:,} of {num:,} images", nl=False, err=True)
    if live:
        click.echo("\r\x1b[K", nl=False, err=True)
