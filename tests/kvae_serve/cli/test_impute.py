"""`kvae impute` and `kvae sample --given` as a user calls them."""

import csv
import io
import json

import numpy as np
import pytest

from support import make_linear_table as table
from support.tiny import assert_refused

ROWS = "name,age,sex,pay,debt\nAnn,10.5,female,,0.1\nBob,?,male,-2,NA\nCid,9.5,,-4.50,1.25\nDee,10,other,-3,0.5\n"


def parsed(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def holes(tmp_path):
    (tmp_path / "holes.csv").write_text(ROWS)
    return tmp_path / "holes.csv"


def test_missing_cells_are_filled_and_others_are_kept(kvae, holes, tmp_path):
    done = kvae("impute", holes, "-m", table.FOLDER, "--seed", 1, "-o", "filled.csv")
    assert done.returncode == 0, done.stderr
    assert (
        "4 missing cells in 3 of 4 rows filled in by linear_table to filled.csv, seed 1; effective sample"
        in done.stderr
    )
    before, after = parsed(ROWS), parsed((tmp_path / "filled.csv").read_text())
    for old, new in zip(before, after, strict=True):
        for name, cell in old.items():
            if cell in ("", "?", "NA"):
                assert new[name] in table.CLASSES if name == "sex" else np.isfinite(float(new[name]))
            else:
                assert new[name] == cell


def test_several_imputations_are_numbered_and_differ(kvae, holes):
    done = kvae("impute", holes, "-m", table.FOLDER, "--seed", 1, "-n", 3)
    rows = parsed(done.stdout)
    assert [row["imputation"] for row in rows] == [number for number in "123" for _ in range(4)]
    assert len({row["pay"] for row in rows if row["name"] == "Ann"}) == 3
    once = parsed(kvae("impute", holes, "-m", table.FOLDER, "--seed", 1).stdout)
    assert [{"imputation": "1"} | row for row in once] == rows[:4]


def test_a_column_that_the_file_lacks_is_added(kvae, tmp_path):
    (tmp_path / "some.csv").write_text("pay,age\n-2,10\n-3,11\n")
    done = kvae("impute", "some.csv", "-m", table.FOLDER, "--json")
    facts = json.loads(done.stdout)
    assert (facts["missing"], facts["effective_sample_size"]["of"]) == (4, 256)
    assert 1 <= facts["effective_sample_size"]["minimum"] <= facts["effective_sample_size"]["median"] <= 256
    rows = parsed(kvae("impute", "some.csv", "-m", table.FOLDER).stdout)
    assert list(rows[0]) == ["pay", "age", "sex", "debt"]
    assert [row["age"] for row in rows] == ["10", "11"]


def test_samples_given_values_have_them(kvae):
    done = kvae("sample", "-m", table.FOLDER, "-n", 300, "--given", "age=12, sex=male", "--seed", 4)
    rows = parsed(done.stdout)
    assert {(row["age"], row["sex"]) for row in rows} == {("12", "male")}
    assert "effective sample size" in done.stderr
    # By quadrature over z.
    axis = np.linspace(-6, 6, 241)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    out = table.decode(z)
    weights = np.exp(-0.5 * (z**2).sum(axis=1) - 0.5 * ((12 - out["x_mean"][:, 0]) / 0.5) ** 2)
    weights *= out["x_probability_sex"][:, 1]
    expected = weights @ out["x_mean"][:, 2] / weights.sum()
    assert np.mean([float(row["pay"]) for row in rows]) == pytest.approx(expected, abs=0.35)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("age=x", ("age is given as x; expected a number",)),
        ("age=", ("age is given as an empty text; expected a number",)),
        ("sex=man", ("expected one of 'female', 'male', 'other'",)),
        ("size=1", ("Column size does not exist. Use one of age, sex, pay, debt",)),
        ("age", ("expected NAME=VALUE",)),
        ("age=1,age=2", ("each NAME=VALUE once",)),
    ],
)
def test_invalid_given_values_are_refused(kvae, given, words):
    assert_refused(kvae("sample", "-m", table.FOLDER, "--given", given), 2, *words)


def test_files_that_do_not_fit_are_refused(kvae, tiny, tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert_refused(kvae("impute", "other.csv", "-m", table.FOLDER), 4, "lacks the columns of linear_table, such as age")
    assert_refused(kvae("impute", "other.npz", "-m", table.FOLDER), 4, "expected a .csv or .parquet file")
    assert_refused(kvae("impute", "other.csv", "-m", tiny / "linear"), 2, "models vector data; expected a table")
    assert_refused(kvae("impute", "other.csv", "-m", table.FOLDER, "-o", "x.npz"), 2, "unknown suffix")


def test_rows_are_written_with_the_delimiter_of_the_file(kvae, tmp_path):
    (tmp_path / "semicolons.csv").write_text(ROWS.replace(",", ";"))
    lines = kvae("impute", "semicolons.csv", "-m", table.FOLDER, "--seed", 1).stdout.splitlines()
    assert lines[0] == "name;age;sex;pay;debt"
    assert lines[4] == "Dee;10;other;-3;0.5"
