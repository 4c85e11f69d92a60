"""The command `kvae decode`."""

from __future__ import annotations

import click

from kvae_serve.cli import options, row_output


@click.command(epilog="Example: kvae encode digits.npz -o - | kvae decode - --label 7 -o sevens.png")
@options.model
@click.argument("codes", metavar="CODES")
@options.condition_args()
@options.row_args("Number of rows to use.  [default: all; 16 if shown as text]")
@options.draw
@options.seed
@options.output_args(
    "Output: .png (a grid), .npz, .npy, .csv or a folder of PNGs; - is .npy on standard output.  "
    "[default: images as text, other data as CSV]",
    dtype=True,
)
@options.picture_args
@options.runtime_args()
def decode(
    model: str,
    codes: str,
    conditions: options.ConditionArgs,
    rows: options.RowArgs,
    draw: bool,
    seed: int | None,
    output: options.OutputArgs,
    picture: options.PictureArgs,
    runtime: options.RuntimeArgs,
) -> None:
    """Decode latent vectors into data.

    CODES is an .npz with z (or z_mean, as encode writes it) and conditions, an .npy of z, a .csv with columns z_0, z_1
    and so on, or - for .npy on standard input. --label replaces the labels of the file.
    """
    # Imported here, so that --help imports neither numpy nor onnxruntime.
    from kvae_serve.inference import latent_files, sampling, transforms
    from kvae_serve.writers import dispatch

    output.check(dispatch.check)
    values = conditions.for_all_rows()
    loaded = runtime.load(model)
    z, file_conditions = latent_files.read(codes, loaded.manifest)
    if draw:
        seed = sampling.checked_seed(seed)
    stream = transforms.decode(
        loaded,
        z,
        file_conditions | values,
        seed=seed,
        draw=draw,
        batch_size=runtime.batch_size,
        first=rows.start,
        num=row_output.num_rows(rows, output, loaded.manifest),
    )
    facts = {"codes": codes, "start": rows.start} | ({"seed": seed} if draw else {})
    row_output.deliver(stream, output, facts, picture)
