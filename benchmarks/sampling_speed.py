"""How fast are draws made and written, next to a bare loop that does the same work? Rows per second and peak memory.

The bare loop draws as many normals with `numpy.random.Generator.standard_normal`, runs the same batches through the
same decoder with the same settings of ONNX Runtime, and writes as many bytes in the same form, with one write a chunk
and nothing checked; like `kvae sample` it syncs its file (fsync) at the end. Both are whole processes that take turns,
so that a busy machine slows both. The time to start is measured with a few rows and subtracted.
On a machine that does other work the clock says little: processor time is the steadier figure, though it cannot show
that kvae decodes and writes at the same time.

    python benchmarks/sampling_speed.py                    # 5,000, 20,000 and 100,000 rows, .npy and .npz
    python benchmarks/sampling_speed.py --num 1000000      # needs 6.5 GB of disk
    python benchmarks/sampling_speed.py --batches          # which batch size is best, 1 to 4096
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
START = 64
"""Rows of the run that measures the time to start."""


class Taken(NamedTuple):
    """Seconds on the clock and of the processors, and the largest resident size."""

    clock: float
    processor: float
    megabytes: float


BARE = """
import os, sys, zlib
import numpy as np
import onnxruntime as ort

decoder, path, num, batch, chunk, label = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7])
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(decoder, options, providers=["CPUExecutionProvider"])
inputs, shape = session.get_inputs(), session.get_outputs()[0].shape[1:]
latent_dim, names = inputs[0].shape[1], [each.name for each in inputs]
generator = np.random.default_rng(0)
zipped = path.endswith(".npz")
z_whole, crc = np.empty((num if zipped else 0, latent_dim), np.float32), 0
with open(path, "wb") as file:
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (num, *shape)})
    x = np.empty((chunk, *shape), np.float32)
    for first in range(0, num, chunk):
        rows = min(chunk, num - first)
        z = generator.standard_normal((rows, latent_dim)).astype(np.float32)
        for start in range(0, rows, batch):
            feeds = {"z": z[start : start + batch]}
            if len(names) > 1:
                feeds[names[1]] = np.full(len(feeds["z"]), label)
            x[start : min(start + batch, rows)] = session.run(["x_mean"], feeds)[0]
        file.write(x[:rows])
        if zipped:
            crc = zlib.crc32(x[:rows], crc)
            z_whole[first : first + rows] = z
    if zipped:
        crc = zlib.crc32(z_whole, crc)
        file.write(z_whole)
        if len(names) > 1:
            file.write(np.full(num, label))
    file.flush()
    os.fsync(file.fileno())
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", default="mnist", help="Folder or shipped name of a model.")
    parser.add_argument("--label", default="3", help="Class to draw, by index; empty for an unconditional model.")
    parser.add_argument("--num", type=int, action="append", help="Rows; may be repeated.")
    parser.add_argument("--form", action="append", choices=[".npy", ".npz"], help="Form; may be repeated.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--batches", action="store_true", help="Measure the decoder alone by batch size instead.")
    parser.add_argument("--folder", default=None, help="Where the files go.  [default: the temporary folder]")
    options = parser.parse_args()

    sys.path.insert(0, str(ROOT))
    from kvae_serve.model import load
    from kvae_serve.row_stream import chunk_rows

    model = load(options.model)
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {options.model}, batches of {options.batch_size}")
    if options.batches:
        by_batch(model, options)
        return
    chunk = chunk_rows(model.manifest.data, options.batch_size)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        script = Path(folder) / "bare.py"
        script.write_text(BARE)
        for form in options.form or [".npy", ".npz"]:
            starts = {name: measure(name, form, START, chunk, folder, options) for name in ("kvae", "bare")}
            for num in options.num or [5_000, 20_000, 100_000]:
                compare(form, num, chunk, folder, options, starts)


def compare(form: str, num: int, chunk: int, folder: str, options: argparse.Namespace, starts: dict) -> None:
    """Print one line: rates on the clock, the ratios of clock and of processor time, and the peak memory of each."""
    seconds: dict[str, list[Taken]] = {"kvae": [], "bare": []}
    for turn in range(options.rounds):
        for name in ("kvae", "bare") if turn % 2 else ("bare", "kvae"):
            seconds[name].append(measure(name, form, num, chunk, folder, options))
    clock, processor = (
        {name: [each[which] - starts[name][which] for each in values] for name, values in seconds.items()}
        for which in (0, 1)
    )
    ratios, work = (
        sorted(bare / kvae for kvae, bare in zip(each["kvae"], each["bare"], strict=True))
        for each in (clock, processor)
    )
    rates = {name: num / statistics.median(values) for name, values in clock.items()}
    peaks = {name: max(each.megabytes for each in values) for name, values in seconds.items()}
    print(
        f"{form}  {num:>9,} rows   kvae {rates['kvae']:>8,.0f} a second, {peaks['kvae']:3.0f} MB   "
        f"bare {rates['bare']:>8,.0f} a second, {peaks['bare']:3.0f} MB   "
        f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})  (goal: at least 0.9)   "
        f"of processor time {statistics.median(work):.2f} ({work[0]:.2f} to {work[-1]:.2f})",
        flush=True,
    )


def measure(name: str, form: str, num: int, chunk: int, folder: str, options: argparse.Namespace) -> Taken:
    """Run one process and return what it took."""
    path = Path(folder) / f"{name}{form}"
    model = ROOT / "saved_models" / options.model
    model = model if model.is_dir() else Path(options.model)
    if name == "kvae":
        label = ["--label", options.label] if options.label else []
        command = [sys.executable, "-m", "kvae", "sample", "-q", "-m", str(model), "-n", str(num), "--seed", "0"]
        command += [*label, "--batch-size", str(options.batch_size), "-o", str(path)]
    else:
        numbers = [num, options.batch_size, chunk, options.label or 0]
        command = [sys.executable, str(Path(folder) / "bare.py"), str(model / "decoder.onnx"), str(path)]
        command += [str(each) for each in numbers]
    # A small process in between tells the peak of its child alone.
    between = (
        "import resource, subprocess, sys, time\n"
        "began = time.perf_counter()\n"
        "subprocess.run(sys.argv[1:], check=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", between, *command], env=environment, check=True, capture_output=True, text=True
    )
    path.unlink()
    clock, processor, peak = map(float, done.stdout.split())
    return Taken(clock, processor, peak / (1e6 if sys.platform == "darwin" else 1e3))


def by_batch(model: object, options: argparse.Namespace) -> None:
    """Print microseconds a row of the decoder alone, median and best of interleaved rounds."""
    import numpy as np

    rows = 8192
    manifest = model.manifest  # type: ignore[attr-defined]
    feeds = {"z": np.random.default_rng(0).standard_normal((rows, manifest.latent_dim)).astype(np.float32)}
    feeds |= {each.name: np.zeros(rows, np.int64 if each.categorical else np.float32) for each in manifest.conditions}
    sizes = (1, 4, 16, 32, 64, 128, 256, 1024, 4096)
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(max(5, options.rounds)):
        for size in sizes:
            num = min(rows, 256 * size)
            some = {name: values[:num] for name, values in feeds.items()}
            began = time.perf_counter()
            model.run("decoder", some, size, ["x_mean"])  # type: ignore[attr-defined]
            times[size].append(1e6 * (time.perf_counter() - began) / num)
    for size, values in times.items():
        print(f"batch {size:5d}   {statistics.median(values):7.2f} us a row, best {min(values):7.2f}")


if __name__ == "__main__":
    main()
