r"""Do sampled sequences show the class that they were drawn for? BasicMotions and GunPoint, with the default settings.

    python benchmarks/sequence_classes.py SITE-PACKAGES/aeon/datasets/data

The argument is the folder of data of the package aeon (the wheel contains both data sets). A model is trained on the
training series, as `kvae train --data FILE.npz --conditional` does, and 100 series per class are drawn from it. The
judge is 400 extremely randomised trees on the values and their spectrum, fitted to the test series, which the model
never received. The first row is the share of training series that the judge reads as their class. Further arguments are
settings, such as `patience=30`.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

import kvae

NUM = 100


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the series `[num, steps, features]` and the classes of a file .ts."""
    lines = path.read_text().splitlines()
    rows = [line.split(":") for line in lines[lines.index("@data") + 1 :] if line]
    x = np.array([[np.fromstring(each, sep=",") for each in row[:-1]] for row in rows], np.float32)
    return np.swapaxes(x, 1, 2), np.array([row[-1] for row in rows])


def features(x: np.ndarray) -> np.ndarray:
    """Return the values and the amplitudes of the spectrum of each series."""
    x = np.asarray(x)
    return np.concatenate([x.reshape(len(x), -1), np.abs(np.fft.rfft(x, axis=1)).reshape(len(x), -1)], axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("settings", nargs="*", help="Settings of kvae train as NAME=JSON")
    parser.add_argument("--data", action="append", choices=("BasicMotions", "GunPoint"))
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_intermixed_args()
    settings = {name: json.loads(value) for name, _, value in (each.partition("=") for each in arguments.settings)}
    for name in arguments.data or ("BasicMotions", "GunPoint"):
        train, test = (read(arguments.folder / name / f"{name}_{split}.ts") for split in ("TRAIN", "TEST"))
        judge = ExtraTreesClassifier(400, random_state=0).fit(features(test[0]), test[1])
        classes = np.unique(train[1])
        opinion = judge.predict(features(train[0])) == train[1]
        print(f"{name}: {', '.join(f'{each} {opinion[train[1] == each].mean():.2f}' for each in classes)} (real)")
        for seed in range(arguments.seeds):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
            with tempfile.TemporaryDirectory() as folder:
                np.savez(f"{folder}/data.npz", x=train[0], y=train[1])
                run = kvae.train(data=f"{folder}/data.npz", directory=f"{folder}/run", conditional=True, seed=seed,
                                 quiet=True, export_check=False, **settings)  # fmt: skip
            seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
            shares = [
                (judge.predict(features(run.model.sample(NUM, label=str(each), seed=1).x)) == each).mean()
                for each in classes
            ]
            metrics = run.metadata["training"]["validation"]
            print(
                f"{name}: {', '.join(f'{each} {share:.2f}' for each, share in zip(classes, shares, strict=True))} "
                f"(samples of seed {seed}; validation elbo {metrics['elbo']:.1f}, {seconds:.0f} CPU s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
