"""Presets: each is a valid configuration, takes steps on real digits, and gives way to flags."""

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


def test_the_presets_that_are_promised_are_there():
    assert presets.names() == [
        "beta-sprites",
        "beta-sprites-conv",
        "fashion",
        "gated",
        "iwae-paper",
        "mnist-cvae",
        "mnist-vae",
        "tabular",
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """What each preset trains on, few of it; real digits for those that are not named."""
    folder = tmp_path_factory.mktemp("data")
    factors = np.stack([np.random.default_rng(0).integers(0, size, 240) for size in render.SIZES], axis=1)
    np.savez(folder / "sprites.npz", x=render.render(factors))
    rows = [f"{i * 0.1},{'rain' if i % 3 else 'sun'},{i % 7}" for i in range(240)]
    (folder / "table.csv").write_text("\n".join(["hours,weather,day", *rows]) + "\n")
    sprites_file = str(folder / "sprites.npz")
    return {"beta-sprites": sprites_file, "beta-sprites-conv": sprites_file, "tabular": str(folder / "table.csv")}


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_trains_on_a_few_examples(name, data, tmp_path):
    preset = presets.get(name)
    assert preset.line.endswith(".")
    assert len(preset.line) < 120
    small = preset.config.replace(data=data.get(name, "mnist-sample"), validation=100, epochs=1, batch_size=100)
    run = train.train(small, tmp_path / "run", quiet=True, export_check=False)
    assert run.metadata["finished"]
    # What was written does it again: the resolved settings, the preset's own among them.
    written = config.read(tmp_path / "run" / "config.toml")
    assert written == small
    assert written.model == preset.config.model


def test_the_net_of_the_iwae_paper_is_784_200_200_50():
    from kvae.data.spec import DataSpec
    from kvae.training import factory

    model = factory.model(presets.get("iwae-paper").config, DataSpec((28, 28, 1)))
    widths = [layer.units for layer in model.encoder.layers if hasattr(layer, "units")]
    assert widths == [200, 200, 50, 50]
    assert {layer.activation.__name__ for layer in model.encoder.layers if hasattr(layer, "units")} == {
        "tanh",
        "linear",
    }


def test_flags_override_a_preset(tmp_path):
    flags = ["--preset", "gated", "--data", "mnist-sample", "--validation", "100", "--epochs", "1", "--latent-dim", "3"]
    result = CliRunner().invoke(train_command, [*flags, "-q", "--no-export-check", "-o", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    written = config.read(tmp_path / "run" / "config.toml")
    assert written.model.latent_dim == 3
    assert written.model.encoder_hidden == presets.get("gated").config.model.encoder_hidden == (300, 300)


def test_an_unknown_preset_is_refused_with_the_names_of_all(tmp_path):
    result = CliRunner().invoke(train_command, ["--preset", "gatde", "-o", str(tmp_path / "run")])
    assert isinstance(result.exception, RequestError)
    assert str(result.exception) == f"Unknown preset gatde. The presets are {', '.join(presets.names())}."
    both = CliRunner().invoke(train_command, ["--preset", "gated", "--config", "c.toml", "-o", str(tmp_path / "run")])
    assert "give one of them" in str(both.exception)


def test_the_command_lists_every_preset():
    lines = CliRunner().invoke(presets_command, []).output.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == presets.names()
    listed = json.loads(CliRunner().invoke(presets_command, ["--json"]).output)
    assert [preset["name"] for preset in listed] == presets.names()
    assert listed[presets.names().index("gated")]["config"]["model"]["latent_dim"] == 40
