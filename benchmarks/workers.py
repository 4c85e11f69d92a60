"""Do two workers train as good a model as one, at equal global batch? Held-out elbo in nats per example, over seeds.

    python benchmarks/workers.py --seeds 5 --json workers.json

Each seed trains twice with the same settings, initial weights, order of batches and held-out examples: in one process,
and in two that find each other on this machine through `TF_CONFIG`. Each worker draws its own noise, so the results
differ; their paired differences are tested for a mean of zero. Both are evaluated under the same fixed draws.
"""

import csv
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

from kvae_serve.writers import atomic


@click.command()
@click.option("--data", default="mnist-sample", show_default=True, help="As kvae train takes it.")
@click.option("--validation", default=100, show_default=True, help="Held-out examples; they differ by seed.")
@click.option("--epochs", default=30, show_default=True)
@click.option("--batch-size", default=50, show_default=True, help="Batch size of all workers together.")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(min=2))
@click.option("--json", "kept", type=click.Path(path_type=Path), help="Also write the figures to this file.")
@click.option(
    "--into",
    hidden=True,
    type=click.Path(path_type=Path),
    help="Run as a worker in this folder.",
)
def main(kept, into, **settings):
    """Train, compare, print."""
    if into:
        work(into, **settings)
        return
    with tempfile.TemporaryDirectory() as aside:
        train_all({num: Path(aside, str(num)) for num in (1, 2)})
        one, two = (
            np.array([held_out_elbo(Path(aside, num, str(seed))) for seed in range(settings["seeds"])]) for num in "12"
        )
    print("seed  one worker  two workers  difference")
    for seed, (alone, together) in enumerate(zip(one, two, strict=True)):
        print(f"{seed:4d} {alone:11.2f} {together:12.2f} {together - alone:11.2f}")
    for name, elbos in (("one worker", one), ("two workers", two)):
        print(f"{name}: mean {elbos.mean():.2f}, standard deviation {elbos.std(ddof=1):.2f}")
    found = compared(one, two)
    print(
        f"two less one: mean {found['difference']:.2f} +- {found['standard_error']:.2f} (standard error of the pairs), "
        f"95% interval {found['interval'][0]:.2f} to {found['interval'][1]:.2f}: "
        f"{'within noise' if found['within_noise'] else 'NOT within noise'}"
    )
    if kept:
        text = json.dumps({**settings, "one": list(one), "two": list(two), **found}, indent=1) + "\n"
        atomic.write_whole(kept, text.encode(), force=True)


def compared(one, two):
    """Return the mean difference and its 95 % interval (Student's t), from elbos `[seeds]` in nats per example."""
    from scipy import stats

    difference, error = (two - one).mean(), (two - one).std(ddof=1) / math.sqrt(len(one))
    reach = stats.t.ppf(0.975, len(one) - 1) * error
    within = bool(abs(difference) <= reach)
    interval = [difference - reach, difference + reach]
    return {"difference": difference, "standard_error": error, "interval": interval, "within_noise": within}


def held_out_elbo(run):
    """Return the elbo of the held-out examples after the last epoch, in nats per example."""
    return float(list(csv.DictReader((run / "history.csv").open()))[-1]["val_elbo"])


def train_all(directories):
    """Train all seeds for each number of workers, all processes at once, in `{number: directory}`."""
    workers = []
    try:
        for num, directory in directories.items():
            directory.mkdir()
            command = [sys.executable, *sys.argv, "--into", directory]
            workers += [subprocess.Popen(command, env=environment) for environment in environments(num)]
        if codes := [code for worker in workers if (code := worker.wait())]:
            raise SystemExit(f"A worker left with exit code {codes[0]}.")
    finally:
        for worker in workers:
            worker.kill()


def environments(num):
    """Return the environment of each of `num` processes; a single process has no `TF_CONFIG`."""
    plain = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"} | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    if num == 1:
        return [plain]
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(num)]
    cluster = {"worker": [f"127.0.0.1:{holder.getsockname()[1]}" for holder in holders]}
    for holder in holders:
        holder.close()
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(num)]
    return [plain | {"TF_CONFIG": json.dumps(task)} for task in tasks]


def work(directory, seeds, **settings):
    """Train one run per seed, together with the other workers in `TF_CONFIG`."""
    from kvae.backends import startup
    from kvae.training import cluster

    among, together = cluster.from_environment(), []

    def prepare():  # as kvae train does, before the devices start
        from kvae.training import distribution

        together.append(distribution.start(among, devices=1))

    startup.open_quietly(prepare=prepare, network="dense")
    from kvae.training import config, train

    nets = {
        "network": "dense",
        "likelihood": "bernoulli",
        "latent_dim": 8,
        "encoder_hidden": (64,),
        "decoder_hidden": (64,),
    }
    for seed in range(seeds):
        wanted = config.Config().replace(**settings, **nets, seed=seed)
        train.train(wanted, directory / str(seed), quiet=True, export_check=False, distribution=together[0])


if __name__ == "__main__":
    main()
