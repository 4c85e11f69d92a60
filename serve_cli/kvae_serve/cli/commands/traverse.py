"""`kvae traverse`: walk along one latent axis after another."""

from __future__ import annotations

import click

from kvae_serve.cli import options, path_output
from kvae_serve.errors import RequestError, printable
from kvae_serve.progress import Busy

EXAMPLE = "Example: kvae traverse --label 3 -n 5 -o axes.gif"


@click.command(epilog=EXAMPLE)
@options.model
@click.option(
    "-n", "--num", type=click.IntRange(min=1), help="How many dimensions, the most active first.  [default: 10]"
)
@click.option("--dims", metavar="LIST", help="These dimensions instead, as in 3,7 or 0-4, or `all`.")
@click.option("--steps", type=click.IntRange(2, 10_000), default=11, show_default=True, help="Images along each axis.")
@click.option(
    "--range",
    "span",
    metavar="LOW:HIGH",
    default="-3:3",
    show_default=True,
    help="Where the walks begin and end, in standard deviations of the prior; 2 is short for -2:2.",
)
@click.option("--quantiles", is_flag=True, help="Steps of equal probability, rather than of equal length.")
@path_output.labels("each is a block of rows.  [default: the first class]")
@click.option("--seed", type=int, help="Start from a draw of this seed, rather than from the prior's mean.")
@click.option("--start", type=click.IntRange(min=0), default=0, show_default=True, help="Which draw of the seed.")
@path_output.file(
    "--from", "source", "Start from the posterior mean of an example: a file, and a row where it has several."
)
@path_output.file(
    "--data", "data", "Rank dimensions by their kl on these examples, rather than by what the model says."
)
@path_output.output
@path_output.style
@options.threads
@options.provider
@options.as_json
@path_output.rest
def traverse(
    model: str,
    num: int | None,
    dims: str | None,
    steps: int,
    span: str,
    quantiles: bool,
    label: tuple[str, ...],
    condition: tuple[str, ...],
    seed: int | None,
    start: int,
    source: str | None,
    data: str | None,
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
    """Walk along one latent axis after another, the others held still: what does each dimension do?

    A row is a dimension, the most active first; an animation shows all rows at once. How active a dimension is comes
    from --data, else from the kl that training left in the model file, else from how far the decoder moves x along it.
    """
    if seed is not None and source is not None:
        raise RequestError("--seed and --from are two places to start from. Give one of them.")
    if dims is not None and num is not None:
        raise RequestError("--dims names the dimensions, -n counts the most active. Give one of them.")
    path_output.check(output, force, as_json)
    ends = _span(span)
    from kvae_serve.model import load
    from kvae_serve.readers import read_for

    loaded = load(model, threads=threads, provider=provider)
    manifest = loaded.manifest
    with Busy("Walking", quiet):
        found = loaded.traverse(
            dims=None if dims is None else parse_dims(dims, manifest.latent_dim),
            num=num,
            steps=steps,
            span=ends,
            spacing="quantile" if quantiles else "even",
            label=list(label) or None,
            conditions=options.parse_conditions(condition),
            seed=seed,
            start=start,
            example=source,
            data=None if data is None else read_for(data, manifest, options=path_output.read_options(manifest)),
            batch_size=batch_size,
        )
    path_output.deliver(
        found.path(), output, fps=fps, loop=loop, scale=scale, force=force, as_json=as_json, quiet=quiet
    )
    values = found.activity.values
    if as_json:
        path_output.report(
            manifest,
            output,
            rows=found.x.shape[0] * found.x.shape[1],
            steps=steps,
            dims=list(found.dims),
            values=found.values.tolist(),
            activity={
                "source": found.activity.source,
                "unit": found.activity.unit,
                "values": [float(f"{value:.6g}") for value in values],
            },
            conditions=path_output.names(manifest, found.conditions),
            seed=seed,
            start=start if seed is not None else None,
            example=source,
        )
    elif not quiet:
        first = ", ".join(f"{dim} ({values[dim]:.3g})" for dim in found.dims[:10])
        more = ", ..." if len(found.dims) > 10 else ""
        path_output.say(
            f"Dimensions {first}{more} of {printable(manifest.name, 60)}{path_output.under(manifest, found.conditions)}"
            f"{path_output.where(output)}; in brackets {found.activity.unit}, by the {found.activity.source}"
        )


def parse_dims(text: str, latent_dim: int) -> list[int]:
    """Turn `3,7`, `0-4` or `all` into indices."""
    if text == "all":
        return list(range(latent_dim))
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = [first, last] if dash else [first]
        if not all(end.isascii() and end.isdigit() and len(end) < 7 for end in ends):
            raise RequestError(f"Dimensions are given as in 3,7 or 0-4, or as `all`; got {printable(text, 60)}.")
        low, high = int(ends[0]), int(ends[-1])
        if low > high or high >= latent_dim:
            raise RequestError(f"There are no dimensions {printable(part, 40)}; the model has 0 to {latent_dim - 1}.")
        found += range(low, high + 1)
    return list(dict.fromkeys(found))


def _span(text: str) -> tuple[float, float]:
    low, colon, high = text.partition(":")
    try:
        return (float(low), float(high)) if colon else (-float(text), float(text))
    except ValueError:
        raise RequestError(f"A range is given as LOW:HIGH, such as -3:3, or as 3; got {printable(text, 60)}.") from None
