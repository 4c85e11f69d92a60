"""`kvae score`: reconstruction, kl and elbo of each example."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

import click

from kvae_serve.cli import options, output_checks
from kvae_serve.errors import RequestError, printable

if TYPE_CHECKING:
    from kvae_serve.inference.scoring import Scores
    from kvae_serve.inference.thresholds import Threshold

_NAMES = ("elbo", "reconstruction", "kl")


@click.command(epilog="Example: kvae score new.npz --threshold q0.01 -o scores.csv")
@options.model
@options.data
@options.given_conditions
@click.option("-n", "--num", type=click.IntRange(min=1), help="Take so many rows.  [default: all]")
@click.option(
    "--start", type=click.IntRange(min=0), default=0, show_default=True, help="Row to start from, to work in parts."
)
@click.option(
    "--threshold",
    metavar="NATS|qP",
    help="Flag examples whose elbo is below this as anomalies: a number, or a quantile of the training data that the "
    "model knows, such as q0.01.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    metavar="K",
    help="Draws of z, the same for each example.  [default: 16, or what the model's quantiles hold for]",
)
@click.option("--seed", type=int, help="Of the draws, 0 to 2**64 - 1.  [default: 0, or as above]")
@options.output("A .csv or .jsonl, a row an example; - or nothing for CSV on standard output.")
@options.batch_size
@options.threads
@options.provider
@options.as_json
@options.force
@options.quiet
def score(
    model: str,
    data: str,
    split: str | None,
    image_size: str | None,
    channels: str | None,
    label: str | None,
    condition: tuple[str, ...],
    num: int | None,
    start: int,
    threshold: str | None,
    samples: int | None,
    seed: int | None,
    output: str | None,
    batch_size: int,
    threads: int,
    provider: str,
    as_json: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Tell how likely a model finds each example: low elbo, an anomaly.

    elbo = -reconstruction - kl, in nats: a lower bound on log p(x), or log p(x given y) of a conditional model. Every
    example meets the same draws, so that its score depends on nothing but itself. Under a Bernoulli likelihood gray
    levels are drawn to black or white first, the same way for all.
    """
    # In here, so that --help opens neither numpy nor onnxruntime.
    from kvae_serve import row_stream
    from kvae_serve.cli import dataset_args
    from kvae_serve.inference import scoring, thresholds
    from kvae_serve.model import load
    from kvae_serve.progress import Progress
    from kvae_serve.writers import atomic

    to_file = output not in (None, "-")
    if output is not None and to_file:
        output_checks.check(output, _WRITERS, force)
    if as_json and output == "-":
        raise RequestError("--json and -o - both want standard output. Leave one of them out.")
    loaded = load(model, threads=threads, provider=provider)
    kept = thresholds.draws(loaded.manifest) or (scoring.NUM_SAMPLES, scoring.SEED)
    samples, seed = samples or kept[0], kept[1] if seed is None else seed
    below = thresholds.threshold(threshold, loaded.manifest, samples, seed) if threshold is not None else None
    examples = dataset_args.read(
        loaded,
        data,
        split or dataset_args.ALL,
        options.for_all_rows(label, condition),
        image_size=image_size,
        channels=channels,
    )
    rows_taken = row_stream.count_rows(len(examples.x), start, num)
    summary = _Summary(below, start)
    with Progress("Scoring", quiet or not (to_file or as_json)) as progress:
        parts = scoring.stream(
            loaded,
            examples.x,
            examples.conditions,
            num_samples=samples,
            seed=seed,
            batch_size=batch_size,
            first=start,
            num=num,
        )
        rows = summary.rows(parts, rows_taken, progress)
        if output is not None and to_file:
            # The suffix decides the form, and nothing appears unless all of it does.
            write = _WRITERS[os.path.splitext(output)[1].lower()]  # noqa: PTH122
            atomic.write_text(output, lambda text: write(text, rows), force)
        elif as_json:
            summary.kept = list(rows)
        else:
            _write_csv(sys.stdout, rows)
    document = {
        "model": loaded.manifest.name,
        "model_id": loaded.manifest.model_id,
        "data": data,
        "start": start,
        "samples": samples,
        "seed": seed,
        **summary.document(),
        "output": output,
    }
    if as_json:
        options.echo_json(document)
    elif not quiet:
        click.echo(summary.line(loaded.manifest.name, output if to_file else None), err=True)


class _Summary:
    """Counts what goes through, from row `start` of the data on."""

    def __init__(self, below: Threshold | None, start: int) -> None:
        self._below, self._start = below, start
        self._num, self._anomalies = 0, 0
        self._sums = dict.fromkeys(_NAMES, 0.0)
        self.kept: list[dict[str, Any]] | None = None

    def rows(
        self, parts: Iterator[Scores], total: int, progress: Callable[[int, int], None]
    ) -> Iterator[dict[str, Any]]:
        """Give each example as a row: its index, its figures, and whether it is an anomaly."""
        for part in parts:
            for values in zip(*(getattr(part, name).tolist() for name in _NAMES), strict=True):
                row: dict[str, Any] = {"index": self._start + self._num, **dict(zip(_NAMES, values, strict=True))}
                if self._below is not None:
                    row["anomaly"] = row["elbo"] < self._below.elbo
                    self._anomalies += row["anomaly"]
                for name in _NAMES:
                    self._sums[name] += row[name]
                self._num += 1
                yield row
            progress(self._num, total)

    def document(self) -> dict[str, Any]:
        """Return what was found, for JSON."""
        found: dict[str, Any] = {
            "n": self._num,
            "mean": {name: value / self._num for name, value in self._sums.items()},
        }
        if self._below is not None:
            found["threshold"] = {"elbo": self._below.elbo, "quantile": self._below.quantile}
            found["anomalies"] = self._anomalies
        return found if self.kept is None else found | {"scores": self.kept}

    def line(self, model: str, output: str | None) -> str:
        """Return it in words."""
        where = f" to {printable(output)}" if output else ""
        line = (
            f"{self._num} scores by {printable(model, 60)}{where}, mean elbo {self._sums['elbo'] / self._num:.2f} nats"
        )
        if self._below is not None:
            line += f", {self._anomalies} below {self._below.elbo:.2f}"
            if self._below.quantile is not None:
                line += f" (where {self._below.quantile:.3g} of the training data are)"
        return line


def _write_csv(text: TextIO, rows: Iterator[dict[str, Any]]) -> None:
    first = True
    for row in rows:
        if first:
            text.write(",".join(row) + "\n")
            first = False
        text.write(",".join(_cell(value) for value in row.values()) + "\n")
    text.flush()


def _write_jsonl(text: TextIO, rows: Iterator[dict[str, Any]]) -> None:
    import json

    for row in rows:
        text.write(json.dumps(row, allow_nan=False) + "\n")


_WRITERS: dict[str, Callable[[TextIO, Iterator[dict[str, Any]]], None]] = {".csv": _write_csv, ".jsonl": _write_jsonl}


def _cell(value: Any) -> str:
    # Digits beyond these are noise of float32.
    return f"{value:.6f}" if isinstance(value, float) else str(int(value))
