"""Training under JAX and PyTorch, where no TensorFlow is, beside the reference: the same noise, first loss and run.

Facts of PyTorch need it beside TensorFlow, and run by name: `python -m pytest -m torch`.
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
from kvae.commands.train import train as train_command
from kvae.data import sources
from kvae.models.vae import VAE, load_model
from kvae.training import checkpoint, export_check, run_data, run_folder, saved_run
from kvae_serve.errors import RequestError
from support import on_engine
from support.paths import python_path

ROOT = Path(__file__).parents[3]
TORCH = pytest.param("torch", marks=pytest.mark.torch)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The folder of answers of TensorFlow, in this process."""
    folder = tmp_path_factory.mktemp("tensorflow")
    on_engine.answer(folder)
    return folder


@pytest.fixture(scope="module")
def given():
    """A model of TensorFlow after one epoch, one layer of which is kept small, and 100 examples."""
    x = sources.load("mnist-sample", "train").x[:100]
    keras.utils.set_random_seed(1)
    pixels = keras.Input((28, 28, 1))
    small = keras.layers.Dense(16, "relu", kernel_regularizer=keras.regularizers.L2(1.0))
    hidden = small(keras.layers.Flatten()(pixels))
    encoder = keras.Model(pixels, [keras.layers.Dense(3)(hidden), keras.layers.Dense(3)(hidden)])
    model = VAE(encoder, networks.dense_decoder((28, 28, 1), 3, (16,)), seed=2)
    from kvae.optimizers import Adam

    model.compile(Adam(1e-3))
    model.fit(x, batch_size=50, epochs=1, verbose=0)
    return model, x


@pytest.fixture(scope="module")
def ask(given, tmp_path_factory):
    """A function of an engine to the folder of its answers: a process trains beside TensorFlow, and then without."""

    @functools.cache
    def process(name):
        folder = tmp_path_factory.mktemp(name)
        given[0].save(folder / "other.keras")
        done = subprocess.run(
            [sys.executable, ROOT / "tests" / "support" / "on_engine.py", folder],
            env=os.environ | {"KERAS_BACKEND": name, "JAX_PLATFORMS": "cpu", "PYTHONPATH": python_path(ROOT / "tests")},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        (folder / "stderr").write_text(done.stderr)
        return folder, done.returncode

    def ask(name):
        pytest.importorskip(name)
        folder, code = process(name)
        assert code == 0, (folder / "stderr").read_text()
        return folder

    return ask


@pytest.fixture(params=["jax", TORCH])
def answers(request, ask):
    """The folder of answers of an engine other than TensorFlow."""
    return ask(request.param)


@pytest.fixture
def jax_answers(ask):
    return ask("jax")


@pytest.fixture(params=[TORCH])
def torch_answers(request, ask):
    return ask(request.param)


def found(folder):
    return json.loads((folder / "found.json").read_text())


def engine_of(folder):
    return json.loads((folder / "run" / run_folder.METADATA).read_text())["engine"]


def test_noise_is_the_same(reference, answers):
    ours, theirs = (np.load(folder / "noise.npz") for folder in (reference, answers))
    assert len(ours.files) == 4
    for name in ours.files:
        binary = set(np.unique(ours[name])) <= {0.0, 1.0}
        # Of normals up to 5 the last digits of logarithm, sine and cosine may differ.
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=0 if binary else 2e-6)


@pytest.mark.parametrize("name", on_engine.FIRST)
def test_the_first_loss_is_the_same(reference, answers, name):
    ours, theirs = found(reference)["first"][name], found(answers)["first"][name]
    assert set(ours) == set(theirs) == {"loss", "elbo", "reconstruction", "kl", "beta"}
    # bfloat16 has 8 bits, and sums are rounded to it in another order.
    tolerance = 2e-3 if name == "bfloat16" else 1e-5
    for figure in ("loss", "elbo", "reconstruction"):
        np.testing.assert_allclose(theirs[figure], ours[figure], rtol=tolerance, err_msg=figure)


def _copy(model, folder):
    model.save(folder / "copy.keras")
    return load_model(folder / "copy.keras")


def test_gradients_are_the_same_with_the_penalties_of_a_layer(given, answers, tmp_path):
    model, x = given
    ours = on_engine.gradients(_copy(model, tmp_path), x)
    with np.load(answers / "gradients.npz") as theirs:
        assert len(theirs.files) == len(ours)
        for name, our_gradient in zip(theirs.files, ours, strict=True):
            np.testing.assert_allclose(theirs[name], our_gradient, rtol=1e-3, atol=1e-5 * np.abs(our_gradient).max())


def test_what_is_learned_without_a_gradient_is_the_same(reference, answers):
    ours, theirs = found(reference)["after"], found(answers)["after"]
    np.testing.assert_allclose(theirs["elbo"], ours["elbo"], rtol=1e-4)


def history(run):
    with (run / run_folder.HISTORY).open() as file:
        return list(csv.DictReader(file))


