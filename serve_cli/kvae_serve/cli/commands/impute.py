"""The command `kvae impute`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvae_serve.cli import completers, options
from kvae_serve.errors import InputDataError, RequestError, printable

if TYPE_CHECKING:
    import numpy as np

    from kvae_serve.readers.partial import Partial
    from kvae_serve.sealed.manifest import Manifest

_COLUMN = "imputation"


@click.command(epilog="Example: kvae impute people.csv -m people -n 5 --seed 0 -o filled.csv")
@options.model
@click.argument("data", metavar="DATA", shell_complete=completers.path)
@click.option(
    "-n", "--num", type=options.MIN_1, metavar="N", default=1, show_default=True, help="Number of imputations."
)
@options.condition_args()
@click.option(
    "--num-samples",
    type=click.IntRange(min=16),
    metavar="K",
    default=256,
    show_default=True,
    help="Number of draws of z per row, for importance resampling.",
)
@options.seed
@options.start("Index of the first row, for splitting a file into several runs.")
@click.option("--delimiter", metavar="CHARACTER", help="Delimiter of a CSV, such as ; or tab.  [default: detected]")
@options.output_args("Output: .csv.  [default: CSV on standard output]", metavar="FILE.csv")
@options.runtime_args()
def impute(
    model: str,
    data: str,
    num: int,
    conditions: options.ConditionArgs,
    num_samples: int,
    seed: int | None,
    start: int,
    delimiter: str | None,
    output: options.OutputArgs,
    runtime: options.RuntimeArgs,
) -> None:
    """Fill in missing cells of a table by draws from p(missing given observed).

    DATA is a .csv or .parquet file. Cells that are empty, NA, NaN, ? or null are missing, as are columns that the file
    does not have. Other cells are written as they are. With several imputations, all rows are written once for each,
    below a column `imputation`. The report has the effective sample size: the number of draws of z that fit a row.
    """
    # Imported here, so that --help imports neither numpy nor onnxruntime.
    import numpy as np

    from kvae_serve.inference.column_densities import require
    from kvae_serve.inference.imputation import impute as draw
    from kvae_serve.inference.imputation import summary
    from kvae_serve.inference.sampling import checked_seed, first_index
    from kvae_serve.progress import Progress
    from kvae_serve.readers import ReadOptions
    from kvae_serve.readers.partial import read_partial
    from kvae_serve.runtime import conditions as conditions_of
    from kvae_serve.writers import atomic, stdout

    output.check(options.check_file((".csv",)))
    loaded = runtime.load(model)
    manifest = loaded.manifest
    if manifest.data.kind != "table":
        raise RequestError(f"{printable(manifest.name, 60)} models {manifest.data.kind} data; expected a table.")
    require(manifest)
    seed = checked_seed(seed)
    fixed = conditions.for_all_rows()
    rows = read_partial(data, manifest, ReadOptions(delimiter=delimiter), fixed)
    incomplete = np.flatnonzero(~rows.observed.all(axis=1))
    columns = _conditions(rows, fixed, manifest, conditions_of)
    facts: dict[str, Any] = {"rows": len(rows.x), "missing": int((~rows.observed).sum()), "num": num, "seed": seed}
    drawn = np.empty((num, 0, len(manifest.data.columns)), np.float32)
    if len(incomplete):
        with Progress("Filling in rows", output.quiet) as progress:
            imputed = draw(
                loaded,
                rows.x[incomplete],
                rows.observed[incomplete],
                {name: values[incomplete] for name, values in columns.items()},
                incomplete + first_index(start, len(rows.x)),
                num=num,
                num_samples=num_samples,
                seed=seed,
                batch_size=runtime.batch_size,
                progress=progress,
            )
        drawn = imputed.x
        facts["effective_sample_size"] = summary(imputed.effective, num_samples)
    if output.path is not None:
        atomic.write_text(output.path, lambda file: _write(file, rows, incomplete, drawn, manifest), output.force)
    elif output.shows_text:
        _write(stdout.text(), rows, incomplete, drawn, manifest)
    output.report(
        manifest,
        facts,
        f"{facts['missing']} missing cells in {len(incomplete)} of {len(rows.x)} rows filled in by "
        f"{printable(manifest.name, 60)}{output.destination}, seed {seed}" + options.effective_sample_size(facts),
    )


def _conditions(rows: Partial, fixed: dict[str, str], manifest: Manifest, conditions_of: Any) -> dict[str, np.ndarray]:
    missing = [each.name for each in manifest.conditions if each.name not in (rows.conditions | fixed)]
    if missing:
        raise InputDataError(
            f"{rows.table.source} does not have {printable(missing[0], 40)}, a condition of the model. "
            "Add the column, or give --condition."
        )
    return conditions_of.columns(manifest, rows.conditions | fixed, len(rows.x))


def _write(file: Any, rows: Partial, incomplete: np.ndarray, drawn: np.ndarray, manifest: Manifest) -> None:
    """Write the cells of the file, with the drawn values in place of missing ones."""
    from kvae_serve import cells
    from kvae_serve.csv_escape import escape
    from kvae_serve.readers.csv import written_delimiter
    from kvae_serve.writers.csv import write_columns

    names = [
        *rows.table.cells,
        *(each["name"] for each in manifest.data.columns if each["name"] not in rows.table.cells),
    ]
    positions = {str(each["name"]): at for at, each in enumerate(manifest.data.columns)}
    several = len(drawn) > 1

    def imputation(number: int) -> list[list[str]]:
        texts = [[str(number + 1)] * len(rows.x)] if several else []
        for name in names:
            column = list(rows.table.texts(name)) if name in rows.table.cells else [""] * len(rows.x)
            if (at := positions.get(name)) is not None and len(incomplete):
                written = cells.texts(manifest.data.columns[at], drawn[number, :, at])
                for row, text in zip(incomplete.tolist(), written, strict=True):
                    if not rows.observed[row, at]:
                        column[row] = text
            texts.append([escape(text) for text in column])
        return texts

    header = [_COLUMN, *names] if several else names
    write_columns(file, header, map(imputation, range(len(drawn))), written_delimiter(rows.table))
