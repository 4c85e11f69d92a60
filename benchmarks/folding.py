"""What does folding batch normalisation into kernels save? Milliseconds a batch, medians of runs in turns, one thread.

Decoders of three transposed convolutions (z of 8 to 28x28x1), of convolutions and of dense layers, each with batch
normalisation after every hidden layer; as they are exported, and as they would be without `kvae_export.passes.fold`.

    python benchmarks/folding.py
"""

import time
from unittest import mock

import keras
import numpy as np
import onnxruntime

import kvae_export.convert
from kvae_export.graph import Graph

LAYERS = keras.layers
BATCHES, TURNS = (1, 64), 60


def transposed():
    net = [LAYERS.Dense(7 * 7 * 64), LAYERS.Reshape((7, 7, 64))]
    for filters in (64, 32):
        net += [
            LAYERS.Conv2DTranspose(filters, 3, strides=2, padding="same"),
            LAYERS.BatchNormalization(),
            LAYERS.ReLU(),
        ]
    return keras.Sequential([*net, LAYERS.Conv2DTranspose(1, 3, padding="same")]), (8,), (28, 28, 1)


def convolutions():
    net = []
    for filters in (32, 64):
        net += [LAYERS.Conv2D(filters, 3, strides=2, padding="same"), LAYERS.BatchNormalization(), LAYERS.ReLU()]
    return keras.Sequential([*net, LAYERS.Flatten(), LAYERS.Dense(8)]), (28, 28, 1), (8,)


def dense():
    net = []
    for width in (512, 512):
        net += [LAYERS.Dense(width), LAYERS.BatchNormalization(), LAYERS.ReLU()]
    return keras.Sequential([*net, LAYERS.Dense(784)]), (8,), (784,)


def main():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    print("network        batch  as exported  not folded  ratio   bytes")
    for make in (transposed, convolutions, dense):
        net, shape, out = make()
        net(np.zeros((1, *shape), "f4"))
        rng = np.random.default_rng(0)
        for weight in net.weights:  # Fresh ones are zeros and ones, which a converter sees through.
            weight.assign(rng.uniform(0.5, 1.5, weight.shape) if len(weight.shape) == 1 else weight)
        graph = Graph(
            "decoder", lambda z, net=net: {"x_mean": net(z, training=False)}, {"z": (shape, "float32")}, {"x_mean": out}
        )
        folded = kvae_export.convert.convert(graph).SerializeToString()
        with mock.patch("kvae_export.convert.fold", lambda model: model):
            plain = kvae_export.convert.convert(graph).SerializeToString()
        sessions = [onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"]) for data in (folded, plain)]
        for batch in BATCHES:
            z = np.random.default_rng(0).normal(size=(batch, *shape)).astype("f4")
            taken = [[], []]
            for turn in range(-5, TURNS):
                for session, times in zip(sessions, taken, strict=True):
                    start = time.perf_counter()
                    session.run(None, {"z": z})
                    if turn >= 0:
                        times.append(1000 * (time.perf_counter() - start))
            ours, theirs = (float(np.median(times)) for times in taken)
            sizes = f"{len(folded):,} {len(plain):,}"
            print(f"{make.__name__:14} {batch:5} {ours:12.3f} {theirs:11.3f} {theirs / ours:6.2f}   {sizes}")


if __name__ == "__main__":
    main()
