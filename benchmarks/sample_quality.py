"""How good and how varied are the samples of an exported digit model, and how close do real images come themselves?

    python benchmarks/sample_quality.py -m saved_models/mnist --data DIR --judge judge -o quality.png

DIR holds the four MNIST files. The judge, a small classifier, is trained on the real training images (two minutes,
once, needs the extra `train`) and kept in the folder `judge`. Everything is measured on the exported files at
temperature 1, on mean images, against real test images; beside each figure stands what real training images reach
against the same test images.
"""

import datetime
import os
import platform
import re
from pathlib import Path
from typing import NamedTuple

import classifier
import click
import numpy as np
import sample_metrics as metrics

from serve_cli import files, grid, noise, png
from serve_cli.model import load
from serve_cli.readers import read_dataset

PER_LABEL = 200  # images of a label for consistency and spread
NUM = 5000  # points of either side for precision, recall, density, coverage and Frechet
BATCH = 500


class Images(NamedTuple):
    """`x` `[num, 28, 28, 1]` in data units, 0 to 255, and `label` int64 `[num]`."""

    x: np.ndarray
    label: np.ndarray

    def take(self, index: np.ndarray | slice) -> "Images":
        """The images at an index array or slice."""
        return Images(self.x[index], self.label[index])


class Quality(NamedTuple):
    """The figures of one set of images against the real test images."""

    consistency: float
    worst_label: int
    worst: float
    spread: float
    manifolds: metrics.Manifolds
    frechet: float


