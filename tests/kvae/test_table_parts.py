"""Parts of the scores of tables add up, for every form of a column, for missing cells and for values never seen."""

import numpy as np
import pytest

import kvae
from kvae_serve.errors import VerificationError
from kvae_serve.inference import scoring


@pytest.mark.parametrize("numbers", ["quantile", "standard"])
def test_parts_of_every_form_of_column_add_up(numbers):
    rng, num = np.random.default_rng(0), 300
    rows = {
        "normal": rng.normal(size=num),
        "zeros": np.where(rng.random(num) < 0.4, 0.0, rng.exponential(size=num)),
        "count": rng.poisson(2, num),
        "kind": rng.choice(["x", "y", "z"], num),
        "partly": np.where(rng.random(num) < 0.2, np.nan, rng.normal(size=num)),
    }
    odd = {
        "normal": np.array([0.0, 50.0, -50.0, rows["normal"].max()]),
        "zeros": np.array([0.0, 0.5, 30.0, -1.0]),
        "count": np.array([2, 99, 0, 1]),
        "kind": np.array(["x", "unseen", "y", "z"]),
        "partly": np.array([np.nan, 1.0, 30.0, 0.0]),
    }
    settings = {"epochs": 1, "encoder_hidden": (8,), "decoder_hidden": (8,), "prior_components": 3}
    model = kvae.TableVAE(numbers=numbers, **settings).fit(rows)
    for table in (rows, odd):
        found = model.score(table, num_samples=2, parts=True)
        scores = model.score(table, num_samples=2)
        np.testing.assert_allclose(found.reconstruction_parts.sum(1), scores.reconstruction, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.kl_parts.sum(1) + found.kl_component, scores.kl, rtol=1e-6, atol=1e-6)
        assert (found.kl_component >= -1e-9).all()
    assert found.reconstruction_parts[1, 3] > 100  # a class that the training table did not have


@pytest.mark.parametrize("numbers", ["quantile", "standard"])
def test_likelihood_that_differs_from_the_decoder_is_refused(numbers, monkeypatch):
    rng = np.random.default_rng(0)
    rows = {"a": rng.normal(size=200), "b": rng.normal(1000, 0.1, size=200), "kind": rng.choice(["x", "y"], 200)}
    settings = {"epochs": 1, "encoder_hidden": (8,), "decoder_hidden": (8,), "prior_components": 3}
    model = kvae.TableVAE(numbers=numbers, **settings).fit(rows)
    odd = [{"a": [0.0], "b": [b], "kind": [kind]} for b, kind in ((1000.1, "x"), (1001.0, "y"), (1000.0, "unseen"))]
    for table in odd:
        parts = model.score(table, num_samples=2, parts=True)
        np.testing.assert_allclose(parts.reconstruction_parts.sum(1), parts.reconstruction, rtol=1e-4)
    correct = scoring.log_likelihoods
    for nats in (7.0, -7.0):
        monkeypatch.setattr(scoring, "log_likelihoods", lambda *args, nats=nats: correct(*args) - nats)
        for table in odd:
            with pytest.raises(VerificationError, match="add up to"):
                model.score(table, num_samples=2, parts=True)
