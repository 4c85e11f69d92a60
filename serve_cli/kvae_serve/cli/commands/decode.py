"""`kvae decode`: codes to data."""

from __future__ import annotations

import click

from kvae_serve.cli import options, row_output


@click.command(epilog="Example: kvae encode digits.npz -o - | kvae decode - --label 7 -o sevens.png")
@options.model
@click.argument("codes", metavar="CODES")
@options.given_conditions
@click.option("-n", "--num", type=click.IntRange(min=1), help="Take so many rows.  [default: all; 16 as text]")
@click.option(
    "--start", type=click.IntRange(min=0), default=0, show_default=True, help="Row to start from, to work in parts."
)
@click.option("--draw", is_flag=True, help="Draw x from p(x given z), rather than show its mean.")
@options.seed
@options.output(
    "A .png (a grid), .npz, .npy, .csv or folder of PNGs; - for .npy on standard output. Without it, images are text, "
    "rows CSV."
)
@options.dtype
@options.batch_size
@options.threads
@options.provider
@options.as_json
@options.force
@options.quiet
def decode(
    model: str,
    codes: str,
    label: str | None,
    condition: tuple[str, ...],
    num: int | None,
    start: int,
    draw: bool,
    seed: int | None,
    output: str | None,
    dtype: str,
    batch_size: int,
    threads: int,
    provider: str,
    as_json: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Turn codes into data.

    CODES is an .npz with z (or z_mean, as encode writes) and its conditions, an .npy of z, a .csv with the columns z_0,
    z_1 and so on, or - for an .npy on standard input. --label wins over the label of the file.
    """
    # In here, so that --help opens neither numpy nor onnxruntime.
    from kvae_serve.inference import latent_files as files_of_codes
    from kvae_serve.inference import sampling, transforms
    from kvae_serve.model import load

    row_output.check(output, as_json, force)
    said = options.for_all_rows(label, condition)
    loaded = load(model, threads=threads, provider=provider)
    z, found = files_of_codes.read(codes, loaded.manifest)
    if draw:
        seed = sampling.checked_seed(seed)
    if num is None and output is None and not as_json and loaded.manifest.data.kind == "image":
        num = row_output.SHOWN
    rows = transforms.decode(loaded, z, found | said, seed=seed, draw=draw, batch_size=batch_size, first=start, num=num)
    facts = {"codes": codes, "start": start} | ({"seed": seed} if draw else {})
    row_output.deliver(rows, output, dtype=dtype, force=force, quiet=quiet, as_json=as_json, more=facts)
