"""Untrusted runs and .keras files: only weights and numbers are read from them, and no code is executed."""

import json
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import kvae
from kvae.__main__ import run as main
from kvae.training import run_folder, saved_run
from kvae_serve.errors import InputDataError
from support.runs import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("trust") / "run"
    return train(directory, validation=0, epochs=1, batch_size=250, encoder_hidden=(4,), decoder_hidden=(4,)).directory


def with_config(source, target, document):
    """Copy a .keras file with a different description of the model."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            new.writestr(member, json.dumps(document) if member == "config.json" else old.read(member))


def hostile_documents(canary):
    """Descriptions of a model that would write a file, by every mechanism that Keras has had."""
    code = f"import pathlib; pathlib.Path({str(canary)!r}).write_text('owned')"
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)])
    lambda_layer = json.loads(model.to_json())
    call = {"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "function"}
    return {
        "a Lambda": lambda_layer,
        "a function of the system": {"module": "os", "class_name": "system", "config": {"command": f"touch {canary}"}},
        "a function as a class": {"module": "builtins", "class_name": "exec", "config": {"source": code}},
        "any import": {"module": "this_is_no_module", "class_name": "Evil", "config": {}},
        "a function inside": {
            "module": "keras", "class_name": "Sequential", "registered_name": None,
            "config": {"name": "s", "layers": [
                {"module": "keras.layers", "class_name": "Dense", "registered_name": None,
                 "config": {"units": 1, "activation": call}}]},
        },
        "an attribute of a module": {
            "module": "keras.src.utils.file_utils", "class_name": "get_file", "config": {"fname": str(canary)},
        },
    }  # fmt: skip


def test_load_model_executes_no_code_of_a_file(run, tmp_path):
    canary = tmp_path / "canary"
    for name, document in hostile_documents(canary).items():
        with_config(run / run_folder.MODEL, tmp_path / "evil.keras", document)
        with pytest.raises((ValueError, TypeError, ImportError)):
            kvae.load_model(tmp_path / "evil.keras")
        assert not canary.exists(), name


def test_saved_run_reads_only_weights_from_the_model_file(run, tmp_path):
    expected = [variable.numpy() for variable in saved_run.load(run)[0].variables]
    canary = tmp_path / "canary"
    for name, document in hostile_documents(canary).items():
        shutil.copytree(run, tmp_path / "run")
        with_config(run / run_folder.MODEL, tmp_path / "run" / run_folder.MODEL, document)
        model, _ = saved_run.load(tmp_path / "run")
        for variable, values in zip(model.variables, expected, strict=True):
            np.testing.assert_array_equal(variable.numpy(), values)
        assert type(model).__module__ == "kvae.models.vae"
        assert not canary.exists(), name
        shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04cos\nsystem\n", b"x" * 5000], ids=repr)
def test_invalid_model_file_is_one_line(run, tmp_path, content):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / run_folder.MODEL).write_bytes(content)
    with pytest.raises(InputDataError, match="cannot rebuild the model") as error:
        saved_run.load(tmp_path / "run")
    assert len(str(error.value).splitlines()) == 1


def test_invalid_metadata_is_one_line(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    metadata = tmp_path / "run" / run_folder.METADATA
    whole = json.loads(metadata.read_text())
    hidden = [{"name": "\u200b" * 200, "kind": "\x1b[31m" * 100}]
    tampered = [
        {**whole, "conditions": hidden}, {**whole, "conditions": 10**4000}, {**whole, "data": {"kind": "\x1b" * 999}},
        {**whole, "steps_per_epoch": 10**4000}, {**whole, "steps_per_epoch": "\u202e" * 300},
        {**whole, "training": [1]}, {**whole, "conditions": [{"name": "a" * 10**6}]},
    ]  # fmt: skip
    corrupted = ["[" * 100_000, "{}", "null", '{"data": 1}', " " * 2**25, '{"data": ' + "9" * 5000 + "}"]
    for content in (*corrupted, *map(json.dumps, tampered)):
        metadata.write_text(content)
        with pytest.raises(InputDataError, match=r"corrupted|cannot rebuild") as error:
            saved_run.load(tmp_path / "run")
        assert str(error.value).isprintable()
        assert len(str(error.value).replace(str(tmp_path), "")) <= 193


RUN_FILES = {
    "config.toml": [
        "[model]\nlatent_dim = " + "9" * 5000, "[model]\nlatent_dim = 2147483647", "[evil]\nx = 1", "\x00",
        "[" * 50_000,
        "[model]\nnetwork = \"__import__('os')\"", '[data]\ndata = "/dev/zero"\n[model]\nlatent_dim = "\\u001b[31m"',
        "format = 99", "[model]\nencoder_hidden = [" + "9, " * 1000 + "9]", "x" * 2**21,
    ],
    "run.json": [
        "{}", "[" * 10**5, '{"data": 1, "conditions": [], "steps_per_epoch": 1, "training": {}}', "\x1b[31m",
        "9" * 5000,
        '{"data": {"kind": "\\u202e"}, "conditions": 3, "steps_per_epoch": 1, "training": {"examples": 1}}',
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", RUN_FILES)
def test_export_of_a_hostile_run_is_one_line_and_writes_nothing(run, tmp_path, capsys, name):
    shutil.copytree(run, tmp_path / "run")
    for content in RUN_FILES[name]:
        (tmp_path / "run" / name).write_text(content)
        code = main(["export", str(tmp_path / "run"), "-o", str(tmp_path / "out"), "-q"])
        error = capsys.readouterr().err
        assert code in (2, 4), (content[:40], error)
        assert error.startswith("Error: ")
        assert error[:-1].isprintable()
        assert len(error) <= 1001
        assert [path.name for path in tmp_path.iterdir()] == ["run"], content[:40]


@pytest.mark.parametrize("place", [pytest.param("run", marks=pytest.mark.long), "file"])
def test_export_of_a_hostile_keras_file_runs_nothing(run, tmp_path, capsys, place):
    canary, source = tmp_path / "canary", tmp_path / "run"
    shutil.copytree(run, source)
    if place == "file":
        source = tmp_path / "evil.keras"
    for name, document in hostile_documents(canary).items():
        with_config(
            run / run_folder.MODEL, tmp_path / ("run/model.keras" if place == "run" else "evil.keras"), document
        )
        code = main(["export", str(source), "-o", str(tmp_path / "out"), "-q"])
        error = capsys.readouterr().err
        assert not canary.exists(), name
        # Of a run only the weights are read, so its export succeeds.
        assert code == (0 if place == "run" else 4), error
        assert (tmp_path / "out").is_dir() == (place == "run")
        if place == "file":
            assert error.startswith("Error: ")
            assert error[:-1].isprintable()
        else:
            shutil.rmtree(tmp_path / "out")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Skipping invalid path")
def test_weights_with_paths_that_climb_write_nothing_outside(run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(run / run_folder.MODEL) as old, zipfile.ZipFile(tmp_path / "in" / "evil.keras", "w") as new:
        for member in old.namelist():
            new.writestr(member, old.read(member))
        new.writestr("../../owned", "x")
        new.writestr("/tmp/kvae-owned-by-a-test", "x")
        new.writestr("assets/../../owned", "x")
    main(["export", str(tmp_path / "in" / "evil.keras"), "-o", str(tmp_path / "out"), "-q"])
    capsys.readouterr()
    assert {path.name for path in tmp_path.iterdir()} <= {"in", "out"}
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["evil.keras"]
    assert not Path("/tmp/kvae-owned-by-a-test").exists()
