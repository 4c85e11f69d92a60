import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import classifier
import sample_metrics as metrics


def brute_force(real, generated, k):
    """Precision, recall, density and coverage by the words of their definitions, one pair at a time."""

    def distance(a, b):
        return float(np.sqrt(((a - b) ** 2).sum()))

    def radius(points, index):
        return sorted(distance(points[index], other) for j, other in enumerate(points) if j != index)[k - 1]

    real_radius = [radius(real, index) for index in range(len(real))]
    generated_radius = [radius(generated, index) for index in range(len(generated))]
    inside = [[distance(g, r) < real_radius[i] for i, r in enumerate(real)] for g in generated]
    precision = np.mean([any(row) for row in inside])
    density = np.mean([sum(row) / k for row in inside])
    coverage = np.mean([any(row[i] for row in inside) for i in range(len(real))])
    recall = np.mean([any(distance(r, g) < generated_radius[j] for j, g in enumerate(generated)) for r in real])
    return precision, recall, density, coverage


@pytest.mark.parametrize(("k", "shift"), [(1, 0.0), (5, 0.0), (3, 1.0)])
def test_manifolds_match_a_loop_over_all_pairs(k, shift):
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(80, 4)), rng.normal(size=(80, 4)) + shift
    found = metrics.precision_recall_density_coverage(real, generated, k)
    np.testing.assert_allclose(found, brute_force(real, generated, k), rtol=1e-12)


def test_manifolds_are_the_same_in_blocks_of_rows(monkeypatch):
    rng = np.random.default_rng(1)
    real, generated = rng.normal(size=(2, 90, 3))
    whole = metrics.precision_recall_density_coverage(real, generated)
    monkeypatch.setattr(metrics, "_ROWS", 7)
    assert metrics.precision_recall_density_coverage(real, generated) == whole


def test_two_sets_of_one_gaussian_cover_each_other():
    # Naeem et al. 2020, section 3.3: density is 1 and coverage 1 - (1/2)^k = 0.969 in the mean.
    rng = np.random.default_rng(2)
    real, generated = rng.normal(size=(2, 3000, 64))
    found = metrics.precision_recall_density_coverage(real, generated)
    assert found.density == pytest.approx(1, abs=0.1)
    assert found.coverage == pytest.approx(0.969, abs=0.02)


def test_copies_of_one_point_cover_next_to_nothing():
    real = np.random.default_rng(3).normal(size=(200, 8))
    found = metrics.precision_recall_density_coverage(real, np.repeat(real[:1], 200, axis=0))
    assert found.precision == 1
    assert found.recall == 0
    assert found.coverage <= 0.1


def test_sets_of_unlike_size_are_refused():
    with pytest.raises(ValueError, match="one size, got 9 and 8"):
        metrics.precision_recall_density_coverage(np.zeros((9, 2)), np.zeros((8, 2)))
    with pytest.raises(ValueError, match="k must be from 1 to 4"):
        metrics.precision_recall_density_coverage(np.zeros((5, 2)), np.zeros((5, 2)))


def test_frechet_distance_of_independent_axes_is_that_of_their_moments():
    # For diagonal covariances it is the sum of (m1 - m2)^2 + (s1 - s2)^2 over the axes.
    rng = np.random.default_rng(4)
    points = rng.normal(size=(500, 3))
    points = (points - points.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False))).T
    moved = points * [2.0, 3.0, 0.5] + [1.0, 0.0, -2.0]
    assert metrics.frechet_distance(points, moved) == pytest.approx(1 + 4 + 1 + 4 + 0.25, rel=1e-9)
    assert metrics.frechet_distance(points, points) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_matches_the_square_root_of_the_product():
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5)), rng.normal(size=(300, 5))
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    values = np.linalg.eigvals(one @ two)  # those of the square root are their roots
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(one + two) - 2 * np.sqrt(values).real.sum()
    assert metrics.frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_spread_is_the_mean_distance_of_pairs_within_a_class():
    # Class 0: 0, 3, 4 lie 3, 4 and 1 apart; class 1: two points of a 3-4-5 triangle.
    x = np.array([[0, 0], [3, 0], [0, 0], [4, 0], [3, 4]], float)
    label = np.array([0, 0, 1, 0, 1])
    assert metrics.within_class_spread(x, label) == pytest.approx((8 / 3 + 5) / 2)
    assert metrics.within_class_spread(np.ones((6, 4)), np.array([0, 0, 0, 1, 1, 1])) == 0
    with pytest.raises(ValueError, match="class 0 has 1"):
        metrics.within_class_spread(x, label, each=1)


def test_spread_matches_a_loop_over_all_pairs():
    x = np.random.default_rng(6).normal(size=(30, 4, 4, 1)) + 50
    expected = np.mean([np.linalg.norm(x[i] - x[j]) for i in range(30) for j in range(30) if i != j])
    assert metrics.within_class_spread(x, np.zeros(30, int)) == pytest.approx(expected, rel=1e-9)


def test_consistency_names_the_worst_label():
    asked, judged = np.repeat([0, 1, 2], 4), np.array([0, 0, 0, 0, 1, 2, 2, 1, 2, 2, 2, 0])
    assert metrics.label_consistency(asked, judged) == (9 / 12, 1, 0.5)


def test_shifted_images_keep_their_pixels():
    x = np.zeros((50, 8, 8, 1), np.uint8)
    x[:, 3:5, 2:6] = 7
    moved = classifier.shifted(x, np.random.default_rng(7))
    assert (moved.sum(axis=(1, 2, 3)) == x[0].sum()).all()
    tops = {int(np.argmax(image.any(axis=(1, 2)))) for image in moved}
    assert tops == {1, 2, 3, 4, 5}
