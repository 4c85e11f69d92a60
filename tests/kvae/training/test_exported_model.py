"""Exported models without their runs: exported again from their data, and as initial weights of a new run."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import kvae
from kvae.commands.export import export as export_command
from kvae.exporting import sealed_weights
from kvae.training import exported_model
from kvae_serve.errors import InputDataError
from support.runs import train


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run of 500 digits with 100 validation rows, exported with rounded weights."""
    root = tmp_path_factory.mktemp("exported")
    run = train(root / "run", conditional=True, epochs=1)
    result = CliRunner().invoke(export_command, [str(run.directory), "-o", str(root / "model"), "--weights", "float16"])
    assert result.exit_code == 0, result.output
    return root / "model"


def invoke(*arguments):
    return CliRunner().invoke(export_command, list(map(str, arguments)))


def test_model_exported_again_has_the_same_bytes(exported, tmp_path):
    result = invoke(exported, "-o", tmp_path / "again", "--data", "mnist-sample", "-q")
    assert result.exit_code == 0, result.output
    for path in exported.iterdir():
        if path.name not in ("README.md", "preview.png"):  # The card lacks the cost of rounding, which is not known.
            assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    score = kvae.load(tmp_path / "again").manifest.raw["score"]
    assert (score["split"], score["examples"]) == ("validation", 100)


def test_model_without_validation_rows_gets_quantiles_of_test_rows(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (40, 4, 4, 1)).astype("uint8") * 255
    np.savez(tmp_path / "x.npz", x_train=x[:30], x_test=x[30:])
    run = train(tmp_path / "run", data=str(tmp_path / "x.npz"), validation=0, epochs=1)
    assert invoke(run.directory, "-o", tmp_path / "model", "-q").exit_code == 0
    assert kvae.load(tmp_path / "model").manifest.raw["score"]["split"] == "training"
    assert invoke(tmp_path / "model", "-o", tmp_path / "again", "--data", tmp_path / "x.npz", "-q").exit_code == 0
    score = kvae.load(tmp_path / "again").manifest.raw["score"]
    assert (score["split"], score["examples"]) == ("validation", 10)


def test_data_of_another_run_are_refused(exported, tmp_path):
    model = kvae.load(exported)
    rng = np.random.default_rng(0)
    for name, num, classes in (("fewer", 300, 10), ("other", 600, 9)):
        x, label = rng.integers(0, 256, (num, 28, 28)).astype("uint8"), np.arange(num) % classes
        np.savez(tmp_path / f"{name}.npz", x=x, label=label)
    with pytest.raises(InputDataError, match="has 300 rows; model was trained on 500 of 600"):
        exported_model.load(model, str(tmp_path / "fewer.npz"))
    with pytest.raises(InputDataError, match="another shape, range or conditions"):
        exported_model.load(model, str(tmp_path / "other.npz"))


def test_exported_model_without_data_is_refused(exported, tmp_path):
    result = invoke(exported, "-o", tmp_path / "again")
    assert "Give --data DATA, its training data" in str(result.exception)


@pytest.mark.long
def test_exported_model_provides_the_initial_weights(exported, tmp_path):
    settings = {"conditional": True, "weights_from": str(exported), "learning_rate_schedule": "constant"}
    after = train(tmp_path / "after", **settings, epochs=1, learning_rate=1e-12)
    again = exported_model.load(kvae.load(exported), "mnist-sample")[0]
    for ours, theirs in zip(after.model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-8)


@pytest.mark.long
@pytest.mark.parametrize("name", ["mnist", "mnist-vae", "sprites"])
def test_shipped_weights_have_the_model_id_of_the_files(name, monkeypatch):
    from kvae.data.spec import DataSpec
    from kvae.exporting import graphs
    from kvae.training import factory
    from kvae.training.config import read

    shipped = kvae.load(name)
    manifest = shipped.manifest.to_dict()
    config = read(f"{shipped.path}/config.toml")
    spec = DataSpec(manifest["data"]["shape"], manifest["data"]["range"])
    model = factory.model(config, spec, manifest["conditions"])
    sealed_weights.copy(model, shipped)
    assert graphs.manifest(model, name, None, "float16")["model_id"] == manifest["model_id"]
    assert json.dumps(manifest["score"]["split"]) == '"validation"'
