"""Settings to try: their text form, ranges around the defaults, and the errors of wrong requests."""

import numpy as np
import pytest

import kvae
from kvae.commands import tune
from kvae.data import sources
from kvae.training.config import settings
from kvae.tuning import plan, space
from kvae_serve.errors import InputDataError, RequestError
from kvae_serve.readers import Dataset


def make(data, flags=None, **changes):
    request = {"space": None, "grid": None, "metric": "val_elbo", "num_seeds": 1, "factors": None, **changes}
    return plan.make(data, None, flags or {}, **request)


@pytest.fixture(scope="module")
def digits():
    return sources.load("mnist-sample")


def dataset(x):
    return Dataset(x, {}, {}, "data.npy", None)


def test_commas_separate_settings_but_not_values():
    parsed = space.parse_space("objective.beta=1:16:log, encoder_hidden=64,32|128,latent_dim=2:64,gated=true|false")
    assert parsed["objective.beta"] == space.Range(1.0, 16.0, log=True)
    assert parsed["model.encoder_hidden"].values == {"64,32": (64, 32), "128": (128,)}
    assert parsed["model.latent_dim"] == space.Range(2, 64)
    assert parsed["model.gated"].values == {"true": True, "false": False}


def test_mapping_means_the_same_as_text():
    mapping = {"beta": [1, 2.5], "encoder_hidden": [(64, 32), (16,)]}
    assert space.parse_grid(mapping) == space.parse_grid("beta=1,2.5,encoder_hidden=64,32|16")
    assert space.parse_grid({"beta": 4}) == space.parse_grid("beta=4")
    assert space.parse_space({"latent_dim": "2:8"}) == space.parse_space("latent_dim=2:8")


def test_text_of_a_value_has_all_its_digits():
    parsed = space.parse_grid("learning_rate=0.00012345671,0.00012345672,1e-3")["training.learning_rate"]
    assert parsed.values == {"0.00012345671": 0.00012345671, "0.00012345672": 0.00012345672, "0.001": 0.001}
    assert str(space.parse_space("learning_rate=0.00012345671:0.5")["training.learning_rate"]) == "0.00012345671:0.5"


def test_empty_widths_in_a_list_mean_a_network_without_hidden_layers():
    parsed = space.parse_space({"encoder_hidden": [(), (8, 4)]})
    assert parsed["model.encoder_hidden"].values == {"0": (), "8,4": (8, 4)}


@pytest.mark.parametrize(
    ("request_text", "message"),
    [
        ("latent_dmi=2:4", "Unknown setting latent_dmi. Did you mean latent_dim?"),
        ("model.beta=1:4", "Write objective.beta"),
        ("beta=4:1", "ranges from 4 to 1; expected the lower number first"),
        ("beta=2:2", "expected the lower number first"),
        ("beta=0:4:log", "above 0"),
        ("beta=1:4:linear", "expected beta=LOW:HIGH"),
        ("beta=-1:4", "beta must be at least 0"),
        ("beta=nan:4", "nan is not a number"),
        ("latent_dim=2.5:4", "2.5 is not an integer"),
        ("latent_dim=0:4", "latent_dim must be at least 1"),
        ("activation=relu:tanh", "expected choices"),
        ("activation=", "has no values"),
        ("beta", "has no values"),
        ("beta=1:2,beta=1:3", "contains objective.beta twice"),
        ("", "--space is empty"),
        ("validation=5:8", "settings of the data"),
        ("seed=1:8", "give --seeds"),
        ("likelihood=bernoulli|gaussian", "cannot be compared"),
        ("gated=yes|no", "gated cannot be yes"),
    ],
)
def test_wrong_space_is_one_error(request_text, message):
    with pytest.raises(RequestError, match=message.replace("?", r"\?")):
        space.parse_space(request_text)


@pytest.mark.parametrize("text", ["beta=1:4", "beta=1,a", "latent_dim=2,,4"])
def test_wrong_grid_is_one_error(text):
    with pytest.raises(RequestError, match="expected values such as"):
        space.parse_grid(text)


