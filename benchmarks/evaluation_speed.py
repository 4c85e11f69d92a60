"""How long does importance sampling take beside a bare loop? Microseconds a draw, medians of interleaved runs.

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

from serve_cli import conditions as conditions_of
from serve_cli.evaluation import importance
from serve_cli.model import load


def bare(model, x, columns, posterior, draws, rows):
    """Seconds for a loop that only draws and calls."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.sealed("likelihood")[0].data, options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    z_mean, sigma = posterior["z_mean"], np.exp(posterior["z_log_var"] / 2)
    started = time.perf_counter()
    for i in range(len(x)):
        repeated = {name: np.repeat(values[i : i + 1], rows, axis=0) for name, values in {"x": x, **columns}.items()}
        for start in range(0, draws, rows):
            num = min(rows, draws - start)
            z = (z_mean[i] + sigma[i] * generator.standard_normal((num, z_mean.shape[1]))).astype(np.float32)
            session.run(None, {name: values[:num] for name, values in repeated.items()} | {"z": z})
    return time.perf_counter() - started


def ours(model, x, columns, draws):
    """Seconds for the whole of `estimate`."""
    started = time.perf_counter()
    importance.estimate(model, x, columns, 0, num_samples=draws, seed=0)
    return time.perf_counter() - started


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
    taken = {name: [] for name in ("kvae evaluate", *(f"bare loop, {rows} rows a run" for rows in sizes))}
    for _ in range(arguments.runs):
        taken["kvae evaluate"].append(ours(model, x, columns, draws))
        for rows in sizes:
            taken[f"bare loop, {rows} rows a run"].append(bare(model, x, columns, encoded, draws, rows))
    for name, seconds in taken.items():
        ratios = [mine / its for mine, its in zip(taken["kvae evaluate"], seconds, strict=True)]
        print(
            f"{name:28s} {1e6 * statistics.median(seconds) / count:8.3f} us a draw   "
            f"kvae takes {statistics.median(ratios):.2f} of it ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
