"""DataFrames and Parquet files: the types of a training table survive the way through a model's arrays."""

from __future__ import annotations

import numpy as np
import pytest

from kvae_serve.readers import Dataset, ReadOptions, csv, frames, read_dataset
from kvae_serve.row_stream import Array, RowStream
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import dispatch
from kvae_serve.writers.frames import to_frame
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


@pytest.mark.parametrize("name", list(table()))
def test_types_and_values_survive(name):
    frame = table()[[name, "float"] if name != "float" else ["float"]]
    data = csv.infer(frames.from_frame(frame, "a"), ReadOptions())
    result = to_frame(manifest(data), data.x, {})
    pandas.testing.assert_frame_equal(result, frame)


def test_parquet_files_keep_types_and_values(tmp_path):
    pytest.importorskip("pyarrow")
    frame = table().drop(columns=["nullable", "zone"])
    frame.to_parquet(tmp_path / "a.parquet")
    data = read_dataset(tmp_path / "a.parquet")
    rows = RowStream(manifest(data), ROWS, {"x": Array(data.x.dtype, data.x.shape[1:])}, ("x",), iter([{"x": data.x}]))
    dispatch.stream(str(tmp_path / "b.parquet"), rows, quiet=True)
    result = pandas.read_parquet(tmp_path / "b.parquet")
    expected = pandas.read_parquet(tmp_path / "a.parquet")
    pandas.testing.assert_frame_equal(result, expected, check_dtype=False)
    same = [name for name in frame if result[name].dtype == expected[name].dtype]
    assert set(frame) - set(same) <= {"day", "moment", "levels"}


def test_rows_are_a_dict_without_pandas(monkeypatch):
    data = csv.infer(frames.from_frame({"a": [1, 2, 5] * 9, "b": ["x", "y", "z"] * 9}, "a"), ReadOptions())
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    result = to_frame(manifest(data), data.x, {})
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
            result = to_frame(manifest(data), rows, {})
            assert result["a"].dtype == {"int64": "float64"}.get(dtype, dtype)
            array = {"x": Array(rows.dtype, rows.shape[1:])}
            stream = RowStream(manifest(data), len(rows), array, ("x",), iter([{"x": rows}]))
            dispatch.stream(str(tmp_path / "b.parquet"), stream, quiet=True, force=True)
            written = arrow.parquet.read_table(tmp_path / "b.parquet").column("a")
            assert str(written.type) == {"float64": "double"}.get(dtype, "int64")
            assert written.to_pylist() == cells[-len(rows) :]
