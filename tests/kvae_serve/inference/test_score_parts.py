"""Parts of scores: they add up, and each is the density of its value."""

import math

import numpy as np
import pytest

from kvae_serve.errors import InputDataError, VerificationError
from kvae_serve.inference import column_densities, complexity, scoring
from kvae_serve.inference.score_parts import value_log_probs
from kvae_serve.model import load
from kvae_serve.sealed.manifest import Manifest
from support import make_tiny_models


def trapezoid(y, x):  # np.trapezoid needs NumPy 2.
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())


def described(likelihood, shape=(1,), low_high=(0.0, 255.0)):
    plain = make_tiny_models.manifest("conditional", True, "standard_normal")
    data = {"kind": "vector" if len(shape) == 1 else "image", "shape": list(shape)}
    if low_high:
        data["range"] = list(low_high)
    return Manifest.from_dict(plain | {"graph": "decoder", "data": data, "likelihood": {"name": likelihood}})


def test_bernoulli_part_is_the_log_of_the_probability():
    manifest = described("bernoulli", (2,))
    found = value_log_probs(manifest)(
        {"x_mean": np.array([[255 * 0.2, 255 * 0.7]])}, np.array([[255.0, 0.0]]), manifest
    )
    np.testing.assert_allclose(found, [[math.log(0.2), math.log(0.3)]], rtol=1e-12)


def test_probabilities_of_all_256_levels_add_up_to_one():
    manifest = described("discretized_logistic", (256,))
    for location, log_scale in ((100.3, 1.5), (-4.0, 0.0), (250.0, 3.0)):
        outputs = {"x_location": np.full((1, 256), location), "x_log_scale": np.full((1, 256), log_scale)}
        found = value_log_probs(manifest)(outputs, np.arange(256.0)[None], manifest)
        assert np.exp(found).sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("logit", [-30.0, -2.0, -1e-4, 0.0, 0.5, 8.0])
def test_continuous_bernoulli_integrates_to_one(logit):
    manifest = described("continuous_bernoulli", (4001,), (0.0, 4.0))
    x = np.linspace(0, 4, 4001)
    found = value_log_probs(manifest)({"x_logits": np.full((1, 4001), logit)}, x[None], manifest)
    assert trapezoid(np.exp(found[0]), x) == pytest.approx(1.0, rel=1e-4)


