"""How long does the export of a model with large graphs take, compared with `keras.Model.export(format="onnx")`?

A dense VAE of 64 x 64 x 3 images is exported: 12.7 million parameters in the encoder and in the decoder, 51 MB per
graph. `kvae.VAE.export` writes encoder, decoder and likelihood, seals them, opens them and compares them with Keras at
three batch sizes. `keras.Model.export` converts encoder and decoder, and checks nothing. Both run in turns in one
process, after a warm-up with a small model. Printed are medians of CPU seconds and wall-clock seconds, and the ratio of
CPU seconds per graph.

    python benchmarks/export_speed.py [--turns 3]
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import kvae

SHAPE, LATENT, WIDTHS = (64, 64, 3), 16, (1000, 400)


def model(widths):
    encoder = kvae.networks.dense_encoder(SHAPE, LATENT, widths)
    return kvae.VAE(encoder, kvae.networks.dense_decoder(SHAPE, LATENT, widths[::-1]))


def by_kvae(vae, folder):
    """Export and return the number of graphs."""
    return sum(path.suffix == ".onnx" for path in vae.export(folder / "kvae"))


def by_keras(vae, folder):
    """Export encoder and decoder without their scaling, and return the number of graphs."""
    for name in ("encoder", "decoder"):
        getattr(vae, name).export(str(folder / f"{name}.onnx"), format="onnx", verbose=False)
    return 2


def seconds(export, vae):
    """Return CPU seconds, wall-clock seconds and the number of graphs of one export."""
    folder = Path(tempfile.mkdtemp())
    cpu, wall = time.process_time(), time.perf_counter()
    graphs = export(vae, folder)
    taken = time.process_time() - cpu, time.perf_counter() - wall, graphs
    shutil.rmtree(folder)
    return taken


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3, help="Number of exports of each kind.")
    turns = parser.parse_args().turns
    keras.utils.set_random_seed(0)
    exports = {"kvae": by_kvae, "keras": by_keras}
    for export in exports.values():
        seconds(export, model((8, 8)))
    large = model(WIDTHS)
    taken = {name: [] for name in exports}
    for _ in range(turns):
        for name, export in exports.items():
            taken[name].append(seconds(export, large))
    print("export   graphs   CPU s   wall s   CPU s per graph")
    per_graph = {}
    for name, runs in taken.items():
        cpu, wall, graphs = np.median(runs, axis=0)
        per_graph[name] = cpu / graphs
        print(f"{name:8} {graphs:6.0f} {cpu:7.1f} {wall:8.1f} {per_graph[name]:17.2f}")
    print(f"keras / kvae, CPU per graph: {per_graph['keras'] / per_graph['kvae']:.2f}")


if __name__ == "__main__":
    main()
