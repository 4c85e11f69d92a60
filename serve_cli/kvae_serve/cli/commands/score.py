"""The command `kvae score`."""

from __future__ import annotations

import array
import csv
import os
import statistics
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

import click

from kvae_serve.cli import dataset_args, options
from kvae_serve.csv_escape import escape
from kvae_serve.errors import RequestError, printable

if TYPE_CHECKING:
    import numpy as np

    from kvae_serve.inference.thresholds import Threshold
    from kvae_serve.sealed.manifest import Manifest

_NAMES = ("elbo", "reconstruction", "kl")
_COLUMNS = (*_NAMES, "complexity", "score", "anomaly", "label", "probability", "likeliest", "log_likelihood")
"""Columns of scores. An identifier of the rows with such a name gets another."""

_MAP = ".png"
_MOST_IN_MAP = 100


@click.command(epilog="Example: kvae score new.npz --threshold q0.01 -o scores.csv")
@options.model
@dataset_args.dataset_args()
@options.condition_args()
@options.row_args()
@click.option(
    "--threshold",
    metavar="NATS|qP",
    help="Score below which an example is flagged as an anomaly: a number of nats, or a quantile of held-out data "
    "that the model stores, such as q0.01, below which 1 % of normal data lie.",
)
@click.option(
    "--method",
    type=click.Choice(["elbo", "complexity"]),
    default="elbo",
    show_default=True,
    help="Score that is compared with --threshold: the elbo, or for images the elbo plus the compressed size "
    "(columns complexity and score), which also detects images that are simpler than the training data.",
)
@click.option(
    "--parts",
    is_flag=True,
    help="Add the reconstruction of each column, feature or pixel, and the kl of each dimension of z.",
)
@click.option(
    "--over-labels",
    type=click.Choice(["uniform", "data"]),
    help="Instead of the elbo, log p(x), log p(x given y) of each label y, and the probabilities of the example's own "
    "label and of the likeliest, with the prior p(y) equal for all classes or as in the training data. A small "
    "probability of the own label marks a wrong label.",
)
@click.option(
    "--num-samples",
    cls=options.RenamedOption,
    former=("--samples",),
    type=options.MIN_1,
    metavar="K",
    help="Number of draws of z, the same for each example.  [default: 16, or as the model's quantiles]",
)
@click.option(
    "--seed",
    type=int,
    metavar="N",
    help="Seed of the draws, 0 to 2**64 - 1.  [default: 0, or as the model's quantiles]",
)
@options.output_args(
    "Output: .csv or .jsonl, one row per example; or .png, each image beside its reconstruction and the heat map of "
    "its parts.  [default: CSV on standard output]"
)
@options.runtime_args()
def score(
    model: str,
    dataset: dataset_args.DatasetArgs,
    conditions: options.ConditionArgs,
    rows: options.RowArgs,
    threshold: str | None,
    method: str,
    parts: bool,
    over_labels: str | None,
    num_samples: int | None,
    seed: int | None,
    output: options.OutputArgs,
    runtime: options.RuntimeArgs,
) -> None:
    """Compute the elbo of each example; a low elbo marks an anomaly.

    elbo = -reconstruction - kl, in nats, is a lower bound on log p(x), or on log p(x given y) for a conditional model.
    All examples share the same draws of z, so a score depends only on its example. Under a Bernoulli likelihood, gray
    levels are first binarised at random, in the same way for all examples.
    """
    # Imported here, so that --help imports neither numpy nor onnxruntime.
    from kvae_serve import row_stream
    from kvae_serve.inference import complexity, thresholds
    from kvae_serve.progress import Progress
    from kvae_serve.writers import atomic, stdout

    output.check(options.check_file((*_WRITERS, _MAP), stdout=True))
    suffix = os.path.splitext(output.path or "")[1].lower()  # noqa: PTH122
    if over_labels and (threshold is not None or parts or suffix == _MAP):
        raise RequestError("--over-labels scores labels. Leave out --threshold, --parts and -o FILE.png.")
    if over_labels and conditions.values():
        raise RequestError(
            "--over-labels scores every label; the labels to compare come from the data. Leave out --label and "
            "--condition."
        )
    loaded = runtime.load(model)
    manifest = loaded.manifest
    complexity.check(method, manifest)
    default = thresholds.draws(manifest)
    num_samples, seed = num_samples or default[0], default[1] if seed is None else seed
    below = thresholds.threshold(threshold, manifest, num_samples, seed, method) if threshold is not None else None
    examples = dataset.read_for_any_label(loaded) if over_labels else dataset.read(loaded, conditions.for_all_rows())
    total = row_stream.count_rows(len(examples.x), rows.start, rows.num)
    if suffix == _MAP:
        _check_map(manifest, total)
    to_file = output.path not in (None, options.STDOUT)
    summary = _Summary(below, method)
    source = _Source(loaded, examples, rows.start)
    settings: dict[str, Any] = {"num_samples": num_samples, "seed": seed, "batch_size": runtime.batch_size}
    settings |= {"first": rows.start, "num": rows.num}
    with Progress("Scoring", output.quiet or not (to_file or output.as_json)) as progress:
        if output.path is not None and suffix == _MAP:
            picture = source.picture(summary, method, settings, total, progress)
            atomic.write_whole(output.path, lambda file: file.write(picture), output.force)
        else:
            if over_labels:
                results = source.labels(summary, over_labels, method, settings)
            else:
                results = source.scores(summary, method, parts, settings)
            scored = _with_progress(results, total, progress)
            if output.path is not None and to_file:
                write = _WRITERS[suffix]
                atomic.write_text(output.path, lambda text: write(text, scored), output.force)
            elif output.as_json:
                summary.kept = list(scored)
            else:
                _write_csv(stdout.table(stdout.text()), scored)
    facts = {"data": dataset.data, "start": rows.start, "samples": num_samples, "seed": seed, **summary.document()}
    output.report(manifest, facts, summary.line(manifest.name, output.destination))


