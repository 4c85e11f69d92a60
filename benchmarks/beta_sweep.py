"""What does beta do to a VAE of sprites? kl, reconstruction, and how disentangled the codes are, over betas and seeds.

    python benchmarks/beta_sweep.py -o sweep --json sweep.json --plot sweep.png

By default a small case for a CPU: the images at every second pixel (32 x 32), 4,608 of them, upright, with the factors
shape (3), scale (6), position_x (16) and position_y (16), dense networks. `--full` is the case of Locatello et al.
(2019), https://arxiv.org/abs/1811.12359, for a GPU: all 737,280 images of 64 x 64, four convolutions, 300,000 steps.

Each run writes its figures to a separate file in the folder `-o` as soon as it is done; run the command again, with
more seeds or after an interruption, and only what is missing is trained. Figures are of mean codes of the whole set:
`kvae.metrics` with the settings of the protocol, kl and reconstruction in nats per example from one draw of z.
"""

import datetime
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from kvae import metrics
from kvae.data.sprites import render
from kvae_serve.writers import atomic

BETAS = (1.0, 2.0, 4.0, 8.0, 16.0)
FIGURES = ("kl", "reconstruction", "mig", "factor_vae_score")


class Case(NamedTuple):
    """What is trained, beta and seed excepted.

    Attributes:
        name: in the names of files.
        counts: values kept of each factor, as `kvae.data.sprites.select` takes them.
        stride: every how many-th pixel is kept, along both sides.
        network: `"dense"` or `"conv"`.
        widths: of the hidden layers, or channels of the convolutions.
        steps: of the optimiser.
        batch_size: examples per step.
        learning_rate: of Adam, constant.
        latent_dim: size of z.
    """

    name: str
    counts: dict[str, int]
    stride: int
    network: str
    widths: tuple[int, ...]
    steps: int
    batch_size: int
    learning_rate: float
    latent_dim: int = 10


SMALL = Case("small", {"orientation": 1, "position_x": 16, "position_y": 16}, 2, "dense", (256, 128), 3000, 64, 1e-3)
FULL = Case("full", {}, 1, "conv", (32, 32, 64, 64), 300_000, 64, 1e-4)


class Data(NamedTuple):
    """`x` uint8 `[num, side, side, 1]`, 0 or 255, and `factors` int64 `[num, varied]`: those that vary, from 0 on."""

    x: np.ndarray
    factors: np.ndarray
    names: tuple[str, ...]


def load(case: Case) -> Data:
    """Render the images of a case; a factor of one value is left out of `factors`."""
    factors = render.index_to_factors(render.select(case.counts))
    x = np.concatenate(
        [
            render.render(factors[start : start + 4096])[:, :: case.stride, :: case.stride]
            for start in range(0, len(factors), 4096)
        ]
    )
    kept = [axis for axis in range(factors.shape[1]) if len(np.unique(factors[:, axis])) > 1]
    classes = np.stack([np.unique(factors[:, axis], return_inverse=True)[1] for axis in kept], axis=1)
    return Data(x, classes, tuple(render.FACTORS[axis] for axis in kept))


