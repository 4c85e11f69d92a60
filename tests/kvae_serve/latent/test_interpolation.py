"""Interpolation: great circle, exact ends, and blended classes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kvae_serve.errors import RequestError
from kvae_serve.latent.interpolation import slerp
from kvae_serve.model import load
from support import make_tiny_models

T = np.linspace(0, 1, 11)


def test_slerp_rotates_at_a_constant_rate_in_the_plane_of_its_ends():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(16), rng.standard_normal(16)
    a, b = 3 * a / np.linalg.norm(a), 3 * b / np.linalg.norm(b)
    path = slerp(a, b, T)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 3)
    steps = np.arccos(np.sum(path[1:] * path[:-1], axis=1) / 9)
    np.testing.assert_allclose(steps, np.arccos(a @ b / 9) / 10, rtol=1e-9)
    assert np.linalg.matrix_rank(np.stack([a, b, *path]), tol=1e-9) == 2


def test_slerp_equals_a_rotation_matrix():
    path = slerp(np.array([2.0, 0.0]), np.array([0.0, 2.0]), T)
    np.testing.assert_allclose(path, 2 * np.stack([np.cos(T * np.pi / 2), np.sin(T * np.pi / 2)], 1), atol=1e-12)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([0, 0, 0], [1, 2, 3]),
        ([1, 0, 0], [1, 1e-9, 0]),
        ([1, 2, 3], [-2, -4, -6]),
        ([1e30, 0, 0], [0, 1e-30, 0]),
    ],
)
def test_slerp_without_an_angle_is_finite_and_has_exact_ends(a, b):
    a, b = np.array(a, float), np.array(b, float)
    path = slerp(a, b, T)
    assert np.isfinite(path).all()
    np.testing.assert_allclose(path[[0, -1]], [a, b], atol=1e-12 * max(np.abs(a).max(), np.abs(b).max()))
    # Never near the origin unless an end is.
    assert np.linalg.norm(path, axis=1).min() >= 0.999 * min(np.linalg.norm(a), np.linalg.norm(b))


def test_ends_equal_the_points_bit_for_bit_and_x_equals_the_formula(tiny):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 4, 3)).astype(np.float32)
    result = load(tiny / "conditional").interpolate(a, b, label="dog", steps=7)
    assert (result.z[:, 0] == a).all()
    assert (result.z[:, -1] == b).all()
    expected = make_tiny_models.decode(result.z.reshape(-1, 3), np.full(28, 1))["x_mean"].reshape(result.x.shape)
    np.testing.assert_allclose(result.x, expected, atol=1e-3, rtol=1e-4)
    straight = load(tiny / "conditional").interpolate(a, b, label="dog", steps=7, method="lerp")
    np.testing.assert_allclose(straight.z[:, 3], (a + b) / 2, rtol=1e-6)


def test_blend_of_classes_is_the_mean_over_a_random_class(tiny):
    z = np.array([0.3, -1.0, 0.5], np.float32)
    result = load(tiny / "conditional").interpolate(z, z, label="cat", to_label="0", steps=5)
    rng = np.random.default_rng(2)
    for step, t in enumerate(result.t):
        label = np.where(rng.uniform(size=20_000) < t, 2, 0)
        expected = make_tiny_models.decode(np.tile(z, (2, 1)), np.array([0, 2]))["x_mean"]
        estimate = expected[0] * (label == 0).mean() + expected[1] * (label == 2).mean()
        np.testing.assert_allclose(result.x[0, step], estimate, atol=255 * 0.02)
    assert result.conditions["label"].tolist() == [[0, 0, 2, 2, 2]]
    switched = load(tiny / "conditional").interpolate(z, z, label="cat", to_label="0", steps=5, classes="switch")
    expected = make_tiny_models.decode(np.tile(z, (5, 1)), np.array([0, 0, 2, 2, 2]))["x_mean"]
    np.testing.assert_allclose(switched.x[0], expected, atol=1e-3, rtol=1e-4)


def test_slerp_under_a_learned_prior_is_around_its_mean(tiny):
    model = load(tiny / "gaussian_prior")
    mean, sd = make_tiny_models.M[1].astype(float), np.exp(make_tiny_models.L[1].astype(float) / 2)
    a, b = np.array([2.0, 0, 0]), np.array([0, 0, 2.0])
    result = model.interpolate(mean + sd * a, mean + sd * b, label="dog", steps=5)
    np.testing.assert_allclose(np.linalg.norm((result.z[0] - mean) / sd, axis=1), 2, rtol=1e-5)


def test_invalid_arguments_are_rejected(tiny):
    model = load(tiny / "conditional")
    for arguments, words in (
        ((np.zeros(2), np.zeros(3)), "3 numbers"),
        ((np.zeros((2, 3)), np.zeros((4, 3))), "2 points to start from but 4"),
        ((np.full(3, np.nan), np.zeros(3)), "NaN"),
        ((np.array(["a", "b", "c"]), np.zeros(3)), "3 numbers"),
    ):
        with pytest.raises(RequestError, match=words):
            model.interpolate(*arguments, label="cat")
    for rest in ({"steps": 1}, {"method": "nlerp"}, {"classes": "average"}, {"label": "cow"}, {"batch_size": 0}):
        with pytest.raises(RequestError):
            model.interpolate(np.zeros(3), np.ones(3), **({"label": "cat"} | rest))


def test_command_interpolates_between_seeds_draws_labels_and_files(kvae, tiny, tmp_path):
    model = ["-m", tiny / "conditional"]
    whole = load(tiny / "conditional")
    assert (
        kvae("interpolate", *model, "--seed", 1, "--seed", 2, "--label", "dog", "-n", 2, "-o", "a.npz").returncode == 0
    )
    with np.load(tmp_path / "a.npz") as result:
        z = result["z"].reshape(2, 9, 3)
        np.testing.assert_array_equal(z[:, 0], whole.sample(2, label="dog", seed=1).z)
        np.testing.assert_array_equal(z[:, -1], whole.sample(2, label="dog", seed=2).z)
        assert result["pair"].tolist() == [0] * 9 + [1] * 9
    kvae("interpolate", *model, "--seed", 1, "-n", 2, "-o", "b.npz")
    with np.load(tmp_path / "b.npz") as result:
        z = result["z"].reshape(2, 9, 3)
        np.testing.assert_array_equal(z[0, -1], z[1, 0])
    kvae("interpolate", *model, "--seed", 1, "--label", "cat", "--label", "dog", "-o", "c.npz")
    with np.load(tmp_path / "c.npz") as result:
        assert (result["z"] == result["z"][0]).all()
        assert result["label"].tolist() == [0] * 4 + [1] * 5
    done = kvae("interpolate", *model, "--from", "a.npz:3", "--to", "c.npz:8", "--json", "-o", "d.webp")
    assert json.loads(done.stdout)["conditions"] == {"label": ["dog"]}, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--from", "none.npz"], 2),
        (["--from", "none.npz", "--to", "none.npz"], 4),
        (["--label", "cat", "--label", "dog", "--label", "0"], 2),
        (["--seed", "1", "--seed", "2", "--seed", "3"], 2),
        (["--condition", "hair=red"], 2),
        (["-o", "a.txt"], 2),
    ],
)
def test_invalid_command_ends_with_its_exit_code(tiny, tmp_path, monkeypatch, capsys, arguments, code):
    from kvae.__main__ import run

    monkeypatch.chdir(tmp_path)
    assert run(["interpolate", "-m", str(tiny / "conditional"), *arguments]) == code
    assert capsys.readouterr().err.startswith("Error: ")
    assert list(tmp_path.iterdir()) == []