class _Source:
    """Rows of a command: the scores of some examples."""

    def __init__(self, model: Any, examples: dataset_args.Examples, start: int) -> None:
        self._model, self._examples, self._index = model, examples, start

    def _row(self) -> dict[str, Any]:
        row: dict[str, Any] = {"index": self._index}
        for name, values in self._examples.row_names.items():
            row[f"{name} of the data" if name in _COLUMNS else name] = values[self._index]
        self._index += 1
        return row

    def _scored(self, scores: Any, sizes: np.ndarray | None, at: int) -> dict[str, Any]:
        """Return the next row, with the scores at an index of a chunk."""
        row = self._row() | {name: float(getattr(scores, name)[at]) for name in _NAMES}
        if sizes is not None:
            row |= {"complexity": float(sizes[at]), "score": row["elbo"] + float(sizes[at])}
        return row

    def scores(
        self, summary: _Summary, method: str, with_parts: bool, settings: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Yield one row per example: its index, its scores, and whether it is an anomaly."""
        from kvae_serve.inference import complexity, score_parts, scoring

        x, conditions = self._examples.x, self._examples.conditions
        manifest = self._model.manifest
        names = _part_names(manifest) if with_parts else []
        for chunk in scoring.chunks(self._model, x, conditions, **settings):
            compute: Any = score_parts.score_chunk if with_parts else scoring.score_chunk
            scores = compute(self._model, chunk)
            sizes = complexity.complexity(chunk.x, manifest) if method == "complexity" else None
            for at in range(len(chunk.x)):
                row = self._scored(scores, sizes, at)
                summary.add(row)
                if with_parts:
                    values = [*scores.reconstruction_parts[at].reshape(-1), *scores.kl_parts[at]]
                    row |= dict(zip(names, map(float, values), strict=True))
                    if manifest.prior["name"] in _MIXTURES:
                        row["kl component"] = float(scores.kl_component[at])
                yield row

    def labels(
        self, summary: _Summary, class_prior: str, method: str, settings: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Yield one row per example: the probability of its label, its likeliest label, log p(x|y) of all labels."""
        from kvae_serve.inference import complexity, label_scores

        condition = label_scores.only_class(self._model.manifest)
        own = self._examples.conditions.get(condition.name)
        for chunk, part in label_scores.stream(self._model, self._examples.x, class_prior, **settings):
            sizes = complexity.complexity(chunk.x, self._model.manifest) if method == "complexity" else None
            for at, (likelihoods, each, evidence) in enumerate(zip(*part, strict=True)):
                row = self._row()
                if own is not None:
                    label = int(own[row["index"]])
                    row |= {"label": condition.classes[label], "probability": float(each[label])}
                best = int(each.argmax())
                row |= {"likeliest": condition.classes[best], "probability of likeliest": float(each[best])}
                row["log_likelihood"] = float(evidence)
                if sizes is not None:
                    size = float(sizes[at])
                    row |= {"complexity": size, "score": row["log_likelihood"] + size}
                row |= {
                    f"log_likelihood of {name}": float(value)
                    for name, value in zip(condition.classes, likelihoods, strict=True)
                }
                summary.add_label(own is not None and label != best)
                yield row

    def picture(
        self,
        summary: _Summary,
        method: str,
        settings: dict[str, Any],
        total: int,
        progress: Callable[[int, int], None],
    ) -> bytes:
        """Return a PNG: on each row example, reconstruction, and heat map of -log p(x|z)."""
        import numpy as np

        from kvae_serve.inference import complexity, sampling, score_parts, scoring
        from kvae_serve.writers import grid, heat, png

        rows, heats = [], []
        data = self._model.manifest.data
        for chunk in scoring.chunks(self._model, self._examples.x, self._examples.conditions, **settings):
            scores = score_parts.score_chunk(self._model, chunk)
            means = sampling.reconstruct(self._model, {"x": chunk.x} | chunk.columns, chunk.batch_size)
            sizes = complexity.complexity(chunk.x, self._model.manifest) if method == "complexity" else None
            for at in range(len(chunk.x)):
                summary.add(self._scored(scores, sizes, at))
                rows.append(grid.to_uint8(np.stack([chunk.x[at], means[at]]), data.range))
                heats.append(scores.reconstruction_parts[at].sum(-1))
            progress(len(rows), total)
        return png.encode(heat.picture(np.stack(rows), np.stack(heats)))


class _Summary:
    """Counts and sums of the scores, updated as rows pass through."""

    def __init__(self, below: Threshold | None, method: str) -> None:
        self._below, self._compared = below, "elbo" if method == "elbo" else "score"
        self._num, self._anomalies, self._mislabelled, self._of_labels = 0, 0, 0, False
        self._sums: dict[str, float] = {}
        self._compared_values = array.array("d")
        self.kept: list[dict[str, Any]] | None = None

    def add(self, row: dict[str, Any]) -> None:
        """Count a row of scores, and add whether it is an anomaly."""
        for name, value in row.items():
            if isinstance(value, float):
                self._sums[name] = self._sums.get(name, 0.0) + value
        self._compared_values.append(row[self._compared])
        self._num += 1
        if self._below is not None:
            row["anomaly"] = row[self._compared] < self._below.elbo
            self._anomalies += row["anomaly"]

    def add_label(self, mislabelled: bool) -> None:
        """Count a row of labels."""
        self._num, self._of_labels = self._num + 1, True
        self._mislabelled += mislabelled

    def document(self) -> dict[str, Any]:
        """Return the summary as JSON facts."""
        facts: dict[str, Any] = {"n": self._num}
        if self._of_labels:
            facts["likelier_labels"] = self._mislabelled
        else:
            facts["mean"] = {name: value / self._num for name, value in self._sums.items()}
            facts["median"] = {self._compared: statistics.median(self._compared_values)}
        if self._below is not None:
            facts["threshold"] = self._below.document()
            facts["anomalies"] = self._anomalies
        return facts if self.kept is None else facts | {"scores": self.kept}

    def line(self, model: str, destination: str) -> str:
        """Return the summary as one line."""
        line = f"{self._num} score{'' if self._num == 1 else 's'} by {printable(model, 60)}{destination}"
        if self._of_labels:
            return f"{line}, {self._mislabelled} with a label that is less likely than another"
        line += f", median {self._compared} {statistics.median(self._compared_values):.2f} nats"
        if self._below is not None:
            line += f", {self._anomalies} below {self._below.elbo:.2f}"
            if self._below.quantile is not None:
                line += f" ({self._below.description()})"
        return line


_MIXTURES = ("gaussian_mixture", "vamp")


def _part_names(manifest: Manifest) -> list[str]:
    """Return the names of the parts of a row: columns, or indices along the axes of x, then dimensions of z."""
    import numpy as np

    if manifest.data.columns:
        names = [printable(column["name"], 200) for column in manifest.data.columns]
    else:
        shape = manifest.data.shape[:-1] if manifest.data.shape[-1] == 1 else manifest.data.shape
        names = ["x" + "_".join(map(str, index)) for index in np.ndindex(*shape)]
    return [f"reconstruction {name}" for name in names] + [f"kl z{at}" for at in range(manifest.latent_dim)]


def _check_map(manifest: Manifest, total: int) -> None:
    if manifest.data.kind != "image" or manifest.data.shape[-1] not in (1, 3):
        raise RequestError(
            f"{printable(manifest.name, 60)} does not model images, so a .png cannot show its parts. Use --parts with "
            "-o FILE.csv."
        )
    if total > _MOST_IN_MAP:
        raise RequestError(
            f"A .png shows at most {_MOST_IN_MAP} examples, got {total:,}. Choose some with --start, -n."
        )


def _with_progress(
    rows: Iterator[dict[str, Any]], total: int, progress: Callable[[int, int], None]
) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, 1):
        yield row
        if number % 256 == 0 or number == total:
            progress(number, total)


def _write_csv(text: TextIO, rows: Iterator[dict[str, Any]]) -> None:
    writer = csv.writer(text, lineterminator="\n")
    for number, row in enumerate(rows):
        if not number:
            writer.writerow(map(escape, row))
        writer.writerow(_cell(value) for value in row.values())
    text.flush()


def _write_jsonl(text: TextIO, rows: Iterator[dict[str, Any]]) -> None:
    import json

    for row in rows:
        text.write(json.dumps(row, allow_nan=False) + "\n")


_WRITERS: dict[str, Callable[[TextIO, Iterator[dict[str, Any]]], None]] = {".csv": _write_csv, ".jsonl": _write_jsonl}


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return escape(value)
    # More digits would only show the rounding noise of float32.
    return f"{value:.6f}" if isinstance(value, float) else str(int(value))