def train(case: Case, data: Data, beta: float, seed: int) -> Any:
    """Train a beta-VAE from fresh weights, all of it decided by `seed`, and return it."""
    import keras

    import kvae
    from kvae.dataloaders import batches as pipeline
    from kvae.optimizers import Adam

    keras.utils.set_random_seed(seed)
    shape, size = data.x.shape[1:], case.latent_dim
    if case.network == "dense":
        encoder = kvae.networks.dense_encoder(shape, size, case.widths)
        decoder = kvae.networks.dense_decoder(shape, size, case.widths[::-1])
    else:
        encoder = kvae.networks.conv_encoder(shape, size, case.widths, dense=256)
        decoder = kvae.networks.conv_decoder(shape, size, case.widths[::-1], dense=256)
    # Pixels are 0 or 255 already: nothing to draw.
    model = kvae.BetaVAE(encoder, decoder, beta=beta, likelihood=kvae.likelihoods.Bernoulli(binarize="none"), seed=seed)
    batches = pipeline.training_batches(data.x, None, case.batch_size, seed)
    passes, rest = divmod(case.steps, batches.steps)
    # Executions that come out even, in whole passes over the data and in the part of one at the end.
    even = math.gcd(batches.steps, rest)
    model.compile(Adam(case.learning_rate), steps_per_execution=max(n for n in range(1, 101) if even % n == 0))
    how = {"callbacks": [batches.callback], "shuffle": False, "verbose": 0}
    model.fit(batches.dataset, epochs=passes, **how)
    if rest:
        model.fit(batches.dataset, initial_epoch=passes, epochs=passes + 1, steps_per_epoch=rest, **how)
    if model.steps_done() != case.steps:
        raise AssertionError(f"{model.steps_done()} steps were done, not {case.steps}")
    return model


def measure(model: Any, data: Data, seed: int) -> dict[str, float]:
    """The figures of one trained model on all images; kl and reconstruction in nats per example."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 1]))
    codes, kl, reconstruction = [], [], []
    for start in range(0, len(data.x), 4096):
        x = np.asarray(data.x[start : start + 4096], np.float32) / np.float32(255)
        z_mean, z_log_var = (np.asarray(each, np.float64) for each in model._encode(x))
        z = z_mean + np.exp(0.5 * z_log_var) * rng.standard_normal(z_mean.shape)
        logits = np.asarray(model._decode(z.astype(np.float32)), np.float64)
        reconstruction.append((np.logaddexp(0.0, logits) - x * logits).reshape(len(x), -1).sum(axis=1))
        kl.append(0.5 * (z_mean**2 + np.exp(z_log_var) - 1.0 - z_log_var))
        codes.append(z_mean)
    mean_codes = np.concatenate(codes)
    sampler, factor_sizes = metrics.grid_sampler(mean_codes, data.factors)
    kl_per_dimension = np.concatenate(kl).mean(axis=0)
    return {
        "kl": float(kl_per_dimension.sum()),
        "reconstruction": float(np.concatenate(reconstruction).mean()),
        "active_units": int((mean_codes.var(axis=0) > 0.01).sum()),
        "mig": metrics.mig(mean_codes, data.factors),
        "factor_vae_score": metrics.factor_vae_score(sampler, factor_sizes, seed=seed),
    }


def sweep(case: Case, betas: tuple[float, ...], seeds: int, folder: Path) -> list[dict[str, Any]]:
    """Train and measure what is missing in `folder`; return the results of all runs, in order of beta and seed."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = json.loads(json.dumps(case._asdict())) | {"order": "new in each pass"}
    data, results = None, []
    for seed in range(seeds):
        for beta in betas:
            path = folder / f"{case.name}-beta-{beta:g}-seed-{seed}.json"
            if path.exists():
                result = json.loads(path.read_text(encoding="utf-8"))
                if result["case"] != facts:
                    raise click.UsageError(f"{path} holds a run of other settings; give another folder.")
            else:
                data = data or load(case)
                started = time.perf_counter()
                model = train(case, data, beta, seed)
                figures = measure(model, data, seed)
                seconds = round(time.perf_counter() - started, 1)
                result = {"case": facts, "beta": beta, "seed": seed, **figures, "seconds": seconds}
                atomic.write_whole(path, (json.dumps(result, indent=1) + "\n").encode())
            shown = "  ".join(f"{name} {result[name]:.3f}" for name in FIGURES)
            click.echo(f"beta {beta:<4g} seed {seed}  {shown}  ({result['seconds']:.0f} s)", err=True)
            results.append(result)
    return sorted(results, key=lambda each: (each["beta"], each["seed"]))


