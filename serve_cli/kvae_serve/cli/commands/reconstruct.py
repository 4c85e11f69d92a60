"""The command `kvae reconstruct`."""

from __future__ import annotations

import dataclasses

import click

from kvae_serve.cli import dataset_args, options, row_output


@click.command(epilog="Example: kvae reconstruct digits.npz -n 100 -o pairs.png")
@options.model
@dataset_args.dataset_args()
@options.condition_args()
@options.row_args("Number of rows to use.  [default: all; 16 if shown as text]")
@options.output_args(
    "Output: .png (a grid of examples next to their reconstructions), .npz (x, x_mean, conditions), or reconstructions "
    "only as .npy, .csv or a folder of PNGs; - is .npy on standard output.  [default: images as text, other data as "
    "CSV]",
    dtype=True,
)
@options.picture_args
@options.runtime_args()
def reconstruct(
    model: str,
    dataset: dataset_args.DatasetArgs,
    conditions: options.ConditionArgs,
    rows: options.RowArgs,
    output: options.OutputArgs,
    picture: options.PictureArgs,
    runtime: options.RuntimeArgs,
) -> None:
    """Encode examples and decode the mean of z, to see what the model preserves.

    DATA is as for encode. A conditional model needs the labels of the data, or --label for all rows.
    """
    # Imported here, so that --help imports neither numpy nor onnxruntime.
    from kvae_serve.inference import transforms
    from kvae_serve.writers import dispatch

    output.check(dispatch.check)
    values = conditions.for_all_rows()
    loaded = runtime.load(model)
    examples = dataset.read_in_order(loaded, values)
    stream = transforms.reconstruct(
        loaded,
        examples.x,
        examples.conditions,
        batch_size=runtime.batch_size,
        first=rows.start,
        num=row_output.num_rows(rows, output, loaded.manifest),
    )
    ids = {name: values[rows.start : rows.start + stream.num_rows] for name, values in examples.ids.items()}
    stream = dataclasses.replace(stream, ids=ids)
    row_output.deliver(stream, output, {"data": dataset.data, "start": rows.start}, picture)
