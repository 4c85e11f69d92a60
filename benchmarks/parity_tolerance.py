"""Does honest float32 always pass the check of an export, and does a file with a broken weight always fail it?

Networks with random weights are exported by kvae, and `kvae_export.parity.check` compares each file with Keras on
TensorFlow, and then with the same weights on JAX. A ratio is a difference divided by the difference that the check
allows, so a file with a ratio above 1 is refused. Printed are, for each network:

- the largest ratio of an honest file, over all seeds, graphs, outputs and batch sizes, on each backend;
- the smallest ratio of a file with one broken weight, on TensorFlow. In each graph of each seed, one weight of a kernel
  is moved by `--moved` standard deviations of the kernel. Kernels of zeros, as some are before training, are left out,
  and a weight on which no output depends is drawn again. Encoder and decoder are one figure. The likelihood, whose only
  output is a sum over all values of an example, is another.

    python benchmarks/parity_tolerance.py
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

LARGEST_BATCH = 64
MOST_DRAWS = 20

Check = Callable[..., None]


class Network(NamedTuple):
    """Settings of a network."""

    kind: str
    shape: tuple[int, int, int]
    latent_dim: int

    def __str__(self) -> str:
        height, width, channels = self.shape
        return f"{self.kind}, {height} x {width} {'gray' if channels == 1 else 'RGB'}, z of {self.latent_dim}"


NETWORKS = (
    Network("conv", (28, 28, 1), 8),
    Network("conv", (32, 32, 3), 16),
    Network("conv", (64, 64, 3), 64),
    Network("dense", (28, 28, 1), 8),
    Network("dense", (64, 64, 3), 64),
)


def built(network: Network, seed: int) -> Any:
    """Return an untrained model: Bernoulli for gray images, and discretized logistic for RGB images."""
    import keras

    import kvae

    keras.utils.set_random_seed(seed)
    rgb = {"likelihood": kvae.likelihoods.DiscretizedLogistic()} if network.shape[2] == 3 else {}
    return getattr(kvae.VAE, network.kind)(shape=network.shape, latent_dim=network.latent_dim, **rgb)


def largest_ratio(check: Check, *arguments: Any) -> float:
    """Run the check without its verdict, and return the largest ratio of all its comparisons."""
    found = []

    def compare(name: str, shape: tuple[int, ...], got: np.ndarray, want: np.ndarray, tolerance: Any) -> None:
        allowed = tolerance[0] + tolerance[1] * np.abs(want.astype(np.float64))
        found.append(float((np.abs(got.astype(np.float64) - want) / allowed).max()))

    with mock.patch("kvae_export.parity._compare", compare):
        check(*arguments)
    return max(found)


def replayed(outputs: list[Any]) -> Callable[[Any], Any]:
    """Return a function that gives the recorded outputs of a file, one after the other."""
    rest = iter(outputs)
    return lambda feeds: next(rest)


def broken_ratio(model: Any, graph: Any, ratio: Callable[[], float], turn: int, moved: float) -> float:
    """Return the ratio with one weight moved, that of the kernel whose turn it is."""
    part = model.encoder if graph.name == "encoder" else model.decoder
    kernels = [weight for weight in part.weights if len(weight.shape) > 1 and weight.numpy().std() > 0]
    kernel, rng, honest = kernels[turn % len(kernels)], np.random.default_rng(turn), ratio()
    values = kernel.numpy()
    for _ in range(MOST_DRAWS):
        changed = values.copy()
        changed.flat[rng.integers(values.size)] += moved * values.std()
        kernel.assign(changed)
        found = ratio()
        kernel.assign(values)
        if found != honest:
            return found
    raise RuntimeError(f"{MOST_DRAWS} weights of {kernel.path} do not change any output.")


def on_tensorflow(network: Network, seed: int, moved: float, folder: Path) -> dict[str, float]:
    """Export a network; return its ratios by name, and record the weights and the outputs of the files in `folder`."""
    import kvae_export
    from kvae.exporting import graphs
    from kvae_export import parity

    model = built(network, seed)
    functions = graphs.graphs(model)
    check, records, found = parity.check, {}, {"honest": 0.0, "broken": np.inf, "likelihood": np.inf}

    def recorded(graph: Any, reference: Any, served: Any, inputs: Any, tolerance: Any, errors: Any) -> None:
        outputs: list[Any] = []

        def recorder(feeds: Any) -> Any:
            outputs.append(served(feeds))
            return outputs[-1]

        found["honest"] = max(
            found["honest"], largest_ratio(check, graph, reference, recorder, inputs, tolerance, errors)
        )
        records[graph.name] = outputs, tolerance, errors
        # The last batch, and its first and last row alone.
        last = outputs[len(parity.BATCHES) - 1 :]
        with mock.patch.object(parity, "BATCHES", (LARGEST_BATCH,)):
            name = "likelihood" if graph.name == "likelihood" else "broken"
            found[name] = min(
                found[name],
                broken_ratio(
                    model,
                    graph,
                    lambda: largest_ratio(check, graph, reference, replayed(last), inputs, tolerance, errors),
                    seed,
                    moved,
                ),
            )

    with tempfile.TemporaryDirectory() as temporary, mock.patch.object(parity, "check", recorded):
        manifest = graphs.manifest(model, "model", {})
        kvae_export.write(functions, manifest, Path(temporary) / "model", parity_inputs=graphs.probe(model, functions))
    (folder / f"{seed}.pickle").write_bytes(pickle.dumps((model.get_weights(), records)))
    return found


def on_jax(network: Network, seed: int, moved: float, folder: Path) -> dict[str, float]:
    """Compare the recorded outputs of the files with JAX at the same weights; return the largest ratio."""
    import keras

    from kvae.exporting import graphs
    from kvae_export import parity

    model = built(network, seed)
    weights, records = pickle.loads((folder / f"{seed}.pickle").read_bytes())
    model.set_weights(weights)
    functions = graphs.graphs(model)
    inputs = graphs.probe(model, functions)

    def reference(graph: Any) -> Any:
        return lambda feeds: {
            name: keras.ops.convert_to_numpy(values) for name, values in graph.function(**feeds).items()
        }

    found = []
    for graph in functions:
        outputs, *allowed = records[graph.name]
        found.append(largest_ratio(parity.check, graph, reference(graph), replayed(outputs), inputs, *allowed))
    return {"honest": max(found)}


def on_backend(backend: str, options: argparse.Namespace, folder: Path) -> list[dict[str, float]]:
    """Return the figures of all networks on a backend, in a new process."""
    arguments = [f"--backend={backend}", f"--seeds={options.seeds}", f"--moved={options.moved}", f"--folder={folder}"]
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, "KERAS_BACKEND": backend},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def figures(backend: str, options: argparse.Namespace) -> list[dict[str, float]]:
    """Return the largest ratio of honest files and the smallest of broken ones of each network."""
    run = {"tensorflow": on_tensorflow, "jax": on_jax}[backend]
    merged = []
    for number, network in enumerate(NETWORKS):
        folder = Path(options.folder) / str(number)
        folder.mkdir(exist_ok=True)
        found = [run(network, seed, options.moved, folder) for seed in range(options.seeds)]
        merged.append({name: (max if name == "honest" else min)(each[name] for each in found) for name in found[0]})
    return merged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds per network")
    parser.add_argument("--moved", type=float, default=1.0, help="change of the broken weight in standard deviations")
    parser.add_argument("--backend", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.backend:
        print(json.dumps(figures(options.backend, options)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        by_backend = [on_backend(backend, options, Path(temporary)) for backend in ("tensorflow", "jax")]
    print("| Network | Honest, TensorFlow | Honest, JAX | Broken encoder or decoder | Broken likelihood |")
    print("|---|---|---|---|---|")
    for network, first, second in zip(NETWORKS, *by_backend, strict=True):
        ratios = first["honest"], second["honest"], first["broken"], first["likelihood"]
        print("|", " | ".join([str(network), *(f"{ratio:.3g}" for ratio in ratios)]), "|")


if __name__ == "__main__":
    main()