def test_categorical_part_is_the_log_of_the_class():
    manifest = described("categorical", (2,), (0.0, 2.0))
    outputs = {"x_probability": np.array([[[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]])}
    found = value_log_probs(manifest)(outputs, np.array([[2.0, 0.0]]), manifest)
    np.testing.assert_allclose(found, np.log([[0.5, 0.6]]))


@pytest.mark.parametrize(("name", "label"), [("mnist-vae", None), ("mnist", 3), ("fashion", 2), ("sprites", None)])
def test_parts_of_shipped_models_add_up_to_the_score(name, label):
    model = load(name)
    shape = (3, *model.manifest.data.shape)
    usual = model.sample(3, label=label, seed=0).x
    for x in (usual, np.random.default_rng(0).integers(0, 256, shape).astype("f4")):
        parts = model.score(x, label=label, num_samples=2, parts=True)
        scores = model.score(x, label=label, num_samples=2)
        for key, total in scores._asdict().items():
            assert (getattr(parts, key) == total).all()
        np.testing.assert_allclose(parts.reconstruction_parts.sum((1, 2, 3)), scores.reconstruction, rtol=1e-5)
        np.testing.assert_allclose(parts.kl_parts.sum(1) + parts.kl_component, scores.kl, rtol=1e-9)
        assert parts.reconstruction_parts.shape == shape


def test_parts_of_a_lost_probability_are_not_below_zero(monkeypatch):
    model = load("mnist-vae")
    x = np.full((2, 28, 28, 1), 255.0, np.float32)
    parts = model.score(x, num_samples=2, parts=True)
    assert parts.reconstruction_parts.max() > 13
    correct = scoring.log_likelihoods
    monkeypatch.setattr(scoring, "log_likelihoods", lambda *args: correct(*args) + 0.999 * parts.reconstruction[0])
    with pytest.raises(VerificationError, match="add up to"):
        model.score(x, num_samples=2, parts=True)


def test_a_difference_without_a_lost_probability_is_refused(monkeypatch):
    model = load("mnist-vae")
    x = model.reconstruct(model.sample(2, seed=0).x)
    correct = scoring.log_likelihoods
    monkeypatch.setattr(scoring, "log_likelihoods", lambda *args: correct(*args) - 7)
    with pytest.raises(VerificationError, match="add up to"):
        model.score(np.where(x > 127, 255.0, 0.0), num_samples=2, parts=True)


@pytest.mark.parametrize(("low", "width"), [(-50.0, 0.5), (40.0, 0.001), (37.2, 1e-6)])
def test_interval_far_in_the_tail_has_its_width(low, width):
    # The integral of the density over the interval, relative to the density at the end nearer to 0.
    near, far = sorted((abs(low), abs(low + width)))
    points = np.linspace(near, far, 20_001)
    relative = trapezoid(np.exp(-0.5 * (points - near) * (points + near)), points)
    expected = -0.5 * (math.log(2 * math.pi) + near**2) + math.log(relative)
    found = column_densities._log_interval(np.array([low]), np.array([low + width]))
    assert found[0] == pytest.approx(expected, abs=2e-3)


def test_a_changed_pixel_is_where_the_reconstruction_rises():
    model = load("mnist-vae")
    x = np.zeros((1, 28, 28, 1), np.float32)
    x[:, 4:24, 13:15] = 255.0
    odd = x.copy()
    odd[0, 2, 2] = 255.0
    parts = model.score(odd, parts=True).reconstruction_parts
    assert np.unravel_index(parts[0].argmax(), parts[0].shape) == (2, 2, 0)


@pytest.mark.parametrize("x", ["a", 5, [["a"]]])
def test_values_that_are_not_rows_of_numbers_are_refused(x):
    model = load("mnist")
    with pytest.raises(InputDataError, match="expected rows of numbers"):
        model.score_labels(x)
    with pytest.raises(InputDataError, match="expected rows of numbers"):
        model.score(x, label=3)


def test_labels_are_compared_by_importance_sampling():
    model = load("mnist")
    x = model.sample(2, label=[3, 8], seed=1).x
    found = model.score_labels(x, num_samples=4)
    np.testing.assert_array_equal(found.probability.argmax(1), [3, 3, 8, 8])
    np.testing.assert_allclose(found.probability.sum(1), 1.0)
    np.testing.assert_allclose(found.evidence, np.log(np.exp(found.log_likelihood).mean(1)), rtol=1e-9)
    # The bound with several draws is at least the mean over draws, which is the elbo of that class.
    elbo = scoring.score(model, x, {"label": 3}, num_samples=4).elbo
    assert (found.log_likelihood[:, 3] >= elbo - 1e-6 * abs(elbo) - 2).all()


def test_complexity_of_an_image_is_the_size_of_its_bzip2_file():
    import bz2

    gray, rng = load("fashion").manifest, np.random.default_rng(0)
    noisy = rng.integers(0, 256, (1, 28, 28, 1)).astype("f4")
    flat = np.zeros((1, 28, 28, 1), "f4")
    sizes = complexity.complexity(np.concatenate([noisy, flat]), gray)
    expected = [len(bz2.compress(each.astype("u1").tobytes())) * 8 * math.log(2) for each in (noisy, flat)]
    np.testing.assert_allclose(sizes, expected)
    bits = complexity.complexity(np.where(noisy > 127, 255.0, 0.0), load("mnist-vae").manifest)
    assert bits[0] < 0.3 * sizes[0]
