"""Rows of a table from start to end: train, export, and get rows that replace the original file."""

from __future__ import annotations

import csv
import datetime
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import kvae
from kvae_serve.cli.commands.encode import encode as encode_command
from kvae_serve.cli.commands.impute import impute as impute_command
from kvae_serve.cli.commands.reconstruct import reconstruct as reconstruct_command
from kvae_serve.cli.commands.sample import sample as sample_command
from kvae_serve.cli.commands.score import score as score_command
from kvae_serve.cli.dataset_args import DatasetArgs
from kvae_serve.errors import InputDataError, RequestError
from kvae_serve.http_server import operations
from kvae_serve.sealed import file

NUM = 400
SMALL = {"encoder_hidden": (16,), "decoder_hidden": (16,), "latent_dim": 2, "epochs": 1, "validation": 50}


def people() -> list[dict[str, str]]:
    """Return rows with every type of column, such as row numbers without a name, missing classes and large numbers."""
    rng = np.random.default_rng(0)
    start = datetime.date(2020, 2, 25)
    return [
        {
            "": str(index),
            "Person": f"p{index + 1:04d}",
            "country": "CH",
            "age": str(rng.integers(17, 91)),
            "work": str(rng.choice(["private", "state", "?"], p=[0.7, 0.2, 0.1])),
            "Pay class": str(rng.choice(["<=50K", ">50K"], p=[0.75, 0.25])),
            "since": (start + datetime.timedelta(days=int(rng.integers(0, 500)))).strftime("%d/%m/%Y"),
            "account": str(4_500_000_000 + int(rng.integers(0, 90_000))),
            "hours": f"{rng.normal(40, 5):.1f}",
            "active": str(bool(rng.integers(0, 2))),
        }
        for index in range(NUM)
    ]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("people") / "people.csv"
    rows = people()
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def model(table) -> Path:
    run = kvae.train(
        data=str(table), directory=table.parent / "run", condition_columns=("Pay class", "age"), quiet=True,
        export_check=False, **SMALL,
    )  # fmt: skip
    run.model.export(table.parent / "model")
    return table.parent / "model"


