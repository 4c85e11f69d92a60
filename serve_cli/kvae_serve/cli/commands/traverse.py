"""The command `kvae traverse`."""

from __future__ import annotations

import click

from kvae_serve.cli import options, path_output
from kvae_serve.errors import RequestError, printable
from kvae_serve.progress import Busy


@click.command(epilog="Example: kvae traverse --label 3 -n 5 -o axes.gif")
@options.model
@click.option(
    "-n", "--num", type=options.MIN_1, metavar="N", help="Number of dimensions, the most active first.  [default: 10]"
)
@click.option("--dims", metavar="LIST", help="Dimensions to use instead of the most active: 3,7 or 0-4 or `all`.")
@click.option(
    "--steps",
    type=click.IntRange(2, 10_000),
    metavar="N",
    default=11,
    show_default=True,
    help="Number of images along each dimension.",
)
@click.option(
    "--range",
    "span",
    metavar="LOW:HIGH",
    default="-3:3",
    show_default=True,
    help="Range of each dimension, in standard deviations of the prior; 2 is short for -2:2.",
)
@click.option("--quantiles", is_flag=True, help="Steps of equal probability instead of equal length.")
@path_output.condition_args("each class is a block of rows.  [default: the first class]")
@click.option("--seed", type=int, metavar="N", help="Seed of a draw to start from instead of the prior's mean.")
@options.start("Index of the draw under the seed.")
@path_output.file(
    "--from", "source", "Example whose posterior mean is the start, with the row if the file has several."
)
@path_output.file(
    "--data", "data", "Examples whose kl ranks the dimensions, instead of the kl stored in the model.", row=False
)
@options.output_args(path_output.FORMATS)
@path_output.style_args
@options.runtime_args()
def traverse(
    model: str,
    num: int | None,
    dims: str | None,
    steps: int,
    span: str,
    quantiles: bool,
    conditions: options.ConditionArgs,
    seed: int | None,
    start: int,
    source: str | None,
    data: str | None,
    output: options.OutputArgs,
    style: path_output.StyleArgs,
    runtime: options.RuntimeArgs,
) -> None:
    """Vary one latent dimension at a time and hold the others still, to see what each dimension does.

    Each row is one dimension, the most active first; an animation shows all rows at once. The ranking uses --data if
    given, else the kl that training stored in the model, else how far the decoder moves x along the dimension.
    """
    if seed is not None and source is not None:
        raise RequestError("--seed and --from both set the start. Give one of them.")
    if dims is not None and num is not None:
        raise RequestError("--dims and -n both select the dimensions. Give one of them.")
    ends = _parse_range(span)
    # Imported here, so that --help imports neither numpy nor onnxruntime.
    from kvae_serve.readers import ReadOptions, read_for
    from kvae_serve.writers import paths

    output.check(paths.check)
    loaded = runtime.load(model)
    manifest = loaded.manifest
    with Busy("Decoding", output.quiet):
        traversal = loaded.traverse(
            dims=None if dims is None else parse_dims(dims, manifest.latent_dim),
            num=num,
            steps=steps,
            span=ends,
            spacing="quantile" if quantiles else "even",
            conditions=conditions.values(),
            seed=seed,
            start=start,
            example=source,
            data=None if data is None else read_for(data, manifest, options=ReadOptions(has_flags=False)),
            batch_size=runtime.batch_size,
        )
    path_output.deliver(traversal.path(), output, style, [] if seed is None else [seed], start)
    activity = traversal.activity
    facts = {
        "rows": traversal.x.shape[0] * traversal.x.shape[1],
        "steps": steps,
        "dims": list(traversal.dims),
        "values": traversal.values.tolist(),
        "activity": {
            "source": activity.source,
            "unit": activity.unit,
            "values": [float(f"{value:.6g}") for value in activity.values],
        },
        "conditions": path_output.condition_names(manifest, traversal.conditions),
        "seed": seed,
        "start": start if seed is not None else None,
        "example": source,
    }
    first = ", ".join(f"{dim} ({activity.values[dim]:.3g})" for dim in traversal.dims[:10])
    output.report(
        manifest,
        facts,
        f"Dimensions {first}{', ...' if len(traversal.dims) > 10 else ''} of {printable(manifest.name, 60)}"
        f"{path_output.condition_summary(manifest, traversal.conditions)}{output.destination}; "
        f"in brackets: {activity.unit}, by the {activity.source}",
    )


def parse_dims(text: str, latent_dim: int) -> list[int]:
    """Return the indices of `3,7`, `0-4` or `all`."""
    if text == "all":
        return list(range(latent_dim))
    indices: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = [first, last] if dash else [first]
        if not all(end.isascii() and end.isdigit() and len(end) < 7 for end in ends):
            raise RequestError(f"--dims is {printable(text, 60)}; expected a list such as 3,7 or 0-4, or `all`.")
        low, high = int(ends[0]), int(ends[-1])
        if low > high or high >= latent_dim:
            raise RequestError(f"Unknown dimensions {printable(part, 40)}; the model has 0 to {latent_dim - 1}.")
        indices += range(low, high + 1)
    return list(dict.fromkeys(indices))


def _parse_range(text: str) -> tuple[float, float]:
    low, colon, high = text.partition(":")
    try:
        return (float(low), float(high)) if colon else (-float(text), float(text))
    except ValueError:
        raise RequestError(f"--range is {printable(text, 60)}; expected LOW:HIGH such as -3:3, or 3.") from None
