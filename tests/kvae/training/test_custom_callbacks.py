"""`kvae train --callback`: callbacks of the user, by the name of their module and class."""

import json
import sys

import keras
import pytest
from click.testing import CliRunner

from kvae.commands.train import train as train_command
from kvae.training import custom_callbacks
from kvae_serve.errors import RequestError
from support.runs import train

MODULE = """
import json
import keras

class Tracker(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        with open("metrics.jsonl", "a") as file:
            file.write(json.dumps({"epoch": epoch, **{name: float(value) for name, value in logs.items()}}) + "\\n")

def tracker():
    return Tracker()

def number():
    return 3

def fails():
    raise ValueError("no network")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module `tracking` in the current folder."""
    (tmp_path / "tracking.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("tracking", None)


@pytest.mark.parametrize("name", ["tracking:Tracker", "tracking:tracker"])
def test_class_or_function_is_loaded_from_the_current_folder(name, module):
    assert isinstance(custom_callbacks.load(name), keras.callbacks.Callback)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tracking", "expected module:Class"),
        (":Tracker", "expected module:Class"),
        ("trackng:Tracker", "cannot find the module trackng in the current folder"),
        ("tracking:Traker", "has no attribute 'Traker'"),
        ("tracking:number", "expected a subclass of keras.callbacks.Callback, got int"),
        ("tracking:fails", "ValueError: no network"),
    ],
)
def test_invalid_name_is_one_line(name, words, module):
    with pytest.raises(RequestError, match=words) as error:
        custom_callbacks.load(name)
    assert str(error.value).startswith(f"--callback {name}: ")


def test_wrong_module_is_reported_before_the_data_are_read(module):
    result = CliRunner().invoke(train_command, ["--data", "nowhere", "--callback", "trackng:Tracker", "-o", "run"])
    assert "cannot find the module trackng" in str(result.exception)


def test_command_adds_the_callback_after_all_metrics_are_known(module, tmp_path):
    flags = ["--data", "mnist-sample", "--epochs", "2", "--encoder-hidden", "8", "--decoder-hidden", "8", "-q"]
    flags += [
        "--latent-dim",
        "2",
        "--network",
        "dense",
        "--batch-size",
        "128",
        "--no-export-check",
        "--callback",
        "tracking:Tracker",
        "-o",
        "run",
    ]
    result = CliRunner().invoke(train_command, flags)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    history = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert [row["epoch"] for row in rows] == [0, 1]
    assert set(history[0].split(",")) == set(rows[0])
    assert {"val_elbo", "val_active_units", "val_kl_1"} <= set(rows[0])


def test_mlflow_logs_every_metric_to_a_local_store(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file:{tmp_path / 'store'}")
    with mlflow.start_run() as active:
        run = train(tmp_path / "run", epochs=2, callbacks=[mlflow.keras.MlflowCallback()])
    logged = mlflow.tracking.MlflowClient().get_metric_history(active.info.run_id, "val_elbo")
    assert [metric.step for metric in logged] == [0, 1]
    assert logged[-1].value == pytest.approx(run.metadata["training"]["validation"]["elbo"], abs=1e-3)
