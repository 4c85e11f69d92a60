"""`kvae reconstruct`: examples through the model and back."""

from __future__ import annotations

import click

from kvae_serve.cli import options, row_output


@click.command(epilog="Example: kvae reconstruct digits.npz -n 100 -o pairs.png")
@options.model
@options.data
@options.given_conditions
@click.option("-n", "--num", type=click.IntRange(min=1), help="Take so many rows.  [default: all; 16 as text]")
@click.option(
    "--start", type=click.IntRange(min=0), default=0, show_default=True, help="Row to start from, to work in parts."
)
@options.output(
    "A .png (a grid, each example beside its reconstruction), .npz (x, x_mean, conditions), or the reconstructions "
    "alone as .npy, .csv or folder of PNGs; - for .npy on standard output. Without it, images are text, rows CSV."
)
@options.dtype
@options.batch_size
@options.threads
@options.provider
@options.as_json
@options.force
@options.quiet
def reconstruct(
    model: str,
    data: str,
    split: str | None,
    image_size: str | None,
    channels: str | None,
    label: str | None,
    condition: tuple[str, ...],
    num: int | None,
    start: int,
    output: str | None,
    dtype: str,
    batch_size: int,
    threads: int,
    provider: str,
    as_json: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Encode examples and decode them again, mean to mean: what the model keeps of each.

    DATA is as for encode. A conditional model is given the labels that stand beside the data, or --label for all.
    """
    # In here, so that --help opens neither numpy nor onnxruntime.
    from kvae_serve.inference import transforms
    from kvae_serve.model import load

    row_output.check(output, as_json, force)
    said = options.for_all_rows(label, condition)
    loaded = load(model, threads=threads, provider=provider)
    examples = row_output.examples(loaded, data, split, said, image_size, channels)
    if num is None and output is None and not as_json and loaded.manifest.data.kind == "image":
        num = row_output.SHOWN
    rows = transforms.reconstruct(loaded, examples.x, examples.conditions, batch_size=batch_size, first=start, num=num)
    facts = {"data": examples.source, "start": start}
    row_output.deliver(rows, output, dtype=dtype, force=force, quiet=quiet, as_json=as_json, more=facts)
