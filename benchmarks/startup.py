"""How long does a command take from start to end, next to the least that Python could do? Wall time, medians.

Pairs, run in turn so that a busy machine slows them alike; the ratio of medians is what counts:

    kvae sample --label 3 -o three.png    a bare script (the floor): numpy, onnxruntime, the same decoder once, a PNG
    kvae sample --label 3                 the same floor
    kvae --help                           python -c "import click"
    kvae encode, decode, reconstruct, score, verify, info, models, traverse (one axis, three steps), interpolate
    (three steps), completion      the same floor: one example each

Runs the `kvae` of the same environment as this Python: `python benchmarks/startup.py [-m MODEL]`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# What someone would write who only wants this one picture; a decoder with a label, or without.
FLOOR = """
import struct, sys, zlib
import numpy as np
import onnxruntime as ort

session = ort.InferenceSession(sys.argv[1])
feeds = {"z": np.random.default_rng().standard_normal((1, session.get_inputs()[0].shape[1])).astype("float32")}
if len(session.get_inputs()) > 1:
    feeds["label"] = np.array([int(sys.argv[3])])
x = session.run(["x_mean"], feeds)[0][0].round().astype("uint8")

def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

header = struct.pack(">IIBBBBB", x.shape[1], x.shape[0], 8, 0 if x.shape[2] == 1 else 2, 0, 0, 0)
rows = b"".join(b"\\0" + row.tobytes() for row in x)
chunks = [b"\\x89PNG\\r\\n\\x1a\\n", chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
with open(sys.argv[2], "wb") as file:
    file.write(b"".join(chunks))
"""


LIGHT = (
    "encode",
    "decode",
    "reconstruct",
    "score",
    "verify",
    "info",
    "models",
    "traverse",
    "interpolate",
    "completion",
)


def examples(model: Path, folder: Path, label: str) -> None:
    """Write one example and one code for the commands that read them."""
    import numpy as np

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from kvae_serve.model import load

    draws = load(model).sample(1, label=int(label) if label else None, seed=0)
    np.savez(folder / "one.npz", x=np.rint(draws.x), **draws.conditions)
    np.savez(folder / "z.npz", z=draws.z, **draws.conditions)


def light_commands(kvae: str, model: Path, folder: Path) -> dict[str, list[str]]:
    """Return the command line of each light command."""
    given = {
        "encode": ["one.npz", "-o", "codes.npy"],
        "decode": ["z.npz", "-o", "x.npy"],
        "reconstruct": ["one.npz", "-o", "x.npy"],
        "score": ["one.npz"],
        "verify": [],
        "info": [],
        "traverse": ["--dims", "0", "--steps", "3", "-o", "walk.npy"],
        "interpolate": ["--seed", "0", "--steps", "3", "-o", "walk.npy"],
    }
    commands = {
        f"kvae {name}": [kvae, name, "-m", str(model), *(str(folder / each) if "." in each else each for each in rest)]
        for name, rest in given.items()
    }
    for name in ("encode", "decode", "reconstruct", "traverse", "interpolate"):
        commands[f"kvae {name}"] += ["--force", "-q"]
    return commands | {"kvae models": [kvae, "models"], "kvae completion": [kvae, "completion", "bash"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", default="mnist", help="Folder or shipped name of a model of images.")
    parser.add_argument("--label", default="3", help="Class to draw; empty for an unconditional model.")
    parser.add_argument("--rounds", type=int, default=31)
    options = parser.parse_args()

    root = Path(__file__).resolve().parent.parent
    folder = root / "saved_models" / options.model
    decoder = (folder if folder.is_dir() else Path(options.model)) / "decoder.onnx"
    kvae = shutil.which("kvae", path=str(Path(sys.executable).parent))
    if kvae is None or not decoder.exists():
        sys.exit(f"Expected the command kvae next to {sys.executable}, and {decoder}. Install with: pip install -e .")
    sample = [kvae, "sample", "-m", str(decoder.parent)] + (["--label", options.label] if options.label else [])

    with tempfile.TemporaryDirectory() as scratch:
        examples(decoder.parent, Path(scratch), options.label)
        floor = Path(scratch) / "floor.py"
        floor.write_text(FLOOR)
        picture = str(Path(scratch) / "three.png")
        commands = {
            "floor": [sys.executable, str(floor), str(decoder), picture, options.label or "0"],
            "kvae sample -o three.png": [*sample, "-o", picture],
            "kvae sample": sample,
            "import click": [sys.executable, "-c", "import click"],
            "kvae --help": [kvae, "--help"],
        } | light_commands(kvae, decoder.parent, Path(scratch))
        times: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(options.rounds + 2):
            for name, command in commands.items():
                Path(picture).unlink(missing_ok=True)
                start = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                if turn >= 2:  # Two rounds to fill the caches.
                    times[name].append(1000 * (time.perf_counter() - start))

    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"Python {sys.version.split()[0]}, {options.rounds} interleaved rounds, {os.cpu_count()} cores, {decoder}")
    for name, against, goal in (
        ("kvae sample -o three.png", "floor", 1.15),
        ("kvae sample", "floor", None),
        ("kvae --help", "import click", 1.5),
        *((name, "floor", None) for name in medians if name.split()[1:2] and name.split()[1] in LIGHT),
    ):
        aim = f"  (goal: at most {goal})" if goal else ""
        print(
            f"{name:<26}{medians[name]:7.1f} ms   {against:<14}{medians[against]:7.1f} ms   "
            f"ratio {medians[name] / medians[against]:.2f}{aim}"
        )


if __name__ == "__main__":
    main()
