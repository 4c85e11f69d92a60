"""The command `kvae explore`."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import click

from kvae_serve.cli import completers, dataset_args, options
from kvae_serve.errors import printable
from kvae_serve.progress import Busy

if TYPE_CHECKING:
    from kvae_serve.explorer import Examples
    from kvae_serve.model import Model

_dataset = options.group(
    "dataset",
    dataset_args.DatasetArgs,
    click.option(
        "--data",
        metavar="DATA",
        shell_complete=completers.path,
        help="Examples for the map and for encoding: any dataset that `kvae encode` reads, such as mnist-sample.  "
        "[default: none]",
    ),
    dataset_args.split(),
    *dataset_args.read_options(),
)


@click.command(epilog="Example: kvae explore -m mnist --data mnist-sample -o explorer.html")
@options.model
@_dataset
@options.condition_args()
@click.option(
    "--runtime",
    "source",
    default="inline",
    show_default=True,
    metavar="inline|beside|URL",
    help="Source of onnxruntime-web: part of the page, one file beside the page that several pages share, or a folder "
    "on a server with the files of the npm package.",
)
@options.output_args("Page to write, .html.  [default: explorer.html]")
def explore(
    model: str,
    dataset: dataset_args.DatasetArgs,
    conditions: options.ConditionArgs,
    source: str,
    output: options.OutputArgs,
) -> None:
    """Write an HTML page in which the model runs in the browser.

    The page is one file that works without a server and without a network: choose labels, move through the latent
    space, draw an input, and compare it with its reconstruction. It contains the model and, with --data, up to 2,000
    examples. It checks the seal and the reference outputs of the model in the browser.
    """
    # Imported here, so that --help imports neither numpy nor onnxruntime.
    from kvae_serve import explorer
    from kvae_serve.model import load

    path = output.path or "explorer.html"
    output = dataclasses.replace(output, path=path)
    output.check(options.check_file((".html", ".htm")))
    runtime = explorer.Runtime(source)
    runtime.check()
    values = conditions.for_all_rows()
    loaded = load(model)
    examples = _examples(dataset, loaded, values) if dataset.data else None
    with Busy("Writing the page", output.quiet):
        # The page may be published, so it does not contain the folders of this machine.
        name = model if model.startswith("hf://") else os.path.basename(os.path.normpath(model))  # noqa: PTH119
        written = explorer.write(path, loaded, examples, name=name, runtime=runtime, force=output.force)
    size = sum(os.path.getsize(path) for path in written)  # noqa: PTH202
    num = 0 if examples is None else len(examples.x)
    facts = {"data": dataset.data, "examples": num, "runtime": source, "files": written, "bytes": size}
    output.report(
        loaded.manifest,
        facts,
        f"Explorer of {printable(loaded.manifest.name, 60)}{output.destination}, {size / 1e6:.1f} MB. "
        "Open it in a browser.",
    )


def _examples(dataset: dataset_args.DatasetArgs, model: Model, conditions: dict[str, str]) -> Examples:
    """Read the examples, and further labels in the data that can colour the map."""
    from kvae_serve.explorer import Examples

    read = dataset.read(model, conditions)
    return Examples(read.x, read.conditions, dataset.read_labels(model, len(read.x)))
