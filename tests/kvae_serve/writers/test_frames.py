"""DataFrames and Parquet files: the types of a training table survive the way through a model's arrays."""

from __future__ import annotations

import datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from kvae_serve.errors import InputDataError
from kvae_serve.readers import Dataset, ReadOptions, csv, frames, read_dataset
from kvae_serve.row_stream import Array, RowStream
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import dispatch
from kvae_serve.writers.frames import to_arrays, to_frame
from support import make_tiny_models

pandas = pytest.importorskip("pandas")
ROWS = 60


def table():
    index = np.arange(ROWS)
    return pandas.DataFrame(
        {
            "id": index + 100,
            "int": index % 9,
            "small": (index % 9).astype("int8"),
            "nullable": pandas.array([None if i % 5 == 3 else i % 9 for i in index], "Int64"),
            "float": (index % 9) / 8,
            "single": ((index % 9) / 10).astype("float32"),
            "gaps": np.where(index % 5 == 3, np.nan, index % 9),
            "bool": index % 3 == 0,
            "text": pandas.Series(["pqr"[i % 3] for i in index], dtype=object),
            "text gaps": pandas.Series([None if i % 5 == 3 else "pq"[i % 2] for i in index], dtype=object),
            "code": pandas.Series([f"0{i % 4}" for i in index], dtype=object),
            "category": pandas.Categorical(["xyz"[i % 3] for i in index]),
            "levels": pandas.Categorical([i % 3 + 5 for i in index]),
            "day": pandas.Timestamp("2024-01-01") + pandas.to_timedelta(index % 30, unit="D"),
            "moment": pandas.Timestamp("2024-01-01") + pandas.to_timedelta((index % 30) * 0.25, unit="s"),
            "zone": pandas.Timestamp("2024-01-01", tz="Europe/Zurich") + pandas.to_timedelta(index % 30, unit="D"),
            "constant": 7,
        }
    )


def manifest(data: Dataset) -> Manifest:
    described = {
        "kind": "table", "shape": [data.x.shape[1]], "range": None, "columns": list(data.columns),
        "outside": list(data.outside), "order": list(data.order),
    }  # fmt: skip
    changes = {"graph": "decoder", "data": described, "conditions": [], "likelihood": {"name": "mixed"}, "golden": None}
    return Manifest.from_dict(make_tiny_models.manifest("conditional", True, "standard_normal") | changes)


