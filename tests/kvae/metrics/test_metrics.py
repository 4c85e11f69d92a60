"""Metrics of disentanglement that are functions of their arrays: against loops, closed forms and scikit-learn."""

import subprocess
import sys

import numpy as np
import pytest

from kvae import metrics
from kvae.metrics.dci import disentanglement
from kvae.metrics.mutual_information import discretize
from kvae_serve.errors import InputDataError, MissingExtraError, RequestError

SIZES = (3, 6, 40, 32, 32)


def draw_factors(num, sizes=SIZES, seed=0):
    return np.random.default_rng(seed).integers(sizes, size=(num, len(sizes)))


def perfect(factors):
    return (factors - factors.mean(0)) / factors.std(0)


def rotation(size, seed=2):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def entangled(num=600, sizes=(3, 6, 5), num_codes=4, seed=3, dtype=np.float64):
    factors = draw_factors(num, sizes, seed)
    random = np.random.default_rng(seed + 1)
    codes = perfect(factors) @ random.normal(size=(len(sizes), num_codes)) + random.normal(size=(num, num_codes))
    return codes.astype(dtype), factors


def loop_bins(code, num_bins=20):
    """By hand: the bin of x is the number of edges after the first that are at most x, the last one left out."""
    edges = np.histogram(code, num_bins)[1]
    return [sum(1 for edge in edges[1:-1] if edge <= x) for x in code]


def loop_information(first, second):
    """Plug-in mutual information by its definition, one pair of values at a time."""
    num = len(first)
    total = 0.0
    for a in set(first):
        for b in set(second):
            joint = sum(1 for x, y in zip(first, second, strict=True) if x == a and y == b) / num
            if joint:
                of_a, of_b = sum(x == a for x in first) / num, sum(y == b for y in second) / num
                total += joint * np.log(joint / (of_a * of_b))
    return total


def loop_matrix(codes, factors, num_bins=20):
    bins = [loop_bins(code, num_bins) for code in codes.T]
    return np.array([[loop_information(code, factor.tolist()) for factor in factors.T] for code in bins])


def loop_mig(codes, factors):
    matrix, gaps = loop_matrix(codes, factors), []
    for axis, factor in enumerate(factors.T):
        second, first = sorted(matrix[:, axis])[-2:]
        gaps.append((first - second) / loop_information(factor.tolist(), factor.tolist()))
    return np.mean(gaps)


def loop_modularity(codes, factors):
    scores = []
    for row in loop_matrix(codes, factors):
        best = int(np.argmax(row))
        rest = sum(each**2 for axis, each in enumerate(row) if axis != best)
        scores.append(1 - rest / (row[best] ** 2 * (len(row) - 1)) if row[best] else 0.0)
    return np.mean(scores)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bins_mutual_information_mig_and_modularity_equal_plain_loops(dtype):
    codes, factors = entangled(dtype=dtype)
    assert [loop_bins(code) for code in codes.T] == discretize(codes, 20).T.tolist()
    np.testing.assert_allclose(metrics.mutual_information(codes, factors), loop_matrix(codes, factors), atol=1e-12)
    assert metrics.mig(codes, factors) == pytest.approx(loop_mig(codes, factors), abs=1e-12)
    assert metrics.modularity(codes, factors) == pytest.approx(loop_modularity(codes, factors), abs=1e-12)


def test_mutual_information_equals_scikit_learn():
    from sklearn.metrics import mutual_info_score

    codes, factors = entangled(3000, SIZES, 6)
    bins = np.stack([np.digitize(code, np.histogram(code, 20)[1][:-1]) for code in codes.T], axis=1)
    expected = [[mutual_info_score(factor, code) for factor in factors.T] for code in bins.T]
    np.testing.assert_allclose(metrics.mutual_information(codes, factors), expected, atol=1e-10)
    pairs = [mutual_info_score(bins[:, i], bins[:, j]) for i in range(6) for j in range(6) if i != j]
    assert metrics.code_mutual_information(codes) == pytest.approx(np.mean(pairs), abs=1e-10)


def test_metrics_of_four_examples_equal_values_computed_by_hand():
    # Four examples; factor 0 is the first bit, factor 1 the second; code 0 is factor 0, code 1 the pair as a number.
    factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    codes = np.array([[0.0, 0], [0, 1], [1, 2], [1, 3]])
    np.testing.assert_allclose(metrics.mutual_information(codes, factors), np.log(2) * np.array([[1, 0], [1, 1]]))
    assert metrics.mig(codes, factors) == pytest.approx(0.5)  # (0 + 1) / 2
    assert metrics.modularity(codes, factors) == pytest.approx(0.5)  # Code 0: 1; code 1: 1 - 1/1 = 0.
    # Squared correlations: factor 0 with codes 1, 4/5; factor 1 with codes 0, 1/5.
    assert metrics.sap(codes, factors, continuous=True) == pytest.approx((0.2 + 0.2) / 2)


