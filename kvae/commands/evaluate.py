"""The command `kvae evaluate`."""

from __future__ import annotations

import os
from typing import Any

import click

from kvae_serve.cli import dataset_args, options
from kvae_serve.errors import RequestError, printable

# Options that do not change the results. A model card does not quote them.
_UNQUOTED = frozenset({"model", "path", "history", "threads", "as_json", "card", "force", "quiet"})


@click.command(epilog="Example: kvae evaluate -m digits --data mnist-folder --num-samples 5000 -n 1000 -o figures.json")
@options.model
@options.group(
    "dataset",
    dataset_args.DatasetArgs,
    click.option(
        "--data",
        required=True,
        metavar="DATA",
        help="Dataset: IDX file or folder, .npz, .npy, .csv, an image or a folder of images, or mnist-sample (ships).",
    ),
    dataset_args.split("test"),
    *dataset_args.read_options(),
)
@options.condition_args()
@click.option(
    "-n",
    "--num",
    cls=options.RenamedOption,
    former=("--limit",),
    type=options.MIN_1,
    metavar="N",
    help="Number of examples to use, from the first.  [default: all]",
)
@click.option(
    "--num-samples",
    cls=options.RenamedOption,
    former=("--importance-samples",),
    type=options.MIN_1,
    default=100,
    show_default=True,
    metavar="K",
    help="Number of draws of z per example, for importance sampling; papers use 5000.",
)
@click.option(
    "--binarize",
    type=click.Choice(["dynamic", "static", "none"]),
    help="Binarisation of gray levels under a Bernoulli: drawn with --seed, drawn with a fixed seed, or none for data "
    "that is black and white already.  [default: dynamic]",
)
@click.option(
    "--over-labels",
    type=click.Choice(["uniform", "data"]),
    help="Prior p(y) of the labels, to add log p(x) = log sum p(y) p(x given y): equal for all classes, or as in the "
    "data. The time grows by the number of classes.",
)
@click.option(
    "--labels",
    metavar="COLUMN",
    help="Column of a table, or array of an .npz, that is 1 for anomalies and 0 for normal rows. Adds AUROC, average "
    "precision and precision at the known rate, with bootstrap intervals, and curves in the HTML report.",
)
@click.option(
    "--sample-metrics",
    cls=options.RenamedOption,
    former=("--samples",),
    type=options.MIN_1,
    metavar="N",
    help="Number of samples to draw and compare with as many real images or table rows: label consistency, precision "
    "and coverage of images; column shapes, pair trends, copies and more of tables. Needs the extra `evaluate` for "
    "tables, and `train` if a classifier of images must be trained.",
)
@click.option(
    "--train-data",
    metavar="DATA",
    help="Real images or rows for the baseline of --sample-metrics, on which a classifier of images is trained.  "
    "[default: the training split of --data]",
)
@click.option(
    "--target",
    metavar="COLUMN",
    help="Column of a table that --sample-metrics predicts after training on samples.  [default: a condition]",
)
@click.option(
    "--classifier",
    metavar="DIR|FILE.onnx",
    help="Folder that caches the classifier of --sample-metrics, or a classifier.  [default: the user's cache folder]",
)
@click.option("--card", metavar="FILE.md", help="Model card whose section Measured is replaced by the results.")
@click.option(
    "--seed",
    type=int,
    metavar="N",
    default=0,
    show_default=True,
    help="Seed of noise and binarisation, 0 to 2**64 - 1.",
)
@click.option(
    "--history",
    metavar="FILE.csv",
    help="Training curves for the HTML report.  [default: history.csv next to the model]",
)
@options.output_args(
    "Copy of the results as JSON, or a report with charts and images as HTML, which needs the extra `evaluate`.",
    metavar="FILE.json|FILE.html",
)
@options.runtime_args(batch_size=False)
def evaluate(
    model: str,
    dataset: dataset_args.DatasetArgs,
    conditions: options.ConditionArgs,
    num: int | None,
    num_samples: int,
    binarize: str | None,
    over_labels: str | None,
    labels: str | None,
    sample_metrics: int | None,
    train_data: str | None,
    target: str | None,
    classifier: str | None,
    card: str | None,
    seed: int,
    history: str | None,
    output: options.OutputArgs,
    runtime: options.RuntimeArgs,
) -> None:
    """Measure a model on data: elbo, NLL by importance sampling, and the use of the latent space.

    Each result is given with the number of examples, the draws of z per example (K) and the standard error of its mean
    over examples. The exported files are measured, so TensorFlow is not needed.
    """
    # Imported here, so that --help imports neither numpy nor onnxruntime.
    from kvae.commands import evaluate_anomalies, evaluate_report, evaluate_samples
    from kvae_serve.evaluation import card as cards
    from kvae_serve.evaluation import evaluate as compute
    from kvae_serve.progress import Progress

    output.check(options.check_file((".json", evaluate_report.SUFFIX)))
    as_report = output.path is not None and output.path.lower().endswith(evaluate_report.SUFFIX)
    if history is not None and not as_report:
        raise RequestError("--history is for the HTML report. Give -o FILE.html as well.")
    if sample_metrics is None and (train_data or classifier or target):
        raise RequestError(
            "--train-data, --target and --classifier are for --sample-metrics. Give --sample-metrics N as well."
        )
    old_card = cards.read(card) if card is not None else ""
    loaded = runtime.load(model)
    curves = evaluate_report.prepare(loaded, history) if as_report else None
    values = conditions.for_all_rows()
    examples = dataset.read(loaded, values, default_split="test")
    measured: dict[str, Any] = {}
    if labels is not None:
        marked = evaluate_anomalies.read_labels(dataset.data, labels, dataset.split, dataset.delimiter, len(examples.x))
        rows = slice(num)
        given = {name: each if isinstance(each, str) else each[rows] for name, each in examples.conditions.items()}
        measured |= evaluate_anomalies.measure(loaded, examples.x[rows], given, marked[rows], labels, seed)
    if sample_metrics is not None:
        measured |= evaluate_samples.measure(
            loaded,
            dataset.data,
            dataset.split,
            values,
            num=sample_metrics,
            train_data=train_data,
            target=target,
            classifier=classifier,
            seed=seed,
            report=(lambda line: None) if output.quiet else (lambda line: click.echo(line, err=True)),
        )
    with Progress("Evaluating", output.quiet) as progress:
        document = compute(
            loaded,
            examples.x,
            examples.conditions,
            importance_samples=num_samples,
            seed=seed,
            limit=num,
            binarize=binarize,
            over_labels=over_labels,
            source=dataset.data,
            progress=progress,
        )
    document |= measured
    lines = [*table(document), *evaluate_anomalies.lines(document), *evaluate_samples.lines(document)]
    if output.path is not None and as_report:
        evaluate_report.write(output.path, loaded, document, examples, dataset, curves, output.force)
    elif output.path is not None:
        _write_json(output.path, document, output.force)
    if card is not None:
        # The card is published, so it does not show the folders of this machine.
        public = document | {"data": _last_part(document["data"])}
        _write_card(card, old_card, loaded.manifest.name, [*table(public), *evaluate_samples.lines(document)])
    if output.as_json:
        options.echo_json(document)
    else:
        click.echo("\n".join(lines))