def test_whole_runs_agree(reference, answers):
    ours, theirs = history(reference / "run"), history(answers / "run")
    assert len(ours) == len(theirs) == 4
    assert [list(row) for row in ours] == [list(row) for row in theirs]
    for our_row, their_row in zip(ours, theirs, strict=True):
        assert float(our_row["beta"]) == pytest.approx(float(their_row["beta"]), rel=1e-6)
        for name in ("elbo", "val_elbo", "val_loss", "val_kl_0"):
            np.testing.assert_allclose(float(their_row[name]), float(our_row[name]), rtol=1e-3, atol=1e-3)
    # beta is taken at the step of the validation: it is no constant of the first one.
    last = {name: float(value) for name, value in theirs[-1].items()}
    assert last["val_loss"] == pytest.approx(last["val_reconstruction"] + 2 * last["val_kl"], rel=1e-5)


def test_a_resumed_run_is_the_uninterrupted_one(answers):
    whole, cut = answers / "run", answers / "cut"
    names = [path.name for path in checkpoint.Store(whole / run_folder.CHECKPOINTS).paths()]
    assert names == ["epoch-000004.checkpoint", "epoch-000003.checkpoint"]
    for name in (*(f"{run_folder.CHECKPOINTS}/{name}" for name in names), run_folder.HISTORY, run_folder.METADATA):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name


def test_the_step_of_jax_stays_on_its_device_and_is_compiled_once(jax_answers):
    answers = found(jax_answers)
    assert answers["leaves_the_device"] == []
    assert answers["num_batches"] % 4 == 2  # so several steps at once, and one
    first, after_one, *later = answers["compiled"]
    assert first < after_one
    assert set(later) == {after_one}


def test_the_step_of_torch_reads_nothing_of_its_device_and_knows_its_count(torch_answers):
    answers = found(torch_answers)
    assert answers["reads"] == 0
    # A count that somebody else has set, one step on, the optimiser's own; and what an epoch then adds.
    assert answers["steps"] == [100, 101, 101, 101]
    assert answers["latest"] == [["beta", "elbo", "kl", "loss", "reconstruction"], "Tensor"]


def test_mixed_precision_multiplies_in_bfloat16_and_sums_in_float32(answers):
    answers = found(answers)
    # JAX tells the line of a product, `a:bf16[50,64] = dot_general ...`, PyTorch its type.
    products = [product for product in answers["products"] if {"bf16", "bfloat16"} & set(_words(product.split("=")[0]))]
    assert len(products) > 8
    assert answers["objective"] == ["float32"] * 3


def _words(text):
    return re.findall(r"\w+", text)


def test_data_on_the_device_are_the_data_under_torch(torch_answers):
    resident = found(torch_answers)["resident"]
    assert resident["device is"] == ["ResidentRows", "torch.uint8", True]
    assert resident["memory is"] == ["Rows", "uint8", False]
    assert resident["device"] == resident["memory"]
    assert resident["device"][0] == 6
    assert resident["free of a CPU"] == 0


def test_words_that_a_device_makes_are_those_of_numpy(torch_answers):
    assert found(torch_answers)["words"] is True


def test_all_that_kvae_has_trains_under_torch(torch_answers):
    losses = found(torch_answers)["losses"]
    assert len(losses) == 12
    for name, figures in losses.items():
        assert np.isfinite(figures).all(), (name, figures)


def test_data_on_the_device_are_the_data(jax_answers):
    resident = found(jax_answers)["resident"]
    assert resident["device is"] == ["ResidentRows", "uint8"]
    assert resident["memory is"] == ["Rows", "uint8"]
    assert resident["device"] == resident["memory"]
    assert resident["device"][0] == 6
    for what in ("evaluated", "predicted", "eagerly"):
        # In bfloat16, compiled with the rows taken inside and not.
        assert resident[f"device {what}"] == pytest.approx(resident[f"memory {what}"], rel=1e-3), what


def test_a_run_of_data_on_the_device_is_the_run_of_data_in_memory(answers):
    assert found(answers)["resident"]["code"] == 0
    whole, resident = (history(answers / name) for name in ("run", "resident"))
    assert [list(map(float, row.values())) for row in resident] == [
        pytest.approx(list(map(float, row.values())), rel=1e-6) for row in whole
    ]


def test_sums_over_many_batches_lose_nothing(answers):
    # Single precision alone would round each batch's 123.4567 to 123.5 at the end.
    totals = found(answers)["totals"]
    assert totals["batches"] == 20_000
    assert totals["loss"] == pytest.approx(0.1234567, rel=1e-6)
    assert totals["elbo"] == pytest.approx(-0.2469134, rel=1e-6)


def test_tensorflow_is_left_alone_and_the_terminal_holds_our_lines_only(answers):
    assert found(answers)["opened"] == []
    said = (answers / "stderr").read_text().splitlines()[:-2]  # the refusals, see below
    assert [line.split(" ")[0] for line in said] == ["Training", *["epoch"] * 4, "Done.", "Next:"], said


