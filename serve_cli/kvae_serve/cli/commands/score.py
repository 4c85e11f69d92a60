"""The command `kvae score`."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click

from kvae_serve.cli import dataset_args, options
from kvae_serve.csv_escape import escape
from kvae_serve.errors import printable

if TYPE_CHECKING:
    from kvae_serve.inference.scoring import Scores
    from kvae_serve.inference.thresholds import Threshold

_NAMES = ("elbo", "reconstruction", "kl")


@click.command(epilog="Example: kvae score new.npz --threshold q0.01 -o scores.csv")
@options.model
@dataset_args.dataset_args()
@options.condition_args()
@options.row_args()
@click.option(
    "--threshold",
    metavar="NATS|qP",
    help="Elbo below which an example is flagged as an anomaly: a number of nats, or a quantile of held-out data "
    "that the model stores, such as q0.01, below which 1 % of normal data lie.",
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
@options.output_args("Output: .csv or .jsonl, one row per example.  [default: CSV on standard output]")
@options.runtime_args()
def score(
    model: str,
    dataset: dataset_args.DatasetArgs,
    conditions: options.ConditionArgs,
    rows: options.RowArgs,
    threshold: str | None,
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
    from kvae_serve.inference import scoring, thresholds
    from kvae_serve.progress import Progress
    from kvae_serve.writers import atomic, stdout

    output.check(options.check_file(_WRITERS, stdout=True))
    loaded = runtime.load(model)
    kept = thresholds.draws(loaded.manifest) or (scoring.NUM_SAMPLES, scoring.SEED)
    num_samples, seed = num_samples or kept[0], kept[1] if seed is None else seed
    below = thresholds.threshold(threshold, loaded.manifest, num_samples, seed) if threshold is not None else None
    examples = dataset.read(loaded, conditions.for_all_rows())
    total = row_stream.count_rows(len(examples.x), rows.start, rows.num)
    to_file = output.path not in (None, options.STDOUT)
    summary = _Summary(below, rows.start, examples.files)
    with Progress("Scoring", output.quiet or not (to_file or output.as_json)) as progress:
        parts = scoring.stream(
            loaded,
            examples.x,
            examples.conditions,
            num_samples=num_samples,
            seed=seed,
            batch_size=runtime.batch_size,
            first=rows.start,
            num=rows.num,
        )
        scored = summary.rows(parts, total, progress)
        if output.path is not None and to_file:
            write = _WRITERS[os.path.splitext(output.path)[1].lower()]  # noqa: PTH122
            atomic.write_text(output.path, lambda text: write(text, scored), output.force)
        elif output.as_json:
            summary.kept = list(scored)
        else:
            _write_csv(stdout.table(stdout.text()), scored)
    facts = {"data": dataset.data, "start": rows.start, "samples": num_samples, "seed": seed, **summary.document()}
    output.report(loaded.manifest, facts, summary.line(loaded.manifest.name, output.destination))


class _Summary:
    """Counts and sums of the scores, updated as rows pass through."""

    def __init__(self, below: Threshold | None, start: int, files: Sequence[str] = ()) -> None:
        self._below, self._start, self._files = below, start, files
        self._num, self._anomalies = 0, 0
        self._sums = dict.fromkeys(_NAMES, 0.0)
        self.kept: list[dict[str, Any]] | None = None

    def rows(
        self, parts: Iterator[Scores], total: int, progress: Callable[[int, int], None]
    ) -> Iterator[dict[str, Any]]:
        """Yield one row per example: its index, its scores, and whether it is an anomaly."""
        for part in parts:
            for values in zip(*(getattr(part, name).tolist() for name in _NAMES), strict=True):
                row: dict[str, Any] = {"index": self._start + self._num}
                if self._files:
                    row["file"] = self._files[row["index"]]
                row |= dict(zip(_NAMES, values, strict=True))
                if self._below is not None:
                    row["anomaly"] = row["elbo"] < self._below.elbo
                    self._anomalies += row["anomaly"]
                for name in _NAMES:
                    self._sums[name] += row[name]
                self._num += 1
                yield row
            progress(self._num, total)

    def document(self) -> dict[str, Any]:
        """Return the summary as JSON facts."""
        facts: dict[str, Any] = {
            "n": self._num,
            "mean": {name: value / self._num for name, value in self._sums.items()},
        }
        if self._below is not None:
            facts["threshold"] = self._below.document()
            facts["anomalies"] = self._anomalies
        return facts if self.kept is None else facts | {"scores": self.kept}

    def line(self, model: str, destination: str) -> str:
        """Return the summary as one line."""
        mean = self._sums["elbo"] / self._num
        line = f"{self._num} scores by {printable(model, 60)}{destination}, mean elbo {mean:.2f} nats"
        if self._below is not None:
            line += f", {self._anomalies} below {self._below.elbo:.2f}"
            if self._below.quantile is not None:
                line += f" ({self._below.description()})"
        return line


def _write_csv(text: TextIO, rows: Iterator[dict[str, Any]]) -> None:
    writer = csv.writer(text, lineterminator="\n")
    for number, row in enumerate(rows):
        if not number:
            writer.writerow(row)
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