def test_twenty_bins_cap_the_mig_of_perfect_codes_of_dsprites():
    # Full grids of pairs hold no noise: 40 values fall in twos; 32 in 12 bins of two and 8 of one.
    def ceiling(size):
        codes = np.stack([np.repeat(np.arange(size), size), np.tile(np.arange(size), size)], axis=1)
        return metrics.mig(codes, codes)

    assert ceiling(6) == pytest.approx(1.0)
    assert ceiling(40) == pytest.approx(np.log(20) / np.log(40))
    assert ceiling(32) == pytest.approx((0.75 * np.log(16) + 0.25 * np.log(32)) / np.log(32))
    expected = (1 + 1 + ceiling(40) + 2 * ceiling(32)) / 5
    assert expected == pytest.approx(0.9024, abs=1e-4)
    factors = draw_factors(10_000)
    assert metrics.mig(perfect(factors), factors) == pytest.approx(expected, abs=0.015)  # Less the estimate's bias.


def test_metrics_of_perfect_rotated_noisy_and_dead_codes():
    factors = draw_factors(10_000)
    codes = perfect(factors)
    noise = np.random.default_rng(1).normal(size=codes.shape)
    dead = np.zeros_like(codes)
    assert metrics.modularity(codes, factors) > 0.999
    assert metrics.mig(codes @ rotation(5), factors) < 0.06
    assert metrics.mig(noise, factors) < 0.001
    assert metrics.mig(np.hstack([codes, codes]), factors) == pytest.approx(0.0, abs=1e-12)  # Two equally good codes.
    # Noise appears modular; constant codes count as 0 unless they are skipped.
    assert 0.5 < metrics.modularity(noise, factors) < 0.7
    assert metrics.modularity(np.hstack([codes, 1e-3 * noise]), factors) == pytest.approx(0.8, abs=0.04)
    assert metrics.modularity(np.hstack([codes, dead]), factors) == pytest.approx(0.5, abs=1e-3)
    assert metrics.modularity(np.hstack([codes, dead]), factors, dead_codes="skip") > 0.999
    assert metrics.sap(codes, factors, continuous=True) > 0.995
    assert metrics.code_mutual_information(codes) < 0.01
    for metric in (metrics.mig, metrics.modularity, lambda *both: metrics.sap(*both, continuous=True)):
        assert metric(dead + 3.7, factors) == 0.0
        order = [3, 0, 4, 2, 1]
        again = metric(codes[:, order] * [1, 2, 0.5, 4, 1], factors)
        assert again == pytest.approx(
            metric(codes, factors), abs=1e-9
        )  # The order and the scale of codes do not matter.
    assert metrics.code_mutual_information(dead) == 0.0


def test_names_of_factor_values_do_not_matter():
    codes, factors = entangled()
    names = np.array(["c", "a", "f", "b", "e", "d"])[factors]
    for metric in (metrics.mig, metrics.modularity):
        assert metric(codes, names) == pytest.approx(metric(codes, factors), abs=1e-12)
        assert metric(codes, factors / 7.0) == metric(codes, factors)