OBJECTS = {
    "decimals": lambda i: Decimal(i) / 8,
    "decimals with two digits": lambda i: Decimal(f"{i / 8:.2f}"),
    "decimals with gaps": lambda i: None if i % 5 == 3 else Decimal(f"{i}.5"),
    "decimals that are classes": lambda i: Decimal(f"{i % 2}.50"),
    "whole decimals": lambda i: Decimal(i % 9) * Decimal("1E+3"),
    "durations": lambda i: None if i % 5 == 3 else datetime.timedelta(seconds=1.5 * (i % 9)),
    "floats": lambda i: None if i % 5 == 3 else i / 8,
    "booleans with gaps": lambda i: None if i % 5 == 3 else i % 2 == 0,
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_of_one_type_keep_it(name):
    values = [OBJECTS[name](i) for i in range(ROWS)]
    frame = pandas.DataFrame({"a": pandas.Series(values, dtype=object), "b": np.arange(ROWS) % 7})
    data = csv.infer(frames.from_frame(frame, "a"), ReadOptions())
    result = to_frame(to_arrays(manifest(data), data.x, {}))
    assert result["a"].dtype == object
    assert [(type(each), each) for each in result["a"]] == [(type(each), each) for each in values]


def test_integers_among_floats_are_floats():
    values = [i % 5 if i % 2 else i / 8 for i in range(ROWS)]
    data = csv.infer(
        frames.from_frame(pandas.DataFrame({"a": pandas.Series(values, dtype=object)}), "a"), ReadOptions()
    )
    result = to_frame(to_arrays(manifest(data), data.x, {}))["a"]
    assert (result.dtype, result.tolist(), {type(each) for each in result}) == (object, values, {float})


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (lambda i: "ab"[i % 4 // 2] if i % 2 else i, r"58 \(int\) and 'b' \(str\)|'b' \(str\) and 58 \(int\)"),
        (lambda i: str(i) if i % 2 else i, "expected values of one type"),
        (lambda i: i % 3 == 0 or "maybe", "expected values of one type"),
        (lambda i: i % 3 == 0 or i, "expected values of one type"),
        (lambda i: Decimal("1.5") if i % 2 else i / 7, "expected values of one type"),
        (lambda i: datetime.date(2024, 1, 2) if i % 2 else "later", "expected values of one type"),
        (
            lambda i: datetime.date(2024, 1, 2) if i % 2 else datetime.datetime(2024, 1, 1),
            "expected values of one type",
        ),
        (lambda i: Fraction(i, 7), r"Fraction\(59, 7\) \(Fraction\) .* expected numbers, texts or dates. Convert"),
        (lambda i: pandas.Period("2024-01") + i, "expected numbers, texts or dates"),
    ],
)
@pytest.mark.parametrize("as_list", [True, False])
def test_objects_that_cannot_be_written_back_are_refused_in_training(cell, problem, as_list):
    values = [None, *(cell(i) for i in range(ROWS))]
    column = values if as_list else pandas.Series(values, dtype=object)
    with pytest.raises(InputDataError, match=problem) as refused:
        frames.from_frame({"a": column, "b": [1.5] * len(values)}, "The table")
    assert str(refused.value).startswith("The table contains ")
    # Later rows are read by the columns of the model.
    assert frames.from_frame({"a": values}, "a", [{"name": "a", "kind": "numeric"}]).cells["a"][0] == ""


@pytest.mark.parametrize("dtype", ["float64", "Int64", "object"])
def test_missing_identifiers_have_the_type_of_the_training_table(dtype):
    values = [None if i % 4 == 2 else f"C-{i}" if dtype == "object" else 11 + i for i in range(ROWS)]
    frame = pandas.DataFrame({"user_id": pandas.Series(values, dtype=dtype), "b": np.arange(ROWS) % 7})
    data = csv.infer(frames.from_frame(frame, "a"), ReadOptions())
    assert data.outside[0]["missing_share"] == 0.25
    result = to_frame(to_arrays(manifest(data), data.x, {}))
    assert result.dtypes.equals(frame.dtypes)
    assert result["user_id"].isna().sum() == pytest.approx(ROWS / 4, abs=1)
    present = result["user_id"].dropna()
    assert present.is_unique
    assert present.iloc[0] == ("C-0" if dtype == "object" else 11)


@pytest.mark.parametrize("name", list(table()))
def test_types_and_values_survive(name):
    frame = table()[[name, "float"] if name != "float" else ["float"]]
    data = csv.infer(frames.from_frame(frame, "a"), ReadOptions())
    result = to_frame(to_arrays(manifest(data), data.x, {}))
    pandas.testing.assert_frame_equal(result, frame)


def objects():
    """Return columns of Python objects: NumPy has no type for their values, or they keep their Python type."""
    index = np.arange(ROWS)
    gap, second = index % 5 == 3, index % 2 == 1
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(i % 20) for i in index.tolist()]
    columns = {
        "boolean": pandas.array(np.where(gap, None, second), "boolean"),
        "bool gaps": pandas.Series(np.where(gap, None, second), dtype=object),
        "bool object": pandas.Series(second, dtype=object),
        "int object": pandas.Series((index % 2).tolist(), dtype=object),
        "int gaps": pandas.Series([None if gap[i] else i % 9 for i in index.tolist()], dtype=object),
        "date": pandas.Series(days, dtype=object),
        "date gaps": pandas.Series(np.where(gap, None, np.array(days)), dtype=object),
        "one date": pandas.Series(days[:1] * ROWS, dtype=object),
        "time": pandas.Series([datetime.time(i % 20, 0, 5) for i in index.tolist()], dtype=object),
        "datetime": pandas.Series([datetime.datetime(2024, 1, 1, i % 20) for i in index.tolist()], dtype=object),
        "duration": pandas.to_timedelta(index % 20 * 0.5, unit="s"),
        "two durations": pandas.to_timedelta(index % 2 * 1.5, unit="s"),
        "duration gaps": pandas.Series(pandas.to_timedelta(index % 20, unit="min")).where(~gap),
        "one moment": pandas.Series(np.where(gap, np.datetime64("NaT"), np.datetime64("2024-01-01T05:00:00"))),
    }
    return pandas.DataFrame({**columns, "float": (index % 9) / 8})


