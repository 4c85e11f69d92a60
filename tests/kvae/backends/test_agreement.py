"""Training under JAX and PyTorch, compared with TensorFlow from equal weights, on a machine without TensorFlow.

JAX compiles for about a minute, so its tests are long. The PyTorch tests need PyTorch next to TensorFlow:
`python -m pytest -m torch`.
"""

import csv
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from kvae import networks
from kvae.backends import startup
from kvae.data import sources
from kvae.models.vae import VAE, load_model
from kvae.optimizers import Adam
from kvae.training import checkpoint, export_check, run_data, run_folder, saved_run
from kvae_serve.errors import MissingExtraError, RequestError
from support import on_backend
from support.paths import python_path

ROOT = Path(__file__).parents[3]
JAX = pytest.param("jax", marks=pytest.mark.long)
TORCH = pytest.param("torch", marks=pytest.mark.torch)


@pytest.fixture(scope="module")
def saved_model():
    """A TensorFlow model after one epoch, with an L2 penalty on one layer, and 100 examples."""
    x = sources.load("mnist-sample", "train").x[:100]
    keras.utils.set_random_seed(1)
    pixels = keras.Input((28, 28, 1))
    small = keras.layers.Dense(16, "relu", kernel_regularizer=keras.regularizers.L2(1.0))
    hidden = small(keras.layers.Flatten()(pixels))
    encoder = keras.Model(pixels, [keras.layers.Dense(3)(hidden), keras.layers.Dense(3)(hidden)])
    model = VAE(encoder, networks.dense_decoder((28, 28, 1), 3, (16,)), seed=2)
    model.compile(Adam(1e-3))
    model.fit(x, batch_size=50, epochs=1, verbose=0)
    return model, x


@pytest.fixture(scope="module")
def reference(saved_model, tmp_path_factory):
    """Folder with TensorFlow's facts, initial weights and `other.keras`."""
    folder = tmp_path_factory.mktemp("tensorflow")
    saved_model[0].save(folder / "other.keras")
    facts, _ = on_backend.write_facts(folder)
    (folder / "facts.json").write_text(json.dumps(facts, default=float))
    return folder