def test_total_correlation_equals_the_closed_form_of_gaussians():
    random = np.random.default_rng(0)
    pair = random.normal(size=(200_000, 2)) @ np.linalg.cholesky([[1, 0.6], [0.6, 1]]).T
    assert metrics.total_correlation(pair) == pytest.approx(-0.5 * np.log(1 - 0.36), abs=0.005)
    # One common part in each of five: eigenvalues of R are 1 + 4 rho once and 1 - rho four times.
    five = random.normal(size=(100_000, 1)) + random.normal(size=(100_000, 5))
    assert metrics.total_correlation(five) == pytest.approx(-0.5 * (np.log(3) + 4 * np.log(0.5)), abs=0.01)
    small = random.normal(size=(50, 4)) @ random.normal(size=(4, 4)) * [1e-6, 1, 1e6, 3] + 1e3
    covariance = np.cov(small, rowvar=False)
    published = 0.5 * (np.log(np.diag(covariance)).sum() - np.linalg.slogdet(covariance)[1])
    assert metrics.total_correlation(small) == pytest.approx(published, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_total_correlation_of_dead_and_of_copied_codes(dtype):
    codes = np.random.default_rng(0).normal(size=(1000, 3)).astype(dtype)
    with_dead = np.hstack([codes, np.full((1000, 2), 5, dtype)])
    assert metrics.total_correlation(with_dead) == metrics.total_correlation(codes)
    assert metrics.total_correlation(np.ones((10, 3), dtype)) == 0.0
    assert metrics.total_correlation(np.hstack([codes, 2 * codes[:, :1] - codes[:, 1:2] + 1])) == np.inf


def test_disentanglement_of_importances_computed_by_hand():
    # Code 0 is important for factor 0 only (score 1), code 1 equally for both (0); their weights are 1/4 and 3/4.
    assert disentanglement(np.array([[0.5, 0], [0.75, 0.75]])) == pytest.approx(0.25)
    assert disentanglement(np.eye(3)) == pytest.approx(1.0)
    assert disentanglement(np.ones((3, 4))) == pytest.approx(0.0, abs=1e-12)
    assert disentanglement(np.zeros((3, 4))) == 0.0


def test_one_outlier_moves_all_other_values_into_one_bin():
    codes, factors = entangled(500)
    assert metrics.mutual_information(codes, factors)[0].max() > 0.2
    codes[0] = 1e6
    assert metrics.mutual_information(codes, factors).max() < 0.02


def test_extreme_codes_give_finite_scores():
    factors = draw_factors(200, (3, 4))
    hard = np.stack([1e16 + 2 * factors[:, 0], np.nextafter(1.0, 2.0) ** factors[:, 1]], axis=1)
    for codes in (hard, hard.astype(np.float32), factors > 1, factors.astype(np.float16), factors.astype(np.uint8)):
        for metric in (metrics.mig, metrics.modularity, lambda *both: metrics.sap(*both, continuous=True)):
            assert 0.0 <= metric(codes, factors) <= 1.0


CODES, FACTORS = entangled(60)
NAN = np.where(np.arange(240).reshape(60, 4) == 7, np.nan, CODES)


@pytest.mark.parametrize(
    ("codes", "factors", "words"),
    [
        (CODES[0], FACTORS, r"codes must be numbers \[num, num_codes\]"),
        (CODES.astype(str), FACTORS, "codes must be numbers"),
        (CODES[:0], FACTORS[:0], "0 rows"),
        (CODES[:, :1], FACTORS, "1 codes, expected at least 2"),
        (NAN, FACTORS, "1 values that are NaN"),
        (CODES * 1e200, FACTORS, "too large"),
        (CODES, FACTORS[1:], "59 rows, codes has 60"),
        (CODES, FACTORS * 0, "Factor 0 has a single value"),
        (CODES, CODES, "expected classes that repeat"),
        (CODES, FACTORS.astype(object), "factors must be values"),
        (CODES, FACTORS[:, :0], "0 factors"),
        (CODES, NAN, "NaN or infinite"),
    ],
)
def test_invalid_arrays_are_rejected(codes, factors, words):
    with pytest.raises(InputDataError, match=words):
        metrics.mig(codes, factors)


def test_invalid_requests_are_rejected():
    with pytest.raises(RequestError, match="num_bins"):
        metrics.mig(CODES, FACTORS, num_bins=1)
    with pytest.raises(RequestError, match="dead_codes"):
        metrics.modularity(CODES, FACTORS, dead_codes="drop")
    with pytest.raises(InputDataError, match="at least 2"):
        metrics.modularity(CODES, FACTORS[:, :1])
    with pytest.raises(InputDataError, match="leave out test_codes"):
        metrics.sap(CODES, FACTORS, CODES, FACTORS, continuous=True)
    with pytest.raises(InputDataError, match="more rows than codes"):
        metrics.total_correlation(CODES[:4])


def test_metrics_import_keras_never_and_scikit_learn_on_demand():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import numpy as np\nfrom kvae import metrics\nfrom kvae_serve.errors import MissingExtraError\n"
        "f = np.random.default_rng(0).integers(3, size=(90, 2)); c = f + 0.0\n"
        "metrics.mig(c, f); metrics.modularity(c, f); metrics.sap(c, f, continuous=True)\n"
        "metrics.total_correlation(c)\n"
        "metrics.factor_vae_score(lambda f: f, (3, 3), num_train=9, num_test=9); metrics.code_mutual_information(c)\n"
        "for name in ('sap', 'dci', 'explicitness'):\n"
        "    try: getattr(metrics, name)(c, f)\n"
        "    except MissingExtraError as error: print(error)\n"
        "print([name for name in ('keras', 'tensorflow', 'onnxruntime', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *lines, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert len(lines) == 3
    assert all("pip install 'kvae-onnx[evaluate]'" in line for line in lines)
    assert issubclass(MissingExtraError, ImportError)
