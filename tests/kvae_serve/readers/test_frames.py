"""DataFrames, pyarrow tables and Parquet files give the same dataset as a CSV of the same values."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from kvae_serve.errors import InputDataError, MissingExtraError
from kvae_serve.readers import ReadOptions, csv, frames, read_dataset

COLUMNS = {"age": [21, 45, 33], "weight": [60.5, -7.25, 0.1], "city": ["Bern", "Zug", "Bern"]}


class Frame:
    """Table with the interface that pandas and pyarrow share."""

    def __init__(self, columns: dict):
        self.columns, self.shape = list(columns), (len(next(iter(columns.values()), [])), len(columns))
        self._values = columns

    def __getitem__(self, name):
        column = np.empty(self.shape[0], object)
        column[:] = self._values[name]
        return column


def undescribed(columns: tuple) -> tuple:
    """Return columns without the types of a DataFrame."""
    return tuple({key: value for key, value in column.items() if key != "dtype"} for column in columns)


def test_frame_is_read_like_a_csv(tmp_path):
    (tmp_path / "a.csv").write_text("age,weight,city\n21,60.5,Bern\n45,-7.25,Zug\n33,0.1,Bern\n")
    expected = read_dataset(tmp_path / "a.csv")
    data = csv.infer(frames.from_frame(Frame(COLUMNS), "a"), ReadOptions())
    np.testing.assert_array_equal(data.x, expected.x)
    assert undescribed(data.columns) == undescribed(expected.columns)
    assert undescribed(csv.infer(frames.from_frame(COLUMNS, "a"), ReadOptions()).columns) == expected.columns


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({}, "is empty"),
        ({"a": [[1], [2]]}, r"f contains \[1\] in the column a; expected numbers"),
    ],
)
def test_unsuitable_frames_are_refused(columns, reason):
    with pytest.raises(InputDataError, match=reason):
        csv.infer(frames.from_frame(Frame(columns), "f"), ReadOptions())


def test_frame_of_too_many_columns_is_refused_like_a_csv():
    with pytest.raises(InputDataError, match="a has 10001 columns; the most is 10000"):
        frames.from_frame({f"column {number}": [1] for number in range(10_001)}, "a")


def test_columns_of_the_same_text_are_refused():
    with pytest.raises(InputDataError, match="the column name 1 twice"):
        frames.from_frame({1: [0], "1": [0]}, "a")


def test_pandas_and_parquet_are_read(tmp_path):
    pandas, parquet = pytest.importorskip("pandas"), pytest.importorskip("pyarrow.parquet")
    from pyarrow import Table

    expected = csv.infer(frames.from_frame(Frame(COLUMNS), "a"), ReadOptions())
    parquet.write_table(Table.from_pydict(COLUMNS), tmp_path / "a.parquet")
    for data in (
        csv.infer(frames.from_frame(pandas.DataFrame(COLUMNS), "a"), ReadOptions()),
        csv.infer(frames.from_frame(Table.from_pydict(COLUMNS), "a"), ReadOptions()),
        read_dataset(tmp_path / "a.parquet"),
    ):
        np.testing.assert_array_equal(data.x, expected.x)
        assert undescribed(data.columns) == undescribed(expected.columns)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputDataError, match="not a readable Parquet file"):
        read_dataset(tmp_path / "a.parquet")


def test_missing_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=r"kvae-onnx\[tables\]"):
        read_dataset(tmp_path / "a.parquet")


MOMENTS = [datetime.datetime(2015, 11, 24, 13, 45, 10) + datetime.timedelta(days=day) for day in range(8)]
MIDNIGHTS = [datetime.datetime(each.year, each.month, each.day) for each in MOMENTS]


@pytest.mark.parametrize(
    ("form", "moments"),
    [
        ("%d/%m/%Y", MIDNIGHTS),
        ("%b %d, %Y", MIDNIGHTS),
        ("%Y-%m-%d %H:%M:%S", MOMENTS),
        ("%Y-%m-%d %H:%M:%S.%f", MOMENTS),
        ("%Y-%m-%dT%H:%M:%SZ", MOMENTS),
        ("%m/%d/%y %I:%M:%S %p", MOMENTS),
    ],
)
@pytest.mark.parametrize(
    "kind",
    [
        list,
        lambda moments: np.array(moments, "datetime64[ns]"),
        lambda moments: np.array(moments, "datetime64[s]"),
        lambda moments: pytest.importorskip("pandas").Series(moments),
        lambda moments: [each.replace(tzinfo=datetime.UTC) for each in moments],
    ],
    ids=["datetime", "ns", "s", "pandas", "aware"],
)
def test_dates_of_a_frame_are_read_in_the_format_of_the_model(form, moments, kind):
    columns = {"a": [each.strftime(form) for each in moments], "b": [each / 8 for each in range(8)]}
    if form.endswith("%f"):
        columns["a"][0] = columns["a"][0][:-6] + "250000"  # The model has milliseconds; most rows do not.
    data = csv.infer(frames.from_frame(columns, "a"), ReadOptions(column_settings={"a": {"format": form}}))
    frame = {**columns, "a": kind(moments)}
    again = csv.apply(frames.from_frame(frame, "a", data.columns), data.columns)
    np.testing.assert_array_equal(again.x[1:], data.x[1:])


def test_dates_without_a_time_and_times_of_dates_fit_a_model_of_the_other():
    days = [each.date() for each in MOMENTS]
    numbers = [each / 8 for each in range(8)]
    for trained, scored in ((days, MOMENTS), (days, MIDNIGHTS), (MIDNIGHTS, days)):
        data = csv.infer(frames.from_frame({"a": trained, "b": numbers}, "a"), ReadOptions())
        again = csv.apply(frames.from_frame({"a": scored, "b": numbers}, "a", data.columns), data.columns)
        np.testing.assert_array_equal(again.x, data.x)


def test_dates_of_another_time_zone_are_the_same_moments():
    pandas = pytest.importorskip("pandas")
    zone = pandas.DataFrame({"a": pandas.Series(MOMENTS).dt.tz_localize("Europe/Zurich"), "b": np.arange(8) / 8})
    data = csv.infer(frames.from_frame(zone, "a"), ReadOptions())
    utc = zone.assign(a=zone["a"].dt.tz_convert("UTC"))
    again = csv.apply(frames.from_frame(utc, "a", data.columns), data.columns)
    np.testing.assert_array_equal(again.x, data.x)


def test_numbers_and_booleans_are_the_classes_of_the_same_value():
    columns = {"a": ["0", "1", ""] * 8, "b": ["true", "false", ""] * 8, "c": ["07", "7", "x"] * 8, "d": range(24)}
    data = csv.infer(frames.from_frame(columns, "a"), ReadOptions())
    frame = columns | {"a": [0.0, 1.0, float("nan")] * 8, "b": [True, False, None] * 8}
    again = csv.apply(frames.from_frame(frame, "a", data.columns), data.columns)
    np.testing.assert_array_equal(again.x, data.x)
