import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import classifier
import sample_metrics as metrics
import sample_quality as quality


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


class OneOrZero:
    """A judge that sees a label where it was painted: pixel [0, 0] holds it; its features are pixels of the image."""

    def __call__(self, x):
        return classifier.Judgement(x[:, 1, :8, 0].astype(float), x[:, 0, 0, 0].astype(np.int64))


def painted(num, seed):
    label = np.repeat(np.arange(10), num)
    x = np.random.default_rng(seed).integers(0, 256, (len(label), 28, 28, 1)).astype(np.float32)
    x[:, 0, 0, 0] = label
    return quality.Images(x, label)


def test_real_images_measured_against_others_like_them_come_out_as_real(monkeypatch):
    monkeypatch.setattr(quality, "PER_LABEL", 30)
    found = quality.measure(painted(60, 0), painted(50, 1), OneOrZero())
    assert (found.consistency, found.worst) == (1, 1)
    assert found.spread == pytest.approx(1, abs=0.01)
    assert found.manifolds.coverage > 0.9
    wrong = painted(60, 0)
    wrong.x[wrong.label == 4, 0, 0, 0] = 5
    found = quality.measure(wrong, painted(50, 1), OneOrZero())
    assert (found.consistency, found.worst_label, found.worst) == (0.9, 4, 0)


def test_the_first_of_each_label_come_label_by_label():
    index = quality.first_of_each(np.array([2, 0, 1, 0, 2, 0, 2]), np.array([2, 0, 2]))
    assert index.tolist() == [1, 3, 0, 4]


def test_elbo_of_a_model_known_by_formula():
    # The posterior is N(1, e^-1) in each of 3 dimensions, the likelihood -|z|^2 - (white pixels): both means are known.
    def run(graph, feeds):
        num = len(feeds["x"])
        assert set(np.unique(feeds["x"])) <= {0.0, 255.0}
        if graph == "encoder":
            return {"z_mean": np.ones((num, 3), "f4"), "z_log_var": np.full((num, 3), -1, "f4")}
        return {"log_likelihood": -(feeds["z"] ** 2).sum(1) - feeds["x"].sum(axis=(1, 2, 3)) / 255}

    model = SimpleNamespace(manifest=SimpleNamespace(latent_dim=3), run=run)
    test = quality.Images(np.full((4000, 4, 4, 1), 51, np.uint8), np.zeros(4000, np.int64))
    found = quality.elbo(model, test, seed=0)
    assert found["kl"][0] == pytest.approx(3 * 0.5 * (1 + np.exp(-1) - 1 + 1), rel=1e-6)
    expected = 3 * (1 + np.exp(-1)) + 16 * 0.2
    mean, error = found["reconstruction"]
    assert abs(mean - expected) < 4 * error < 0.3
    assert found["elbo"][0] == pytest.approx(-mean - found["kl"][0])


def test_the_picture_holds_samples_and_real_images_side_by_side():
    picture = Image.open(io.BytesIO(quality.picture(painted(3, 0), painted(3, 1), columns=3)))
    assert picture.size == (2 * (3 * 30 - 2) + 6, 10 * 30 - 2)
