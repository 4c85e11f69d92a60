"""Sample quality compared with definitions, closed forms, other implementations and published values."""

import numpy as np
import pytest

from kvae import sample_metrics as metrics
from kvae.sample_metrics import distances
from kvae_serve.errors import InputDataError, RequestError


def brute_force(real, generated, k):
    """Compute precision, recall, density and coverage from their definitions, pair by pair."""

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


def by_nearest_neighbours(real, generated, k):
    """Compute the same with search trees of scikit-learn."""
    neighbours = pytest.importorskip("sklearn.neighbors")

    def within(points, other):
        tree = neighbours.NearestNeighbors(algorithm="kd_tree").fit(points)
        radius = tree.kneighbors(n_neighbors=k)[0][:, -1]  # without the point itself
        return np.linalg.norm(points[:, None] - other[None], axis=-1) < radius[:, None]

    in_real, in_generated = within(real, generated), within(generated, real)
    return in_real.any(0).mean(), in_generated.any(0).mean(), in_real.sum(0).mean() / k, in_real.any(1).mean()


@pytest.mark.parametrize(("k", "shift"), [(1, 0.0), (5, 0.0), (3, 1.0)])
def test_manifolds_match_a_loop_over_all_pairs(k, shift):
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(80, 4)), rng.normal(size=(80, 4)) + shift
    found = metrics.precision_recall_density_coverage(real, generated, k)
    np.testing.assert_allclose(found, brute_force(real, generated, k), rtol=1e-12)


def test_manifolds_match_search_trees_far_from_zero():
    rng = np.random.default_rng(1)
    real, generated = rng.normal(size=(2, 400, 3)) + 1e4
    found = metrics.precision_recall_density_coverage(real, 0.8 * (generated - 1e4) + 1e4)
    np.testing.assert_allclose(found, by_nearest_neighbours(real, 0.8 * (generated - 1e4) + 1e4, 5), rtol=1e-12)


def test_figures_do_not_depend_on_the_block_size(monkeypatch):
    rng = np.random.default_rng(2)
    real, generated = rng.normal(size=(2, 90, 3))
    whole = metrics.precision_recall_density_coverage(real, generated)
    mmd, spread = metrics.squared_mmd(real, generated), metrics.within_class_spread(real, np.zeros(90, int))
    monkeypatch.setattr(distances, "BLOCK_BYTES", 8 * 90 * 7)
    assert metrics.precision_recall_density_coverage(real, generated) == whole
    assert metrics.squared_mmd(real, generated) == pytest.approx(mmd, rel=1e-12)
    assert metrics.within_class_spread(real, np.zeros(90, int)) == pytest.approx(spread, rel=1e-12)


@pytest.mark.parametrize(("num", "k", "dim"), [(12, 1, 1), (20, 3, 2), (15, 5, 8)])
def test_density_and_coverage_of_equal_distributions_match_the_closed_form(num, k, dim):
    # Naeem et al. (2020), section 3.3: 1, and 1 - (N - 1)...(N - k) / ((2N - 1)...(2N - k)), for any distribution.
    rng = np.random.default_rng(num)
    found = np.array(
        [metrics.precision_recall_density_coverage(*rng.exponential(size=(2, num, dim)), k)[2:] for _ in range(3000)]
    )
    missed = np.prod([(num - i) / (2 * num - i) for i in range(1, k + 1)])
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - [1, 1 - missed]) < 4 * error).all()
    assert error.max() < 0.02


def test_two_sets_of_the_same_gaussian_cover_each_other():
    rng = np.random.default_rng(3)
    found = metrics.precision_recall_density_coverage(*rng.normal(size=(2, 3000, 64)))
    assert found.density == pytest.approx(1, abs=0.1)
    assert found.coverage == pytest.approx(0.969, abs=0.02)


@pytest.mark.slow
def test_identical_gaussians_match_published_values():
    # 10,000 points of N(0, I) in 1,000 dimensions, k = 5: the example of the authors of density and coverage, one run,
    # https://github.com/clovaai/generative-evaluation-prdc. Runs of other seeds spread by 0.018, 0.008, 0.07 and 0.008.
    rng = np.random.default_rng(4)
    found = metrics.precision_recall_density_coverage(*rng.normal(size=(2, 10_000, 1000)))
    published = [0.4772, 0.4705, 1.0555, 0.9735]
    assert (np.abs(np.array(found) - published) < 3 * np.sqrt(2) * np.array([0.018, 0.008, 0.07, 0.008])).all()


def test_copies_of_one_point_have_almost_no_coverage():
    real = np.random.default_rng(5).normal(size=(200, 8))
    found = metrics.precision_recall_density_coverage(real, np.repeat(real[:1], 200, axis=0))
    assert found.precision == 1
    assert found.recall == 0
    assert found.coverage <= 0.1


def test_invalid_points_are_rejected():
    with pytest.raises(InputDataError, match="sets have 9 and 8 points"):
        metrics.precision_recall_density_coverage(np.zeros((9, 2)), np.zeros((8, 2)))
    with pytest.raises(RequestError, match="expected 1 to 4"):
        metrics.precision_recall_density_coverage(np.zeros((5, 2)), np.zeros((5, 2)))
    for figure in (metrics.frechet_distance, metrics.squared_mmd, metrics.precision_recall_density_coverage):
        with pytest.raises(InputDataError, match="dimensions"):
            figure(np.zeros((9, 2)), np.zeros((9, 3)))
        with pytest.raises(InputDataError, match="NaN"):
            figure(np.full((9, 2), np.nan), np.zeros((9, 2)))
        with pytest.raises(InputDataError, match="expected numbers"):
            figure(np.array([["a"], ["b"]]), np.zeros((9, 2)))
    with pytest.raises(InputDataError, match="has 1 rows"):
        metrics.frechet_distance(np.zeros((1, 2)), np.zeros((9, 2)))


