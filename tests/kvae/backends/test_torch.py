"""The command under PyTorch, with TensorFlow installed for export: `python -m pytest -m torch`.

test_agreement.py has the tests that JAX and PyTorch share.
"""

import json
import os
import signal
import subprocess
import sys

import pytest

from kvae.training import run_folder, saved_run

pytestmark = pytest.mark.torch

SMALL = ("--data", "mnist-sample", "--latent-dim", "2", "--encoder-hidden", "16", "--decoder-hidden", "16",
         "--network", "dense", "--batch-size", "128")  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _installed():
    pytest.importorskip("torch")


@pytest.fixture
def command(tmp_path, command_environment):
    """Start `kvae` in an empty folder, under PyTorch."""

    def start(*arguments, **environment):
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "kvae", *map(str, arguments)],
            cwd=tmp_path,
            env=command_environment | {"KERAS_BACKEND": "torch", "PYTHONWARNINGS": "ignore"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def kvae(command):
    """Run `kvae` under PyTorch; return exit code, stdout and stderr."""

    def run(*arguments, **environment):
        process = command(*arguments, **environment)
        out, stderr = process.communicate(timeout=600)
        return process.returncode, out, stderr

    return run


def test_bfloat16_run_stops_early_and_is_exported_and_evaluated(kvae, tmp_path):
    asked = ("--mixed-precision", "--patience", "1", "--epochs", "60", "--learning-rate", "0.05", "--batch-size", "50")
    code, _, stderr = kvae("train", *SMALL, *asked, "--tensorboard", "logs", "-o", "run")
    assert code == 0, stderr
    assert "Training on CPU" in stderr, stderr
    assert "with PyTorch." in stderr
    assert "Stopped early: the validation elbo no longer improves." in stderr
    assert "not checked" not in stderr
    for split in ("train", "validation"):
        assert list((tmp_path / "logs" / split).glob("events.*")), split
    code, _, stderr = kvae("export", "run", "-o", "digits", "-q")
    assert code == 0, stderr
    assert (tmp_path / "digits" / "decoder.onnx").exists()
    code, out, stderr = kvae("evaluate", "-m", "digits", "--data", "mnist-sample", "--json")
    assert code == 0, stderr
    elbo = json.loads((tmp_path / "run" / run_folder.METADATA).read_text())["training"]["validation"]["elbo"]
    assert json.loads(out)["figures"]["elbo"]["mean"] == pytest.approx(elbo, rel=0.1)


def test_failed_export_check_trains_nothing(kvae, command_environment, tmp_path):
    # The check runs in a child, here one that cannot import tf2onnx.
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tf2onnx.py").write_text("raise ValueError('no such thing here')")
    path = os.pathsep.join([str(tmp_path / "broken"), command_environment["PYTHONPATH"]])
    code, _, stderr = kvae("train", *SMALL, "--epochs", "1", "-o", "run", PYTHONPATH=path)
    assert code == 6, stderr
    assert stderr.splitlines()[-1].endswith("Nothing was trained. --no-export-check skips this check.")
    assert not (tmp_path / "run").exists()


def test_nan_loss_ends_the_run(kvae, tmp_path):
    rate = ("--learning-rate", "1e30", "--learning-rate-schedule", "constant")
    code, _, stderr = kvae("train", *SMALL, *rate, "--no-export-check", "-o", "run")
    assert code == 6, stderr
    assert "What was saved before is kept. Try a lower --learning-rate." in stderr
    assert not (tmp_path / "run" / run_folder.MODEL).exists()


def test_ctrl_c_keeps_the_finished_epochs_and_the_run_resumes(command, kvae, tmp_path):
    process = command("train", *SMALL, "--epochs", "100000", "--no-export-check", "-o", "run")
    for line in process.stderr:
        if line.startswith("epoch"):
            process.send_signal(signal.SIGINT)
            break
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert "Stopped early; the model is saved." in rest
    assert "Traceback" not in rest
    done = int(saved_run.load(tmp_path / "run")[1]["training"]["epochs"])
    assert 0 < done < 100000
    code, _, stderr = kvae("train", "--resume", "run", "--epochs", done + 2)
    assert code == 0, stderr
    assert f"Resuming after epoch {done} of {done + 2}." in stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "needed"),
    [
        (("--devices", "2"), {}, "tensorflow or jax"),
        (
            (),
            {"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}'},
            "tensorflow",
        ),
    ],
    ids=["devices", "workers"],
)
def test_several_devices_are_refused(kvae, tmp_path, arguments, environment, needed):
    code, _, stderr = kvae("train", *SMALL, *arguments, "-o", "run", **environment)
    assert code == 2, stderr
    assert f"need {needed}. Set it, or train on one device" in stderr
    assert not (tmp_path / "run").exists()
