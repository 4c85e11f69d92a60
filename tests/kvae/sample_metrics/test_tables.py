"""Figures of table rows against SDMetrics, SciPy, closed forms and brute force."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

import kvae.sample_metrics as metrics
from kvae.commands.evaluate import evaluate
from kvae.sample_metrics.tables.measure import as_written
from kvae_serve.errors import InputDataError, RequestError

scipy_stats = pytest.importorskip("scipy.stats")
pytest.importorskip("sklearn")

NUMBER = [{"name": "x", "kind": "numeric"}]
COLUMNS = [
    {"name": "a", "kind": "numeric"},
    {"name": "b", "kind": "numeric"},
    {"name": "c", "kind": "categorical", "classes": ["0", "1", "2"]},
    {"name": "d", "kind": "categorical", "classes": ["0", "1", "2", "3"]},
]


def table(shift):
    """Return 200 rows of COLUMNS whose associations depend on an integer."""
    i = np.arange(200)
    a = ((i * 37 + shift * 11) % 101) ** 1.5 * (1 + 0.1 * shift)
    c = (i * i + shift * i) % 3
    return np.stack([a, np.round(np.sin(i * 0.7 + shift) * 10 + a / 50, 1), c, ((i // 3) + c * shift) % 4], axis=1)


def test_column_shapes_equal_sdmetrics():
    # KSComplement and TVComplement of SDMetrics 0.32.0 on the same rows.
    expected = {"a": 0.93, "b": 0.955, "c": 0.335000003325, "d": 0.995}
    assert metrics.column_shapes(table(0), table(1), COLUMNS) == pytest.approx(expected, abs=1e-8)


def test_pair_trends_equal_sdmetrics():
    # CorrelationSimilarity(coefficient="Spearman") and ContingencySimilarity of SDMetrics 0.32.0.
    found = metrics.pair_trends(table(0), table(1), COLUMNS)
    assert found["a", "b"] == pytest.approx(0.9915235438678007, abs=1e-12)
    assert found["c", "d"] == pytest.approx(0.33499999999999996, abs=1e-12)
    assert len(found) == 6


def test_missing_numbers_count_in_shapes_by_their_share():
    one, other = np.arange(10.0), np.arange(10.0)
    other[[1, 4, 7]] = np.nan
    shapes = metrics.column_shapes(one[:, None], other[:, None], NUMBER)
    # The distribution functions differ most at 9, where they are 1 and 0.7.
    assert shapes["x"] == pytest.approx(0.7)


def test_correlation_uses_rows_where_both_numbers_are_present():
    x = np.random.default_rng(0).normal(size=(50, 2))
    x[:, 1] += x[:, 0]
    x[[3, 9], 0], x[[9, 20], 1] = np.nan, np.nan
    complete = x[~np.isnan(x).any(axis=1)]
    matrix = metrics.association_matrix(x, COLUMNS[:2])
    assert matrix[0, 1] == pytest.approx(scipy_stats.spearmanr(*complete.T).statistic, abs=1e-12)


def test_association_of_classes_is_cramers_v_of_scipy():
    rows = table(1)[:, 2:]
    counts = np.zeros((3, 4), int)
    np.add.at(counts, tuple(rows.astype(int).T), 1)
    counts = counts[counts.any(axis=1)][:, counts.any(axis=0)]  # SciPy refuses classes that do not occur.
    expected = scipy_stats.contingency.association(counts, method="cramer")
    assert metrics.association_matrix(rows, COLUMNS[2:])[0, 1] == pytest.approx(expected, abs=1e-12)


def test_two_sample_auc_of_shifted_normals_is_the_closed_form():
    rng = np.random.default_rng(0)
    found = metrics.two_sample_auc(rng.normal(size=(2000, 1)), 1 + rng.normal(size=(2000, 1)), NUMBER)
    assert found.auc == pytest.approx(0.5 * math.erfc(-0.5), abs=0.02)  # Phi(1 / sqrt 2) = 0.760
    assert 0.005 < found.standard_error < 0.01
    equal = metrics.two_sample_auc(rng.normal(size=(500, 1)), rng.normal(size=(500, 1)), NUMBER)
    assert abs(equal.auc - 0.5) < 4 * equal.standard_error


def test_downstream_r2_approaches_the_share_of_explained_variance():
    x = np.random.default_rng(0).normal(size=(6000, 2))
    x[:, 1] += x[:, 0]
    found = metrics.downstream_score(x[:3000], x[3000:], COLUMNS[:2], "b")
    assert found.metric == "r2"
    assert found.value == pytest.approx(0.5, abs=0.05)


def test_downstream_auc_of_a_class_that_training_lacks_is_one_half():
    rng = np.random.default_rng(1)
    label = np.repeat([0, 1, 2], 100)
    x = np.stack([label * 10 + rng.normal(size=300), label], axis=1)
    columns = [COLUMNS[0], COLUMNS[2]]
    assert metrics.downstream_score(x, x, columns, "c").value == pytest.approx(1.0, abs=0.001)
    # Class 0 is far from class 1, and class 2 is on the other side of it: areas 1, 0.5 and 0.5.
    assert metrics.downstream_score(x[label < 2], x, columns, "c").value == pytest.approx(
        (1.0 + 0.75 + 0.5) / 3, abs=0.01
    )


def test_downstream_score_without_a_lesson_is_that_of_a_guess():
    columns = [{"name": "x", "kind": "numeric"}, {"name": "y", "kind": "categorical", "classes": "ab"}]
    rows = np.stack([np.arange(40.0), np.arange(40) % 2], axis=1)
    missing = np.stack([np.full(40, np.nan), np.arange(40) % 2], axis=1)
    assert metrics.downstream_score(rows[:, 1:], rows[:, 1:], columns[1:], "y") == (0.5, "auc")
    assert metrics.downstream_score(missing, rows, columns, "x") == (0.0, "r2")
    assert metrics.downstream_score(rows, missing, columns, "x") == (0.0, "r2")
    with pytest.raises(InputDataError, match="2 real rows and 40 samples; expected at least 3"):
        metrics.two_sample_auc(rows[:2], rows, columns)


def test_downstream_score_of_many_rows_accepts_a_class_of_one_row():
    columns = [{"name": "x", "kind": "numeric"}, {"name": "y", "kind": "categorical", "classes": "abc"}]
    rows = np.stack([np.arange(10_500.0), np.arange(10_500) >= 5000], axis=1)
    rows[0, 1] = 2
    assert metrics.downstream_score(rows, rows[1::10], columns, "y").value == pytest.approx(1.0, abs=1e-3)


def test_closest_distances_equal_brute_force():
    train, x = table(0)[:60], table(2)[:40]
    train[5, 1] = x[3, 1] = np.nan
    scale, centre = np.nanstd(train[:, :2], axis=0), np.nanmean(train[:, :2], axis=0)
    expected = []
    for row in x:
        squares = []
        for other in train:
            total = float(sum(row[2:] != other[2:]))
            for at in range(2):
                one, two = ((np.nan_to_num(each[at], nan=centre[at]) - centre[at]) / scale[at] for each in (row, other))
                total += (one - two) ** 2 + float(np.isnan(row[at]) != np.isnan(other[at]))
            squares.append(total)
        expected.append(min(squares) ** 0.5)
    assert metrics.closest_distances(train, x, COLUMNS) == pytest.approx(expected, abs=1e-9)


def test_copies_are_rows_equal_in_float32():
    train = np.array([[0.1, 0.0], [np.nan, 1.0]])
    x = np.array([[np.float32(0.1), -0.0], [np.nan, 1.0], [0.1, 1.0]])
    assert metrics.exact_copies(train, x, COLUMNS[:2]).tolist() == [True, True, False]


def test_rows_of_missing_cells_are_not_copies():
    columns = [
        {"name": "a", "kind": "numeric"},
        {"name": "b", "kind": "categorical", "classes": ["x", "?"], "missing": "?"},
    ]
    rows = np.array([[np.nan, 1], [np.nan, 0], [2.0, 1], [2.0, 0]])
    assert metrics.exact_copies(rows, rows, columns).tolist() == [False, True, True, True]


def test_valid_cells_follow_decimals_bounds_missing_cells_and_classes():
    train = np.array([[1.5, 10, 0, 0], [2.25, np.nan, 1, 0], [3.0, 30, 1, 0]])
    x = np.array([[2.25, np.nan, 1, 0], [2.255, 20, 0, 1], [3.5, 20.5, 2, 0], [np.nan, 9, 0, -1]])
    assert metrics.valid_cells(train, x, COLUMNS).tolist() == [
        [True, True, True, True],
        [False, True, True, False],
        [False, False, False, True],
        [False, False, True, False],
    ]
    assert metrics.lost_classes(train, x[1:2], COLUMNS) == (2, 3)


def test_figures_of_copied_training_rows_report_copies():
    rng = np.random.default_rng(0)
    train, test = (np.column_stack([rng.normal(size=(120, 2)), rng.integers(3, size=120)]) for _ in range(2))
    found = metrics.table_figures(train, test, train, COLUMNS[:3], target="c")
    assert found["exact_copies"]["value"] == found["close_rows"]["value"] == 1.0
    assert found["exact_copies"]["floor"] == 0.0
    assert found["close_rows"]["floor"] == pytest.approx(0.05, abs=0.01)
    assert found["lost_classes"] == {"value": 0, "floor": 0, "n": 120, "of": 3}
    for name in ("column_shapes", "pair_trends", "two_sample_auc", "downstream"):
        assert found[name]["value"] == pytest.approx(found[name]["floor"]), name
    assert metrics.table_figures(train, test, train, COLUMNS[:3])["downstream"]["value"] is None


def test_rows_of_another_width_and_unknown_targets_are_refused():
    with pytest.raises(InputDataError, match=r"samples has the shape \[200, 3\]; expected \[rows, 4\]"):
        metrics.column_shapes(table(0), table(1)[:, :3], COLUMNS)
    with pytest.raises(RequestError, match=r"Column e does not exist\. Use one of a, b, c, d"):
        metrics.downstream_score(table(0), table(1), COLUMNS, "e")


def test_samples_are_rounded_and_bounded_as_files_are():
    column = {"name": "x", "kind": "numeric", "decimals": 1, "minimum": 100.0, "maximum": 103.0, "offset": 100.0}
    written = as_written(np.array([[1.26], [9.0], [-1.0], [np.nan]], np.float32), [column])
    assert written[:, 0].tolist() == pytest.approx([1.3, 3.0, 0.0, np.nan], abs=1e-9, nan_ok=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny):
    """Write rows that the linear model draws as train.csv and test.csv."""
    from kvae_serve.model import load

    folder = tmp_path_factory.mktemp("rows")
    model = load(tiny / "linear_table")
    for name, num, seed in (("train", 300, 1), ("test", 200, 2)):
        model.sample(num, seed=seed, draw=True).save(folder / f"{name}.csv")
    return folder


def test_number_of_samples_must_fit_the_test_rows(tiny, data, tmp_path):
    from kvae_serve.model import load

    model = load(tiny / "linear_table")
    with pytest.raises(RequestError, match="number of samples is a; expected 30 to 200"):
        metrics.measure_table(model, data, num="a")
    for name, num in (("train", 40), ("test", 20)):
        model.sample(num, seed=num, draw=True).save(tmp_path / f"{name}.csv")
    with pytest.raises(RequestError, match="has 20 test rows; expected at least 30"):
        metrics.measure_table(model, tmp_path)


def run(*arguments):
    return CliRunner().invoke(evaluate, [str(each) for each in arguments], standalone_mode=False)


def test_precision_of_draws_does_not_distinguish_them_from_files():
    rows = np.random.default_rng(0).integers(0, 20, (600, 3)) / 100
    draws = np.random.default_rng(1).integers(0, 20, (300, 3)).astype(np.float32) / np.float32(100)
    columns = [{"name": name, "kind": "numeric", "decimals": 2} for name in "abc"]
    found = metrics.table_figures(rows[:300], rows[300:], draws, columns)["two_sample_auc"]
    assert abs(found["value"] - 0.5) < 4 * found["standard_error"] + 0.03


def test_command_writes_figures_of_rows_to_terminal_file_and_card(tiny, data, tmp_path):
    card = tmp_path / "README.md"
    card.write_text("# rows\n")
    done = run(
        "-m", tiny / "linear_table", "--data", data, "--num-samples", 2, "--sample-metrics", 200, "--target", "sex",
        "-o", tmp_path / "figures.json", "--card", card,
    )  # fmt: skip
    assert done.exception is None, done.exception
    found = json.loads((tmp_path / "figures.json").read_text())["samples"]
    # The data are draws of the model, so its samples are as good as real rows.
    for name, error in (("column_shapes", 0.05), ("pair_trends", 0.08), ("two_sample_auc", 0.15), ("downstream", 0.1)):
        assert found[name]["value"] == pytest.approx(found[name]["floor"], abs=error), name
    assert found["downstream"]["target"] == "sex"
    assert found["lost_classes"]["of"] == 3
    for text in (card.read_text(), done.stdout):
        assert "column shapes" in text
        assert "AUC of sex, trained on 200" in text
    assert "--target sex" in card.read_text()
    assert str(tmp_path) not in card.read_text()


def test_report_shows_figures_of_rows_and_heat_maps(tiny, data, tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.html"
    done = run("-m", tiny / "linear_table", "--data", data, "--num-samples", 2, "--sample-metrics", 100, "-o", page)
    assert done.exception is None, done.exception
    text = page.read_text()
    assert "Associations of columns" in text
    assert "Lowest pair trends" in text
    assert 'alt="Associations of 4 columns, samples"' in text


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--sample-metrics", 201], "expected 30 to 200, the number of test rows", 2),
        (
            ["--sample-metrics", 100, "--target", "size"],
            "Column size does not exist. Use one of age, sex, pay, debt",
            2,
        ),
        (["--sample-metrics", 100, "--classifier", "x.onnx"], "--classifier is for images", 2),
        (
            ["--sample-metrics", 100, "--train-data", "nowhere.csv"],
            "nowhere.csv does not exist. Give the path of a .csv",
            4,
        ),
        (["--target", "sex"], "Give --sample-metrics N as well", 2),
    ],
)
def test_invalid_request_for_rows_is_one_line(tiny, data, arguments, message, code):
    done = run("-m", tiny / "linear_table", "--data", data, *arguments)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
    assert done.exception.exit_code == code
