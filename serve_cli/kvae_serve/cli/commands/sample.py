"""The command `kvae sample`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from kvae_serve.cli import completers, options, row_output
from kvae_serve.errors import RequestError, printable

if TYPE_CHECKING:
    from kvae_serve.model import Model
    from kvae_serve.row_stream import RowStream


@click.command(
    epilog="Example: kvae sample --label 3 --label 5 -n 8 --seed 0 -o digits.png",
    context_settings={"allow_extra_args": True},
)
@options.model
@click.option(
    "-n",
    "--num",
    type=options.MIN_1,
    metavar="N",
    help="Number of samples per label.  [default: 16; 1 for a conditional model of images without a label]",
)
@options.condition_args(
    "Class to draw, by name or index, or `all`; short for the condition named label. May be repeated.  "
    "[default: each class once]",
    "Value of any condition, or `data` to draw it as often as in the training data. May be repeated, for several "
    "conditions or values.  [default for tables: data]",
)
@click.option(
    "--given",
    multiple=True,
    metavar="NAME=VALUE,...",
    help="Values of columns that were not conditions at training, such as age=40,sex=Male: the other columns are drawn "
    "given them, by importance resampling.",
)
@options.seed
@options.start("Index of the first sample, for drawing a large set in several runs.")
@click.option(
    "--temperature",
    type=float,
    default=1.0,
    show_default=True,
    help="Factor of the prior's standard deviation; below 1, samples are more typical and less varied.",
)
@click.option(
    "--draw/--mean",
    default=None,
    help="Draw x from p(x given z), or return its mean.  [default: draw, but mean of images and vectors of pixels]",
)
@click.option(
    "--data",
    metavar="DATA",
    shell_complete=completers.path,
    help="Real rows, whose distributions an .html shows.  [default: what the model file stores of the training data]",
)
@click.option(
    "--requests",
    metavar="FILE",
    shell_complete=completers.path,
    help="File of requests to answer, one JSON object per line; - is standard input. Each answer is one line of JSON. "
    "-o is then the folder for outputs, and other options are defaults.",
)
@options.output_args(
    "Output: .png (a grid), .npz, .npy, .csv, .parquet, .html (a table, and its distributions beside the real ones) "
    "or a folder of PNGs; - is .npy on standard output.  "
    "[default: images as text, other data as CSV]",
    dtype=True,
)
@options.picture_args
@options.runtime_args()
@click.pass_context
def sample(
    ctx: click.Context,
    model: str,
    num: int | None,
    conditions: options.ConditionArgs,
    given: tuple[str, ...],
    seed: int | None,
    start: int,
    temperature: float,
    draw: bool | None,
    data: str | None,
    requests: str | None,
    output: options.OutputArgs,
    picture: options.PictureArgs,
    runtime: options.RuntimeArgs,
) -> None:
    """Draw samples from a model, and show or write them.

    Sample i of a seed does not depend on the number of samples or on other labels.
    """
    if ctx.args:
        extra = printable(ctx.args[0], 40)
        option = "-m" if os.path.exists(ctx.args[0]) else "--label"  # noqa: PTH110 - pathlib is slow to import
        raise RequestError(f"Unexpected argument {extra}. Did you mean {option} {extra}?")
    # Imported here, so that --help imports neither numpy nor onnxruntime.
    from kvae_serve import request_fields
    from kvae_serve.sealed.noise import SCHEME
    from kvae_serve.writers import dispatch

    draws = {"seed": seed, "start": start, "temperature": temperature, "draw": draw}
    if data is not None and (output.path is None or not output.path.lower().endswith(".html")):
        raise RequestError("--data needs an .html, which shows its distributions. Add -o rows.html, or leave it out.")
    if requests is not None:
        if given or data is not None:
            raise RequestError(f"--requests does not support --{'given' if given else 'data'}. Leave one out.")
        from kvae_serve.cli.requests import serve_file

        defaults = draws | {
            "n": num,
            "condition": conditions.values() or None,
            "dtype": output.dtype,
            "scale": picture.scale,
            "plain": picture.plain,
            "force": output.force,
        }
        serve_file(runtime.load(model), requests, defaults, folder=output.path, batch_size=runtime.batch_size)
        return
    output.check(dispatch.check)
    values = conditions.values()
    loaded = runtime.load(model)
    if num is None:
        num = request_fields.default_num(loaded.manifest, bool(values))
    plan = loaded.plan(num, conditions=values, batch_size=runtime.batch_size, **draws)
    facts = {"num": num, "conditions": plan.names(), "seed": plan.seed, "start": start, "scheme": SCHEME}
    facts["draw"] = plan.likelihood is not None or bool(given)
    rows = plan.row_stream()
    if given:
        from kvae_serve.inference.imputation import sample_given

        if temperature != 1.0:
            raise RequestError("--given draws from the model itself. Leave out --temperature.")
        facts["given"] = texts = _texts(given)
        rows = sample_given(loaded, rows, texts, plan.seed, lambda size: facts.update(effective_sample_size=size))
    if data is not None:
        rows = _beside(rows, data, loaded)
    row_output.deliver(rows, output, facts, picture)


def _beside(rows: RowStream, path: str, model: Model) -> RowStream:
    """Return the rows with real rows of a file beside them."""
    import dataclasses

    from kvae_serve.readers import ReadOptions, read_for

    dataset = read_for(path, model.manifest, options=ReadOptions(has_flags=False))
    return dataclasses.replace(rows, real={"x": dataset.x, **dataset.conditions})


def _texts(given: tuple[str, ...]) -> dict[str, str]:
    """Return the texts of NAME=VALUE,NAME=VALUE. A part without = belongs to the value before it."""
    texts: dict[str, str] = {}
    for each in given:
        name = ""
        for part in each.split(","):
            left, equals, right = part.partition("=")
            if equals:
                name = left.strip()
                if not name or name in texts:
                    raise RequestError(f"--given is {printable(each, 60)}; expected each NAME=VALUE once.")
                texts[name] = right.strip()
            elif name:
                texts[name] += f",{part}"
            else:
                raise RequestError(f"--given is {printable(each, 60)}; expected NAME=VALUE, separated by commas.")
    return texts