def categoricals():
    """Categoricals with an order, or with categories in another order or without rows."""
    index = np.arange(ROWS)
    letters, gap = np.array(list("cab"))[index % 3], index % 5 == 3
    columns = {
        "ordered": pandas.Categorical(letters, list("abc"), ordered=True),
        "unused": pandas.Categorical(letters, list("abcd")),
        "turned": pandas.Categorical(letters, list("dcba"), ordered=True),
        "gaps": pandas.Categorical(np.where(gap, None, letters), list("dcba"), ordered=True),
        "integers": pandas.Categorical(index % 3, [2, 1, 0, 9], ordered=True),
        "moments": pandas.Categorical(np.datetime64("2024-01-01T00:00:00", "us") + index % 3 * np.timedelta64(1, "D")),
        "constant": pandas.Categorical(["a"] * ROWS, list("ba")),
        "cut": pandas.cut(index, 3),
        "cut gaps": pandas.cut(np.where(gap, np.nan, index), [0, 9.5, 30, 1000], right=False),
    }
    return pandas.DataFrame({**columns, "float": (index % 9) / 8})


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("int64", [3, 70, None]),
        ("duration[us]", [datetime.timedelta(hours=3), datetime.timedelta(seconds=1.5), None]),
        ("timestamp[us]", [datetime.datetime(2024, 1, 1, 5), datetime.datetime(2024, 1, 3), None]),
        ("date32[day]", [datetime.date(2024, 1, 1), datetime.date(2024, 3, 1), None]),
        ("bool", [True, False, None]),
        ("string", ["a", "b", None]),
    ],
)
def test_types_of_pyarrow_in_pandas_survive(kind, values):
    pytest.importorskip("pyarrow")
    column = pandas.Series(values * 20, dtype=f"{kind}[pyarrow]")
    frame = pandas.DataFrame({"a": column, "b": np.arange(60) / 8})
    data = csv.infer(frames.from_frame(frame, "a"), ReadOptions())
    pandas.testing.assert_frame_equal(to_frame(to_arrays(manifest(data), data.x, {})), frame)


def test_dictionaries_of_pyarrow_in_pandas_keep_their_values():
    arrow = pytest.importorskip("pyarrow")
    kind = pandas.ArrowDtype(arrow.dictionary(arrow.int32(), arrow.string()))
    frame = pandas.DataFrame({"a": pandas.Series(["a", "b"] * 20).astype(kind), "b": np.arange(40) / 8})
    data = csv.infer(frames.from_frame(frame, "a"), ReadOptions())
    assert to_frame(to_arrays(manifest(data), data.x, {}))["a"].tolist() == ["a", "b"] * 20


def test_datetime_objects_with_a_time_zone_keep_it():
    moments = [datetime.datetime(2024, 1, 1, hour, tzinfo=datetime.UTC) for hour in range(20)]
    for column in (moments, pandas.Series(moments, dtype=object)):
        data = csv.infer(frames.from_frame({"a": column, "b": np.arange(20) / 8}, "a"), ReadOptions())
        assert to_frame(to_arrays(manifest(data), data.x, {}))["a"].tolist() == moments


@pytest.mark.parametrize("name", [name for name in categoricals() if name != "float"])
def test_categories_and_their_order_survive(name, tmp_path):
    frame = categoricals()[[name, "float"]]
    data = csv.infer(frames.from_frame(frame, "a"), ReadOptions())
    pandas.testing.assert_frame_equal(to_frame(to_arrays(manifest(data), data.x, {})), frame)
    if name.startswith("cut"):
        return  # pandas cannot write categories of intervals to Parquet.
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "a.parquet")
    expected = pandas.read_parquet(tmp_path / "a.parquet")  # Categories of numbers and dates are lost by pandas, too.
    parquet_of(data, data.x, tmp_path / "b.parquet")
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "b.parquet"), expected)
    data = read_dataset(tmp_path / "a.parquet")
    pandas.testing.assert_frame_equal(to_frame(to_arrays(manifest(data), data.x, {})), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "object[date]"}, {"dtype": "object[time]"}, {"dtype": "datetime64[ns]"}, {"dtype": "object[int]"},
        {"dtype": "timedelta64[ns]"}, {"dtype": "category[interval[float64, right]]"},
        {"dtype": "category[float64]", "categories": ["1", "1.0", "x", "y"]},
        {"dtype": "category[float64]", "categories": ["1", "1.0"]},
    ],
    ids=str,
)  # fmt: skip
def test_types_that_the_classes_do_not_have_leave_texts(changes):
    data = csv.infer(frames.from_frame({"a": ["x", "y"] * 8, "b": list(range(16))}, "a"), ReadOptions())
    data = data._replace(columns=({**data.columns[0], **changes}, data.columns[1]))
    assert to_frame(to_arrays(manifest(data), data.x, {}))["a"].tolist() == ["x", "y"] * 8


