r"""Are rows of kvae closer to real rows than those of TVAE, CTGAN and a Gaussian copula, in the same CPU time?

Each method trains on the same rows with its defaults and draws as many rows; the same test rows judge all. kvae gets no
options but data, output and seed. TVAE and CTGAN of SDV train for as many epochs as the budget allows. The figures are
those of `kvae evaluate --sample-metrics`, see docs/samples.md. Everything runs on one thread.

    python -m venv peers && peers/bin/pip install sdv==2.0.0
    python benchmarks/tables.py --table adult=ADULT:income --table diamonds=DIAMONDS:price --table made \\
        --peers peers/bin/python --budget 180 --seeds 0 1 -o FOLDER

A table is a folder with train.csv and test.csv, and after a colon the column to predict. Adult is adult.data and
adult.test of https://archive.ics.uci.edu/dataset/2/adult with a header, without the full stops of adult.test; diamonds
is in the package pydataset, in the order of `numpy.random.default_rng(0).permutation`, two thirds to train on. `made`
is generated: see `made_table`. FOLDER keeps drawn rows and figures. They are not computed again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from kvae.sample_metrics import table_figures

PEERS = ("tvae", "ctgan", "copula")
SHOWN = ("column_shapes", "pair_trends", "downstream", "two_sample_auc", "valid_rows", "close_rows", "exact_copies")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def made_table(folder):
    """Write a table of log-normal, zero-inflated, trimodal, count, heavy-tailed and boolean columns, and rare classes.

    All columns depend on two hidden variables. 20,000 rows to train on and 10,000 to test.
    """
    rng = np.random.default_rng(0)
    num = 30_000
    u, v = rng.normal(size=(2, num))
    price = np.round(np.exp(0.8 * u + 0.4 * rng.normal(size=num) + 3), 2)
    loss = np.where(
        rng.random(num) < 1 / (1 + np.exp(-1.5 - v)), 0, np.round(np.exp(5 + 0.7 * v + rng.normal(size=num)))
    )
    mode = rng.choice(3, size=num, p=(0.5, 0.3, 0.2))
    size = np.round(
        np.array([10, 25, 60])[mode] + np.array([1, 2, 4])[mode] * (0.7 * u + 0.7 * rng.normal(size=num)), 3
    )
    visits = rng.poisson(np.exp(0.7 + 0.5 * v))
    change = np.round(u + 0.5 * rng.standard_t(2, size=num), 4)
    member = np.where(rng.random(num) < 1 / (1 + np.exp(-2 * u + v)), "True", "False")
    scores = np.log([0.45, 0.3, 0.15, 0.07, 0.02, 0.007, 0.003]) + 0.5 * np.outer(v, [1, 0, -1, 1, -1, 0, 1])
    group = np.array(list("ABCDEFG"))[(scores + rng.gumbel(size=scores.shape)).argmax(axis=1)]
    columns = {
        "price": price, "loss": loss.astype(int), "size": size, "visits": visits, "change": change, "member": member,
        "group": group,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(zip(*columns.values(), strict=True))
    for name, part in (("train", rows[:20_000]), ("test", rows[20_000:])):
        write_csv(folder / f"{name}.csv", list(columns), part)


def write_csv(path, header, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_csv(path):
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return dict(zip(header, zip(*rows, strict=True), strict=True))


def encode(train, *others):
    """Return the columns, and each table as an array: a column is numeric if all its cells in `train` are numbers."""
    columns, arrays = [], [np.empty((len(next(iter(each.values()))), len(train))) for each in (train, *others)]
    for at, name in enumerate(train):
        tables = [each[name] for each in (train, *others)]
        try:
            values = [[float(cell) if cell else np.nan for cell in cells] for cells in tables]
            columns.append({"name": name, "kind": "numeric"})
        except ValueError:
            index = {}
            values = [[index.setdefault(cell.strip(), len(index)) for cell in cells] for cells in tables]
            columns.append({"name": name, "kind": "categorical", "classes": list(index)})
        for array, column in zip(arrays, values, strict=True):
            array[:, at] = column
    return columns, arrays


def run(command):
    """Run a program on one thread; return its standard output and CPU seconds, those of its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(each) for each in command], env=ENVIRONMENT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stderr[-2000:]}")
    return done.stdout, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def kvae_rows(table, output, work, rows, seed):
    """Train, export and sample with defaults. Write `output`; return CPU seconds, and bytes of the exported folder."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    kvae = [sys.executable, "-m", "kvae"]
    _, train = run([*kvae, "train", "--data", table / "train.csv", "-o", work / "run", "--seed", seed])
    _, export = run([*kvae, "export", work / "run", "-o", work / "model"])
    _, sample = run([*kvae, "sample", "-m", work / "model", "-n", rows, "--seed", seed, "-o", output, "--force"])
    many = [*kvae, "sample", "-m", work / "model", "-n", 100_000, "--seed", seed, "-o", work / "many.csv"]
    _, hundred_thousand = run(many)
    size = sum(path.stat().st_size for path in (work / "model").iterdir())
    return {
        "fit_seconds": round(train, 1),
        "export_seconds": round(export, 1),
        "sample_seconds": round(sample, 1),
        "sample_100000_seconds": round(hundred_thousand, 1),
        "bytes": size,
    }


def measured(method, name, table, target, arguments, seed):
    """Return the figures of one method on one table, computed unless FOLDER has them."""
    folder = Path(arguments.output) / name
    folder.mkdir(parents=True, exist_ok=True)
    rows, figures = folder / f"{method}-{seed}.csv", folder / f"{method}-{seed}.json"
    if figures.exists():
        return json.loads(figures.read_text())
    train = read_csv(table / "train.csv")
    num = len(next(iter(train.values())))
    about_file = rows.with_suffix(".about")
    if not rows.exists() or not about_file.exists():
        if method == "kvae":
            about = kvae_rows(table, rows, folder / f"kvae-{seed}", num, seed)
        else:
            command = [arguments.peers, Path(__file__).with_name("sdv_tables.py"), method, table / "train.csv", rows]
            text, _ = run([*command, "--rows", num, "--budget", arguments.budget, "--seed", seed])
            about = json.loads(text.splitlines()[-1])
        about_file.write_text(json.dumps(about))
    columns, (x, test, samples) = encode(train, read_csv(table / "test.csv"), in_order(read_csv(rows), train))
    found = table_figures(x, test, samples, columns, target=target, seed=seed)
    document = {"method": method, "table": name, "seed": seed, **json.loads(about_file.read_text()), "figures": found}
    figures.write_text(json.dumps(document, indent=1))
    return document


def in_order(table, like):
    """Return the columns of a table in the order of another."""
    if missing := set(like) - set(table):
        sys.exit(f"Columns are missing: {missing}")
    return {name: table[name] for name in like}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="append", required=True, metavar="NAME=FOLDER[:TARGET]")
    parser.add_argument("--peers", metavar="PYTHON", help="Python with SDV; without it only kvae runs")
    parser.add_argument("--methods", nargs="+", choices=("kvae", *PEERS))
    parser.add_argument("--budget", type=float, default=180, help="CPU seconds of a fit of TVAE and CTGAN")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    methods = arguments.methods or ("kvae", *(PEERS if arguments.peers else ()))
    print("| table | method | seed | fit, CPU s |", " | ".join(each.replace("_", " ") for each in SHOWN), "| lost |")
    print("|---" * (len(SHOWN) + 5) + "|")
    for each in arguments.table:
        name, _, rest = each.partition("=")
        folder, _, target = rest.partition(":")
        table = Path(folder) if folder else Path(arguments.output) / name
        if not folder and not (table / "train.csv").exists():
            made_table(table)
        for seed in arguments.seeds:
            for method in methods:
                found = measured(method, name, table, target or None, arguments, seed)
                row(name, method, seed, found["fit_seconds"], found["figures"], "value")
        row(name, "real rows", "", "", found["figures"], "floor")


def row(name, method, seed, seconds, figures, key):
    cells = ["-" if figures[each][key] is None else f"{figures[each][key]:.3f}" for each in SHOWN]
    lost = figures["lost_classes"]
    print(
        "|",
        " | ".join([name, method, str(seed), str(seconds), *cells, f"{lost[key]} of {lost.get('of')}"]),
        "|",
        flush=True,
    )


if __name__ == "__main__":
    main()
