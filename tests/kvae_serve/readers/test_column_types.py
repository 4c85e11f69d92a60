"""Types of columns: each is inferred from cells, can be chosen, and is written back unchanged."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kvae_serve import cells
from kvae_serve.errors import InputDataError
from kvae_serve.readers import Dataset, ReadOptions, column_types, read_dataset, read_for
from kvae_serve.row_stream import Array, RowStream
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import csv as writer
from support import make_tiny_models

ROWS = 60
# Cells of row i, the type, and further keys of the column.
COLUMNS = {
    "integers": (lambda i: f"{i % 9}", "integer", {"decimals": 0, "minimum": 0, "maximum": 8}),
    "codes": (lambda i: f"{i % 60 * 17 % 97:05d}", "integer", {"width": 5}),
    "bits": (lambda i: f"{i % 2}", "integer", {"kind": "categorical", "classes": ["0", "1"]}),
    "numbers": (lambda i: f"{i % 9}.{i % 4}5", "number", {"decimals": 2}),
    "decimals of float": (lambda i: f"{i % 9}.0", "number", {"decimals": 1, "step": 1}),
    "percentages": (lambda i: f"{i % 9}.5%", "number", {"suffix": "%"}),
    "prices": (lambda i: f"${i % 9 - 4}.50", "number", {"prefix": "$", "decimals": 2}),
    "currencies": (lambda i: f"{i % 9} EUR", "integer", {"suffix": " EUR"}),
    "centimetres": (lambda i: f"{150 + i * 7 % 40} cm", "integer", {"suffix": " cm", "minimum": 150, "maximum": 189}),
    "kilograms": (lambda i: f"{i % 9}.5kg", "number", {"suffix": "kg", "minimum": 0.5}),
    "thousands": (lambda i: f"{i % 9}.1k", "number", {"suffix": "k", "decimals": 1}),
    "gigabytes": (lambda i: "" if i % 5 == 3 else f"{i % 9} GB", "integer", {"suffix": " GB", "missing": ""}),
    "square metres": (lambda i: f"{i % 9} m2", "integer", {"suffix": " m2", "maximum": 8}),
    "degrees of heat": (lambda i: f"{i % 9 - 4}.5\u00b0", "number", {"suffix": "\u00b0", "minimum": -4.5}),
    "full hours": (lambda i: f"2013-03-0{1 + i % 9} {i % 24:02d}:00:00", "datetime", {"step": 3600}),
    "two missing texts": (lambda i: ["p", "q", "?", "NA", ""][i % 5], "category", {"missing": ""}),
    "missing integers": (lambda i: "?" if i % 5 == 3 else f"{i % 9}", "integer", {"missing": "?", "decimals": 0}),
    "missing numbers": (lambda i: "" if i % 5 == 3 else f"{i / 8:.3f}", "number", {"missing": ""}),
    "None among numbers": (lambda i: "None" if i % 5 == 3 else f"{i % 9}", "integer", {"missing": "None"}),
    "large integers": (lambda i: f"{9_007_199_254_740_000 + i % 50}", "integer", {"offset": 9_007_199_254_740_000}),
    "seconds": (lambda i: f"{1_700_000_000 + 15 * (i % 31)}", "integer", {"offset": 1_700_000_000}),
    "large numbers": (lambda i: f"{1e9 + i % 9 / 100:.2f}", "number", {"decimals": 2, "offset": 1_000_000_000}),
    "degrees": (
        lambda i: ["51.50735091", "-0.12775830", "40.71277600"][i % 3], "number",
        {"decimals": 8, "exact": [-0.1277583, 40.712776]},  # 51.50735091 is the maximum, to which it is clipped
    ),
    "nine decimals": (lambda i: f"{(i * 0.618034) % 1 * 360 - 180:.9f}", "number", {"decimals": 9}),
    "large integers far from each other": (lambda i: f"{123_456_789 * (i % 7) + 1}", "integer", {"minimum": 1}),
    "seconds of many years": (
        lambda i: f"{np.datetime64('1990-01-01T00:00:07') + 31_000_003 * (i % 31)}", "datetime", {"minimum": 631152007},
    ),
    "texts": (lambda i: "pqr"[i % 3], "category", {"classes": ["p", "q", "r"]}),
    "missing texts": (lambda i: "?" if i % 5 == 3 else "pq"[i % 2], "category", {"missing": "?"}),
    "empty texts": (lambda i: "" if i % 5 == 3 else "pq"[i % 2], "category", {"classes": ["p", "q", ""]}),
    "booleans": (lambda i: "True" if i % 3 else "False", "boolean", {"classes": ["False", "True"]}),
    "dates": (lambda i: f"2024-01-{1 + i % 28:02d}", "datetime", {"format": "%Y-%m-%d", "offset": 1_704_067_200}),
    "missing dates": (lambda i: "NaT" if i % 5 == 3 else f"2024-01-{1 + i % 28:02d}", "datetime", {"missing": "NaT"}),
    "times": (lambda i: f"2013-03-0{1 + i % 9} {i % 24:02d}:30", "datetime", {"format": "%Y-%m-%d %H:%M"}),
    "milliseconds": (
        lambda i: f"2020-09-20 01:02:{i % 60:02d}.{(i * 277) % 1000:03d}", "datetime",
        {"format": "%Y-%m-%d %H:%M:%S.%3f"},
    ),
    "milliseconds of pandas": (
        lambda i: f"2020-09-20 01:02:{i % 60:02d}.{(i * 277) % 1000:03d}000", "datetime",
        {"format": "%Y-%m-%d %H:%M:%S.%f", "step": 0.001},
    ),
    "exponents": (lambda i: f"{(i - 9) * 178.9:.3e}", "number", {"digits": 4, "exponent": "e"}),
    "exponents of savetxt": (lambda i: f"{i / 64:.18e}", "number", {"digits": 19, "exponent": "e"}),
    "exponents in capitals": (lambda i: f"{10.0 ** (i % 30 - 15):.0E}", "number", {"digits": 1, "exponent": "E"}),
    "significant digits": (lambda i: f"{1.2345 * 10.0 ** (i % 30 - 15):.4g}", "number", {"digits": 4}),
    "seconds with a point": (lambda i: f"01:02:{i % 60:02d}.000", "datetime", {"step": 1}),
}  # fmt: skip
OUTSIDE = {
    "constants": (lambda i: "DE", {"type": "constant", "value": "DE"}),
    "empty": (lambda i: "", {"type": "constant", "value": ""}),
    "ids": (lambda i: f"user-{i + 3:04d}", {"type": "id", "prefix": "user-", "start": 3, "width": 4}),
    "counts": (lambda i: f"{i + 1}", {"type": "id", "prefix": "", "start": 1, "width": 0}),
}


def read(folder: Path, rows: list[dict[str, str]], **options) -> Dataset:
    header = ",".join(rows[0])
    text = "\n".join([header, *(",".join(row.values()) for row in rows)]) + "\n"
    (folder / "a.csv").write_text(text)
    return read_dataset(folder / "a.csv", options=ReadOptions(**options))


def table(data: Dataset) -> Manifest:
    described = {
        "kind": "table", "shape": [data.x.shape[1]], "range": None, "columns": list(data.columns),
        "outside": list(data.outside), "order": list(data.order), "delimiter": data.delimiter,
        **({"header": list(data.header)} if data.header else {}),
    }  # fmt: skip
    conditions = [
        {"name": name, "kind": "categorical", "classes": list(classes), "column": dict(data.condition_columns[name])}
        for name, classes in data.class_names.items()
    ]
    changes = {
        "graph": "decoder",
        "data": described,
        "conditions": conditions,
        "likelihood": {"name": "mixed"},
        "golden": None,
    }
    return Manifest.from_dict(make_tiny_models.manifest("conditional", True, "standard_normal") | changes)


def written(data: Dataset) -> str:
    stream = io.StringIO()
    arrays = {"x": data.x} | data.conditions
    shapes = {name: Array(values.dtype, values.shape[1:]) for name, values in arrays.items()}
    writer.write(stream, RowStream(table(data), len(data.x), shapes, ("x",), iter([arrays])))
    return stream.getvalue()


@pytest.mark.parametrize("name", COLUMNS)
def test_type_is_inferred_and_written_back_unchanged(name, tmp_path):
    cell, kind, keys = COLUMNS[name]
    data = read(tmp_path, [{"a": cell(i), "other": f"{i % 3}.5"} for i in range(ROWS)])
    column = data.columns[0]
    assert column["type"] == kind
    assert {key: column[key] for key in keys} == keys
    assert written(data) == (tmp_path / "a.csv").read_text()
    again = read_for(tmp_path / "a.csv", table(data))
    np.testing.assert_array_equal(again.x, data.x)


@pytest.mark.parametrize(
    ("form", "day", "keys"),
    [
        ("%Y-%m-%d", lambda i: np.datetime64("1960-02", "M") + i + 1 - np.timedelta64(1, "D"), {"month_days": [-1]}),
        ("%d-%b-%Y", lambda i: np.datetime64("1960-02", "M") + i, {"month_days": [1]}),
        ("%Y-%m-%d", lambda i: np.datetime64("1960", "Y") + i, {"month_days": [1], "months": [1]}),
    ],
)
def test_values_between_dates_are_written_as_dates_of_the_same_kind(form, day, keys, tmp_path):
    moments = [day(i).astype("datetime64[s]").item() for i in range(ROWS)]
    data = read(tmp_path, [{"a": each.strftime(form), "b": f"{i % 7}"} for i, each in enumerate(moments)])
    column = data.columns[0]
    assert column["calendar"] == keys
    assert written(data) == (tmp_path / "a.csv").read_text()
    between = np.linspace(data.x[0, 0] - 1e8, data.x[-1, 0] + 1e8, 500)
    drawn = cells.texts(table(data).data.columns[0], between)
    assert set(drawn) == {each.strftime(form) for each in moments}


@pytest.mark.parametrize(("minutes", "step"), [(720, 43_200), (15, 900), (5, 300), (7, 60)])
def test_times_are_written_in_the_steps_of_the_training_table(minutes, step, tmp_path):
    moments = [np.datetime64("2024-01-01T00:00") + minutes * i for i in range(ROWS)]
    data = read(tmp_path, [{"a": str(each), "b": f"{i % 7}"} for i, each in enumerate(moments)])
    assert data.columns[0].get("step", 60) == step


@pytest.mark.parametrize(
    ("trained", "later", "expected"),
    [
        ("{} cm", ["160 cm", "170cm"], [160, 170]),
        ("{} cm", ["160", "170"], [160, 170]),
        (
            "{} cm",
            ["1.6 m", "1.7 m"],
            "row 2, column a contains 1.6 m; expected numbers that all have the unit cm, or all",
        ),
        ("{} cm", ["160", "1.7 m"], "row 3, column a contains 1.7 m; expected numbers that all have the unit cm"),
        ("${}", ["160 EUR", "170 EUR"], "row 2, column a contains 160 EUR; expected numbers that all have the unit $"),
        ("{}", ["160 cm", "170 cm"], "row 2, column a contains 160 cm; expected a number."),
        ("{}", ["160%", "170%"], [160, 170]),
    ],
)
def test_later_numbers_have_the_unit_of_the_column(trained, later, expected, tmp_path):
    model = table(read(tmp_path, [{"a": trained.format(150 + i * 7 % 40), "b": "pq"[i % 2]} for i in range(ROWS)]))
    (tmp_path / "a.csv").write_text("a,b\n" + "".join(f"{cell},p\n" for cell in later))
    if isinstance(expected, str):
        with pytest.raises(InputDataError, match=re.escape(expected)):
            read_for(tmp_path / "a.csv", model)
    else:
        assert read_for(tmp_path / "a.csv", model).x[:, 0].tolist() == expected


def test_numbers_with_different_units_have_a_note(tmp_path):
    described = "numbers with different units, such as 0.1k and 301; write one unit, to read them as numbers"
    many = [{"a": f"{i / 10 + 0.1:.1f}k" if i % 2 == 0 else f"{300 + i}", "b": f"{i % 9}"} for i in range(ROWS)]
    data = read(tmp_path, many)
    assert data.outside[0]["name"] == "a"
    assert f"Column a is left out of the model: it has {described}; give --categorical-columns a to" in data.notes[0]
    few = [{"a": f"{i % 3 + 1} bedroom{'s' if i % 3 else ''}", "b": f"{i % 9}"} for i in range(ROWS)]
    data = read(tmp_path, few)
    assert data.columns[0]["classes"] == ["1 bedroom", "2 bedrooms", "3 bedrooms"]
    assert data.notes == (
        "Column a: classes are numbers with different units, such as 1 bedroom and 2 bedrooms; write one unit, to read "
        "them as numbers.",
    )
    with pytest.raises(InputDataError, match=r"row 5, column a contains 5\.1k, but most others are numbers"):
        read(tmp_path, [{"a": "5.1k" if i == 3 else f"{300 + i}", "b": f"{i % 9}"} for i in range(ROWS)])


@pytest.mark.parametrize(
    "cells",
    [
        ["2024-Q1", "2024-Q2", "2024-Q3"], ["0x1F", "0x2F", "0xFF"], ["1/2", "1/3", "1/4"], ["5'11", "5'10", "6'02"],
        ["5kg2.5", "6kg2.5", "7kg2.5"], ["5 kg; ca.", "6 kg; ca.", "7 kg; ca."], ["100+", "200+", "300+"],
        [f"{i}{letter}" for i in range(5) for letter in "ABCDEFG"],
    ],
)  # fmt: skip
def test_codes_are_not_numbers_with_units(cells, tmp_path):
    data = read(tmp_path, [{"a": cells[i % len(cells)], "b": f"{i % 9}"} for i in range(120)])
    assert (data.columns[0]["type"], data.notes) == ("category", ())


ADULT = ["39, State-gov, 77516, Bachelors, <=50K", "50, Self, 83311, Bachelors, >50K", "38, ?, 215646, HS-grad, <=50K"]
SPACED = {
    "all lines": ["age, workclass, fnlwgt, education, income", *ADULT * 4],
    "rows": ["age,workclass,fnlwgt,education,income", *ADULT * 4],
    "header": ["a, b", *["1,x", "2,y", "3,z"] * 4],
    "semicolons": ["a; b", *["1,50; x", "2,50; ", "3,25; z"] * 4],
    "quotes": ["a,b", *['1," x, 1"', '2, "y"', "3, z"] * 4],
    "ends": ["a ,b", *["b ,1", "b,2", " b,3"] * 4],
    "some rows": ["a,b,c", *["1, x,u", "2,y, u", "3, ?,u", "4,?, "] * 4],
    "constants": ["a,b,c", *["1, ,u ", "2, ,u ", "3, ,u "] * 4],
    "booleans": ["a,b,c", *["1, True,p", "2, False,q"] * 6],
}  # fmt: skip


@pytest.mark.parametrize("name", SPACED)
def test_blanks_at_the_ends_of_texts_are_written_back(name, tmp_path):
    (tmp_path / "a.csv").write_text("\n".join(SPACED[name]) + "\n")
    data = read_dataset(tmp_path / "a.csv")
    # The standard library reads the same cells from the written file as from the original.
    original, again = (
        list(csv.reader(io.StringIO(text), delimiter=data.delimiter[0]))
        for text in ((tmp_path / "a.csv").read_text(), written(data))
    )
    assert again == original
    np.testing.assert_array_equal(read_for(tmp_path / "a.csv", table(data)).x, data.x)


def test_blank_after_every_delimiter_is_not_part_of_names_and_classes(tmp_path):
    (tmp_path / "a.csv").write_text("\n".join(SPACED["all lines"]) + "\n")
    data = read_dataset(tmp_path / "a.csv", options=ReadOptions(condition_columns=("income",)))
    assert data.delimiter == ", "
    assert data.order == ("age", "workclass", "fnlwgt", "education", "income")
    assert data.columns[1]["classes"] == ["Self", "State-gov", "?"]
    assert data.class_names == {"income": ("<=50K", ">50K")}
    assert written(data) == (tmp_path / "a.csv").read_text()
    # The same rows without blanks are the same values.
    (tmp_path / "a.csv").write_text("\n".join(SPACED["all lines"]).replace(", ", ",") + "\n")
    again = read_for(tmp_path / "a.csv", table(data))
    np.testing.assert_array_equal(again.x, data.x)
    np.testing.assert_array_equal(again.conditions["income"], data.conditions["income"])


def test_classes_that_differ_by_blanks_have_a_note(tmp_path):
    (tmp_path / "a.csv").write_text("\n".join(SPACED["ends"]) + "\n")
    data = read_dataset(tmp_path / "a.csv")
    assert data.columns[0]["classes"] == [" b", "b", "b "]
    assert 'Column a: " b" and "b" are different classes.' in data.notes


def test_numbers_and_dates_are_read_without_blanks(tmp_path):
    rows = "".join(f" {i * 7 % 5}, 2024-01-0{1 + i % 9},{i % 2} \n" for i in range(ROWS))
    (tmp_path / "a.csv").write_text("a,b,c\n" + rows)
    data = read_dataset(tmp_path / "a.csv")
    assert [column["type"] for column in data.columns] == ["integer", "datetime", "integer"]
    assert "Column b is written without blanks at the ends of dates." in data.notes
    assert written(data) == (tmp_path / "a.csv").read_text().replace(" ", "")


def test_class_with_a_line_end_is_read_without_it(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n" + '1,"x\n"\n2,y\n' * 6)
    data = read_dataset(tmp_path / "a.csv")
    assert data.columns[1]["classes"] == ["x", "y"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_column_outside_of_the_model_is_written_back_unchanged(name, tmp_path):
    cell, keys = OUTSIDE[name]
    data = read(tmp_path, [{"b": f"{i % 4}", "a": cell(i), "c": "xyz"[i % 3]} for i in range(ROWS)])
    assert data.outside == ({"name": "a", **keys},)
    assert [column["name"] for column in data.columns] == ["b", "c"]
    assert sum("Column a is left out of the model" in note for note in data.notes) == 1
    assert written(data) == (tmp_path / "a.csv").read_text()


def test_all_types_and_a_condition_keep_their_places(tmp_path):
    cells = COLUMNS | OUTSIDE
    data = read(
        tmp_path,
        [{f"{name} column": each[0](i) for name, each in cells.items()} for i in range(ROWS)],
        condition_columns=("missing texts column",),
    )
    assert list(data.conditions) == ["missing_texts_column"]
    assert written(data) == (tmp_path / "a.csv").read_text()


def test_semicolons_and_decimal_commas_are_kept(tmp_path):
    rows = [f"{i % 9},{i % 7}5;{i % 5},5 %;{'pqr'[i % 3]};1,{i % 9}00" for i in range(ROWS)]
    (tmp_path / "a.csv").write_text("\n".join(["a;b;c;d", *rows]) + "\n")
    data = read_dataset(tmp_path / "a.csv")
    assert written(data) == (tmp_path / "a.csv").read_text()
    np.testing.assert_array_equal(read_for(tmp_path / "a.csv", table(data)).x, data.x)


def test_names_are_left_out_and_written_as_a_sequence(tmp_path):
    data = read(
        tmp_path, [{"who": "".join(chr(97 + i // 26**k % 26) for k in range(3)), "b": f"{i % 7}"} for i in range(ROWS)]
    )
    assert data.outside[0]["prefix"] == "who-"
    assert written(data).splitlines()[1] == "who-1,0"


def test_missing_values_can_be_named(tmp_path):
    rows = [
        {"a": "-999" if i % 5 == 3 else f"{i % 9}", "b": "none of it" if i % 7 == 2 else "pq"[i % 2]}
        for i in range(ROWS)
    ]
    data = read(tmp_path, rows, missing_values=("-999", "none of it"))
    assert [column["missing"] for column in data.columns] == ["-999", "none of it"]
    assert int(np.isnan(data.x[:, 0]).sum()) == Counter(row["a"] for row in rows)["-999"]
    assert written(data) == (tmp_path / "a.csv").read_text()


def test_type_can_be_chosen(tmp_path):
    rows = [
        {"a": f"{i % 9}", "b": f"0{1 + i % 3}/0{1 + i % 4}/2024", "c": f"{i}", "d": f"{i % 5}"} for i in range(ROWS)
    ]
    settings = {
        "a": {"type": "category"}, "b": {"format": "%d/%m/%Y"}, "c": {"type": "integer"}, "d": {"type": "ignore"},
    }  # fmt: skip
    data = read(tmp_path, rows, column_settings=settings)
    assert [(column["name"], column["type"]) for column in data.columns] == [
        ("a", "category"), ("b", "datetime"), ("c", "integer"),
    ]  # fmt: skip
    assert data.columns[1]["format"] == "%d/%m/%Y"
    assert data.order == ("a", "b", "c")
    with pytest.raises(InputDataError, match=r"row 2, column b contains 01/01/2024; expected the format %Y"):
        read(tmp_path, rows, column_settings={"b": {"type": "datetime", "format": "%Y"}})
    with pytest.raises(InputDataError, match=r"row 2, column b contains 01/01/2024, expected numbers"):
        read(tmp_path, rows, column_settings={"b": {"type": "number"}})


@pytest.mark.parametrize(
    ("cells", "settled", "first", "second"),
    [
        (["1/1/2024", "1/2/2024"], "1/13/2024", "2024-01-02 in the format %-m/%-d/%Y", "2024-02-01 in %-d/%-m/%Y"),
        (["03.04.24", "03.03.24"], "13.03.24", "2024-04-03 in the format %d.%m.%y", "2024-03-04 in %m.%d.%y"),
        (["05-06-2024 9:30"], "13-06-2024 9:30", "2024-05-06 in the format %m-%d-%Y %-H:%M", "2024-06-05 in %d-%m-%Y"),
    ],
)
def test_dates_with_two_readings_are_refused_unless_a_cell_settles_them(cells, settled, first, second, tmp_path):
    rows = [{"a": f"{i % 9}", "b": [*cells, cells[0].replace("4", "5")][i % (len(cells) + 1)]} for i in range(ROWS)]
    with pytest.raises(InputDataError, match=re.escape(first)) as refused:
        read(tmp_path, rows)
    assert second in str(refused.value)
    data = read(tmp_path, [*rows, {"a": "3", "b": settled}])
    assert data.columns[1]["type"] == "datetime"
    assert written(data) == (tmp_path / "a.csv").read_text()


def test_months_of_one_name_do_not_have_two_readings(tmp_path):
    rows = [{"a": f"{i % 9}", "b": f"{1 + i % 28} May 2024"} for i in range(ROWS)]
    assert written(read(tmp_path, rows)) == (tmp_path / "a.csv").read_text()


def test_missing_cells_of_later_data_are_nan_and_are_noted_if_the_model_has_none(tmp_path):
    model = table(
        read(tmp_path, [{"a": f"{i % 9}", "b": "pq"[i % 2], "c": f"2024-01-{1 + i % 28:02d}"} for i in range(ROWS)])
    )
    (tmp_path / "a.csv").write_text("b,a,c\n,NA,2024-01-02\nz,3,?\n")
    data = read_for(tmp_path / "a.csv", model)
    np.testing.assert_array_equal(data.x, np.array([[np.nan, np.nan, 86_400], [3, column_types.UNSEEN, np.nan]], "f4"))
    assert data.notes == (
        "Column b: row 3, column b contains z, which is not a class of the model and scores as unlike the training "
        "data; 1 of 2 values are missing; the model was trained without missing values, so they are skipped.",
    )


def test_condition_with_missing_numbers_or_dates_is_refused(tmp_path):
    rows = [{"a": "" if i == 3 else f"{i % 9}", "b": f"2024-01-{1 + i % 28:02d}", "c": f"{i % 5}"} for i in range(ROWS)]
    for name, problem in {
        "a": "row 5, column a: a number of the condition is missing",
        "b": "dates in the cond",
    }.items():
        with pytest.raises(InputDataError, match=problem):
            read(tmp_path, rows, condition_columns=(name,))


def test_rounding_noise_does_not_count_as_decimals(tmp_path):
    """The noisy cells are those of penguins-raw in the package palmerpenguins."""
    cells = ["8.94956", "8.3945900000000009", "9.2671500000000009", "7.84057", "-26.695430000000002", "8.5"]
    data = read(tmp_path, [{"a": cells[i % 6], "b": "pqr"[i % 3]} for i in range(ROWS)])
    assert (data.columns[0]["decimals"], data.columns[0]["minimum"]) == (5, -26.69543)
    lines = [line.split(",")[0] for line in written(data).splitlines()[1:7]]
    assert lines == ["8.94956", "8.39459", "9.26715", "7.84057", "-26.69543", "8.50000"]
    np.testing.assert_array_equal(read_for(tmp_path / "a.csv", table(data)).x, data.x)


@pytest.mark.parametrize("text", ["0.123456789012345", "123456789012345678", "1234567890.500000", "3.141592653589793"])
def test_numbers_with_many_digits_keep_them(text):
    assert column_types._without_noise(text) == text


def with_gaps(i: int) -> int:
    return [1, 2, 5, 9, 10][i % 5] + 12 * (i // 5)


def test_first_column_of_row_numbers_with_gaps_is_an_identifier(tmp_path):
    data = read(tmp_path, [{"customer": f"{with_gaps(i)}", "b": f"{i % 7}"} for i in range(ROWS)])
    assert data.outside[0] == {"name": "customer", "type": "id", "prefix": "", "start": 1, "width": 0}
    assert written(data).splitlines()[1:3] == ["1,0", "2,1"]
    data = read(tmp_path, [{"user": f"user-{with_gaps(i):03d}", "b": f"{i % 7}"} for i in range(ROWS)])
    assert data.outside[0] == {"name": "user", "type": "id", "prefix": "user-", "start": 1, "width": 3}


@pytest.mark.parametrize(
    ("cell", "keys", "first"),
    [
        (lambda i: "NA" if i % 4 == 2 else f"{7 * i + 11}", {"prefix": "", "start": 11}, "11"),
        (lambda i: "" if i % 4 == 2 else f"{7 * i + 11}.0", {"prefix": "", "start": 11, "suffix": ".0"}, "11.0"),
        (lambda i: "" if i % 4 == 2 else f"C-{i:03d}", {"prefix": "C-", "start": 0, "width": 3}, "C-000"),
        (lambda i: "?" if i % 4 == 2 else f"{i}@mail", {"prefix": "customer_id-", "start": 1}, "customer_id-1"),
    ],
)
def test_missing_identifiers_are_written_as_often_as_they_occur(cell, keys, first, tmp_path):
    data = read(tmp_path, [{"b": f"{i % 7}", "customer_id": cell(i)} for i in range(ROWS)])
    (column,) = data.outside
    assert {"type": "id", "missing": cell(2), "missing_share": 0.25, **keys}.items() <= column.items()
    assert first in data.notes[0]
    assert data.notes[0].endswith("..., missing in 25.0 % of rows")
    lines = list(csv.DictReader(written(data).splitlines()))
    texts = [line["customer_id"] for line in lines]
    assert texts[0] == first
    assert texts.count(cell(2)) == pytest.approx(ROWS / 4, abs=1)
    present = [text for text in texts if text != cell(2)]
    assert len(set(present)) == len(present)
    assert table(data).data.outside == data.outside


def test_repeated_integers_with_missing_cells_are_not_identifiers(tmp_path):
    data = read(tmp_path, [{"id": "" if i % 4 == 2 else f"{i // 2}", "b": f"{i % 7}"} for i in range(ROWS)])
    assert data.columns[0]["type"] == "integer"


@pytest.mark.parametrize(
    ("name", "cell"),
    [("year", with_gaps), ("dose", lambda i: 5 * i), ("height", lambda i: i * i), ("size", lambda i: i * 17 % ROWS)],
)
def test_measurements_are_not_identifiers(name, cell, tmp_path):
    data = read(tmp_path, [{name: f"{cell(i)}", "b": f"{i % 7}"} for i in range(ROWS)])
    assert data.columns[0]["name"] == name


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        ("${:,.2f}", {"prefix": "$", "thousands": ","}),
        ("{:,.2f} EUR", {"suffix": " EUR", "thousands": ","}),
        ("{:.2f}", {}),
        ("{:,.0f}", {"thousands": ","}),
        ("{:_.2f}", {"thousands": "'"}),
        ("{:!.2f}", {"thousands": ".", "decimal": ","}),
    ],
)
def test_separators_of_numbers_are_written_back(tmp_path, form, keys):
    values = [1234567.25, 7.5, 1234.75, 12345.0, 250.0, 99999.5, 1000.25]
    if "!" in form:
        swapped = str.maketrans(",.", ".,")
        texts = [form.replace("!", ",").format(each).translate(swapped) for each in values]
    else:
        texts = [form.format(each).replace("_", "'") for each in values]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows([["price", "kind"], *([each, "p"] for each in texts * 4)])
    data = read_dataset(tmp_path / "a.csv", options=ReadOptions(delimiter=";"))
    column = data.columns[0]
    assert {key: column[key] for key in ("prefix", "suffix", "thousands", "decimal") if key in column} == keys
    assert cells.texts(column, data.x[:7, 0]) == texts


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("\u2212{:.2f}", "-{:.2f}"),
        ("\uff0d{:.2f}", "-{:.2f}"),
        ("\ufe63{:.2f}", "-{:.2f}"),
        ("\u2212 {:.2f}", "-{:.2f}"),
        ("\u2212{:.2f}%", "-{:.2f}%"),
        ("\u2212{:.2f} EUR", "-{:.2f} EUR"),
        ("\u2212{:,.2f}", "-{:,.2f}"),
        ("-${:.2f}", "$-{:.2f}"),
        ("\u2212${:,.2f}", "$-{:,.2f}"),
        ("$ -{:.2f}", "$ -{:.2f}"),
        ("+{:.2f}%", "{:.2f}%"),
    ],
)
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_signs_and_affixes_are_written_as_they_are_read(tmp_path, form, expected, missing, mixed):
    sizes = [17.25, 36.5, 1234.75, 0.5, 12345.0]
    # The sign is left out of every second cell of a mixed column.
    unsigned = [re.sub("[-+\u2212\uff0d\ufe63] ?", "", each) if mixed else each for each in (form, expected)]
    forms = [(form, expected) if i % 2 else unsigned for i in range(5)]
    negative = not form.startswith("+")
    values = [-size if negative and (i % 2 or not mixed) else size for i, size in enumerate(sizes)]
    cell = [each[0].format(size) for each, size in zip(forms, sizes, strict=True)]
    rows = [["a", "b"], *(["" if missing and i % 7 == 6 else cell[i % 5], f"{i % 3}.5"] for i in range(ROWS))]
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    data = read_dataset(tmp_path / "a.csv")
    np.testing.assert_array_equal(data.x[:5, 0], np.array(values, np.float32))
    assert cells.texts(data.columns[0], data.x[:5, 0]) == [
        each[1].format(size) for each, size in zip(forms, sizes, strict=True)
    ]
    (tmp_path / "a.csv").write_text(written(data), encoding="utf-8")
    np.testing.assert_array_equal(read_for(tmp_path / "a.csv", table(data)).x, data.x)