@pytest.fixture(scope="module")
def start(reference, tmp_path_factory):
    """Function of a backend to the folder of its facts."""

    @functools.cache
    def process(name):
        pytest.importorskip(name)
        folder = tmp_path_factory.mktemp(name)
        for path in (*reference.glob("*.keras"), *(reference / f"{case}.npz" for case in on_backend.CASES)):
            (folder / path.name).write_bytes(path.read_bytes())
        environment = {"KERAS_BACKEND": name, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
        environment |= {"PYTHONPATH": python_path(ROOT / "tests")}
        done = subprocess.run(
            [sys.executable, ROOT / "tests" / "support" / "on_backend.py", folder],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        (folder / "stderr").write_text(done.stderr)
        assert done.returncode == 0, done.stderr
        return folder

    return process


@pytest.fixture(params=[JAX, TORCH])
def folder(request, start):
    """Folder of a backend that is not TensorFlow."""
    return start(request.param)


@pytest.fixture
def folders(folder, reference):
    """Folder of a backend that is not TensorFlow, and folder of TensorFlow."""
    return folder, reference


@pytest.fixture(params=[JAX])
def jax_folder(request, start):
    return start(request.param)


@pytest.fixture(params=[TORCH])
def torch_folder(request, start):
    return start(request.param)


def facts_of(folder):
    return json.loads((folder / "facts.json").read_text())


def backend_of(folder):
    return json.loads((folder / "run" / run_folder.METADATA).read_text())["engine"]


def history(run):
    with (run / run_folder.HISTORY).open() as file:
        return list(csv.DictReader(file))


def test_noise_equals_that_of_tensorflow(folders):
    theirs, ours = (np.load(folder / "noise.npz") for folder in folders)
    assert len(ours.files) == 4
    for name in ours.files:
        binary = set(np.unique(ours[name])) <= {0.0, 1.0}
        # The last digits of logarithm, sine and cosine may differ.
        np.testing.assert_allclose(theirs[name], ours[name], rtol=0, atol=0 if binary else 2e-6)


def test_first_loss_from_equal_weights_equals_that_of_tensorflow(folders):
    theirs, ours = (facts_of(folder)["losses"] for folder in folders)
    assert theirs.keys() == ours.keys()
    for case, expected in ours.items():
        assert set(theirs[case]) == set(expected) == {"loss", "elbo", "reconstruction", "kl", "beta"}
        # bfloat16 has 8 bits, and the backends add up in different orders.
        tolerance = 2e-3 if case == "bfloat16" else 1e-5
        for figure in ("loss", "elbo", "reconstruction"):
            np.testing.assert_allclose(theirs[case][figure], expected[figure], rtol=tolerance, err_msg=case)


def test_optimal_sigma_after_two_steps_equals_that_of_tensorflow(folders):
    theirs, ours = (facts_of(folder)["after"] for folder in folders)
    np.testing.assert_allclose(theirs["elbo"], ours["elbo"], rtol=1e-4)


def test_gradients_with_layer_penalties_equal_those_of_tensorflow(folders):
    theirs, ours = (np.load(folder / "gradients.npz") for folder in folders)
    assert len(theirs.files) == len(ours.files)
    for name in theirs.files:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-3, atol=1e-5 * np.abs(ours[name]).max())


def test_inference_and_weighted_figures_equal_those_of_tensorflow(folders):
    theirs, ours = (np.load(folder / "inference.npz") for folder in folders)
    for name in ("x", "reconstructed"):
        np.testing.assert_allclose(theirs[name], ours[name], rtol=0, atol=1e-5 * 255, err_msg=name)
    for name in ("z", "z_mean", "score", "figures", "step"):
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_model_of_tensorflow_trains_on_as_under_tensorflow(folders):
    theirs, ours = (facts_of(folder)["other"] for folder in folders)
    assert theirs["steps"] == ours["steps"] == 2 + 3 * 2
    for name in ("loss", "elbo", "kl"):
        assert theirs["before"][name] == pytest.approx(ours["before"][name], rel=1e-5)
    assert theirs["history"].keys() == ours["history"].keys()
    for name in ("loss", "elbo", "val_loss", "val_kl"):
        np.testing.assert_allclose(theirs["history"][name], ours["history"][name], rtol=1e-3, err_msg=name)
    assert theirs["history"]["loss"][-1] < theirs["history"]["loss"][0]


def test_validation_uses_beta_of_the_current_step(folder):
    last = {name: float(value) for name, value in history(folder / "run")[-1].items()}
    assert last["val_loss"] == pytest.approx(last["val_reconstruction"] + 2 * last["val_kl"], rel=1e-5)


def test_resumed_run_equals_the_uninterrupted_run(folder):
    whole, cut = folder / "run", folder / "cut"
    names = [path.name for path in checkpoint.Store(whole / run_folder.CHECKPOINTS).paths()]
    assert names == ["epoch-000003.checkpoint", "epoch-000002.checkpoint"]
    for name in (*(f"{run_folder.CHECKPOINTS}/{name}" for name in names), run_folder.HISTORY, run_folder.METADATA):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name


def test_jax_step_stays_on_its_device_and_compiles_once(jax_folder):
    facts = facts_of(jax_folder)
    assert facts["leaves_the_device"] == []
    assert facts["num_batches"] % 4 == 2  # so an epoch has executions of four steps and of one
    first, after_one, *later = facts["compiled"]
    assert first < after_one
    assert set(later) == {after_one}


def test_torch_step_reads_nothing_from_its_device_and_follows_the_step_count(torch_folder):
    facts = facts_of(torch_folder)
    assert facts["reads"] == 0
    assert facts["steps"] == [100, 100]  # after the count was set from outside
    assert facts["latest"] == [["beta", "elbo", "kl", "loss", "reconstruction"], "Tensor"]


def test_mixed_precision_multiplies_in_bfloat16_and_sums_in_float32(folder):
    facts = facts_of(folder)
    # A product under JAX reads `a:bf16[50,64] = dot_general ...`; under PyTorch only its type is listed.
    types = [set(re.findall(r"\w+", product.split("=")[0])) for product in facts["products"]]
    assert sum(bool({"bf16", "bfloat16"} & each) for each in types) > 8
    assert facts["objective"] == ["float32"] * 3


def test_words_computed_on_a_torch_device_equal_those_of_numpy(torch_folder):
    assert facts_of(torch_folder)["words"] is True


def test_every_objective_prior_likelihood_and_network_trains_under_torch(torch_folder):
    losses = facts_of(torch_folder)["all_losses"]
    assert len(losses) == 12
    for name, figures in losses.items():
        assert np.isfinite(figures).all(), (name, figures)


@pytest.mark.parametrize("folder", [JAX], indirect=True)
def test_data_on_the_device_give_the_batches_and_losses_of_data_in_memory(folder):
    rows = facts_of(folder)["device_rows"]
    memory, device = rows["memory"], rows["device"]
    assert (memory.pop("type"), device.pop("type")) == ("Rows", "DeviceRows")
    assert device.pop("batches") == memory.pop("batches")
    for name, values in memory.items():
        # In bfloat16.
        assert device[name] == pytest.approx(values, rel=1e-3), name


@pytest.mark.parametrize("folder", [JAX], indirect=True)
def test_two_jax_devices_share_each_batch_and_give_the_losses_of_one(folder):
    rows = facts_of(folder)["device_rows"]
    assert rows["two devices"]["shards"] == [5, 5]
    assert rows["two devices"]["losses"] == pytest.approx(rows["memory"]["losses"], rel=1e-5)


@pytest.mark.long
def test_command_trains_and_resumes_under_jax_on_two_devices(tmp_path, command_environment):
    pytest.importorskip("jax")

    def train(*flags):
        flags = [sys.executable, "-W", "ignore", "-m", "kvae", "train", "-q", *map(str, flags)]
        environment = command_environment | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}
        subprocess.run(flags, env=environment, check=True, timeout=600)

    # 115 validation examples, an odd number, are replicated. A total correlation needs the whole batch.
    flags = [*on_backend.RUN, "--validation", 115, "--objective", "total_correlation"]
    for devices in (1, 2):
        train(*flags, "--devices", devices, "-o", tmp_path / str(devices))
    one, two = (history(tmp_path / str(devices)) for devices in (1, 2))
    assert [row.keys() for row in one] == [row.keys() for row in two]
    for ours, theirs in zip(one, two, strict=True):
        assert list(map(float, theirs.values())) == pytest.approx(list(map(float, ours.values())), rel=1e-3, abs=1e-4)
    train("--resume", tmp_path / "1", "--devices", 2, "--epochs", 4)
    assert len(history(tmp_path / "1")) == 4


