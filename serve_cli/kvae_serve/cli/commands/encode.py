"""`kvae encode`: examples to codes."""

from __future__ import annotations

import click

from kvae_serve.cli import options, row_output


@click.command(epilog="Example: kvae encode digits.npz -o codes.npz")
@options.model
@options.data
@options.given_conditions
@click.option("-n", "--num", type=click.IntRange(min=1), help="Take so many rows.  [default: all]")
@click.option(
    "--start", type=click.IntRange(min=0), default=0, show_default=True, help="Row to start from, to work in parts."
)
@click.option("--draw", is_flag=True, help="Draw z from q(z given x) as well: it becomes what .npy and .csv hold.")
@options.seed
@options.output(
    "An .npz (z_mean, z_log_var, conditions), .npy (z_mean alone) or .csv; - for .npy on standard output. Without it, "
    "CSV on standard output."
)
@options.batch_size
@options.threads
@options.provider
@options.as_json
@options.force
@options.quiet
def encode(
    model: str,
    data: str,
    split: str | None,
    image_size: str | None,
    channels: str | None,
    label: str | None,
    condition: tuple[str, ...],
    num: int | None,
    start: int,
    draw: bool,
    seed: int | None,
    output: str | None,
    batch_size: int,
    threads: int,
    provider: str,
    as_json: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Turn examples into codes: mean and log variance of q(z given x).

    DATA is whatever training reads: an .npz, .npy, .csv, .png or .jpg, an IDX file or a folder of them; `mnist-sample`,
    800 digits that ship with the package; or - for an .npy on standard input. A conditional model is given the labels
    that stand beside the data, or --label for all.
    """
    # In here, so that --help opens neither numpy nor onnxruntime.
    from kvae_serve.inference import sampling, transforms
    from kvae_serve.model import load

    row_output.check(output, as_json, force)
    said = options.for_all_rows(label, condition)
    loaded = load(model, threads=threads, provider=provider)
    examples = row_output.examples(loaded, data, split, said, image_size, channels)
    if draw:
        seed = sampling.checked_seed(seed)
    rows = transforms.encode(
        loaded,
        examples.x,
        examples.conditions,
        seed=seed,
        draw=draw,
        batch_size=batch_size,
        first=start,
        num=num,
    )
    facts = {"data": examples.source, "start": start} | ({"seed": seed} if draw else {})
    row_output.deliver(rows, output, force=force, quiet=quiet, as_json=as_json, more=facts)