def first_of_each(label: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Indices of the first `counts[k]` rows of each label k, label by label."""
    return np.concatenate([np.flatnonzero(label == one)[:count] for one, count in enumerate(counts)])


def measure(images: Images, real: Images, judge: classifier.Judge) -> Quality:
    """Measure images against real ones that hold `NUM` examples.

    Args:
        images: at least `PER_LABEL` of each label, and at least as many of each as `real`.
        real: the reference; its labels decide how many images of each label enter the figures on features.
        judge: the classifier.
    """
    equal = images.take(first_of_each(images.label, np.full(10, PER_LABEL)))
    like_real = images.take(first_of_each(images.label, np.bincount(real.label, minlength=10)))
    features, real_features = judge(like_real.x).features, judge(real.x).features
    return Quality(
        *metrics.label_consistency(equal.label, judge(equal.x).label),
        metrics.within_class_spread(equal.x, equal.label)
        / metrics.within_class_spread(real.x, real.label, each=PER_LABEL),
        metrics.precision_recall_density_coverage(real_features, features),
        metrics.frechet_distance(real_features, features),
    )


def elbo(model, test: Images, seed: int) -> dict[str, tuple[float, float]]:
    """Elbo, reconstruction and kl of the exported files on all of `test`, one draw of every pixel and one z each.

    Returns:
        By name (mean, standard error) in nats per example, under the prior N(0, I).
    """
    reconstruction, kl = [], []
    latent_dim, num_pixels = model.manifest.latent_dim, test.x[0].size
    for start in range(0, len(test.x), BATCH):
        x, label = test.take(slice(start, start + BATCH))
        uniforms = noise.uniforms(seed, noise.STREAM_BINARIZE, start, len(x), num_pixels).reshape(x.shape)
        drawn = np.where(uniforms < x / 255.0, np.float32(255), np.float32(0))
        posterior = model.run("encoder", {"x": drawn, "label": label})
        z_mean, z_log_var = posterior["z_mean"], posterior["z_log_var"]
        z = z_mean + np.exp(0.5 * z_log_var) * noise.normals(seed, noise.STREAM_Z, start, len(x), latent_dim)
        scored = model.run("likelihood", {"x": drawn, "z": z.astype(np.float32), "label": label})
        reconstruction.append(-scored["log_likelihood"].astype(np.float64))
        kl.append(0.5 * (z_mean.astype(np.float64) ** 2 + np.exp(z_log_var) - 1 - z_log_var).sum(axis=1))
    terms = {"reconstruction": np.concatenate(reconstruction), "kl": np.concatenate(kl)}
    terms = {"elbo": -terms["reconstruction"] - terms["kl"], **terms}
    return {name: (float(each.mean()), float(each.std() / np.sqrt(len(each)))) for name, each in terms.items()}


def picture(samples: Images, real: Images, columns: int = 14) -> bytes:
    """PNG with a row for each label: samples on the left, real images on the right of a light line."""
    halves = []
    for side in (samples, real):
        rows = side.take(first_of_each(side.label, np.full(10, columns)))
        halves.append(grid.grid(rows.x.astype(np.float32), columns, (0, 255)))
    line = np.full((halves[0].shape[0], 6, halves[0].shape[2]), 160, np.uint8)
    return png.encode(np.concatenate([halves[0], line, halves[1]], axis=1))


def table(ours: Quality, reference: Quality) -> str:
    """Both sets of figures side by side, as text."""
    rows = [
        ("label consistency", "all labels", ours.consistency, reference.consistency),
        ("  worst label", f"{ours.worst_label} and {reference.worst_label}", ours.worst, reference.worst),
        ("within-class spread", "of real test", ours.spread, reference.spread),
        *((name, f"k=5, n={NUM}", *pair) for name, *pair in zip(
            metrics.Manifolds._fields, ours.manifolds, reference.manifolds, strict=True)),
        ("Frechet distance", f"n={NUM}", ours.frechet, reference.frechet),
    ]  # fmt: skip
    lines = [f"{'':22}{'':16}{'samples':>9}{'real train':>12}"]
    lines += [f"{name:22}{unit:16}{one:9.3f}{other:12.3f}" for name, unit, one, other in rows]
    return "\n".join(lines)


def with_measured(card: str, name: str, figures: str) -> str:
    """A model card with its section Measured set to these figures; the section stands before Limits."""
    command = f"python benchmarks/sample_quality.py -m {name} --data MNIST_FOLDER"
    where = f"{platform.machine()}, {os.cpu_count()} cores, {datetime.date.today()}"
    section = f"## Measured\n\nOn the exported files, by `{command}` ({where}):\n\n```text\n{figures}\n```\n\n"
    card = re.sub(r"## Measured\n.*?(?=^## )", "", card, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^(?=## Limits)", lambda _: section, card, count=1, flags=re.MULTILINE)


@click.command()
@click.option("-m", "--model", "name", default="mnist", show_default=True, help="Folder or name of an exported model.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with the four MNIST files.")
@click.option("--judge", "folder", default=Path("judge"), show_default=True, type=click.Path(path_type=Path),
              help="Folder that keeps the classifier.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of samples, pixel draws and the choice of real images.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A PNG: samples beside real test images.")
@click.option(
    "--card", type=click.Path(path_type=Path, exists=True), help="A model card whose section Measured to set."
)
def main(name, data, folder, seed, output, card):
    """Measure the samples of an exported conditional digit model."""
    if output and output.exists():
        raise click.UsageError(f"{output} exists; name another file.")
    train, test = (
        Images(each.x, each.conditions["label"]) for each in (read_dataset(data, "train"), read_dataset(data, "test"))
    )
    judge = classifier.judge(folder, train.x, train.label)
    lines = [f"judge {judge.digest}: {np.mean(judge(test.x).label == test.label):.2%} of the real test images right"]

    rng = np.random.Generator(np.random.Philox(key=seed))
    real = test.take(np.sort(rng.permutation(len(test.x))[:NUM]))
    counts = np.bincount(real.label, minlength=10)
    reference = train.take(rng.permutation(len(train.x))[: 2 * NUM])
    model = load(name)
    draws = model.sample(max(PER_LABEL, int(counts.max())), label="all", seed=seed, temperature=1.0)
    samples = Images(draws.x, draws.conditions["label"])
    lines.append(table(measure(samples, real, judge), measure(reference, real, judge)))

    if model.has("encoder") and model.has("likelihood"):
        lines.append(f"\non all {len(test.x)} test images, each pixel drawn to 0 or 255, one z each, nats per example:")
        lines += [f"{term:22}{mean:9.3f} +- {error:.3f}" for term, (mean, error) in elbo(model, test, seed).items()]
    click.echo("\n".join(lines))
    if output:
        files.write_whole(output, picture(samples, real))
        click.echo(f"\nsamples (left) beside real test images (right): {output}")
    if card:
        text = with_measured(card.read_text(encoding="utf-8"), name, "\n".join(lines))
        files.write_whole(card, text.encode(), force=True)


if __name__ == "__main__":
    main()
