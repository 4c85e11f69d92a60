"""Thresholds from held-out scores: the share of fresh normal rows below them, and how exactly it is known."""

import math

import numpy as np
import pytest

from kvae_serve.errors import RequestError
from kvae_serve.inference import thresholds
from kvae_serve.sealed.manifest import Manifest
from support import make_tiny_models


def manifest_with(scores, **more):
    record = {"num_samples": 16, "seed": 0, "examples": len(scores), "quantiles": thresholds.quantiles(scores), **more}
    plain = make_tiny_models.manifest("conditional", True, "standard_normal")
    return Manifest.from_dict(plain | {"graph": "encoder", "score": record})


def held_out(scores):
    return manifest_with(scores, split="validation")


def heavy_tailed(rng, num):
    return -90.0 - rng.standard_t(2, num)


def two_modes(rng, num):
    return np.where(rng.random(num) < 0.9, rng.normal(-80, 3, num), rng.normal(-120, 9, num))


@pytest.mark.parametrize("num", [120, 500, 4000])
@pytest.mark.parametrize("draw", [heavy_tailed, two_modes, lambda rng, num: rng.normal(-80, 10, num)])
def test_share_of_fresh_rows_below_a_quantile_is_as_stated(draw, num):
    rng = np.random.default_rng(num)
    for share in (0.01, 0.05, 0.3):
        fresh = np.sort(draw(rng, 100_000))
        below = np.searchsorted(fresh, [thresholds.quantile(draw(rng, num), share) for _ in range(400)]) / len(fresh)
        low, high = thresholds.share_interval(share, num)
        inside = (low <= below) & (below <= high)
        # The mean of 400 shares, each with the variance of a Beta(share n, (1 - share) n).
        assert np.mean(below) == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / num / 400) + 0.001)
        # The 95 % interval: 400 trials have a standard error of 1.1 %.
        assert 0.91 <= np.mean(inside) <= 0.985


def test_count_of_fresh_rows_is_within_the_binomial_interval():
    """With many held-out rows the number of fresh ones below is binomial: 95 % of the counts are in its interval."""
    rng = np.random.default_rng(0)
    limit = thresholds.threshold("q0.01", held_out(heavy_tailed(rng, 200_000)), 16, 0).elbo
    counts = np.array([(heavy_tailed(rng, 2000) < limit).sum() for _ in range(1000)])
    # Of Binomial(2000, 0.01): P(count <= 11) < 0.025 <= P(count <= 12), P(count <= 29) >= 0.975.
    assert ((counts >= 12) & (counts <= 29)).mean() >= 0.93


def test_quantiles_of_training_rows_flag_too_many_but_say_so():
    found = thresholds.threshold("q0.05", manifest_with(np.arange(100.0)), 16, 0)
    assert (found.held_out, found.interval) == (False, None)
    assert found.description() == (
        "the 0.05 quantile of 100 training rows, so more than this share of new normal rows may lie below"
    )


@pytest.mark.parametrize(("rank", "num"), [(1, 20), (1, 999), (5, 99), (50, 99), (99, 99)])
def test_interval_equals_the_binomial_tails_of_an_order_statistic(rank, num):
    low, high = thresholds.share_interval(rank / (num + 1), num)
    # P(share below the r-th lowest score <= p) = P(at least r of n scores are in the lowest p).
    for share, probability in ((low, 0.025), (high, 0.975)):
        tail = sum(math.comb(num, k) * share**k * (1 - share) ** (num - k) for k in range(rank, num + 1))
        assert tail == pytest.approx(probability, abs=1e-3)


def test_quantiles_between_stored_ones_are_interpolated():
    from statistics import NormalDist

    shares = np.arange(1, 5001) / 5001
    manifest = held_out(np.array([-80 + 10 * NormalDist().inv_cdf(share) for share in shares]))
    for share in (0.0013, 0.012, 0.037, 0.11, 0.45, 0.913):
        found = thresholds.threshold(f"q{share}", manifest, 16, 0)
        assert found.elbo == pytest.approx(-80 + 10 * NormalDist().inv_cdf(share), abs=0.1)
        assert (found.quantile, found.examples) == (share, 5000)


def test_a_quantile_that_the_rows_do_not_resolve_is_refused():
    scores = np.arange(25.0)
    manifest = held_out(scores)
    with pytest.raises(RequestError, match=r"quantiles of 25 rows from q0\.0384615 to q0\.961538, got q0\.01\. Use"):
        thresholds.threshold("q0.01", manifest, 16, 0)
    assert thresholds.threshold("q0.0384615", manifest, 16, 0).elbo == 0.0
    assert thresholds.quantile(scores, 1 / 26) == 0.0


def test_file_of_an_earlier_version_keeps_its_quantiles():
    record = {"num_samples": 16, "seed": 0, "examples": 300, "quantiles": {"0.5": -40.0, "0.05": -44.0, "0.01": -45.5}}
    plain = make_tiny_models.manifest("conditional", True, "standard_normal")
    manifest = Manifest.from_dict(plain | {"graph": "encoder", "score": record})
    assert thresholds.threshold("q0.01", manifest, 16, 0) == (-45.5, 0.01, 300, False)
    assert -45.5 < thresholds.threshold("q0.02", manifest, 16, 0).elbo < -44.0
    with pytest.raises(RequestError, match=r"from q0\.01 to q0\.5"):
        thresholds.threshold("q0.001", manifest, 16, 0)


def test_document_states_rows_and_interval():
    document = thresholds.threshold("q0.01", held_out(np.arange(1000.0)), 16, 0).document()
    assert document["examples"] == 1000
    assert document["held_out"] is True
    assert document["interval"] == pytest.approx([0.0048, 0.0170], abs=1e-3)
    assert thresholds.Threshold(-3.0).document() == {"elbo": -3.0, "quantile": None}


@pytest.mark.parametrize("text", ["", "q", " "])
def test_empty_threshold_is_named_as_empty(text):
    with pytest.raises(RequestError, match="The threshold is empty; expected"):
        thresholds.threshold(text, manifest_with(np.arange(100.0)), 16, 0)
