"""`kvae evaluate`: the figures of a model on data, from the exported files."""

from __future__ import annotations

import os
from typing import Any

import click

from kvae_serve.cli import dataset_args, options, output_checks
from kvae_serve.errors import RequestError, printable

# Options that change no figure, so that a card does not quote them.
_UNQUOTED = frozenset({"model", "output", "history", "threads", "as_json", "card", "force", "quiet"})


@click.command(
    epilog="Example: kvae evaluate -m digits --data mnist-folder --importance-samples 5000 --limit 1000 -o figures.json"
)
@options.model
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="An IDX file or folder, .npz, .npy, .csv, a picture or a folder of them, or mnist-sample, which ships.",
)
@click.option("--split", type=click.Choice(["train", "test"]), help="Half of data that has two.  [default: test]")
@options.given_conditions
@click.option(
    "--importance-samples",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="K",
    help="Draws of z for each example; papers take 5000.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Take the first N examples.  [default: all]")
@click.option(
    "--binarize",
    type=click.Choice(["dynamic", "static", "none"]),
    help="How gray levels become black and white under a Bernoulli: drawn by the seed, drawn the same for every seed, "
    "or not at all, for data that are black and white.  [default: dynamic]",
)
@click.option(
    "--over-labels",
    type=click.Choice(["uniform", "data"]),
    help="Also sum over the classes: log p(x) = log sum p(y) p(x given y), with p(y) the same for all or as in the "
    "data. Takes as many times longer as there are classes.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also draw N samples and measure them against as many real images: label consistency, precision, coverage and "
    "more. Takes minutes, and the extra `train` where a classifier must be trained.",
)
@click.option(
    "--train-data",
    metavar="DATA",
    help="Real images that the classifier of --samples learns from.  [default: the training split of --data]",
)
@click.option(
    "--classifier",
    metavar="DIR|FILE.onnx",
    help="Where the classifier of --samples is kept, or one of your own.  [default: the user's folder of caches]",
)
@click.option("--card", metavar="FILE.md", help="A model card whose section Measured is set to the figures.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of noise and binarisation, 0 to 2**64 - 1.")
@click.option(
    "-o",
    "--output",
    metavar="FILE.json|FILE.html",
    help="Write the figures there as well; or a page with charts and pictures, which needs the extra `evaluate`.",
)
@click.option(
    "--history",
    metavar="FILE.csv",
    help="Curves of training for the page.  [default: history.csv beside the model]",
)
@options.threads
@options.provider
@options.as_json
@options.force
@options.quiet
def evaluate(
    model: str,
    data: str,
    split: str | None,
    label: str | None,
    condition: tuple[str, ...],
    importance_samples: int,
    limit: int | None,
    binarize: str | None,
    over_labels: str | None,
    samples: int | None,
    train_data: str | None,
    classifier: str | None,
    card: str | None,
    seed: int,
    output: str | None,
    history: str | None,
    threads: int,
    provider: str,
    as_json: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Compute a model's figures on data: elbo, NLL by importance sampling, and what its latent space holds.

    Every figure comes with its n, the draws of z (K) and the standard error of its mean over examples. The figures are
    those of the exported files: no TensorFlow is needed.
    """
    # In here, so that --help opens neither numpy nor onnxruntime.
    from kvae.commands import evaluate_report
    from kvae.commands import evaluate_samples as of_samples
    from kvae_serve.evaluation import card as cards
    from kvae_serve.evaluation import evaluate as compute
    from kvae_serve.model import load
    from kvae_serve.progress import Progress

    if output is not None:
        output_checks.check(output, (".json", evaluate_report.SUFFIX), force)
    as_page = output is not None and evaluate_report.is_page(output)
    if history is not None and not as_page:
        raise RequestError("--history is for a page of curves and pictures. Give -o FILE.html as well.")
    if samples is None and (train_data or classifier):
        raise RequestError("--train-data and --classifier are for figures of samples. Give --samples N as well.")
    old_card = cards.read(card) if card is not None else ""
    loaded = load(model, threads=threads, provider=provider)
    curves = evaluate_report.prepare(loaded, history) if as_page else None
    said = options.for_all_rows(label, condition)
    examples = dataset_args.read(loaded, data, split, said)
    drawn: dict[str, Any] = {}
    if samples is not None:
        how = {"num": samples, "train_data": train_data, "classifier": classifier, "seed": seed}
        say = (lambda line: None) if quiet else (lambda line: click.echo(line, err=True))
        drawn = of_samples.measure(loaded, data, split, said, say=say, **how)
    with Progress("Evaluating", quiet) as progress:
        document = compute(
            loaded,
            examples.x,
            examples.conditions,
            importance_samples=importance_samples,
            seed=seed,
            limit=limit,
            binarize=binarize,
            over_labels=over_labels,
            source=examples.source,
            progress=progress,
        )
    document |= drawn
    lines = [*table(document), *of_samples.lines(document)]
    if output is not None and as_page:
        evaluate_report.write(output, loaded, document, examples, data, split, curves, force)
    elif output is not None:
        _write_json(output, document, force)
    if card is not None:
        # The machine's folders are nobody's business who reads the card.
        shown = document | {"data": _last_part(document["data"])}
        _write_card(card, old_card, loaded.manifest.name, [*table(shown), *of_samples.lines(document)])
    if as_json:
        options.echo_json(document)
    else:
        click.echo("\n".join(lines))


def table(document: dict[str, Any]) -> list[str]:
    """Return the document of `kvae_serve.evaluation.evaluate` as lines for people."""
    how = {None: "", "none": ", black and white as given"}.get(
        document["binarize"], f", {document['binarize']} binarisation"
    )
    lines = [
        f"{printable(document['model'], 60)} on {document['n']} examples of {printable(document['data'], 60)}{how}, "
        f"seed {document['seed']}",
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
    lines += [
        "",
        f"nll: of {nll['samples']} draws {nll['effective_samples']:.3g} count on average; the draws alone add an error "
        f"of {_number(nll['monte_carlo_error'], 2)} and about {_number(nll['bias'], 2)} nats too much.",
    ]
    information = document["figures"]["mutual_information"]
    if information is not None:
        upper = information["upper_bound"]
        lines.append(
            f"mutual information: a lower bound, which cannot exceed {_number(information['ceiling'], 4)} here"
            + ("" if upper is None else f"; an upper bound is {_number(upper, 4)}")
            + ". The gap: an upper bound."
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
    """Return a mean with the decimals that its error leaves."""
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
    """The command as a card quotes it: with what was given and is no default, paths by their last part."""
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
    return shlex.join(printable(part, 100) for part in parts).replace("`", "'")


def _last_part(path: str) -> str:
    return os.path.basename(os.path.abspath(path))  # noqa: PTH100, PTH119