def test_sums_over_many_batches_stay_exact(folder):
    # Plain float32 sums would round each batch's 123.4567 to 123.5 at the end.
    tracker = facts_of(folder)["tracker"]
    assert tracker["batches"] == 20_000
    assert tracker["loss"] == pytest.approx(0.1234567, rel=1e-6)
    assert tracker["elbo"] == pytest.approx(-0.2469134, rel=1e-6)


def test_training_does_not_import_tensorflow_and_prints_only_its_own_lines(folder):
    assert facts_of(folder)["imported"] == []
    lines = (folder / "stderr").read_text().splitlines()[:-2]  # without the two errors of the next test
    assert [line.split(" ")[0] for line in lines] == ["600", "Training", *["epoch"] * 3, "Done.", "Next:"]


def test_without_tensorflow_export_and_tensorboard_name_the_extra(folder):
    facts, lines = facts_of(folder), (folder / "stderr").read_text().splitlines()[-2:]
    assert facts["export"] == facts["tensorboard"] == 3
    remedy = "Run pip install 'kvae-onnx[train]'."
    assert lines == [
        f"Error: tensorflow is not installed; export needs it. {remedy}",
        f"Error: tensorflow is not installed; --tensorboard needs it. {remedy}",
    ]
    versions = json.loads((folder / "run" / run_folder.METADATA).read_text())["training"]["versions"]
    assert versions.keys() == {"kvae-onnx", "keras", backend_of(folder)}


