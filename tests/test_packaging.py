"""Installed names: three import packages, and no file of a user that shadows one of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from support.paths import python_path

ROOT = Path(__file__).parents[1]
EXPLORER = (
    "page.py",
    "web/page.html",
    "web/style.css",
    "web/main.js",
    "onnxruntime_web/LICENSE",
    "onnxruntime_web/version.json",
    "onnxruntime_web/ort.wasm.bundle.min.mjs",
    "onnxruntime_web/ort-wasm-simd-threaded.wasm.gz",
)

TRAIN = """
import keras, numpy as np
import kvae

x = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1)).astype("uint8")
model = kvae.VAE(
    encoder=kvae.networks.dense_encoder((4, 4, 1), 2, hidden=(4,)),
    decoder=kvae.networks.dense_decoder((4, 4, 1), 2, hidden=(4,)),
)
model.compile("adam")
model.fit(x, batch_size=20, verbose=0)
model.export("out", format="onnx")
print(kvae.load("out").sample(1, seed=0).x.shape)
"""


@pytest.fixture
def surrounded(tmp_path):
    """A folder of a user whose files and folders have the names of kvae's own folders."""
    for name in ("saved_models", "serve_cli", "export", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('a file of the user')\n")
    return tmp_path


@pytest.mark.parametrize("name", ["export.py", pytest.param("kvae_train.py", marks=pytest.mark.long)])
def test_script_trains_and_exports_whatever_its_name(name, surrounded):
    pytest.importorskip("tensorflow")
    if name == "export.py":
        (surrounded / "export" / "__init__.py").unlink()
        (surrounded / "export").rmdir()
    (surrounded / name).write_text(TRAIN)
    done = subprocess.run(
        [sys.executable, name],
        cwd=surrounded,
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("(1, 4, 4, 1)\n")
    assert sorted(path.name for path in (surrounded / "out").glob("*.onnx")) == [
        "decoder.onnx",
        "encoder.onnx",
        "likelihood.onnx",
    ]


@pytest.mark.parametrize(
    "command", [["-m", "kvae"], ["-c", "from kvae.__main__ import main; main()"]], ids=["module", "script"]
)
def test_command_runs_beside_folders_of_the_same_names(command, surrounded):
    done = subprocess.run(
        [sys.executable, *command, "models", "--json"],
        cwd=surrounded,
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"mnist"' in done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the source distribution of this checkout, built without network."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    if not (ROOT / "serve_cli").is_dir():
        pytest.skip("the tests run without the sources")
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_wheel_installs_three_packages_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    assert re.fullmatch(r"kvae_onnx-[0-9.]+\.dist-info", info)
    assert {name.split("/")[0] for name in names} == {"kvae", "kvae_export", "kvae_serve", info}
    for name in ("mnist", "mnist-vae", "fashion", "sprites", "emoji-faces"):
        assert f"kvae_serve/saved_models/{name}/decoder.onnx" in names
    assert {f"{package}/py.typed" for package in ("kvae", "kvae_export", "kvae_serve")} <= set(names)
    assert "kvae_serve/readers/mnist_sample/t10k-images-idx3-ubyte.gz" in names
    assert {f"kvae_serve/explorer/{name}" for name in EXPLORER} <= set(names)


def test_source_distribution_contains_what_the_wheel_is_built_from(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    assert {
        "kvae/__init__.py",
        "export/kvae_export/__init__.py",
        "serve_cli/kvae_serve/__init__.py",
        "saved_models/mnist/decoder.onnx",
        "tests/conftest.py",
        *(f"serve_cli/kvae_serve/explorer/{name}" for name in EXPLORER),
    } <= names
