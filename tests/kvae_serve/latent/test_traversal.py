"""Traversals: decoded images, order of the dimensions, and base points."""

from __future__ import annotations

import json
import statistics

import numpy as np
import pytest

from kvae_serve.errors import RequestError
from kvae_serve.latent.traversal import positions
from kvae_serve.model import load
from kvae_serve.readers import Dataset
from kvae_serve.sealed import noise
from support import make_tiny_models


def test_one_coordinate_moves_and_x_equals_the_formula(tiny):
    result = load(tiny / "conditional").traverse(label=["dog", "0"], dims=[2, 0], steps=5, span=(-2, 2))
    assert result.x.shape == (2, 2, 5, 8, 6, 1)
    assert result.values.tolist() == [-2, -1, 0, 1, 2]
    expected = np.zeros((2, 2, 5, 3))
    expected[:, 0, :, 2] = expected[:, 1, :, 0] = result.values
    np.testing.assert_array_equal(result.z, expected.astype(np.float32))
    label = np.repeat([1, 2], 10)
    x = make_tiny_models.decode(expected.reshape(-1, 3), label)["x_mean"].reshape(result.x.shape)
    np.testing.assert_allclose(result.x, x, atol=1e-3, rtol=1e-4)


def test_activity_of_the_decoder_equals_its_slopes(tiny):
    result = load(tiny / "unconditional").traverse()
    # At many points, by finite differences of the formula in float64: which coordinate moves x the most?
    z = np.random.default_rng(0).standard_normal((4000, 3))
    changes = []
    for dim in range(3):
        low, high = z.copy(), z.copy()
        low[:, dim], high[:, dim] = -1, 1
        change = make_tiny_models.decode(high)["x_mean"] - make_tiny_models.decode(low)["x_mean"]
        changes.append(np.sqrt(np.square(change).mean()))
    assert result.activity.source == "decoder"
    np.testing.assert_allclose(result.activity.values, changes, rtol=0.15)
    assert list(result.dims) == sorted(range(3), key=lambda dim: -result.activity.values[dim])
    assert result.dims[0] == np.argmax(changes)


def test_activity_of_data_is_the_mean_kl(tiny):
    x = np.random.default_rng(1).uniform(0, 255, (50, 8, 6, 1)).astype(np.float32)
    result = load(tiny / "unconditional").traverse(data=Dataset(x, {}, {}, "here", (0, 255)))
    q = make_tiny_models.encode(x)
    kl = 0.5 * (q["z_mean"] ** 2 + np.exp(q["z_log_var"]) - 1 - q["z_log_var"])
    np.testing.assert_allclose(result.activity.values, kl.mean(0), rtol=1e-4)
    assert result.activity.source == "data"


def test_activity_in_the_model_file_orders_the_dimensions(tiny, tmp_path):
    from support.tiny import resealed

    def change(manifest):
        manifest["training"] = {"validation": {"kl_per_dim": [0.1, 3.0, 0.2]}}

    (tmp_path / "decoder.onnx").write_bytes(resealed(tiny / "unconditional" / "decoder.onnx", change))
    result = load(tmp_path).traverse()
    assert (result.activity.source, result.dims) == ("model file", (1, 2, 0))


def test_traversal_of_a_learned_prior_is_around_its_mean(tiny):
    result = load(tiny / "gaussian_prior").traverse(label="dog", dims=[1], steps=3, span=(-1, 1))
    mean, sd = make_tiny_models.M[1], np.exp(make_tiny_models.L[1] / 2)
    expected = np.tile(mean, (3, 1))
    expected[:, 1] += sd[1] * np.array([-1, 0, 1])
    np.testing.assert_allclose(result.z[0, 0], expected, rtol=1e-6)


def test_traversal_of_a_mixture_prior_has_the_moments_of_its_draws(tiny):
    model = load(tiny / "mixture_prior")
    result = model.traverse(dims=[0, 1, 2], steps=3, span=(-1, 1))
    z = model.sample(40_000, seed=0).z.astype(np.float64)
    for dim in range(3):
        low, middle, high = result.z[0, dim, :, dim]
        assert middle == pytest.approx(z[:, dim].mean(), abs=5 * z[:, dim].std() / 200)
        assert (high - low) / 2 == pytest.approx(z[:, dim].std(), rel=0.02)