def test_run_of_another_backend_is_evaluated_trained_and_exported_by_tensorflow(folder, tmp_path):
    from click.testing import CliRunner

    from kvae.commands.export import export
    from kvae_serve import model as served

    model, metadata = saved_run.load(folder / "run")
    _, (x, conditions) = run_data.splits(folder / "run")
    model.compile("adam")
    saved = load_model(folder / "run")
    steps = 3 * metadata["steps_per_epoch"]
    assert saved.steps_done() == steps
    saved.fit(x[:50], {name: values[:50] for name, values in conditions.items()}, batch_size=50, verbose=0)
    assert saved.steps_done() == steps + 1
    figures = model.evaluate(x, conditions, batch_size=500, verbose=0, return_dict=True)
    assert figures["elbo"] == pytest.approx(metadata["training"]["validation"]["elbo"], rel=1e-4)
    done = CliRunner().invoke(export, [str(folder / "run"), "-o", str(tmp_path / "onnx"), "-q"])
    assert done.exit_code == 0, done.output
    assert backend_of(folder) in served.load(tmp_path / "onnx").manifest.training["versions"]


@pytest.mark.parametrize("folder", [JAX], indirect=True)
def test_export_check_of_another_backend_runs_under_tensorflow_in_a_child(folder, monkeypatch, capsys):
    run = folder / "run"
    export_check.main(run)  # the function of the child; prints nothing

    def refuse(*_, **__):
        raise RequestError("layer odd has no ONNX form.")

    with monkeypatch.context() as patched:
        patched.setattr(export_check.graphs, "export", refuse)
        with pytest.raises(SystemExit) as left:
            export_check.main(run)
    message = capsys.readouterr().err
    assert (left.value.code, message) == (2, "layer odd has no ONNX form.\n")
    commands = []

    def start(command, env, **_):
        commands.append((command[1:], env["KERAS_BACKEND"]))
        return subprocess.CompletedProcess(command, left.value.code, "", f"a warning\n{message}")

    monkeypatch.setattr(export_check.subprocess, "run", start)
    with pytest.raises(RequestError, match=r"^layer odd has no ONNX form\.$"):
        export_check._run_in_child(run)
    assert commands == [(["-m", "kvae.training.export_check", str(run)], "tensorflow")]


def test_run_resumes_under_its_own_backend_only(folder):
    name = backend_of(folder)
    with pytest.raises(RequestError, match=rf"started on the backend {name} .*KERAS_BACKEND={name}"):
        run_folder.open_existing(folder / "run", {"epochs": 9})


@pytest.mark.long
def test_xla_compiled_step_of_tensorflow_has_the_same_losses(saved_model):
    _, x = saved_model
    losses = []
    for jit in (False, True):
        keras.utils.set_random_seed(1)
        model = VAE(
            networks.dense_encoder((28, 28, 1), 3, (16,)), networks.dense_decoder((28, 28, 1), 3, (16,)), seed=2
        )
        model.compile("adam", jit_compile=jit)
        losses.append([model.train_on_batch(x[:50], return_dict=True)["loss"] for _ in range(2)])
    # With XLA's own normals the first losses would differ by 1e-4.
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_unknown_backend_is_refused(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    with pytest.raises(RequestError, match="KERAS_BACKEND is numpy; kvae trains on tensorflow, jax and torch"):
        startup.require_to_train()


@pytest.mark.parametrize("missing", ["jax", "torch"])
def test_missing_backend_is_named_with_its_extra(monkeypatch, missing):
    monkeypatch.setattr(startup.importlib.util, "find_spec", lambda name: None if name == missing else object())
    monkeypatch.setenv("KERAS_BACKEND", missing)
    with pytest.raises(MissingExtraError, match=rf"{missing} is not installed.*kvae-onnx\[{missing}\]'\.") as raised:
        startup.require_to_train()
    assert raised.value.exit_code == 3