def call(command, *arguments) -> str:
    done = CliRunner().invoke(command, [str(each) for each in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_sampled_rows_replace_the_original_file(table, model, tmp_path):
    output = call(sample_command, "-m", model, "-n", NUM, "--seed", 0, "-o", tmp_path / "rows.csv")
    assert "400 rows" in output
    assert "drawn from p(x given z)" in output
    original, rows = read(table), read(tmp_path / "rows.csv")
    assert list(rows[0]) == list(original[0])
    assert len(rows) == NUM
    pandas = pytest.importorskip("pandas")
    frames = [pandas.read_csv(path) for path in (table, tmp_path / "rows.csv")]
    assert frames[0].dtypes.equals(frames[1].dtypes)
    for name in ("", "Person", "country"):
        assert [row[name] for row in rows] == [row[name] for row in original]
    for name in ("work", "Pay class", "active"):
        assert {row[name] for row in rows} <= {row[name] for row in original}
    for name in ("age", "account"):
        values, known = ([int(row[name]) for row in each] for each in (rows, original))
        assert min(known) <= min(values) <= max(values) <= max(known)
    days = [datetime.datetime.strptime(row["since"], "%d/%m/%Y").replace(tzinfo=datetime.UTC) for row in rows]
    assert all(day.strftime("%d/%m/%Y") == row["since"] for day, row in zip(days, rows, strict=True))
    assert all(len(row["hours"].partition(".")[2]) == 1 for row in rows)


def test_conditions_have_the_shares_of_the_data(table, model):
    draws = kvae.load(model).sample(4000, seed=0)
    original = read(table)
    share = Counter(row["Pay class"] for row in original)[">50K"] / NUM
    assert draws.conditions["pay_class"].mean() == pytest.approx(share, abs=0.03)
    ages = np.array([int(row["age"]) for row in original])
    assert draws.conditions["age"].mean() == pytest.approx(ages.mean(), abs=2)
    assert (draws.conditions["age"] == draws.conditions["age"].round()).all()
    # The same rows in parts, or one by one.
    part = kvae.load(model).sample(10, seed=0, start=100)
    np.testing.assert_array_equal(part.conditions["age"], draws.conditions["age"][100:110])
    np.testing.assert_array_equal(part.x, draws.x[100:110])
    some = kvae.load(model).plan(4000, seed=0).at(np.array([105, 3]))
    np.testing.assert_array_equal(some["x"], draws.x[[105, 3]])
    # Given another condition that is fixed.
    fixed = kvae.load(model).sample(4000, conditions={"pay_class": ">50K", "age": "data"}, seed=0)
    rich = [age for age, row in zip(ages, original, strict=True) if row["Pay class"] == ">50K"]
    assert fixed.conditions["age"].mean() == pytest.approx(np.mean(rich), abs=2)
    assert set(fixed.names("pay_class")) == {">50K"}


def test_conditions_can_be_fixed_and_keep_their_place(model, tmp_path):
    options = ("--condition", "pay_class=>50K", "--condition", "age=40", "--condition", "age=50", "--mean", "--json")
    document = call(sample_command, "-m", model, "-n", 5, *options, "-o", tmp_path / "rows.csv")
    assert json.loads(document)["draw"] is False
    rows = read(tmp_path / "rows.csv")
    assert [row["age"] for row in rows] == ["40"] * 5 + ["50"] * 5
    assert {row["Pay class"] for row in rows} == {">50K"}
    assert list(rows[0])[3] == "age"


def test_unseen_class_scores_as_unlike_the_training_data(table, model, tmp_path):
    rows = read(table)[:6]
    changed = [dict(row) for row in rows]
    changed[2]["work"], changed[4]["work"] = "moon", ""
    for name, each in (("as_is", rows), ("changed", changed)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(each)
    output = call(score_command, "-m", model, tmp_path / "changed.csv", "-o", tmp_path / "scores.csv")
    assert "row 4, column work contains moon, which is not a class of the model" in output
    call(score_command, "-m", model, tmp_path / "as_is.csv", "-o", tmp_path / "known.csv")
    scores, known = ([float(row["elbo"]) for row in read(tmp_path / f"{name}.csv")] for name in ("scores", "known"))
    assert scores[2] < known[2] - 90
    assert scores[2] == min(scores)
    np.testing.assert_allclose(np.array(scores)[[0, 1, 3, 5]], np.array(known)[[0, 1, 3, 5]])


def test_missing_class_is_skipped_if_training_had_none(table, model, tmp_path):
    rows = read(table)[:4]
    rows[1]["active"] = ""
    with (tmp_path / "missing.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    output = call(score_command, "-m", model, tmp_path / "missing.csv", "--parts", "-o", tmp_path / "parts.csv")
    assert "Column active: 1 of 4 values are missing; the model was trained without missing values, so" in output
    call(score_command, "-m", model, tmp_path / "missing.csv", "-o", tmp_path / "scores.csv")
    parts, scores = read(tmp_path / "parts.csv"), read(tmp_path / "scores.csv")
    assert [row["elbo"] for row in parts] == [row["elbo"] for row in scores]
    assert float(parts[1]["reconstruction active"]) == pytest.approx(0.0, abs=1e-3)
    assert all(float(parts[at]["reconstruction active"]) > 0.1 for at in (0, 2, 3))
    for row in parts:
        each = sum(float(value) for name, value in row.items() if name.startswith("reconstruction "))
        assert each == pytest.approx(float(row["reconstruction"]), abs=1e-3)


def test_unknown_classes_of_a_condition_are_counted_and_can_be_replaced(table, model, tmp_path):
    rows = read(table)[:5]
    rows[1]["Pay class"], rows[4]["Pay class"] = "moon", ""
    with (tmp_path / "other.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    arguments = ["-m", str(model), str(tmp_path / "other.csv")]
    with pytest.raises(InputDataError, match=r"2 of 5 rows .* set one pay_class for all rows"):
        CliRunner().invoke(score_command, arguments, catch_exceptions=False)
    with pytest.raises(InputDataError, match="with --over-labels, leave the column out"):
        DatasetArgs(arguments[2], None).read_for_any_label(kvae.load(model))
    with (tmp_path / "unlabelled.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != "Pay class"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    assert len(DatasetArgs(str(tmp_path / "unlabelled.csv"), None).read_for_any_label(kvae.load(model)).x) == 5
    fixed = ("--condition", "pay_class=>50K")
    call(score_command, *arguments, *fixed, "-o", tmp_path / "scores.csv")
    call(impute_command, *arguments, *fixed, "-o", tmp_path / "filled.csv")
    columns = {name: [row[name] for row in rows] for name in rows[0] if name}
    elbo = kvae.load(model).score(columns, {"pay_class": ">50K"}).elbo
    np.testing.assert_allclose([float(row["elbo"]) for row in read(tmp_path / "scores.csv")], elbo, atol=1e-3)


def test_scores_and_codes_keep_the_identifiers_of_their_rows(table, model, tmp_path):
    output = call(score_command, "-m", model, table, "--start", 3, "-n", 4, "-o", tmp_path / "scores.csv")
    call(encode_command, "-m", model, table, "--start", 3, "-n", 4, "-o", tmp_path / "codes.csv")
    for name in ("scores", "codes"):
        assert [row["Person"] for row in read(tmp_path / f"{name}.csv")] == ["p0004", "p0005", "p0006", "p0007"]
    median = np.median([float(row["elbo"]) for row in read(tmp_path / "scores.csv")])
    assert f"median elbo {median:.2f} nats" in output


@pytest.mark.parametrize(
    ("column", "given", "written"),
    [
        ("hours", "400", "400.0"),
        ("hours", "-3.5", "-3.5"),
        ("account", "1", "1"),
        ("account", "4999999999", "4999999999"),
        ("since", "01/02/1999", "01/02/1999"),
        ("work", "state", "state"),
    ],
)
def test_given_values_beyond_the_training_data_are_written(model, tmp_path, column, given, written):
    arguments = ("-m", model, "--given", f"{column}={given}", "-n", 2, "--seed", 0)
    call(sample_command, *arguments, "-o", tmp_path / "rows.csv")
    assert {row[column] for row in read(tmp_path / "rows.csv")} == {written}
    call(sample_command, *arguments, "-o", tmp_path / "rows.html")
    assert f"{written}</td>" in (tmp_path / "rows.html").read_text()
    parquet = pytest.importorskip("pyarrow.parquet")
    call(sample_command, *arguments, "-o", tmp_path / "rows.parquet")
    value = parquet.read_table(tmp_path / "rows.parquet")[column].to_pylist()[0]
    if column == "since":
        assert value == datetime.datetime(1999, 2, 1)
    else:
        assert value == (written if column == "work" else float(written))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("hours=40.25", "a number with at most 1 decimal, as in the training data"),
        ("account=4500000000.5", "an integer, as in the training data"),
        ("since=1999-02-01", "a date in the format %d/%m/%Y"),
    ],
)
def test_given_values_that_the_column_cannot_have_are_refused(model, given, expected):
    with pytest.raises(RequestError, match=re.escape(f"{given.replace('=', ' is given as ')}; expected {expected}.")):
        CliRunner().invoke(
            sample_command, ["-m", str(model), "--given", given, "-n", "2"], catch_exceptions=False,
        )  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".html", ".parquet"])
def test_reconstructions_keep_the_identifiers_of_their_rows(table, model, tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
    with (tmp_path / "turned.csv").open("w", newline="") as file:
        rows = read(table)[::-1]
        writer = csv.DictWriter(file, [name for name in rows[0] if name])
        writer.writeheader()
        writer.writerows({name: cell for name, cell in row.items() if name} for row in rows)
    call(reconstruct_command, "-m", model, tmp_path / "turned.csv", "--start", 3, "-n", 2, "-o", path)
    if suffix == ".csv":
        assert [row["Person"] for row in read(path)] == ["p0397", "p0396"]
    elif suffix == ".parquet":
        assert parquet.read_table(path)["Person"].to_pylist() == ["p0397", "p0396"]
    else:
        assert "<td>p0397</td>" in path.read_text()
        assert "p0004" not in path.read_text()


def test_reconstructions_in_python_and_of_a_server_keep_identifiers(table, model):
    rows = read(table)[7:9]
    columns = {name: [row[name] for row in rows] for name in rows[0] if name}
    served = kvae.load(model)
    assert list(served.reconstruct(columns)["Person"]) == ["p0008", "p0009"]
    for x in (columns, [{name: row[name] for name in columns} for row in rows]):
        answer = operations.answer("reconstruct", served, {"x": x, "records": True}, 10)
        chunk = next(iter(answer.rows.chunks))
        assert [each["Person"] for each in operations.records(answer.rows, chunk)] == ["p0008", "p0009"]


def test_graphs_of_a_table_have_no_arithmetic_on_shapes(model):
    for path in model.glob("*.onnx"):
        operators = {node.op for node in file.read(path).computation.nodes}
        assert not operators & {"Shape", "ConstantOfShape", "Expand", "Range", "Size"}, path.name


def test_card_of_a_table_does_not_call_its_drawn_rows_means(model):
    assert "Samples are means" not in (model / "README.md").read_text()
