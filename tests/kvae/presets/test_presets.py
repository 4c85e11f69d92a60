"""Presets: each is a valid configuration that trains, and options override it."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from kvae import presets
from kvae.commands.presets import presets as presets_command
from kvae.commands.train import train as train_command
from kvae.data.sprites import render
from kvae.training import config, train
from kvae_serve.errors import RequestError


def test_names_are_the_documented_presets():
    assert presets.names() == [
        "anomalies",
        "beta-sprites",
        "beta-sprites-conv",
        "emoji-faces",
        "fashion",
        "gated",
        "iwae-paper",
        "mnist-cvae",
        "mnist-vae",
        "tabular",
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small dataset for each preset that does not train on digits."""
    folder = tmp_path_factory.mktemp("data")
    factors = np.stack([np.random.default_rng(0).integers(0, size, 240) for size in render.SIZES], axis=1)
    np.savez(folder / "sprites.npz", x=render.render(factors))
    rows = [f"{i * 0.1},{'rain' if i % 3 else 'sun'},{i % 7}" for i in range(240)]
    (folder / "table.csv").write_text("\n".join(["hours,weather,day", *rows]) + "\n")
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (240, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "emoji-faces.npz", x=x, y=random.choice(["smiley", "animal"], 240))
    table, sprites, faces = (str(folder / name) for name in ("table.csv", "sprites.npz", "emoji-faces.npz"))
    return {
        "anomalies": table,
        "beta-sprites": sprites,
        "beta-sprites-conv": sprites,
        "emoji-faces": faces,
        "tabular": table,
    }


def test_every_preset_has_a_short_description_and_a_valid_configuration():
    for name in presets.names():
        preset = presets.get(name)
        assert preset.line.endswith(".")
        assert len(preset.line) < 120
        assert preset.config.replace(epochs=1) != preset.config


@pytest.mark.parametrize(
    "name", [name if name == "tabular" else pytest.param(name, marks=pytest.mark.long) for name in presets.names()]
)
def test_preset_trains_and_its_config_repeats_the_run(name, data, tmp_path):
    preset = presets.get(name)
    small = preset.config.replace(data=data.get(name, "mnist-sample"), validation=100, epochs=1, batch_size=100)
    run = train.train(small, tmp_path / "run", quiet=True, export_check=False)
    assert run.metadata["finished"]
    written = config.read(tmp_path / "run" / "config.toml")
    # The range of the values and the likelihood of tabular follow from the data, and sigma from the likelihood;
    # everything else is the preset.
    assert preset.config.model.sigma != "auto" or written.model.sigma == "optimal"
    assert written.model.likelihood == ("mixed" if name == "tabular" else small.model.likelihood)
    derived = {"value_range": small.data.value_range, "sigma": small.model.sigma, "likelihood": small.model.likelihood}
    assert written.replace(**derived) == small


def test_iwae_paper_network_is_784_200_200_50():
    from kvae.data.spec import DataSpec
    from kvae.training import factory

    model = factory.model(presets.get("iwae-paper").config, DataSpec((28, 28, 1)))
    widths = [layer.units for layer in model.encoder.layers if hasattr(layer, "units")]
    assert widths == [200, 200, 50, 50]
    assert {layer.activation.__name__ for layer in model.encoder.layers if hasattr(layer, "units")} == {
        "tanh",
        "linear",
    }


def test_options_override_a_preset(tmp_path, monkeypatch):
    class StoppedError(Exception):
        """Ends the command before the training."""

    def capture(wanted, *_, **__):
        configs.append(wanted)
        raise StoppedError

    configs = []
    monkeypatch.setattr(train, "train", capture)
    options = ["--preset", "gated", "--data", "mnist-sample", "--epochs", "1", "--latent-dim", "3"]
    result = CliRunner().invoke(train_command, [*options, "-q", "-o", str(tmp_path / "run")])
    assert isinstance(result.exception, StoppedError)
    (wanted,) = configs
    assert (wanted.training.epochs, wanted.model.latent_dim) == (1, 3)
    assert wanted.model.encoder_hidden == presets.get("gated").config.model.encoder_hidden == (300, 300)


def test_unknown_preset_is_rejected_with_the_names_of_all(tmp_path):
    result = CliRunner().invoke(train_command, ["--preset", "gatde", "-o", str(tmp_path / "run")])
    assert isinstance(result.exception, RequestError)
    assert str(result.exception) == f"Unknown preset gatde. The presets are {', '.join(presets.names())}."
    both = CliRunner().invoke(train_command, ["--preset", "gated", "--config", "c.toml", "-o", str(tmp_path / "run")])
    assert "Give one of them" in str(both.exception)


def test_command_lists_every_preset():
    lines = CliRunner().invoke(presets_command, []).output.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == presets.names()
    listed = json.loads(CliRunner().invoke(presets_command, ["--json"]).output)
    assert [preset["name"] for preset in listed] == presets.names()
    assert listed[presets.names().index("gated")]["config"]["model"]["latent_dim"] == 40


def test_list_wraps_between_words_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    presets_command.callback(as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 50
    words = {word for name in presets.names() for word in f"{name} {presets.get(name).line}".split()}
    expected = {word for name in presets.names() for word in presets.get(name).expected.split()}
    assert {word for line in lines for word in line.split()} == words | expected
