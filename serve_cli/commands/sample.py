"""`kvae sample`: draw from the prior, decode, show or write."""

from __future__ import annotations

import sys

import click

from serve_cli.commands import complete, options
from serve_cli.errors import RequestError, printable


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
    shell_complete=complete.label,
    help="Class to draw, by name or index; may be repeated, or be `all`. Short for the condition named label.  "
    "[default: each class once]",
)
@click.option(
    "--condition",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=complete.condition,
    help="Value of any condition; may be repeated, as --label.",
)
@click.option(
    "--seed",
    type=int,
    help="0 to 2**64 - 1; the same seed draws the same.  [default: a new one, which is reported]",
)
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
    shell_complete=complete.path,
    help="A .png (a grid), .npz, .npy, .csv or folder of PNGs; - for .npy on standard output. Without it, images are "
    "text, rows CSV.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "uint8"]),
    default="float32",
    show_default=True,
    help="Of x in arrays; uint8 rounds.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Rows decoded at a time.")
@click.option(
    "--requests",
    metavar="FILE",
    shell_complete=complete.path,
    help="Answer requests, a JSON object a line (- for standard input), each with a line of JSON; -o is the folder "
    "that outputs go to, other options are defaults.",
)
@options.threads
@options.as_json
@click.option("--force", is_flag=True, help="Replace an output that exists.")
@click.option("-q", "--quiet", is_flag=True, help="Do not say what was done.")
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
    as_json: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Draw from a model, and show or write what was drawn.

    Image i of a seed is the same image, whichever others are drawn with it.
    """
    # In here, so that --help opens neither numpy nor onnxruntime.
    from serve_cli import outputs
    from serve_cli.model import load

    if requests is not None:
        from serve_cli.requests import serve_file

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
        serve_file(load(model, threads=threads), requests, given, folder=output, batch_size=batch_size)
        return
    if output is not None:
        outputs.check(output, force)
    if as_json and output == outputs.STDOUT:
        raise RequestError("--json and -o - both want standard output. Leave one of them out.")
    loaded = load(model, threads=threads)
    if num is None:
        num = 1 if loaded.manifest.conditions and not (label or condition) else 16
    draws = loaded.sample(
        num,
        label=list(label) or None,
        conditions=_parse_conditions(condition),
        seed=seed,
        start=start,
        temperature=temperature,
        draw=draw,
        batch_size=batch_size,
    )
    if output is not None:
        outputs.write(output, draws, dtype=dtype, force=force)  # type: ignore[arg-type]
    elif not as_json:
        outputs.show(draws)
    if as_json:
        options.echo_json(
            {
                "model": draws.manifest.name,
                "model_id": draws.manifest.model_id,
                "rows": len(draws),
                "num": num,
                "conditions": {
                    each.name: list(dict.fromkeys(draws.names(each.name))) for each in loaded.manifest.conditions
                },
                "seed": draws.seed,
                "start": start,
                "scheme": draws.scheme,
                "output": output,
            }
        )
    elif not quiet and sys.stderr is not None:
        where = "" if output in (None, outputs.STDOUT) else f" to {printable(output)}"
        noun = "image" if draws.manifest.data.kind == "image" else "row"
        click.echo(
            f"{len(draws)} {noun}{'s' if len(draws) > 1 else ''} of {printable(draws.manifest.name, 60)}{where}, "
            f"seed {draws.seed}",
            err=True,
        )


def _parse_conditions(given: tuple[str, ...]) -> dict[str, list[str]]:
    """Turn `("label=3", "label=5")` into `{"label": ["3", "5"]}`."""
    parsed: dict[str, list[str]] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not (name and equals and value):
            raise RequestError(f"A condition is given as NAME=VALUE, got {printable(each, 60)}.")
        parsed.setdefault(name, []).append(value)
    return parsed