def test_base_is_a_draw_or_an_example(tiny, tmp_path):
    model = load(tiny / "conditional")
    drawn = model.traverse(label="cat", seed=5, start=3, dims=[0])
    np.testing.assert_array_equal(drawn.base[0], noise.latent_noise(5, 3, 1, 3)[0][0])
    np.testing.assert_array_equal(drawn.z[0, 0, :, 1:], np.tile(drawn.base[0, 1:], (11, 1)))
    x = np.random.default_rng(2).uniform(0, 255, (4, 8, 6, 1)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, label=np.array(["dog", "0", "cat", "dog"]))
    example = model.traverse(example=f"{tmp_path / 'data.npz'}:1", dims=[0])
    assert example.conditions["label"].tolist() == [2]
    expected = make_tiny_models.encode(x[1:2], np.array([2]))["z_mean"]
    np.testing.assert_allclose(example.base, expected, rtol=1e-4, atol=1e-5)
    # It is decoded as another class, but encoded with the class in the file.
    other = model.traverse(example=f"{tmp_path / 'data.npz'}:1", label="cat", dims=[0])
    assert other.conditions["label"].tolist() == [0]
    np.testing.assert_array_equal(other.base, example.base)


def test_quantile_steps_have_equal_probability():
    values = positions(9, (-2.5, 3.0), "quantile")
    probability = np.array([statistics.NormalDist().cdf(value) for value in values])
    np.testing.assert_allclose(np.diff(probability), np.diff(probability)[0], rtol=1e-9)
    assert (values[0], values[-1]) == (-2.5, 3.0)
    far = positions(5, (5.0, 8.0), "quantile")
    assert (np.diff(far) > 0).all()


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"dims": [3]}, "dimension is 3; expected an integer from 0 to 2"),
        ({"dims": []}, "at least one"),
        ({"dims": [-1]}, "dimension is -1"),
        ({"dims": [0], "num": 2}, "exclude each other"),
        ({"steps": 1}, "at least 2"),
        ({"span": (1, 1)}, "a lower and a higher"),
        ({"span": (float("nan"), 1)}, "a lower and a higher"),
        ({"spacing": "odd"}, "even or quantile"),
        ({"base": np.zeros(4)}, "3 numbers"),
        ({"base": np.full(3, np.inf)}, "NaN or infinite"),
        ({"base": np.zeros(3), "seed": 1}, "exclude each other"),
        ({"steps": 2_000_000}, "too many"),
        ({"label": "cow"}, "cat, dog, 0"),
    ],
)
def test_invalid_arguments_are_rejected(tiny, request_, words):
    with pytest.raises(RequestError, match=words):
        load(tiny / "conditional").traverse(**request_)


def test_command_writes_files_and_reports_json(kvae, tiny, tmp_path):
    done = kvae("traverse", "-m", tiny / "conditional", "--dims", "2,0-1", "--steps", 4, "-o", "a.npz", "--json")
    report = json.loads(done.stdout)
    assert (report["dims"], report["rows"], report["conditions"]) == ([2, 0, 1], 3, {"label": ["cat"]})
    with np.load(tmp_path / "a.npz") as result:
        assert result["dim"].tolist() == [2] * 4 + [0] * 4 + [1] * 4
        assert result["value"].tolist() == [-3, -1, 1, 3] * 3
        activity = np.array(report["activity"]["values"])
        np.testing.assert_allclose(result["activity"][::4], activity[[2, 0, 1]], rtol=1e-5)
        assert result["x"].shape == (12, 8, 6, 1)
    # The file that was written is valid input.
    assert kvae("traverse", "-m", tiny / "conditional", "--from", "a.npz:5", "-o", "b.gif", "-q").returncode == 0
    text = kvae("traverse", "-m", tiny / "conditional", "-q").stdout
    assert text.isascii()
    assert len(text.splitlines()) > 3 * 4


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--dims", "9"], 2),
        (["--dims", "2-1"], 2),
        (["--dims", "0", "-n", "1"], 2),
        (["--range", "x"], 2),
        (["--range", "nan"], 2),
        (["-o", "old.npz"], 7),
        (["-o", "a.jpg"], 2),
        (["-o", "c.csv"], 2),
        (["-o", ".png"], 2),
        (["--from", "none.png"], 4),
        (["--seed", "1", "--from", "old.npz"], 2),
        (["--seed", "-1"], 2),
    ],
)
def test_invalid_command_writes_nothing(tiny, tmp_path, monkeypatch, capsys, arguments, code):
    from kvae.__main__ import run

    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.npz").touch()
    assert run(["traverse", "-m", str(tiny / "conditional"), *arguments]) == code
    assert capsys.readouterr().err.startswith("Error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["old.npz"]