@pytest.mark.parametrize(
    ("request_text", "message"),
    [
        ("lstm_units=8:16", "lstm_units does not have an effect: it belongs to the network lstm"),
        ("capacity=5:25", "it belongs to the objective capacity"),
        ("prior=standard_normal|conditional_gaussian", "space model.prior: .*needs conditions"),
        ("activation=relu|foo", "activation must be one of"),
        ("encoder_filters=8,8,8,8", "a network conv cannot have .* and would become dense"),
    ],
)
def test_space_that_the_data_do_not_have_is_one_error(digits, request_text, message):
    with pytest.raises((RequestError, InputDataError), match=message):
        make(digits, space=request_text)


def test_a_setting_may_depend_on_a_choice_of_the_space(digits):
    made = make(digits, space="objective=elbo|capacity,capacity=5:25")
    config = made.config({"objective.objective": "capacity", "objective.capacity": 7.0}, seed=3)
    assert (config.objective.objective, config.objective.capacity, config.training.seed) == ("capacity", 7.0, 3)


def test_default_spaces_surround_the_defaults_of_each_kind_of_data(digits):
    rng = np.random.default_rng(0)
    widths = {"model.encoder_hidden", "model.decoder_hidden"}
    kinds = {
        "images": (digits, {"model.encoder_filters", "model.decoder_filters"}),
        "vectors": (dataset(rng.normal(size=(200, 6)).astype("f4")), widths),
        "sequences": (dataset(rng.normal(size=(200, 12, 2)).astype("f4")), widths),
    }
    for kind, (data, own) in kinds.items():
        made = make(data)
        assert set(made.space) == {"model.latent_dim", "training.learning_rate", *own}, kind
        assert set(made.defaults()) == set(made.space), kind
        chosen = kvae.default_settings(data)
        assert made.config(made.defaults(), 0) == chosen, kind
    lstm = make(kinds["sequences"][0], {"network": "lstm"})
    assert set(lstm.space) == {"model.latent_dim", "training.learning_rate", "model.lstm_units"}


def test_grid_has_every_combination_with_the_first_seed_first(digits):
    points = list(make(digits, grid="beta=1,2,latent_dim=4,8", num_seeds=2).points())
    assert len(points) == 8
    assert [each["seed"] for each in points] == [0] * 4 + [1] * 4
    assert points[1] == {"objective.beta": "1", "model.latent_dim": "8", "seed": 0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_seeds": 0}, "--seeds is 0; expected an integer of at least 1"),
        ({"num_seeds": "a"}, "--seeds is 'a'; expected an integer"),
        ({"grid": ["beta"]}, "--grid is .*; expected a text or a mapping"),
        ({"space": 5}, "--space is 5; expected a text or a mapping"),
        ({"space": {"latent_dim": None}}, "latent_dim cannot be None"),
        ({"metric": ["val_elbo"]}, "Unknown metric"),
        ({"metric": "elbo"}, "Unknown metric elbo; expected val_elbo"),
        ({"metric": "val_mig"}, "does not have factors"),
        ({"flags": {"validation": 0}}, "--validation is 0"),
        ({"space": "beta=1:2", "grid": "beta=1,2"}, "cannot be combined"),
    ],
)
def test_wrong_request_is_one_error(digits, changes, message):
    with pytest.raises((RequestError, InputDataError), match=message):
        make(digits, **changes)


def test_metrics_of_the_command_are_those_of_plans():
    assert tuple(plan.METRICS) == tune._METRICS


def test_help_of_settings_that_need_a_choice_names_it():
    """`require_effect` reads the words before the colon of a help text."""
    texts = {field.name: field.metadata["help"].partition(":")[0] for _, field in settings()}
    assert texts["lstm_units"] == "lstm"
    assert texts["encoder_filters"] == "conv, residual"
    assert texts["prior_components"] == "gaussian_mixture, vamp"
    assert texts["num_samples"] == "importance_weighted"
