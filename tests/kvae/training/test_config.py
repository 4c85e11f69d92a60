"""Settings: validation, replacement, and `config.toml`."""

import pytest

from kvae.training import config
from kvae_serve.errors import RequestError


def test_config_round_trips_through_toml(tmp_path):
    written = config.Config().replace(
        data="mnist-sample", conditional=True, beta=2.0, initial_beta=4.0, warmup_epochs=1.5, encoder_hidden=(9, 8)
    )
    (tmp_path / "config.toml").write_text(written.to_toml())
    assert config.read(tmp_path / "config.toml") == written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_dims": 3}, "Unknown setting latent_dims. Did you mean latent_dim?"),
        ({"xyz": 3}, "Unknown setting xyz. `kvae train --help` lists all settings."),
        ({"latent_dim": "three"}, "latent_dim must be of type int, got 'three'."),
        ({"encoder_hidden": 512}, "encoder_hidden must be a list, got 512."),
        ({"patience": 3, "validation": 0}, "patience needs validation data. Set --validation to a number above 0."),
    ],
)
def test_invalid_setting_is_one_line(changes, message):
    with pytest.raises(RequestError) as error:
        config.Config().replace(**changes)
    assert str(error.value) == message


def test_settings_from_python_may_be_paths_lists_and_integers(tmp_path):
    changed = config.Config().replace(data=tmp_path, encoder_hidden=[9], beta=2)
    assert changed.data.data == str(tmp_path)
    assert changed.model.encoder_hidden == (9,)
    assert changed.objective.beta == 2.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model]\nlatent_dims = 3", r"unknown key latent_dims in \[model\]; known: network, latent_dim"),
        ("[model]\nlatent_dim = 'three'", "latent_dim must be of type int, got 'three'"),
        ("[model]\nlatent_dim = true", "must be of type int"),
        ("[model]\nlatent_dim = 0", "latent_dim must be at least 1"),
        ("[model]\nnetwork = 'rnn'", "one of auto, dense, conv"),
        ("[models]\n", "unknown section models"),
        ("[objective]\nbeta = nan", "beta must be at least 0 and finite"),
        ("[training]\nlearning_rate = -1", "learning_rate must be a positive number"),
        ("model = 3", "must be a table"),
        ("format = 2", "format 2"),
        ("not toml", "not a TOML file"),
    ],
)
def test_invalid_file_is_one_line_that_names_the_key(text, words, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(RequestError, match=words) as error:
        config.read(path)
    assert "\n" not in str(error.value)


HOSTILE = {
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


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_refused(tmp_path, name):
    content, reason = HOSTILE[name]
    path = tmp_path / "config.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RequestError, match=reason) as error:
        config.read(path)
    assert len(str(error.value)) < 500


def test_configuration_of_an_earlier_version_keeps_its_meaning(tmp_path):
    path = tmp_path / "config.toml"
    earlier = 'format = 1\n[model]\nlikelihood = "{}"\nsigma = "optimal"\ndecoder_filters = [64, 32]\n'
    written = config.Config().replace(likelihood="discretized_logistic", sigma="optimal", decoder_filters=(64, 32))
    path.write_text(earlier.format("discretized_logistic"))  # Only a few keys, so a person or a preset chose them.
    assert config.read(path) == written
    earlier += 'lstm_units = 128\nbinarize = "dynamic"\n'
    path.write_text(earlier.format("discretized_logistic"))
    assert (config.read(path).model.sigma, config.read(path).model.numbers) == ("element", "standard")
    path.write_text(earlier.format("mixed"))
    assert (config.read(path).model.sigma, config.read(path).model.numbers) == ("optimal", "standard")
    path.write_text('[model]\nlikelihood = "discretized_logistic"\nsigma = "optimal"\n')
    assert config.read(path).model.sigma == "optimal"
