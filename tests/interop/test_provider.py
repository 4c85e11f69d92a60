"""`--provider` with a second execution provider: OpenVINO (onnxruntime-openvino) on the CPU."""

import numpy as np
import pytest

from support import interop

pytestmark = pytest.mark.interop

COMMANDS = {
    "sample": ["--label", "3", "-n", "70", "--seed", "0", "-o", "x.npz"],
    "encode": ["cpu-sample.npz", "-o", "z.npy"],
    "decode": ["cpu-sample.npz", "-o", "x.npy"],
    "reconstruct": ["cpu-sample.npz", "-o", "x.npy"],
    "score": ["cpu-sample.npz", "-o", "s.csv"],
    "evaluate": ["--data", "cpu-sample.npz", "--importance-samples", "3", "-o", "e.json"],
    "traverse": ["--label", "3", "--dims", "0-3", "-o", "x.npy"],
    "interpolate": ["--label", "3", "--seed", "1", "-o", "x.npy"],
}
CLOSE = 1e-5
"""Largest difference, as a share of the range of the compared values."""


def numbers(path):
    """Return the values of an output file of any format."""
    if path.suffix == ".npz":
        with np.load(path) as found:
            return found["x"].astype("f8")
    if path.suffix == ".npy":
        return np.load(path).astype("f8")
    return np.loadtxt(path, delimiter=",", skiprows=1)[:, 1:]


def test_every_command_matches_the_cpu_provider(tmp_path):
    python = interop.python_with("openvino-provider", "onnxruntime-openvino", "openvino", "numpy", "click", "pillow")
    environment = interop.clean_environment(PYTHONPATH=interop.PACKAGES)

    def kvae(*arguments):
        return interop.call(python, "-m", "kvae", *arguments, cwd=tmp_path, env=environment)

    told = kvae("verify", "--provider", "openvino")
    assert told.count(" ok ") == 4, told
    apart = []
    for command, given in COMMANDS.items():
        paths = {}
        for provider in ("cpu", "openvino"):
            name = f"{provider}-{command}.{given[-1].partition('.')[2]}"
            kvae(command, *given[:-1], name, "--provider", provider, "-q")
            paths[provider] = tmp_path / name
        if command != "evaluate":
            cpu, other = map(numbers, paths.values())
            assert np.abs(other - cpu).max() <= CLOSE * np.ptp(cpu), command
            apart.append((other != cpu).any())
    # If this were the CPU provider, the results would be equal bit for bit.
    assert any(apart)
