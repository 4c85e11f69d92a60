"""Methods of `Model` against the formulas of the tiny models in NumPy."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from kvae_serve.errors import InputDataError, ModelFileError, RequestError, VerificationError
from kvae_serve.model import load
from kvae_serve.readers import read_for
from kvae_serve.runtime.locate import shipped
from kvae_serve.sealed import noise
from support import make_tiny_models as tiny_models
from support.tiny import CLOSE, LABEL, binary_images, resealed


@pytest.fixture(scope="module")
def conditional(tiny: Path):
    return load(tiny / "conditional")


@pytest.fixture(scope="module")
def unconditional(tiny: Path):
    return load(tiny / "unconditional")


def test_decode_encode_and_log_likelihood_equal_the_formulas(conditional, unconditional):
    z, x = noise.normals(5, 0, 0, 5, 3), binary_images(5)
    for model, label, conditions in ((conditional, LABEL, {"label": LABEL}), (unconditional, None, {})):
        np.testing.assert_allclose(model.decode(z, conditions), tiny_models.decode(z, label)["x_mean"], **CLOSE)
        z_mean, z_log_var = model.encode(x, conditions)
        expected = tiny_models.encode(x, label)
        np.testing.assert_allclose(z_mean, expected["z_mean"], **CLOSE)
        np.testing.assert_allclose(z_log_var, expected["z_log_var"], **CLOSE)
        result = model.log_likelihood(x, z, conditions)
        np.testing.assert_allclose(result, tiny_models.log_likelihood(x, z, label)["log_likelihood"], rtol=1e-5)
        assert result.dtype == np.float32


def test_conditions_are_names_indices_or_one_value_for_all_rows(conditional):
    z = noise.normals(5, 0, 0, 5, 3)
    expected = conditional.decode(z, {"label": LABEL})
    for label in (LABEL.tolist(), ["0", "cat", "dog", "1", "2"], LABEL.astype(np.uint8)):
        assert (conditional.decode(z, label=label) == expected).all()
    assert (conditional.decode(z, label="dog") == conditional.decode(z, label=[1] * 5)).all()


def test_sample_decodes_noise_times_temperature(conditional, unconditional):
    z, _ = noise.latent_noise(42, 3, 4, 3)
    draws = unconditional.sample(4, seed=42, start=3, temperature=0.7)
    np.testing.assert_allclose(draws.z, 0.7 * z, rtol=1e-6)
    np.testing.assert_allclose(draws.x, tiny_models.decode(draws.z)["x_mean"], **CLOSE)
    draws = conditional.sample(4, label=["dog", "cat"], seed=42, start=3)
    assert (draws.z == np.concatenate([z, z])).all()  # Every label shares its noise.
    assert draws.conditions["label"].tolist() == [1] * 4 + [0] * 4
    np.testing.assert_allclose(draws.x, tiny_models.decode(draws.z, draws.conditions["label"])["x_mean"], **CLOSE)
    assert draws.names("label") == ["dog"] * 4 + ["cat"] * 4
    assert len(draws) == 8
    assert (draws.seed, draws.start, draws.num) == (42, 3, 4)


@pytest.mark.parametrize("draw", [False, True])
def test_samples_in_parts_and_batches_equal_the_whole_bit_for_bit(conditional, draw):
    whole = conditional.sample(130, label="all", seed=9, draw=draw)
    assert (conditional.sample(130, label="all", seed=9, draw=draw, batch_size=7).x == whole.x).all()
    parts = [conditional.sample(65, label="cat", seed=9, start=start, draw=draw) for start in (0, 65)]
    assert (np.concatenate([part.x for part in parts]) == whole.x[:130]).all()
    threaded = load(conditional.path, threads=2).sample(130, label="all", seed=9, draw=draw)
    assert (threaded.x == whole.x).all()


def test_class_name_has_precedence_over_an_index(conditional):
    assert conditional.sample(1, label="0").conditions["label"].tolist() == [2]
    assert conditional.sample(1, label=0).conditions["label"].tolist() == [0]
    assert conditional.sample(1, 0).conditions["label"].tolist() == [0]
    assert conditional.sample(1, ["0", "dog"]).conditions["label"].tolist() == [2, 1]
    assert conditional.sample(1, label="1").conditions["label"].tolist() == [1]


@pytest.fixture(scope="module")
def numbered(tiny: Path, tmp_path_factory):
    """Return a model whose classes are the numbers 1, 2 and 5."""
    condition = {"name": "label", "kind": "categorical", "classes": ["1", "2", "5"]}
    folder = tmp_path_factory.mktemp("numbered")
    for path in (tiny / "conditional").glob("*.onnx"):
        (folder / path.name).write_bytes(resealed(path, lambda manifest: manifest.update(conditions=[condition])))
    return load(folder)


@pytest.mark.parametrize("label", [1, [1, 2], np.array([0, 1]), np.array([5, 1])])
def test_integers_that_are_names_and_indices_are_refused(numbered, label):
    with pytest.raises(RequestError, match="which is the class 1, or the index of the class 2"):
        numbered.sample(1, label)


def test_integers_with_one_reading_are_names_or_indices(numbered):
    assert numbered.sample(1, [5]).names("label") == ["5"]
    assert numbered.sample(1, 0).names("label") == ["1"]
    assert numbered.sample(1, ["1", "5"]).names("label") == ["1", "5"]
    draws = numbered.sample(2, seed=0)
    assert draws.conditions["label"].tolist() == [0, 0, 1, 1, 2, 2]
    z_mean, _ = numbered.encode(draws.x, draws.conditions)
    np.testing.assert_array_equal(z_mean, numbered.encode(draws.x, ["1", "1", "2", "2", "5", "5"])[0])
    np.testing.assert_array_equal(z_mean[2:], numbered.encode(draws.x[2:], draws.conditions["label"][2:])[0])


def test_saved_classes_that_are_numbers_are_read_back(numbered, tmp_path):
    draws = numbered.sample(1, ["1", "2", "5"], seed=0)
    draws.save(tmp_path / "s.npz")
    assert np.load(tmp_path / "s.npz")["label"].tolist() == ["1", "2", "5"]
    for rows in (slice(0, 3), slice(1, 2)):
        np.savez(tmp_path / "part.npz", **{name: array[rows] for name, array in _arrays(tmp_path / "s.npz")})
        assert read_for(tmp_path / "part.npz", numbered.manifest).conditions["label"].tolist() == [0, 1, 2][rows]


def _arrays(path: Path) -> list[tuple[str, np.ndarray]]:
    with np.load(path) as arrays:
        return [(name, arrays[name]) for name in ("x", "label")]


def test_default_label_is_every_class(conditional):
    assert conditional.sample(2).conditions["label"].tolist() == [0, 0, 1, 1, 2, 2]
    assert conditional.sample(1, label="all").conditions["label"].tolist() == [0, 1, 2]
    assert conditional.sample(1, label=["cat", 0, "all"]).conditions["label"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("label", ["cta", "3", "-1", "", 3, -1, 1.5, "1.0", "²", ["cat", "x"], "0; rm", True])
def test_unknown_label_error_lists_the_classes(conditional, label):
    with pytest.raises(RequestError, match="cat, dog, 0"):
        conditional.sample(1, label=label)


def test_unknown_label_error_suggests_a_similar_name(conditional):
    with pytest.raises(RequestError, match=r"Did you mean cat\?"):
        conditional.sample(1, label="cats")


@pytest.mark.parametrize("label", [[3, 0], [-1, 0], ["cow", "cat"]])
def test_invalid_class_index_is_rejected_before_onnx_runtime(conditional, label):
    with pytest.raises(RequestError):
        conditional.decode(np.zeros((2, 3)), label=label)
    with pytest.raises(InputDataError, match="expected 0 to 2"):
        conditional.run("decoder", {"z": np.zeros((1, 3), "f4"), "label": np.array([-1])})


def test_invalid_arguments_of_sample_and_decode_are_rejected(conditional, unconditional):
    for arguments in (
        {"num": 0}, {"num": -1}, {"num": 2.5}, {"num": 10**12}, {"seed": -1}, {"seed": 2**64}, {"start": -1},
        {"temperature": -1}, {"temperature": float("nan")}, {"temperature": float("inf")}, {"temperature": 1e39},
        {"batch_size": 0}, {"label": "cat"}, {"conditions": {"hair": "red"}},
    ):  # fmt: skip
        with pytest.raises(RequestError):
            unconditional.sample(**({"num": 1} | arguments))
    with pytest.raises(RequestError, match="twice"):
        conditional.sample(1, label=1, conditions={"label": 1})
    with pytest.raises(RequestError, match="needs label"):
        conditional.decode(np.zeros((1, 3)))
    with pytest.raises(RequestError, match="unconditional"):
        unconditional.decode(np.zeros((1, 3)), label=1)
    with pytest.raises(RequestError, match="each of 2 rows"):
        conditional.decode(np.zeros((2, 3)), label=[1, 1, 1])


def test_invalid_data_are_rejected(conditional):
    x = binary_images(2)
    nan = np.full((2, 8, 6, 1), np.nan)
    for bad in (x[:, :7], x[0], x.reshape(2, -1), nan, x - 1.0, x * 1.01, x.astype(str), x[:0]):
        with pytest.raises(InputDataError):
            conditional.encode(bad, label=0)
    for bad in (np.zeros((2, 4)), np.zeros(3), nan[:, 0, :3, 0], np.array([["a"] * 3])):
        with pytest.raises(InputDataError):
            conditional.decode(bad, label=0)
    z_mean, _ = conditional.encode(x[..., 0], label=0)  # The axis of a single channel may be missing.
    assert (z_mean == conditional.encode(x, label=0)[0]).all()


def test_default_seed_is_random_and_stored(unconditional):
    one, other = unconditional.sample(2), unconditional.sample(2)
    assert one.seed != other.seed
    assert (unconditional.sample(2, seed=one.seed).x == one.x).all()


def test_bernoulli_draws_have_the_decoder_mean_and_do_not_change_z(conditional):
    mean = conditional.sample(1, label="cat", seed=1, temperature=0)
    draws = conditional.sample(4000, label="cat", seed=1, temperature=0, draw=True)
    assert set(np.unique(draws.x)) == {0, 255}
    error = 255 * np.sqrt(0.25 / 4000)
    assert np.abs(draws.x.mean(0) - mean.x[0]).max() < 5 * error
    with_z = conditional.sample(5, label="cat", seed=1, draw=True)
    assert (with_z.z == conditional.sample(5, label="cat", seed=1).z).all()
    uniform = noise.uniforms(1, noise.STREAM_DRAW, 0, 5, 48).reshape(5, 8, 6, 1)
    assert (
        with_z.x == np.where(uniform < tiny_models.decode(with_z.z, np.zeros(5, int))["x_mean"] / 255, 255, 0)
    ).all()


def test_conditional_gaussian_prior_shifts_and_scales_the_noise(tiny):
    draws = load(tiny / "gaussian_prior").sample(3, label=["0", "cat"], seed=4, temperature=0.5)
    normals, _ = noise.latent_noise(4, 0, 3, 3)
    for k, index in enumerate((2, 0)):
        expected = tiny_models.M[index] + 0.5 * np.exp(tiny_models.L[index] / 2) * normals
        np.testing.assert_allclose(draws.z[3 * k : 3 * k + 3], expected, rtol=1e-5)


def test_mixture_prior_selects_components_by_weight_and_index(tiny):
    model = load(tiny / "mixture_prior")
    draws = model.sample(4000, seed=4, temperature=0)
    component = np.abs(draws.z[:, None] - tiny_models.M).max(-1).argmin(-1)
    np.testing.assert_allclose(draws.z, tiny_models.M[component], rtol=1e-6)
    weights = np.exp(tiny_models.LOG_WEIGHTS) / np.exp(tiny_models.LOG_WEIGHTS).sum()
    result = np.bincount(component, minlength=4) / 4000
    assert np.abs(result - weights).max() < 5 * np.sqrt(0.25 / 4000)
    _, uniform = noise.latent_noise(4, 0, 4000, 3)
    assert (component == (uniform[:, None] >= np.cumsum(weights)).sum(-1)).all()
    assert (model.sample(10, seed=4, start=100).z == model.sample(200, seed=4).z[100:110]).all()


def test_single_decoder_file_samples_unless_its_prior_is_learned(tiny, conditional):
    alone = load(tiny / "conditional" / "decoder.onnx")
    assert alone.graphs == ("decoder",)
    assert (alone.sample(2, seed=1).x == conditional.sample(2, seed=1).x).all()
    with pytest.raises(ModelFileError, match=r"encoder\.onnx"):
        alone.encode(binary_images(1), label=0)
    with pytest.raises(ModelFileError, match=r"prior\.onnx"):
        load(tiny / "gaussian_prior" / "decoder.onnx").sample(1)


def test_folder_with_files_of_two_models_is_rejected(tiny, tmp_path):
    shutil.copy(tiny / "conditional" / "decoder.onnx", tmp_path)
    shutil.copy(tiny / "gaussian_prior" / "prior.onnx", tmp_path)
    mixed = load(tmp_path)
    assert mixed.manifest.name == "conditional"
    with pytest.raises(ModelFileError, match="mixes two models"):
        mixed.sealed("prior")
    with pytest.raises(ModelFileError, match="mixes two models"):
        mixed.verify()


def test_swapped_files_are_rejected(tiny, tmp_path):
    shutil.copy(tiny / "conditional" / "encoder.onnx", tmp_path / "decoder.onnx")
    with pytest.raises(ModelFileError, match=r"decoder\.onnx contains the encoder"):
        load(tmp_path).sample(1)


def test_path_without_a_model_is_rejected(tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for path in ("missing", "missing/decoder.onnx", "empty", "", "./none.onnx"):
        with pytest.raises(ModelFileError):
            load(path).sample(1)
    (tmp_path / "link").symlink_to(tiny / "conditional")
    assert load("link").manifest.name == "conditional"


def test_shipped_models_pass_verify():
    for name, path in shipped().items():
        assert load(name).path == path
        assert all(check.ok for check in load(name).verify())


@pytest.mark.parametrize("name", list(tiny_models.MODELS))
def test_verify_passes_on_the_golden_values(tiny, name):
    checks = load(tiny / name).verify()
    assert {check.graph for check in checks} == set(tiny_models.MODELS[name][2])
    assert all(check.ok and check.difference <= check.allowed for check in checks)


def test_verify_fails_if_a_golden_value_differs(tiny, tmp_path):
    def change(manifest):
        manifest["golden"]["outputs"]["x_mean"]["values"][5] += 1

    (tmp_path / "decoder.onnx").write_bytes(resealed(tiny / "conditional" / "decoder.onnx", change))
    (check,) = load(tmp_path).verify()
    assert not check.ok
    assert check.difference == pytest.approx(1, abs=0.01)
    (tmp_path / "decoder.onnx").write_bytes(
        resealed(tiny / "conditional" / "decoder.onnx", lambda manifest: manifest.update(golden=None))
    )
    with pytest.raises(VerificationError, match="does not contain golden values"):
        load(tmp_path).verify()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("latent_dim", 4),
        ("data", {"kind": "image", "shape": [8, 6, 3], "range": [0, 255]}),
        ("data", {"kind": "vector", "shape": [48], "range": [0, 255]}),
        ("conditions", []),
        ("conditions", [{"name": "hair", "kind": "categorical", "classes": ["red"]}]),
        ("conditions", [{"name": "label", "kind": "continuous", "range": [0, 1]}]),
        ("prior", {"name": "standard_normal", "log_weights": 5}),
    ],
)
def test_manifest_that_does_not_fit_its_graph_is_rejected(tiny, tmp_path, key, value):
    path = tmp_path / "decoder.onnx"
    path.write_bytes(resealed(tiny / "conditional" / "decoder.onnx", lambda manifest: manifest.update({key: value})))
    if key == "prior":
        assert load(path).sample(1).x.shape == (3, 8, 6, 1)  # Keys that a prior does not use are ignored.
    else:
        with pytest.raises(ModelFileError, match=r"expected|must map"):
            load(path).sample(1)


def test_eight_threads_share_a_model(tiny, unconditional):
    expected = unconditional.sample(40, seed=3).x
    shared, results = load(tiny / "unconditional"), []

    def work() -> None:
        for _ in range(5):
            x = shared.sample(40, seed=3).x
            results.append((x == expected).all() and shared.encode(x)[0].shape == (40, 3))

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [True] * 40


def test_sampling_does_not_import_a_training_package(tiny, command_environment):
    code = (
        "import sys; from kvae_serve.model import load; load(sys.argv[1]).sample(2)\n"
        "print([name for name in ('tensorflow', 'keras', 'onnx', 'tf2onnx', 'PIL', 'click') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny / "conditional")],
        env=command_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