def table(document: dict[str, Any]) -> list[str]:
    """Return the result of `kvae_serve.evaluation.evaluate` as lines of text."""
    binarisation = {None: "", "none": ", not binarised"}.get(
        document["binarize"], f", {document['binarize']} binarisation"
    )
    lines = [
        f"{printable(document['model'], 60)} on {document['n']} examples of {printable(document['data'], 60)}"
        f"{binarisation}, seed {document['seed']}",
        "",
    ]
    rows = [("", "mean", "+-", "K", "unit")]
    for name, figure in document["figures"].items():
        if figure is None:
            rows.append((name.replace("_", " "), "-", "", "", "not defined for this model"))
            continue
        error = "" if figure["standard_error"] is None else _number(figure["standard_error"], 2)
        rows.append((name.replace("_", " "), *_mean(figure), error, str(figure["samples"] or ""), figure["unit"]))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(row[column].rjust(widths[column]) for column in (1, 2, 3)), row[4]]
        lines.append("  ".join(cells).rstrip())
    nll = document["figures"]["nll"]
    if nll["bias"] is None:
        lines += ["", "nll: one draw of z per example does not show the error and the bias that it adds."]
    else:
        lines += [
            "",
            f"nll: the effective sample size is {nll['effective_samples']:.3g} of {nll['samples']} on average; the "
            f"draws add an error of {_number(nll['monte_carlo_error'], 2)} and a bias of about "
            f"{_number(nll['bias'], 2)} nats.",
        ]
    information = document["figures"]["mutual_information"]
    if information is not None:
        upper = information["upper_bound"]
        lines.append(
            f"mutual information: a lower bound, at most {_number(information['ceiling'], 4)} with these examples"
            + ("" if upper is None else f"; an upper bound is {_number(upper, 4)}")
            + ". The gap is an upper bound. Their sum is the kl of one draw of z per example, so it differs from kl by "
            "the noise of the draws."
        )
    active = document["active_units"]
    if active["count"] is not None:
        lines.append(f"active units: {active['count']} of {active['of']} (variance of z_mean > {active['threshold']}).")
    if document["kl_per_dimension"] is not None:
        ordered = sorted(enumerate(document["kl_per_dimension"]), key=lambda pair: -pair[1])
        shown = ", ".join(f"z{index} {value:.3f}" for index, value in ordered[:20])
        more = f", and {len(ordered) - 20} more" if len(ordered) > 20 else ""
        lines.append(f"kl per dimension: {shown}{more}.")
    return lines


def _mean(figure: dict[str, Any]) -> tuple[str]:
    """Return a mean, with as many decimals as its standard error justifies."""
    import math

    error = figure["standard_error"]
    if not error:
        return (f"{figure['mean']:.6g}",)
    decimals = max(0, min(8, 1 - math.floor(math.log10(error))))
    return (f"{figure['mean']:.{decimals}f}",)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}g}" if value else "0"


def _write_json(path: str, document: dict[str, Any], force: bool) -> None:
    import json

    from kvae_serve.writers import atomic

    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    atomic.write_whole(path, lambda file: file.write(text.encode()), force)


def _write_card(path: str, text: str, name: str, lines: list[str]) -> None:
    from kvae_serve.evaluation import card
    from kvae_serve.writers import atomic

    new = card.with_measured(text, _command(name), lines)
    atomic.write_whole(path, lambda file: file.write(new.encode()), force=True)


def _command(name: str) -> str:
    """Return the command line for the model card: options that differ from their defaults, paths by their last part."""
    import shlex

    context = click.get_current_context()
    parts = ["kvae", "evaluate", "-m", name]
    for parameter in context.command.params:
        key, value = parameter.name or "", context.params.get(parameter.name or "")
        if key in _UNQUOTED or value in (None, (), False) or value == parameter.get_default(context):
            continue
        for each in value if isinstance(value, tuple) else (value,):
            is_path = key in ("data", "train_data", "classifier")
            parts += [parameter.opts[0], _last_part(each) if is_path else str(each)]
    return shlex.join(printable(part, 100) for part in parts)


def _last_part(path: str) -> str:
    return os.path.basename(os.path.abspath(path))  # noqa: PTH100, PTH119
