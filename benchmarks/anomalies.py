r"""Does the elbo of kvae with its defaults find anomalies in tables as well as the detectors of PyOD?

One-class protocol: half of the normal rows, at most 5,000, are for training; the other half and all anomalies are for
testing. With --contamination, anomalies replace that share of the training rows and are not tested. kvae gets no
options but data and seed: `kvae train` with and without the preset `anomalies`, and kvae.sklearn. The score is that of
`kvae score`. Peers have their defaults. All run on one thread. Imports do not count as seconds.

    python -m venv peers && peers/bin/pip install pyod==3.6.7 torch==2.14.1 tqdm
    python benchmarks/anomalies.py FOLDER --peers peers/bin/python -o results.jsonl

FOLDER has .npz files of ADBench (https://github.com/Minqi824/ADBench): X, and y, 1 for an anomaly. Nothing is fetched.
Finished rows of the results are not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.stats import beta, betabinom

PEERS = ("knn", "iforest", "ecod", "vae", "autoencoder")
KVAE = {"kvae train": "tabular", "kvae train --preset anomalies": "anomalies"}
DETECTOR = "VAEOutlierDetector"
#: Quantiles of the held-out rows as thresholds; the lowest possible one of a set with fewer rows.
SHARES = (0.01, 0.05)
MOST = 5000


def split(path, seed, contamination):
    """Return training rows, test rows, and the labels of the test rows."""
    data = np.load(path)
    x, y = data["X"].astype(np.float64), data["y"].astype(int)
    rng = np.random.default_rng(seed)
    normal, anomalies = (rng.permutation(np.flatnonzero(y == kind)) for kind in (0, 1))
    half = len(normal) // 2
    train, test = normal[:half][:MOST], normal[half:]
    if contamination:
        num = min(round(contamination * len(train)), len(anomalies) // 2)
        train, anomalies = np.concatenate([train[num:], anomalies[:num]]), anomalies[num:]
        train = rng.permutation(train)
    rows = np.concatenate([test, anomalies])
    return x[train], x[rows], y[rows]


def kvae_scores(train, test, seed, preset):
    """Train on a table with a preset and return -elbo of the test rows, and the thresholds of the held-out rows."""
    from kvae import presets
    from kvae.data import sources
    from kvae.dataloaders import batches
    from kvae.training import defaults
    from kvae.training.train import train as fit
    from kvae_serve.inference import thresholds

    table = {f"c{at}": train[:, at] for at in range(train.shape[1])}
    dataset = sources.load(table)
    settings = {} if preset == "tabular" else presets.get(preset).config
    config = defaults.starting_config(dataset, {"seed": seed}) if not settings else settings.replace(seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        run = fit(config, Path(folder) / "run", dataset=dataset, quiet=True, export_check=False)
        chosen = defaults.default_settings(dataset, config)
        _, held_out = batches.hold_out(len(dataset.x), chosen.data.validation, chosen.training.seed)
        limits = run.model.score({name: values[held_out] for name, values in table.items()}).elbo
        elbo = run.model.score({f"c{at}": test[:, at] for at in range(test.shape[1])}).elbo
    shares = [max(share, 1 / (len(limits) + 1)) for share in SHARES]
    highest = [-thresholds.quantile(limits, share) for share in shares]
    return -elbo, {"shares": shares, "held_out": len(limits), "limits": highest}


def detector_scores(train, test, seed):
    """Fit the estimator of kvae.sklearn with its defaults and return -elbo of the test rows."""
    from kvae.sklearn import VAEOutlierDetector

    return -VAEOutlierDetector(random_state=seed).fit(train).score_samples(test)


def peer_scores(name, train, test, seed):
    """Fit a detector of PyOD with its defaults and return its scores."""
    import torch
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.ecod import ECOD
    from pyod.models.iforest import IForest
    from pyod.models.knn import KNN
    from pyod.models.vae import VAE

    torch.set_num_threads(1)
    detectors = {
        "knn": KNN,
        "iforest": lambda: IForest(random_state=seed),
        "ecod": ECOD,
        "vae": lambda: VAE(random_state=seed, verbose=0),
        "autoencoder": lambda: AutoEncoder(random_state=seed, verbose=0),
    }
    return detectors[name]().fit(train).decision_function(test)


def import_framework(method):
    """Import the framework of a method, which is not part of its seconds."""
    if method in PEERS:
        import pyod.models.auto_encoder
        import pyod.models.iforest  # noqa: F401
    else:
        import kvae.sklearn
        import kvae.training.train  # noqa: F401


def measure(method, path, seed, contamination):
    """Return one row of the results."""
    train, test, labels = split(path, seed, contamination)
    import_framework(method)
    started, about = time.process_time(), {}
    if method in KVAE:
        scores, limit = kvae_scores(train, test, seed, KVAE[method])
        normal = scores[labels == 0]
        about = {"shares": limit["shares"], "held_out": limit["held_out"], "normal": len(normal)}
        about["flagged"] = [int((normal > each).sum()) for each in limit["limits"]]
    elif method == DETECTOR:
        scores = detector_scores(train, test, seed)
    else:
        scores = peer_scores(method, train, test, seed)
    seconds = round(time.process_time() - started, 1)
    row = {"set": Path(path).stem, "seed": seed, "contamination": contamination, "method": method}
    return {**row, "auroc": auroc(scores, labels), "seconds": seconds, **about}


def auroc(scores, labels):
    """Return the share of pairs of an anomaly and a normal row that are in the right order; ties count half."""
    _, rank = np.unique(scores, return_inverse=True)
    anomalies = np.bincount(rank, labels)
    normal = np.bincount(rank, 1 - labels)
    below = np.cumsum(normal) - normal
    return float((anomalies * (below + normal / 2)).sum() / (anomalies.sum() * normal.sum()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", metavar="PYTHON", help="Python with PyOD; without it only kvae runs")
    parser.add_argument("--methods", nargs="+", choices=(*KVAE, DETECTOR, *PEERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--contamination", type=float, default=0.0, help="Share of anomalies in the training rows")
    parser.add_argument("-o", "--output", required=True, metavar="FILE.jsonl")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    output = Path(arguments.output)
    rows = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
    known = {(row["set"], row["seed"], row["contamination"], row["method"]) for row in rows}
    methods = arguments.methods or (*KVAE, DETECTOR, *(PEERS if arguments.peers else ()))
    for seed in arguments.seeds:
        for method in methods:
            if method in PEERS and not arguments.here:
                command = [arguments.peers, __file__, str(arguments.folder), "--here", "-o", str(output), "--methods"]
                command += [method, "--seeds", str(seed), "--contamination", str(arguments.contamination)]
                subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
                continue
            for path in sorted(arguments.folder.glob("*.npz")):
                if (path.stem, seed, arguments.contamination, method) not in known:
                    row = measure(method, path, seed, arguments.contamination)
                    with output.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    if not arguments.here:
        show([json.loads(line) for line in output.read_text().splitlines()], arguments.contamination)


def show(rows, contamination):
    """Print the mean AUROC over seeds of each set and method, and the share of normal rows that a threshold flags."""
    rows = [row for row in rows if row["contamination"] == contamination]
    sets, methods = (sorted({row[key] for row in rows}) for key in ("set", "method"))
    found = defaultdict(list)
    for row in rows:
        found[row["method"], row["set"]].append(row["auroc"])
    print("| method |", " | ".join(sets), "| mean |")
    print("|---" * (len(sets) + 2) + "|")
    for method in methods:
        means = [np.mean(found[method, name]) if found[method, name] else np.nan for name in sets]
        print(f"| {method} |", " | ".join(f"{value:.3f}" for value in means), f"| {np.mean(means):.3f} |")
    if flags := [row for row in rows if "flagged" in row]:
        show_thresholds(flags)


def show_thresholds(rows):
    """Print how many normal test rows each threshold flags, and the interval that such counts have."""
    print("\n| set | seed | method | held-out rows | quantile | flagged | share, 95 % interval | expected, 95 % |")
    print("|---" * 8 + "|")
    inside = []
    for row in rows:
        num, normal = row["held_out"], row["normal"]
        for share, flagged in zip(row["shares"], row["flagged"], strict=True):
            low, high = binomial_interval(flagged, normal)
            # A fresh row is below the r-th lowest of n held-out scores with a probability of Beta(r, n + 1 - r).
            rank = share * (num + 1)
            first, last = (int(each) for each in betabinom(normal, rank, num + 1 - rank).ppf([0.025, 0.975]))
            inside.append(first <= flagged <= last)
            print(
                f"| {row['set']} | {row['seed']} | {row['method']} | {num} | {share:.3g} | {flagged} of {normal} | "
                f"{flagged / normal:.2%} ({low:.2%} to {high:.2%}) | {first} to {last} |"
            )
    print(f"\n{sum(inside)} of {len(inside)} counts are in their interval.")


def binomial_interval(count, num):
    """Return the 95 % interval of Clopper and Pearson of a share."""
    low = beta(count, num - count + 1).ppf(0.025) if count else 0.0
    return low, beta(count + 1, num - count).ppf(0.975) if count < num else 1.0


if __name__ == "__main__":
    main()