@pytest.mark.parametrize("name", [name for name in objects() if name != "float"])
def test_objects_and_durations_survive_and_can_be_read_again(name):
    frame = objects()[[name, "float"]]
    data = csv.infer(frames.from_frame(frame, "a"), ReadOptions())
    result = to_frame(to_arrays(manifest(data), data.x, {}))
    pandas.testing.assert_frame_equal(result, frame)
    assert [type(value) for value in result[name]] == [type(value) for value in frame[name]]
    again = csv.apply(frames.from_frame(result, "a", data.columns), data.columns)
    np.testing.assert_array_equal(again.x, data.x)


def test_booleans_of_a_csv_with_empty_cells_are_booleans_as_in_pandas(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n" + "true,1.5\n,2.5\nfalse,3.5\n" * 8)
    data = read_dataset(tmp_path / "a.csv")
    values = to_frame(to_arrays(manifest(data), data.x, {}))["a"].tolist()
    expected = pandas.read_csv(tmp_path / "a.csv")["a"]
    assert values == [None if pandas.isna(value) else value for value in expected.tolist()]


def parquet_of(data, rows, path):
    array = {"x": Array(rows.dtype, rows.shape[1:])}
    stream = RowStream(manifest(data), len(rows), array, ("x",), iter([{"x": rows}]))
    dispatch.stream(str(path), stream, quiet=True, force=True)


def test_parquet_files_keep_objects_durations_and_time_zones(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    frame = objects().drop(columns="int gaps").assign(zone=table()["zone"])
    frame.to_parquet(tmp_path / "a.parquet")
    data = read_dataset(tmp_path / "a.parquet")
    parquet_of(data, data.x, tmp_path / "b.parquet")
    result, expected = (parquet.read_table(tmp_path / f"{name}.parquet") for name in "ab"[::-1])
    for name in frame:
        assert result[name].to_pylist() == expected[name].to_pylist(), name
        kinds = [str(each[name].type).partition("[")[0] for each in (result, expected)]
        assert kinds[0] == kinds[1], name


def test_parquet_files_keep_types_and_values(tmp_path):
    pytest.importorskip("pyarrow")
    frame = table().drop(columns=["nullable", "zone"])
    frame.to_parquet(tmp_path / "a.parquet")
    data = read_dataset(tmp_path / "a.parquet")
    parquet_of(data, data.x, tmp_path / "b.parquet")
    result = pandas.read_parquet(tmp_path / "b.parquet")
    expected = pandas.read_parquet(tmp_path / "a.parquet")
    pandas.testing.assert_frame_equal(result, expected, check_dtype=False)
    same = [name for name in frame if result[name].dtype == expected[name].dtype]
    assert set(frame) - set(same) <= {"day", "moment", "levels"}


def test_rows_are_a_dict_without_pandas(monkeypatch):
    data = csv.infer(frames.from_frame({"a": [1, 2, 5] * 9, "b": ["x", "y", "z"] * 9}, "a"), ReadOptions())
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    result = to_frame(to_arrays(manifest(data), data.x, {}))
    assert {name: values.tolist()[:3] for name, values in result.items()} == {"a": [1, 2, 5], "b": ["x", "y", "z"]}


def test_type_of_integers_does_not_depend_on_missing_cells_of_the_rows(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    cells = [None if i == 7 else i % 9 for i in range(ROWS)]
    other = [i / 8 for i in range(ROWS)]
    frames_in = {
        "float64": pandas.DataFrame({"a": cells, "b": other}),
        "Int64": pandas.DataFrame({"a": pandas.array(cells, "Int64"), "b": other}),
        "int64": arrow.table({"a": arrow.array(cells, arrow.int64()), "b": other}),
    }
    for dtype, frame in frames_in.items():
        data = csv.infer(frames.from_frame(frame, "a"), ReadOptions())
        for rows in (data.x, data.x[8:]):
            result = to_frame(to_arrays(manifest(data), rows, {}))
            assert result["a"].dtype == {"int64": "float64"}.get(dtype, dtype)
            parquet_of(data, rows, tmp_path / "b.parquet")
            written = arrow.parquet.read_table(tmp_path / "b.parquet").column("a")
            assert str(written.type) == {"float64": "double"}.get(dtype, "int64")
            assert written.to_pylist() == cells[-len(rows) :]
