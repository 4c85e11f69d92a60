"""Scores against the formulas of the tiny models in NumPy, and against Monte Carlo."""

import numpy as np
import pytest

from kvae_serve.errors import InputDataError, ModelFileError, RequestError
from kvae_serve.inference import scoring
from kvae_serve.model import load
from kvae_serve.sealed import noise
from support import make_tiny_models as formulas

LABEL = np.arange(11) % 3
X = (np.random.default_rng(0).random((11, 8, 6, 1)) * 256).astype(np.uint8)


def expected(x, label, num_samples=16, seed=0):
    """Reconstruction and kl by the definition, in float64: the same draws for every row."""
    uniforms = noise.uniforms(seed, noise.STREAM_BINARIZE, 0, 1, 48)[0]
    epsilon = noise.latent_noise(seed, 0, num_samples, 3)[0]
    drawn = np.where(uniforms < x.reshape(len(x), 48) / 255.0, 255.0, 0.0).reshape(x.shape)
    q = formulas.encode(drawn, label)
    reconstruction = np.zeros(len(x))
    for each in epsilon:
        z = q["z_mean"] + np.exp(q["z_log_var"] / 2) * each
        reconstruction -= formulas.log_likelihood(drawn, z, label)["log_likelihood"] / num_samples
    kl = 0.5 * (q["z_mean"] ** 2 + np.exp(q["z_log_var"]) - 1 - q["z_log_var"]).sum(-1)
    return reconstruction, kl


@pytest.mark.parametrize("folder", ["conditional", "unconditional"])
def test_scores_equal_their_definition(tiny, folder):
    label = LABEL if folder == "conditional" else None
    result = scoring.score(load(tiny / folder), X, None if label is None else {"label": label})
    reconstruction, kl = expected(X, label)
    np.testing.assert_allclose(result.reconstruction, reconstruction, rtol=1e-5)
    np.testing.assert_allclose(result.kl, kl, rtol=1e-5)
    np.testing.assert_allclose(result.elbo, -reconstruction - kl, rtol=1e-5)
    assert all(part.dtype == np.float64 for part in result)


def test_score_depends_on_the_example_only(tiny):
    model = load(tiny / "conditional")
    whole = scoring.score(model, X, {"label": LABEL})
    for batch_size in (1, 7, 1000):
        again = scoring.score(model, X, {"label": LABEL}, batch_size=batch_size)
        assert all((one == other).all() for one, other in zip(whole, again, strict=True))
    alone = scoring.score(model, X[5:6], {"label": LABEL[5:6]})
    assert all(one[0] == other[5] for one, other in zip(alone, whole, strict=True))


def test_streamed_scores_equal_the_whole(tiny, monkeypatch):
    model = load(tiny / "conditional")
    whole = scoring.score(model, X, {"label": LABEL})
    monkeypatch.setattr(scoring, "_CHUNK_ROWS", 4)
    parts = list(scoring.stream(model, X, {"label": LABEL}))
    assert [len(part.elbo) for part in parts] == [4, 4, 3]
    assert (np.concatenate([part.elbo for part in parts]) == whole.elbo).all()


def test_reconstruction_of_many_draws_is_close_to_its_expectation(tiny):
    model = load(tiny / "unconditional")
    many = scoring.score(model, X, num_samples=4000, seed=1)
    rng = np.random.default_rng(5)
    drawn = np.where(noise.uniforms(1, noise.STREAM_BINARIZE, 0, 1, 48)[0] < X.reshape(11, 48) / 255, 255, 0)
    drawn = drawn.reshape(X.shape)
    q = formulas.encode(drawn)
    draws = np.stack(
        [
            -formulas.log_likelihood(drawn, q["z_mean"] + np.exp(q["z_log_var"] / 2) * rng.standard_normal((11, 3)))[
                "log_likelihood"
            ]
            for _ in range(4000)
        ]
    )
    error = np.sqrt(2 * draws.var(0) / 4000)
    assert (np.abs(many.reconstruction - draws.mean(0)) < 4 * error).all()


def test_black_and_white_data_are_not_changed(tiny):
    x = np.where(X > 127, 255, 0).astype(np.uint8)
    model = load(tiny / "unconditional")
    assert (scoring.score(model, x, seed=1).kl == scoring.score(model, x, seed=2).kl).all()


def test_invalid_requests_for_scores_are_rejected(tiny):
    model = load(tiny / "conditional")
    with pytest.raises(RequestError, match="needs label"):
        scoring.score(model, X)
    with pytest.raises(InputDataError, match="x is empty"):
        scoring.score(model, X[:0], {"label": LABEL[:0]})
    with pytest.raises(InputDataError, match="expected \\['rows', 8, 6, 1\\]"):
        scoring.score(model, np.zeros((2, 8, 7, 1)), {"label": 0})
    with pytest.raises(InputDataError, match="divided by 255"):
        scoring.score(model, X / 255, {"label": LABEL})
    with pytest.raises(InputDataError, match="NaN"):
        scoring.score(model, np.where(X > 127, np.nan, X), {"label": LABEL})
    with pytest.raises(RequestError, match="num_samples is 0; expected an integer of at least 1"):
        scoring.score(model, X, {"label": LABEL}, num_samples=0)
    with pytest.raises(ModelFileError, match=r"does not include likelihood\.onnx"):
        scoring.score(load(tiny / "conditional" / "encoder.onnx"), X, {"label": LABEL})
