"""Golden inputs follow the rule of docs/format.md; golden values are kept at a stride and compared with a tolerance."""

from __future__ import annotations

import numpy as np
import pytest

from kvae_serve.sealed import noise
from kvae_serve.sealed.golden import compare, golden_inputs, record
from kvae_serve.sealed.manifest import Manifest
from support import make_tiny_models

BASE = make_tiny_models.manifest("conditional", True, "standard_normal") | {"graph": "decoder", "golden": None}


def manifest(**changes) -> Manifest:
    return Manifest.from_dict(BASE | changes)


def uniform(words: np.ndarray) -> np.ndarray:
    return (words >> np.uint64(11)) * 2.0**-53


def test_inputs_use_random_words_in_the_documented_order():
    made = golden_inputs(manifest(), ["x", "z", "label"])
    words = noise.words(0, 3, 0, 3, 4 + 48)  # latent_dim 3 takes the words of 4 normals.
    radius = np.sqrt(-2 * np.log(1 - uniform(words[:, :2])))
    angle = 2 * np.pi * uniform(words[:, 2:4])
    z = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], 1)[:, :3]
    np.testing.assert_allclose(made["z"], z, rtol=1e-6)
    x = np.where(uniform(words[:, 4:]) < 0.5, 0, 255).reshape(3, 8, 6, 1)
    assert (made["x"] == x).all()
    assert made["label"].tolist() == [0, 1, 2]
    assert [made[name].dtype for name in ("x", "z", "label")] == [np.float32, np.float32, np.int64]


def test_x_alone_starts_at_the_first_word():
    x = golden_inputs(manifest(), ["x"])["x"]
    assert (x.ravel() == np.where(uniform(noise.words(0, 3, 0, 3, 48)) < 0.5, 0, 255).ravel()).all()


def test_distribution_of_x_depends_on_likelihood_and_range():
    data = BASE["data"]
    eight_bit = golden_inputs(manifest(likelihood={"name": "discretized_logistic"}), ["x"])["x"]
    u = uniform(noise.words(0, 3, 0, 3, 48)).reshape(eight_bit.shape)
    assert (eight_bit == np.floor(255 * u)).all()
    free = manifest(likelihood={"name": "gaussian"}, data=data | {"range": [-1, 3]})
    np.testing.assert_allclose(golden_inputs(free, ["x"])["x"], -1 + 4 * u, rtol=1e-6)
    unbounded = manifest(likelihood={"name": "gaussian"}, data=data | {"range": None})
    assert (golden_inputs(unbounded, ["x"])["x"].reshape(3, -1) == noise.normals(0, 3, 0, 3, 48)).all()


def test_conditions_and_components_cycle():
    prior = {"name": "vamp", "log_weights": [0, 0]}
    slant = {"name": "slant", "kind": "continuous", "range": [-1, 1]}
    given = manifest(prior=prior, conditions=[*BASE["conditions"], slant])
    made = golden_inputs(given, ["label", "slant", "component"], num=4)
    assert made["label"].tolist() == [0, 1, 2, 0]
    assert made["component"].tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(made["slant"], [-0.6, -0.2, 0.2, 0.6], rtol=1e-6)


def test_seed_and_num_are_read_from_the_manifest():
    kept = manifest(golden={"seed": 7, "num": 2, "outputs": {}})
    assert (golden_inputs(kept, ["z"])["z"] == golden_inputs(manifest(), ["z"], seed=7, num=2)["z"]).all()


def test_unknown_input_is_refused():
    with pytest.raises(ValueError, match="slant"):
        golden_inputs(manifest(), ["slant"])


@pytest.mark.parametrize("size", [1, 63, 64, 65, 128, 2352])
def test_record_keeps_at_most_64_values(size):
    values = np.arange(size, dtype=np.float32)
    kept = record({"x_mean": values}, {"x_mean": (0.5, 0.0)})["outputs"]["x_mean"]
    assert len(kept["values"]) <= 64
    assert kept["values"] == values[:: kept["stride"]].tolist()


def test_comparison_applies_absolute_and_relative_tolerance():
    want = np.array([[0.0, 10.0], [-100.0, 1.0]], np.float32)
    kept = manifest(golden=record({"x_mean": want}, {"x_mean": (0.5, 0.01)}))
    for error, ok in (([0.4, 0.5, 1.4, 0.5], True), ([0.6, 0, 0, 0], False), ([0, 0, 1.6, 0], False)):
        (found,) = compare(kept, {"x_mean": want + np.array(error, np.float32).reshape(2, 2)})
        assert found.ok is ok
        assert found.output == "x_mean"
        assert ok or found.difference == pytest.approx(max(error), rel=1e-5)
    for bad in ({}, {"x_mean": want[:1]}, {"x_mean": want * np.nan}):
        assert not compare(kept, bad)[0].ok
