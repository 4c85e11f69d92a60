"""Inputs and checks for tests that run the tiny committed models."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np

from kvae_serve.model import load
from kvae_serve.sealed import noise
from support import wire

LABEL = np.array([2, 0, 1, 1, 2])
CLOSE = {"rtol": 1e-4, "atol": 1e-3}


def names(folder: Path) -> list[str]:
    """Sorted names of the entries of a folder."""
    return sorted(path.name for path in folder.iterdir())


def assert_refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Assert that a command failed with this exit code and one printable line that contains all words."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert line.isprintable()
    for word in words:
        assert word in line


def binary_images(num: int) -> np.ndarray:
    """`num` images of pixels 0 and 255 in the shape of the tiny models, uint8 `[num, 8, 6, 1]`."""
    return np.where(noise.uniforms(1, 2, 0, num, 48) < 0.4, 0, 255).reshape(num, 8, 6, 1).astype(np.uint8)


def resealed(path: Path, change) -> bytes:
    """Bytes of a committed file, sealed again after `change` edited its manifest in place."""
    data = path.read_bytes()
    start = data.index(b"\x0a\x04kvae\x12")
    start = data.rindex(b"\x72", 0, start)
    manifest = json.loads(load(path).sealed(path.stem)[0].manifest_json)
    change(manifest)
    return wire.seal(data[:start], manifest)