def by_beta(results: list[dict[str, Any]], figure: str) -> dict[float, list[float]]:
    """A figure's values over seeds, beta by beta."""
    return {
        beta: [each[figure] for each in results if each["beta"] == beta]
        for beta in sorted({each["beta"] for each in results})
    }


def table(results: list[dict[str, Any]]) -> str:
    """Medians over seeds, lowest and highest in brackets, as a Markdown table."""
    digits = {"kl": 1, "reconstruction": 1, "mig": 3, "factor_vae_score": 3}
    columns = {figure: by_beta(results, figure) for figure in FIGURES}
    active = by_beta(results, "active_units")
    lines = ["| beta | kl | reconstruction | MIG | FactorVAE score | active units |", "|---|---|---|---|---|---|"]
    for beta in active:
        cells = []
        for figure, values in columns.items():
            form = f".{digits[figure]}f"
            low, middle, high = (format(f(values[beta]), form) for f in (min, np.median, max))
            cells.append(f"{middle} ({low} to {high})")
        lines.append(f"| {beta:g} | {' | '.join(cells)} | {np.median(active[beta]):g} |")
    return "\n".join(lines)


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Write a PNG: each figure against beta, a point a run, a line through the medians."""
    import io

    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    titles = {
        "kl": "kl, nats", "reconstruction": "reconstruction, nats (lower is better)",
        "mig": "MIG", "factor_vae_score": "FactorVAE score",
    }  # fmt: skip
    figure, axes = pyplot.subplots(2, 2, figsize=(8.6, 6.2), layout="constrained")
    for axis, name in zip(axes.flat, FIGURES, strict=True):
        values = by_beta(results, name)
        betas = list(values)
        axis.plot(betas, [np.median(values[beta]) for beta in betas], color="#1f5f8b", linewidth=2, label="median")
        for beta in betas:
            axis.plot([beta] * len(values[beta]), values[beta], "o", color="#1f5f8b", alpha=0.45, markersize=5)
        axis.set_xscale("log", base=2)
        axis.set_xticks(betas, [f"{beta:g}" for beta in betas])
        axis.set_title(titles[name], fontsize=11)
        axis.set_xlabel("beta")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        if name not in ("kl", "reconstruction"):
            axis.set_ylim(0, 1)
    body = io.BytesIO()
    # No metadata: the same results make the same bytes.
    figure.savefig(body, dpi=110, format="png", metadata={"Software": None})
    pyplot.close(figure)
    atomic.write_whole(path, body.getvalue(), force=True)


@click.command()
@click.option("-o", "--output", "folder", default=Path("beta-sweep"), show_default=True,
              type=click.Path(path_type=Path), help="Folder that keeps a file for each run.")  # fmt: skip
@click.option("--betas", default=",".join(f"{beta:g}" for beta in BETAS), show_default=True, help="Betas to train.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Runs of each beta.")
@click.option("--full", is_flag=True, help="All images, the convolutions and 300,000 steps of the protocol: for a GPU.")
@click.option("--steps", type=click.IntRange(1), help="Steps of each run, in place of those of the case.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all results into one JSON file.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), help="Write the plot, a PNG (needs matplotlib).")
def main(folder, betas, seeds, full, steps, json_path, plot_path):
    """Sweep beta on sprites and print a table of medians over seeds."""
    case = FULL if full else SMALL
    case = case if steps is None else case._replace(steps=steps)
    results = sweep(case, tuple(float(beta) for beta in betas.split(",")), seeds, folder)
    click.echo(table(results))
    if json_path:
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        document = {"machine": machine, "date": str(datetime.date.today()), "case": results[0]["case"]}
        document["runs"] = [{key: value for key, value in each.items() if key != "case"} for each in results]
        atomic.write_whole(json_path, (json.dumps(document, indent=1) + "\n").encode(), force=True)
    if plot_path:
        plot(results, plot_path)


if __name__ == "__main__":
    main()
