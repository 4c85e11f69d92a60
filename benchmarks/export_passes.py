"""Do two passes of the export pay: folding batch normalisation, and rewriting activations for equal bits?

Decoders are exported with and without a pass and run by ONNX Runtime with the options of kvae's sessions. Printed are
milliseconds per batch (medians of interleaved runs, one thread) and bytes of the graph; for the activations also how
many different results batches of 1 to 514 rows and 1 or 2 threads give, and their largest difference in pixel units.

    python benchmarks/export_passes.py
"""

import time
from unittest import mock

import keras
import numpy as np
import onnxruntime

from kvae_export import convert
from kvae_export.graph import Graph
from kvae_serve.runtime.session import _DISABLED

LAYERS = keras.layers
BATCHES, TURNS, WARM_UP = (1, 64), 60, 5
ACTIVATIONS = ("relu", "elu", "selu", "softplus", "mish")
ROWS = 514


def transposed(activation="relu", normalise=True):
    """Build a decoder of 16 to 28 x 28 x 1 values from three transposed convolutions."""
    net = [LAYERS.Dense(7 * 7 * 64), LAYERS.Reshape((7, 7, 64))]
    for filters in (64, 32):
        net.append(LAYERS.Conv2DTranspose(filters, 3, strides=2, padding="same"))
        net += [LAYERS.BatchNormalization()] * normalise + [LAYERS.Activation(activation)]
    return [*net, LAYERS.Conv2DTranspose(1, 3, padding="same")], (16,)


def convolutions(activation="relu", normalise=True):
    """Build an encoder of 28 x 28 x 1 to 8 values from two convolutions."""
    net = []
    for filters in (32, 64):
        net.append(LAYERS.Conv2D(filters, 3, strides=2, padding="same"))
        net += [LAYERS.BatchNormalization()] * normalise + [LAYERS.Activation(activation)]
    return [*net, LAYERS.Flatten(), LAYERS.Dense(8)], (28, 28, 1)


def dense(activation="relu", normalise=True, width=512, out=784):
    """Build a decoder of 16 to 784 values from two hidden layers."""
    net = []
    for _ in range(2):
        net.append(LAYERS.Dense(width))
        net += [LAYERS.BatchNormalization()] * normalise + [LAYERS.Activation(activation)]
    return [*net, LAYERS.Dense(out)], (16,)


def narrow(activation, normalise):
    """Build a decoder of 16 to 10 values from two hidden layers of 50, not a multiple of a SIMD register."""
    return dense(activation, normalise, 50, 10)


def exported(layers, shape, function_of_pass):
    """Return the bytes of a decoder with a pass, and without it."""
    net = keras.Sequential(layers)
    out = tuple(net(np.zeros((1, *shape), "f4")).shape[1:])
    rng = np.random.default_rng(0)
    for weight in net.weights:  # Initial vectors are zeros and ones, which the converter simplifies.
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) if len(weight.shape) == 1 else weight)

    def decoder(z):
        return {"x_mean": 255.0 * keras.ops.sigmoid(net(z, training=False))}

    graph = Graph("decoder", decoder, {"z": (shape, "float32")}, {"x_mean": out})
    with_pass = convert.convert(graph).SerializeToString()
    with mock.patch.object(convert, function_of_pass, lambda model: model):
        return with_pass, convert.convert(graph).SerializeToString()


def session(data, threads=1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    return onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"], disabled_optimizers=_DISABLED)


def milliseconds(models, shape, batch):
    """Return the median time of each model, run in turns."""
    z = np.random.default_rng(0).normal(size=(batch, *shape)).astype("f4")
    sessions, times = [session(data) for data in models], [[] for _ in models]
    for _ in range(WARM_UP + TURNS):
        for each, taken in zip(sessions, times, strict=True):
            start = time.perf_counter()
            each.run(None, {"z": z})
            taken.append(1000 * (time.perf_counter() - start))
    return [float(np.median(taken[WARM_UP:])) for taken in times]


def spread(data, shape):
    """Return the number of different results of the same rows, and their largest difference."""
    z = np.random.default_rng(0).normal(size=(ROWS, *shape)).astype("f4")
    results = []
    for threads in (1, 2):
        opened = session(data, threads)
        for size in (1, 2, 3, 7, 64, 130, ROWS):
            parts = [opened.run(None, {"z": z[start : start + size]})[0] for start in range(0, ROWS, size)]
            results.append(np.concatenate(parts))
    return len({each.tobytes() for each in results}), max(float(np.abs(each - results[0]).max()) for each in results)


def main():
    print("fold: batch normalisation in kernels and biases")
    print("network        batch   with  without  ratio   bytes with, without")
    for make in (transposed, convolutions, dense):
        layers, shape = make()
        models = exported(layers, shape, "fold")
        for batch in BATCHES:
            ours, theirs = milliseconds(models, shape, batch)
            sizes = ", ".join(f"{len(data):,}" for data in models)
            print(f"{make.__name__:14} {batch:5} {ours:6.3f} {theirs:8.3f} {theirs / ours:6.2f}   {sizes}", flush=True)
    print("\nbatch_invariant: activations rewritten; results and largest difference (of 255) with, without")
    print("network        activation   with         without      ratio of times at batch 1, 64")
    for make in (transposed, dense, narrow):
        for activation in ACTIVATIONS:
            layers, shape = make(activation, False)
            models = exported(layers, shape, "make_batch_invariant")
            spreads = "  ".join("{:2} {:8.1e}".format(*spread(data, shape)) for data in models)
            ratios = [without / ours for ours, without in (milliseconds(models, shape, batch) for batch in BATCHES)]
            print(f"{make.__name__:14} {activation:10} {spreads}  {ratios[0]:5.2f} {ratios[1]:5.2f}", flush=True)


if __name__ == "__main__":
    main()
