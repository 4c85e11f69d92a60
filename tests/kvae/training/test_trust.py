"""Runs and .keras files of strangers: weights and numbers are read from them, and nothing of them is run."""

import hashlib
import json
import shutil
import zipfile

import keras
import numpy as np
import pytest

import kvae
from kvae.training import checkpoint, config, run_folder, saved_run, train
from kvae_serve.errors import InputDataError, RequestError

SMALL = {
    "data": "mnist-sample", "validation": 0, "epochs": 1, "latent_dim": 2, "batch_size": 250, "encoder_hidden": (4,),
    "decoder_hidden": (4,), "checkpoint_every": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("trust") / "run"
    return train.train(config.Config().replace(**SMALL), directory, quiet=True, export_check=False).directory


def with_config(source, target, document):
    """A copy of a .keras file with another description of the model."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            new.writestr(member, json.dumps(document) if member == "config.json" else old.read(member))


def hostile_documents(canary):
    """Descriptions of a model that would write a file, by every way that Keras has had."""
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


def test_load_model_runs_nothing_that_a_file_describes(run, tmp_path):
    canary = tmp_path / "canary"
    for name, document in hostile_documents(canary).items():
        with_config(run / run_folder.MODEL, tmp_path / "evil.keras", document)
        with pytest.raises((ValueError, TypeError, ImportError)):
            kvae.load_model(tmp_path / "evil.keras")
        assert not canary.exists(), name


def test_export_rebuilds_the_model_in_code_and_reads_weights_alone(run, tmp_path):
    """The description inside model.keras is never looked at."""
    want = [variable.numpy() for variable in saved_run.load(run)[0].variables]
    canary = tmp_path / "canary"
    for name, document in hostile_documents(canary).items():
        shutil.copytree(run, tmp_path / "run")
        with_config(run / run_folder.MODEL, tmp_path / "run" / run_folder.MODEL, document)
        model, _ = saved_run.load(tmp_path / "run")
        for variable, values in zip(model.variables, want, strict=True):
            np.testing.assert_array_equal(variable.numpy(), values)
        assert type(model).__module__ == "kvae.models.vae"
        assert not canary.exists(), name
        shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04cos\nsystem\n", b"x" * 5000], ids=repr)
def test_a_model_file_of_anything_else_is_refused_in_a_line(run, tmp_path, content):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / run_folder.MODEL).write_bytes(content)
    with pytest.raises(InputDataError, match="cannot rebuild the model") as error:
        saved_run.load(tmp_path / "run")
    assert len(str(error.value).splitlines()) == 1


def test_facts_and_settings_of_anything_else_are_refused_in_a_line(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    facts = tmp_path / "run" / run_folder.METADATA
    for content in ("[" * 100_000, "{}", "null", '{"data": 1}', " " * 2**25):
        facts.write_text(content)
        with pytest.raises(InputDataError, match="corrupted"):
            saved_run.load(tmp_path / "run")


HOSTILE_SETTINGS = {
    "deep lists": ("a = " + "[" * 900 + "]" * 900, "nested too deeply"),
    "deep tables": ("a = " + "{b=" * 5000, "nested too deeply"),
    "too long": ("#" * 2**17, "more than 65536 bytes"),
    "bytes": (b"\xff\xfe", "not a TOML"),
    "escapes": ('"\\u001b[31m" = 1', "unknown section"),
    "a function for a network": ('[model]\nnetwork = "os.system"', "must be one of"),
    "widths beyond memory": ("[model]\nencoder_hidden = [100000, 100000]", "149 GiB"),
    "filters beyond memory": ('[model]\nnetwork = "conv"\nencoder_filters = [100000, 100000]', "GiB"),
    "units beyond memory": ('[model]\nnetwork = "lstm"\nlstm_units = 100000', "GiB"),
    "a hundred thousand layers": ("[model]\nencoder_hidden = [" + "1," * 10_000 + "]", "at most 100"),
    "latent dimensions": ("[model]\nlatent_dim = 1000000000000", "less than 2"),
    "epochs": ("[training]\nepochs = 99999999999999999999", "less than 2"),
    "a beta of 500 digits": ("[objective]\nbeta = 1" + "0" * 500, "finite"),
    "NaN": ("[training]\nlearning_rate = nan", "positive number"),
    "a date": ("[training]\nepochs = 1979-05-27T07:32:00Z", "of type int"),
}


@pytest.mark.parametrize("name", HOSTILE_SETTINGS)
def test_settings_that_no_run_has_are_refused(tmp_path, name):
    content, reason = HOSTILE_SETTINGS[name]
    path = tmp_path / "config.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RequestError, match=reason) as error:
        config.read(path)
    assert len(str(error.value)) < 500


def test_a_checkpoint_that_was_made_to_harm_is_a_damaged_one(tmp_path):
    def sealed(header, body=b""):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        data = b"kvae checkpoint 1\n" + len(text).to_bytes(8, "little") + text + body
        return data + hashlib.sha256(data).digest()

    hostile = [
        sealed(b"[" * 100_000), sealed({}), sealed([]), sealed({"state": {}, "arrays": [["a", "O", [1]]]}, bytes(8)),
        sealed({"state": {}, "arrays": [["a", "<f4", [-1]]]}, bytes(8)),
        sealed({"state": {}, "arrays": [["a", "<f4", [2**62]]]}), sealed({"state": {}, "arrays": [["a", "evil", [1]]]}),
        sealed({"state": [], "arrays": []}), sealed({"state": {}, "arrays": 5}), sealed(b"\xff" * 50),
        b"kvae checkpoint 1\n" + b"\xff" * 8 + bytes(32),
    ]  # fmt: skip
    for data in hostile:
        (tmp_path / "a.checkpoint").write_bytes(data)
        with pytest.raises(checkpoint.CorruptedError):
            checkpoint.read(tmp_path / "a.checkpoint")
