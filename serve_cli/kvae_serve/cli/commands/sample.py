"""`kvae sample`: draw from the prior, decode, show or write."""

from __future__ import annotations

import click

from kvae_serve.cli import completers, options, row_output


@click.command(epilog="Example: kvae sample --label 3 --label 5 -n 8 --seed 0 -o digits.png")
@options.model
@click.option(
    "-n",
    "--num",
    type=click.IntRange(min=1),
    help="How many of each label.  [default: 16; 1 where a conditional model is given no label]",
)
@click.option(
    "--label",
    multiple=True,
    metavar="NAME|INDEX",
    shell_complete=completers.label,
    help="Class to draw, by name or index; may be repeated, or be `all`. Short for the condition named label.  "
    "[default: each class once]",
)
@click.option(
    "--condition",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=completers.condition,
    help="Value of any condition; may be repeated, as --label.",
)
@options.seed
@click.option(
    "--start", type=click.IntRange(min=0), default=0, show_default=True, help="Index of the first, to draw in parts."
)
@click.option(
    "--temperature",
    type=float,
    default=1.0,
    show_default=True,
    help="Factor of the prior's spread: below 1 more typical and less varied.",
)
@click.option("--draw", is_flag=True, help="Draw x from p(x given z), rather than show its mean.")
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    shell_complete=completers.path,
    help="A .png (a grid), .npz, .npy, .csv or folder of PNGs; - for .npy on standard output. Without it, images are "
    "text, rows CSV.",
)
@options.dtype
@options.batch_size
@click.option(
    "--requests",
    metavar="FILE",
    shell_complete=completers.path,
    help="Answer requests, a JSON object a line (- for standard input), each with a line of JSON; -o is the folder "
    "that outputs go to, other options are defaults.",
)
@options.threads
@options.provider
@options.as_json
@options.force
@options.quiet
def sample(
    model: str,
    num: int | None,
    label: tuple[str, ...],
    condition: tuple[str, ...],
    seed: int | None,
    start: int,
    temperature: float,
    draw: bool,
    output: str | None,
    dtype: str,
    batch_size: int,
    requests: str | None,
    threads: int,
    provider: str,
    as_json: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Draw from a model, and show or write what was drawn.

    Image i of a seed is the same image, whichever others are drawn with it.
    """
    # In here, so that --help opens neither numpy nor onnxruntime.
    from kvae_serve.model import load
    from kvae_serve.sealed.noise import SCHEME

    if requests is not None:
        from kvae_serve.cli.requests import serve_file

        given: dict[str, object] = {
            "n": num,
            "label": list(label) or None,
            "condition": options.parse_conditions(condition) or None,
        }
        given |= {
            "seed": seed,
            "start": start,
            "temperature": temperature,
            "draw": draw,
            "dtype": dtype,
            "force": force,
        }
        serve_file(
            load(model, threads=threads, provider=provider), requests, given, folder=output, batch_size=batch_size
        )
        return
    row_output.check(output, as_json, force)
    loaded = load(model, threads=threads, provider=provider)
    if num is None:
        num = 1 if loaded.manifest.conditions and not (label or condition) else 16
    plan = loaded.plan(
        num,
        label=list(label) or None,
        conditions=options.parse_conditions(condition),
        seed=seed,
        start=start,
        temperature=temperature,
        draw=draw,
        batch_size=batch_size,
    )
    facts = {"num": num, "conditions": plan.names(), "seed": plan.seed, "start": start, "scheme": SCHEME}
    row_output.deliver(plan.row_stream(), output, dtype=dtype, force=force, quiet=quiet, as_json=as_json, more=facts)
