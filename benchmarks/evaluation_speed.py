"""How long does importance sampling take, compared with a bare loop? Microseconds per draw, interleaved.

By the clock, and in processor time, which other work on the machine disturbs less.

The bare loop is the least that anyone could write: for each example it draws the same count of normals with
`numpy.random.Generator.standard_normal` (float64, as it comes), makes z, and calls the same `likelihood.onnx` on as
many rows at a time, with x repeated once. It keeps nothing, adds no densities, checks nothing.

    python benchmarks/evaluation_speed.py -m mnist --examples 20 --draws 5000

The model's own data do not matter for speed: x is black and white at random where it is bounded, normal elsewhere.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from kvae_serve.evaluation import importance
from kvae_serve.model import load
from kvae_serve.runtime import conditions as conditions_of


def bare(model, x, columns, posterior, draws, rows):
    """Seconds of clock and processor for a loop that only draws and calls."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.sealed("likelihood")[0].data, options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    z_mean, sigma = posterior["z_mean"], np.exp(posterior["z_log_var"] / 2)
    started = time.perf_counter(), time.process_time()
    for i in range(len(x)):
        repeated = {name: np.repeat(values[i : i + 1], rows, axis=0) for name, values in {"x": x, **columns}.items()}
        for start in range(0, draws, rows):
            num = min(rows, draws - start)
            z = (z_mean[i] + sigma[i] * generator.standard_normal((num, z_mean.shape[1]))).astype(np.float32)
            session.run(None, {name: values[:num] for name, values in repeated.items()} | {"z": z})
    return time.perf_counter() - started[0], time.process_time() - started[1]


def ours(model, x, columns, draws):
    """Seconds of clock and processor for the whole of `estimate`."""
    started = time.perf_counter(), time.process_time()
    importance.estimate(model, x, columns, 0, num_samples=draws, seed=0)
    return time.perf_counter() - started[0], time.process_time() - started[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="mnist")
    parser.add_argument("--examples", type=int, default=10)
    parser.add_argument("--draws", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    model = load(arguments.model)
    data = model.manifest.data
    generator = np.random.default_rng(1)
    if data.range is None:
        x = generator.standard_normal((arguments.examples, *data.shape)).astype(np.float32)
    else:
        x = np.where(generator.random((arguments.examples, *data.shape)) < 0.2, *data.range[::-1]).astype(np.float32)
    asked = {each.name: 0 if each.categorical else (each.range or (0, 0))[0] for each in model.manifest.conditions}
    columns = conditions_of.columns(model.manifest, asked, len(x))
    encoded = dict(zip(("z_mean", "z_log_var"), model.encode(x, asked), strict=True))
    draws, count = arguments.draws, arguments.examples * arguments.draws
    sizes = (64, importance.ROWS, 500)
    ours(model, x[:1], {name: values[:1] for name, values in columns.items()}, draws)
    names = ("kvae evaluate", *(f"bare loop, {rows} rows a run" for rows in sizes))
    taken = {name: [] for name in names}
    for _ in range(arguments.runs):
        taken[names[0]].append(ours(model, x, columns, draws))
        for name, rows in zip(names[1:], sizes, strict=True):
            taken[name].append(bare(model, x, columns, encoded, draws, rows))
    for name, seconds in taken.items():
        line = f"{name:26s}"
        for what, place in (("clock", 0), ("processor", 1)):
            its = [pair[place] for pair in seconds]
            ratios = [mine[place] / each for mine, each in zip(taken[names[0]], its, strict=True)]
            line += f"  {what} {1e6 * statistics.median(its) / count:7.3f} us a draw, kvae takes "
            line += f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(line)


if __name__ == "__main__":
    main()
