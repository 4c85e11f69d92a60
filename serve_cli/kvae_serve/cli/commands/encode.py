"""The command `kvae encode`."""

from __future__ import annotations

import dataclasses

import click

from kvae_serve.cli import dataset_args, options, row_output


@click.command(epilog="Example: kvae encode digits.npz -o codes.npz")
@options.model
@dataset_args.dataset_args()
@options.condition_args()
@options.row_args()
@click.option("--draw", is_flag=True, help="Draw z from q(z given x) as well; .npy and .csv then hold z.")
@options.seed
@options.output_args(
    "Output: .npz (z_mean, z_log_var, conditions), .npy (z_mean) or .csv; - is .npy on standard output.  "
    "[default: CSV on standard output]"
)
@options.runtime_args()
def encode(
    model: str,
    dataset: dataset_args.DatasetArgs,
    conditions: options.ConditionArgs,
    rows: options.RowArgs,
    draw: bool,
    seed: int | None,
    output: options.OutputArgs,
    runtime: options.RuntimeArgs,
) -> None:
    """Encode examples as latent vectors: the mean and log variance of q(z given x).

    DATA is an .npz, .npy, .csv or IDX file, an image, a folder of images or IDX files, `mnist-sample` (600 training and
    200 test digits that ship with the package), or - for .npy on standard input. A conditional model needs the labels
    of the data, or --label for all rows.
    """
    # Imported here, so that --help imports neither numpy nor onnxruntime.
    from kvae_serve.inference import sampling, transforms
    from kvae_serve.writers import dispatch

    output.check(dispatch.check)
    values = conditions.for_all_rows()
    loaded = runtime.load(model)
    examples = dataset.read_in_order(loaded, values)
    if draw:
        seed = sampling.checked_seed(seed)
    stream = transforms.encode(
        loaded,
        examples.x,
        examples.conditions,
        seed=seed,
        draw=draw,
        batch_size=runtime.batch_size,
        first=rows.start,
        num=rows.num,
    )
    end = rows.start + stream.num_rows
    row_names = {name: values[rows.start : end] for name, values in examples.row_names.items()}
    stream = dataclasses.replace(stream, row_names=row_names)
    facts = {"data": dataset.data, "start": rows.start} | ({"seed": seed} if draw else {})
    row_output.deliver(stream, output, facts)