def test_frechet_distance_of_independent_axes_matches_the_closed_form():
    # For diagonal covariances it is the sum of (m1 - m2)^2 + (s1 - s2)^2 over the axes.
    rng = np.random.default_rng(6)
    points = rng.normal(size=(500, 3))
    points = (points - points.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False))).T
    moved = points * [2.0, 3.0, 0.5] + [1.0, 0.0, -2.0]
    assert metrics.frechet_distance(points, moved) == pytest.approx(1 + 4 + 1 + 4 + 0.25, rel=1e-9)
    assert metrics.frechet_distance(points, points) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("num", [300, 6])
def test_frechet_distance_matches_the_matrix_square_root_of_scipy(num):
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(7)
    first, second = rng.normal(size=(num, 5)) @ rng.normal(size=(5, 5)) + 3, rng.normal(size=(num + 9, 5))
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(one + two - 2 * linalg.sqrtm(one @ two).real)
    assert metrics.frechet_distance(first, second) == pytest.approx(expected, rel=1e-8)
    assert metrics.frechet_distance(second, first) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_few_points_is_finite():
    rng = np.random.default_rng(8)
    points = rng.normal(size=(6, 40))
    assert metrics.frechet_distance(points, points) == pytest.approx(0, abs=1e-6)
    assert metrics.frechet_distance(points, points + 2) == pytest.approx(160, rel=1e-6)


def test_squared_mmd_matches_the_kernel_of_scikit_learn():
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    rng = np.random.default_rng(9)
    first, second = rng.normal(size=(40, 6)), 1.5 * rng.normal(size=(30, 6)) + 1

    def mean(a, b, same):
        kernel = pairwise.polynomial_kernel(a, b, degree=3)  # gamma is 1 / dim, the constant 1
        return (kernel.sum() - np.trace(kernel)) / (len(a) * (len(a) - 1)) if same else kernel.mean()

    expected = mean(first, first, True) + mean(second, second, True) - 2 * mean(first, second, False)
    assert metrics.squared_mmd(first, second) == pytest.approx(expected, rel=1e-10)


def test_squared_mmd_is_unbiased():
    # Two coins on the line: its value is known, and the mean over many small sets must be that.
    p, q = 0.3, 0.6  # of 1; else 0: k(0, .) = 1, k(1, 1) = 8, so (p - q)^2 times 8 - 1 - 1 + 1
    rng = np.random.default_rng(10)
    found = [metrics.squared_mmd(rng.random((5, 1)) < p, rng.random((4, 1)) < q) for _ in range(20_000)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - 7 * (p - q) ** 2) < 4 * error < 0.1


def test_spread_is_the_mean_pair_distance_within_a_class():
    # Class 0: 0, 3, 4 lie 3, 4 and 1 apart; class 1: two points of a 3-4-5 triangle.
    x = np.array([[0, 0], [3, 0], [0, 0], [4, 0], [3, 4]], float)
    label = np.array([0, 0, 1, 0, 1])
    assert metrics.within_class_spread(x, label) == pytest.approx((8 / 3 + 5) / 2)
    assert metrics.within_class_spread(np.ones((6, 4)), np.array([0, 0, 0, 1, 1, 1])) == 0
    with pytest.raises(InputDataError, match="Class 1 has 1"):
        metrics.within_class_spread(x[:4], label[:4])
    with pytest.raises(InputDataError, match=r"expected \[5\]"):
        metrics.within_class_spread(x, label[:4])


def test_spread_matches_a_loop_over_all_pairs():
    x = np.random.default_rng(11).normal(size=(30, 4, 4, 1)) + 50
    expected = np.mean([np.linalg.norm(x[i] - x[j]) for i in range(30) for j in range(30) if i != j])
    assert metrics.within_class_spread(x, np.zeros(30, int)) == pytest.approx(expected, rel=1e-9)


def test_consistency_names_the_worst_label():
    asked, judged = np.repeat([0, 1, 2], 4), np.array([0, 0, 0, 0, 1, 2, 2, 1, 2, 2, 2, 0])
    assert metrics.label_consistency(asked, judged) == (9 / 12, 12, 1, 0.5, 4)
    with pytest.raises(InputDataError, match="Labels have the shapes"):
        metrics.label_consistency(asked, judged[:3])


def nearest_mean(x, label):
    """Train a classifier that predicts the class with the nearest mean."""
    classes = np.unique(label)
    means = np.stack([x[label == one].mean(axis=0).ravel() for one in classes])

    def predict(other):
        gap = np.linalg.norm(other.reshape(len(other), 1, -1) - means, axis=-1)
        return classes[gap.argmin(axis=1)]

    return predict


def test_accuracy_score_uses_a_classifier_trained_on_samples_only():
    test, label = np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([0, 0, 1, 1])
    samples = np.array([[0.0], [2.0], [9.0], [11.0]])

    def score(asked):
        return metrics.classification_accuracy_score(samples, asked, test, label, nearest_mean)

    assert score([0, 0, 1, 1]) == 1
    assert score([1, 1, 0, 0]) == 0
    assert score([0, 0, 0, 0]) == 0.5  # it knows one class, and half of the test images are of it
    with pytest.raises(InputDataError, match="one label each"):
        score([0, 1])