def test_where_there_is_no_tensorflow_training_needs_none_and_export_says_so(answers):
    folder, answers, said = answers, found(answers), (answers / "stderr").read_text().splitlines()[-2:]
    assert answers["export"] == answers["tensorboard"] == 3
    missing = "needs tensorflow, which is not installed: pip install 'kvae-onnx[train]'."
    assert said == [f"Error: This {missing}", f"Error: --tensorboard {missing}"]
    assert json.loads((folder / "run" / run_folder.METADATA).read_text())["training"]["versions"].keys() == {
        "kvae-onnx", "keras", engine_of(folder),
    }  # fmt: skip


def test_a_model_of_another_engine_is_scored_and_exported_by_tensorflow(answers, tmp_path):
    from click.testing import CliRunner

    from kvae.commands.export import export
    from kvae_serve import model as served

    model, facts = saved_run.load(answers / "run")
    _, (x, given) = run_data.splits(answers / "run")
    model.compile("adam")
    saved = load_model(answers / "run")
    steps = 4 * facts["steps_per_epoch"]
    assert saved.steps_done() == saved.optimizer.iterations.numpy() == steps
    saved.fit(x[:50], {name: values[:50] for name, values in given.items()}, batch_size=50, verbose=0)
    assert saved.steps_done() == steps + 1
    figures = model.evaluate(x, given, batch_size=500, verbose=0, return_dict=True)
    assert figures["elbo"] == pytest.approx(facts["training"]["validation"]["elbo"], rel=1e-4)
    done = CliRunner().invoke(export, [str(answers / "run"), "-o", str(tmp_path / "onnx"), "-q"])
    assert done.exit_code == 0, done.output
    assert engine_of(answers) in served.load(tmp_path / "onnx").manifest.training["versions"]


def test_the_export_check_of_another_engine_is_asked_of_tensorflow_in_another_process(jax_answers, monkeypatch, capsys):
    folder = jax_answers / "run"
    export_check.main(folder)  # what that process does: says nothing where all is well

    def refuse(*_, **__):
        raise RequestError("layer odd has no ONNX form.")

    with monkeypatch.context() as patched:
        patched.setattr(export_check.graphs, "export", refuse)
        with pytest.raises(SystemExit) as left:
            export_check.main(folder)
    said = capsys.readouterr().err
    assert (left.value.code, said) == (2, "layer odd has no ONNX form.\n")
    asked = []

    def run(command, env, **_):
        asked.append((command[1:], env["KERAS_BACKEND"]))
        return subprocess.CompletedProcess(command, left.value.code, "", f"a warning\n{said}")

    monkeypatch.setattr(export_check.subprocess, "run", run)
    with pytest.raises(RequestError, match=r"^layer odd has no ONNX form\.$"):
        export_check._run_in_child(folder)
    assert asked == [(["-m", "kvae.training.export_check", str(folder)], "tensorflow")]


def test_a_model_of_tensorflow_goes_on_under_another_engine(given, answers):
    model, x = given
    expected = model.evaluate(x, batch_size=50, verbose=0, return_dict=True)
    answers = found(answers)
    for name in ("loss", "elbo", "kl"):
        assert answers["other"][name] == pytest.approx(expected[name], rel=1e-5)
    assert answers["other_steps"] == 2 + 2  # two steps then, and 100 examples in batches of 50


def test_a_run_goes_on_under_its_own_engine_alone(answers, reference):
    name = engine_of(answers)
    with pytest.raises(RequestError, match=rf"started on the backend {name} .*KERAS_BACKEND={name}"):
        run_folder.open_existing(answers / "run", {"epochs": 9})


def test_xla_compiles_the_step_of_tensorflow(given):
    _, x = given
    losses = []
    for jit in (False, True):
        keras.utils.set_random_seed(1)
        model = VAE(
            networks.dense_encoder((28, 28, 1), 3, (16,)), networks.dense_decoder((28, 28, 1), 3, (16,)), seed=2
        )
        model.compile("adam", jit_compile=jit)
        losses.append([model.train_on_batch(x[:50], return_dict=True)["loss"] for _ in range(2)])
    # The same noise: XLA's own normals would put the first loss 1e-4 apart.
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_an_engine_that_kvae_does_not_train_on_is_refused(monkeypatch):
    from kvae.backends import startup

    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    with pytest.raises(RequestError, match="trains on tensorflow, jax and torch, got KERAS_BACKEND=numpy"):
        startup.require_to_train()


@pytest.mark.parametrize("missing", ["jax", "torch"])
def test_the_command_says_which_engine_is_missing(monkeypatch, missing):
    from kvae.backends import startup
    from kvae_serve.errors import MissingExtraError

    monkeypatch.setattr(startup.importlib.util, "find_spec", lambda name: None if name == missing else object())
    monkeypatch.setenv("KERAS_BACKEND", missing)
    with pytest.raises(MissingExtraError, match=rf"needs {missing}.*kvae-onnx\[{missing}\]'\.") as raised:
        startup.require_to_train()
    assert raised.value.exit_code == 3
    assert train_command.name == "train"
