r"""Does a score detect images of another data set: MNIST under a model of Fashion-MNIST, and the reverse?

The elbo of a model of clothes is higher for digits than for clothes (Nalisnick et al., 2019): digits are simple. The
script prints the AUROC of the elbo, and of the elbo plus the complexity (`kvae score --method complexity`, Serra et
al., 2020), of shipped models. A conditional model gets no label: its elbo is log p(x), summed over labels with equal
p(y), as of `kvae score --over-labels uniform`.

    python benchmarks/out_of_distribution.py MNIST FASHION-MNIST --num 1000 --num-samples 4

Both arguments are folders with the four IDX files. The test splits are used.
"""

from __future__ import annotations

import argparse

import numpy as np

import kvae
from kvae.metrics import detection_figures


def log_p(model, x, num_samples):
    """Return the elbo of each image, or log p(x) of a conditional model."""
    if model.manifest.conditions:
        return model.score_labels(x, num_samples=num_samples).evidence
    return model.score(x, num_samples=num_samples).elbo


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist")
    parser.add_argument("fashion")
    parser.add_argument("--num", type=int, default=1000, help="Test images of each data set")
    parser.add_argument("--num-samples", type=int, default=4, help="Draws of z")
    arguments = parser.parse_args()
    digits, clothes = (kvae.data.load(each, "test").x[: arguments.num] for each in (arguments.mnist, arguments.fashion))
    print("| model | unlike it | mean elbo, like it | mean elbo, unlike | AUROC of elbo | AUROC of complexity |")
    print("|---" * 6 + "|")
    for name, like, unlike in (
        ("fashion", clothes, digits),
        ("mnist", digits, clothes),
        ("mnist-vae", digits, clothes),
    ):
        model = kvae.load(name)
        x, labels = np.concatenate([like, unlike]), np.repeat([0, 1], (len(like), len(unlike)))
        elbo = log_p(model, x, arguments.num_samples)
        cells = []
        for score in (elbo, elbo + model.complexity(x)):
            found = detection_figures(-score, labels)["auroc"]
            cells.append(f"{found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f})")
        means = [f"{elbo[labels == kind].mean():.1f}" for kind in (0, 1)]
        print("|", " | ".join([name, "MNIST" if like is clothes else "Fashion-MNIST", *means, *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
