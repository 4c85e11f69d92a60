"""Telemetry of ONNX Runtime is off unless the user switches it on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kvae_serve.runtime import onnxruntime

PYTHON = "import kvae; kvae.load('mnist').sample(1, label='3', seed=0)"
COMMAND = "import sys; from kvae.__main__ import main; sys.argv = ['kvae', 'sample', '--label', '3', '-n', '1']; main()"


def home_after(home, code, **variables):
    """Names of the files that a process leaves in an empty home folder. ONNX Runtime is silent anyway if CI is set."""
    quiet = {"CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME", onnxruntime.TELEMETRY}
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    environment |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment | variables, check=True, stdout=subprocess.DEVNULL)
    return sorted(path.name for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize("code", [PYTHON, COMMAND], ids=["python", "command"])
def test_sampling_leaves_no_file_in_the_home_folder(tmp_path, code):
    assert home_after(tmp_path, code) == []


def test_telemetry_setting_of_the_user_is_kept(monkeypatch):
    monkeypatch.setenv(onnxruntime.TELEMETRY, "0")
    onnxruntime.onnxruntime()
    assert os.environ[onnxruntime.TELEMETRY] == "0"
