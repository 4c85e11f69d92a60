"""Tables from CSV files: values are read back by column, and each kind of bad file has its message."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from kvae_serve.errors import InputDataError
from kvae_serve.readers import ReadOptions, column_types, csv, read_dataset
from kvae_serve.sealed.manifest import Condition

GOOD = """Age,city,weight,Species,label
21,Bern, 60.5 ,cat,0
45,"Zug, Unter",-7e1,dog,1
33,Bern,.5,ox,10
33,Aarau,5.,cat,2
"""


def write(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder: Path, text: str | bytes, **options):
    return read_dataset(write(folder, text), options=ReadOptions(**options))


def test_numeric_and_categorical_columns_are_inferred(tmp_path):
    data = read(tmp_path, GOOD)
    assert data.x.dtype == np.float32
    integer = {"kind": "numeric", "type": "integer", "decimals": 0}
    category = {"kind": "categorical", "type": "category"}
    assert data.columns == (
        {"name": "Age", **integer, "minimum": 21, "maximum": 45},
        {"name": "city", **category, "classes": ["Aarau", "Bern", "Zug, Unter"]},
        {"name": "weight", "kind": "numeric", "type": "number", "decimals": 1, "minimum": -70, "maximum": 60.5},
        {"name": "Species", **category, "classes": ["cat", "dog", "ox"]},
        {"name": "label", **integer, "minimum": 0, "maximum": 10},
    )
    assert data.order == ("Age", "city", "weight", "Species", "label")
    expected = [[21, 1, 60.5, 0, 0], [45, 2, -70, 1, 1], [33, 1, 0.5, 2, 10], [33, 0, 5, 0, 2]]
    np.testing.assert_array_equal(data.x, np.array(expected, "f4"))
    assert data.conditions == {}
    assert data.range is None


def test_condition_columns_get_names_that_flags_accept(tmp_path):
    data = read(tmp_path, GOOD, condition_columns=("label", "Species", "Age"), drop_columns=("weight",))
    assert [column["name"] for column in data.columns] == ["city"]
    assert list(data.conditions) == ["age", "species", "label"]
    assert data.conditions["age"].dtype == np.float32
    assert data.conditions["age"].tolist() == [21, 45, 33, 33]
    assert data.conditions["species"].dtype == np.int64
    # A label is a class, also where it is a number; classes are in the order of the numbers.
    assert data.class_names == {"species": ("cat", "dog", "ox"), "label": ("0", "1", "2", "10")}
    assert data.conditions["label"].tolist() == [0, 1, 3, 2]


def test_numeric_column_is_categorical_on_request(tmp_path):
    data = read(tmp_path, GOOD, categorical_columns=("Age",))
    assert data.columns[0]["kind"] == "categorical"
    assert data.columns[0]["classes"] == ["21", "33", "45"]


@pytest.mark.parametrize(
    "text", ["\ufeffa,b\r\n1,x\r\n2,y\r\n", "a;b\n1;x\n2;y", "a\tb\n1\tx\n2\ty\n\n\n", 'a,"b"\n1,x\n2,y']
)
def test_delimiters_and_line_endings_do_not_matter(tmp_path, text):
    data = read(tmp_path, text)
    assert [column["name"] for column in data.columns] == ["a", "b"]
    assert data.x.tolist() == [[1, 0], [2, 1]]


BAD: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty"),
    "header alone": ("a,b\n", "does not contain any rows"),
    "no header": ("1,2\n3,4\n5,6\n", "row 1 has 1 as the name of column 1"),
    "a name missing": ("a,,c\n1,2,3\n2,3,4\n", "row 1 has nothing as the name of column 2"),
    "a name twice": ("a,b,a\n1,2,3\n", "contains the column name a twice"),
    "a cell too few": ("a,b\n1,2\n3\n", "row 3 has 1 cells, expected 2"),
    "a cell too many": ("a,b\n1,2\n3,4,5\n", "row 3 has 3 cells"),
    "a blank row": ("a,b\n1,2\n\n3,4\n", "row 3 is empty"),
    "a mistyped number": ("a,b\n1,2\n2,3\n3x,4\n", "row 4, column a contains 3x, but most others are numbers"),
    "infinite": ("a,b\n1,2\n2,3\ninf,4\n", "row 4, column a contains inf"),
    "beyond float32": ("a,b\n1,2\n2,1e39\n", "row 3, column b contains 1e39; expected a number in the range"),
    "grouped digits": ("a,b\n1,2\n2,3\n1_000,4\n", "contains 1_000"),
    "all constant": ("a,b\n1,x\n1.0,x\n", "are conditions, dropped, identifiers or constant"),
    "NUL": (b"a,b\n1,2\n3,\x004\n", "line 3 contains a NUL byte"),
    "damaged UTF-8": ("a,b\n1,Zürich\n2,Genève\n".encode().replace(b"\xa8", b""), "not a text in UTF-8"),
    "a byte outside Windows-1252": (b"a,b\n1,Z\x81rich\n2,Bern\n", "not a text in UTF-8"),
    "half of UTF-16": ("a,b\n1,2\n".encode("utf-16")[:-1], "not a text in UTF-8 or UTF-16"),
    "a huge field": ('a,b\n1,"' + "x" * 200_000 + '"\n', "row 2 is not valid CSV: field larger"),
    "an open quote": ('a,b\n1,"x\n2,y\n', "row 2 is not valid CSV"),
    "text after a quote": ('a,b\n1,"x"y\n', "row 2 is not valid CSV"),
    "many columns": (",".join(f"c{i}" for i in range(10_001)), "the most is 10000"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not a text in UTF-8|NUL"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_table_is_refused_with_the_position(tmp_path, name):
    text, reason = BAD[name]
    path = write(tmp_path, text)
    with pytest.raises(InputDataError, match=reason) as error:
        read_dataset(path)
    assert str(path) in str(error.value)
    assert str(error.value).isprintable()


def test_latin_1_is_read_with_a_note(tmp_path):
    data = read(tmp_path, "größe,b\n1,Zürich\n2,Bern\n".encode("latin-1"))
    assert [column["name"] for column in data.columns] == ["größe", "b"]
    assert data.columns[1]["classes"] == ["Bern", "Zürich"]
    assert "Windows-1252 (Latin-1): größe." in data.notes[0]


def test_very_long_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "MAX_LINE", 50)
    with pytest.raises(InputDataError, match="line 2 is longer than 50"):
        read(tmp_path, "a,b\n" + "1" * 60 + ",2\n")


def test_number_of_cells_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "MAX_CELLS", 5)
    with pytest.raises(InputDataError, match="more than 5 cells"):
        read(tmp_path, "a,b\n1,2\n3,4\n")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"condition_columns": ("size",)}, "does not have a column size. Its columns are Age, city"),
        ({"drop_columns": ("age",)}, "does not have a column age"),
        ({"condition_columns": ("Age",), "drop_columns": ("Age",)}, "cannot be both a condition and dropped"),
        (
            {"condition_columns": ("Age", "city", "weight", "Species", "label")},
            "are conditions, dropped, identifiers or constant",
        ),
    ],
)
def test_options_with_unknown_columns_are_refused(tmp_path, options, reason):
    with pytest.raises(InputDataError, match=reason):
        read(tmp_path, GOOD, **options)


@pytest.mark.parametrize("header", ["X,b,c", "a b,A-b,c"])
def test_conditions_with_equal_names_are_refused(tmp_path, header):
    first, second, _ = header.split(",")
    with pytest.raises(InputDataError, match="is already taken"):
        read(tmp_path, f"{header}\n1,2,3\n2,3,4\n", condition_columns=(first, second))


def test_missing_test_split_is_an_error(tmp_path):
    with pytest.raises(InputDataError, match="does not have a test split"):
        read_dataset(write(tmp_path, GOOD), "test")
    write(tmp_path, GOOD, "train.csv")
    with pytest.raises(InputDataError, match=r"test\.csv is missing"):
        read_dataset(tmp_path, "test")


def test_test_split_uses_the_classes_of_the_train_split(tmp_path):
    write(tmp_path, "a,c,label\n1,x,p\n2,z,q\n3,y,p\n", "train.csv")
    write(tmp_path, "label,spare,c,a\nq,,z,7\n", "test.csv")
    options = ReadOptions(condition_columns=("label",))
    train, test = read_dataset(tmp_path, options=options), read_dataset(tmp_path, "test", options)
    assert train.columns == test.columns
    assert train.class_names == test.class_names
    assert test.x.tolist() == [[7, 2]]
    assert test.conditions["label"].tolist() == [1]
    write(tmp_path, "label,c,a\nq,w,7\n", "test.csv")
    unseen = read_dataset(tmp_path, "test", options)
    assert unseen.x.tolist() == [[7, column_types.UNSEEN]]
    assert "row 2, column c contains w, which is not a class of the model" in unseen.notes[0]
    write(tmp_path, "label,c\nq,z\n", "test.csv")
    with pytest.raises(InputDataError, match="does not have a column a"):
        read_dataset(tmp_path, "test", options)


@pytest.mark.parametrize("name", ["label", "class"])
def test_test_split_of_pixels_has_the_label_of_the_train_split(name, tmp_path):
    pixels = ",".join(f"pixel{index}" for index in range(16))
    row = ",".join(map(str, range(16)))
    write(tmp_path, f"{name},{pixels}\nq,{row}\np,{row}\n", "train.csv")
    write(tmp_path, f"{name},{pixels}\nq,{row}\n", "test.csv")
    test = read_dataset(tmp_path, "test")
    assert (test.conditions["label"].tolist(), test.class_names) == ([1], {"label": ("p", "q")})
    write(tmp_path, f"{pixels}\n{row}\n", "test.csv")  # As of Kaggle.
    assert read_dataset(tmp_path, "test").conditions == {}


def test_text_in_a_known_column_of_numbers_is_refused_with_its_row(tmp_path):
    parsed = csv.parse(write(tmp_path, "a,c\n1,x\nz,x\n"), "a.csv")
    with pytest.raises(InputDataError, match="row 3, column a contains z; expected a number"):
        csv.apply(parsed, [{"name": "a", "kind": "numeric"}])
    assert csv.apply(parsed, [{"name": "c", "kind": "categorical", "classes": ["w", "x"]}]).x.tolist() == [[1], [1]]
    # A condition that the file does not hold is left to the caller.
    columns = [{"name": "c", "kind": "categorical", "classes": ["w", "x"]}]
    assert csv.apply(parsed, columns, [Condition("size", "continuous")]).conditions == {}


def test_all_problems_of_known_columns_are_in_one_message(tmp_path):
    rows = "".join(f"{'?,' * 12}2,x\n{'z,' * 12}2,x\n" for _ in range(3))
    table = csv.parse(write(tmp_path, ",".join(f"n{i}" for i in range(13)) + ",c\n" + rows), "a.csv")
    columns = [{"name": f"n{i}", "kind": "numeric"} for i in (*range(13), 14, 15)]
    with pytest.raises(InputDataError) as error:
        csv.apply(table, columns, [Condition("c", "categorical", ("u", "w"))])
    message = str(error.value)
    assert message.startswith("a.csv does not have the 2 columns n14, n15. Its columns are n0, n1, ")
    assert " a.csv has 13 columns that cannot be read: row 3, column n0 contains z (expected a number); " in message
    assert message.count("contains z (expected a number)") == 10
    assert message.endswith("; and 3 more. Correct these cells.")
    with pytest.raises(InputDataError, match=r"6 rows have an unknown class or none.*one c for all rows"):
        csv.apply(table, [], [Condition("c", "categorical", ("u", "w"))])


def test_all_problems_of_known_numbers_are_in_one_message(tmp_path):
    table = csv.parse(write(tmp_path, "a,b,c\n1,x,2\n2,3,y\n"), "a.csv")
    expected = (
        "a.csv has 2 columns that cannot be read: row 2, column b contains x (expected a number); row 3, column c"
    )
    with pytest.raises(InputDataError, match=re.escape(expected)):
        csv.as_numbers(table, (), ReadOptions())


def test_all_problems_of_rows_are_in_one_message(tmp_path):
    rows = ["1,2", "1,2,3", "1", "", "", "3,4", *["5"] * 9, "6,7", "", ""]
    with pytest.raises(InputDataError) as error:
        read(tmp_path, "a,b\n" + "\n".join(rows) + "\n")
    places = [*(f"row {row} has 1 cells, expected 2 as in the header" for row in (4, 8, 9, 10, 11, 12, 13, 14))]
    places[:0] = ["row 3 has 3 cells, expected 2 as in the header"]
    places[2:2] = ["rows 5 to 6 are empty"]
    assert f"a.csv has 12 problems: {'; '.join(places)}; and 2 more. Correct such rows, or set" in str(error.value)
    with pytest.raises(
        InputDataError, match=r"has 3 problems: row 1 has nothing as the name of column 2; row 1 contains"
    ):
        read(tmp_path, "a,,a\n1,2,3\n1,2\n")
    with pytest.raises(InputDataError, match=r"a.csv has 2 problems: row 2 has 1 cells.*; row 3 is not valid CSV"):
        read(tmp_path, 'a,b\n1\n"x"y,2\n')


@pytest.mark.parametrize(
    ("name", "expected"), [("Age", "age"), ("Height (cm)", "height_cm"), ("2nd", "_2nd"), ("é", "_"), ("a__b", "a_b")]
)
def test_graph_names_are_lower_case_identifiers(name, expected):
    assert csv.graph_name(name) == expected


ROWS = 60
FORMS: dict[str, tuple[str, list[float]]] = {
    "plain": ("{0}.5", [0.5, 1.5]),
    "decimal comma": ('"{0},25"', [0.25, 1.25]),
    "thousands": ('"{0},000,500"', [500, 1_000_500]),
    "thousands of a comma file": ('"1{0},500"', [10_500, 11_500]),
    "percent": ("{0}.5%", [0.5, 1.5]),
    "currency": ("${0}.50", [0.5, 1.5]),
    "currency after the number": ("{0} EUR", [0, 1]),
    "minus sign of Unicode": ("\u2212{0}.5", [-0.5, -1.5]),
    "spaces between thousands": ("1{0} 000", [10_000, 11_000]),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_numbers_are_numeric(tmp_path, form):
    cell, expected = FORMS[form]
    data = read(tmp_path, "a,b\n" + "".join(f"{cell.format(i % 10)},{i % 7}\n" for i in range(ROWS)))
    assert (data.columns[0]["name"], data.columns[0]["kind"]) == ("a", "numeric")
    np.testing.assert_array_equal(data.x[:2, 0], expected)
    assert bool(data.notes) == (form != "plain")


@pytest.mark.parametrize("delimiter", [";", "\t", "|", " "])
def test_delimiter_is_detected_outside_quotes(tmp_path, delimiter):
    lines = ['"temp, C",hum,"a|b; c"', *(f'{i % 9},{i % 7},"x, y|z; {"pq"[i % 2]}"' for i in range(ROWS))]
    for each in (delimiter, ","):
        text = "\n".join(each.join(re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', line)) for line in lines)
        data = read(tmp_path, text)
        assert [(column["name"], column["kind"]) for column in data.columns] == [
            ("temp, C", "numeric"),
            ("hum", "numeric"),
            ("a|b; c", "categorical"),
        ]


@pytest.mark.parametrize("delimiter", [":", "^", "/", "~", "\uff0c", "::"])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("num", [12, 2000])
def test_rare_delimiter_is_named(tmp_path, delimiter, quote, num):
    lines = [f"{quote}p{i % 3}, q{quote}{delimiter}{i % num}.5" for i in range(num)]
    if num > 20:
        lines[7] = "a line without it"
    text = "\n".join([f"{quote}name{quote}{delimiter}v", *lines])
    with pytest.raises(InputDataError, match="has a single column") as error:
        read(tmp_path, text)
    times = "once" if len(delimiter) == 1 else "2 times"
    assert f"the character {delimiter[0]} {times} in nearly every line" in str(error.value)
    assert f"Set --delimiter {shlex.quote(delimiter[0])} if" in str(error.value)


def test_single_column_with_a_rare_character_can_be_read(tmp_path):
    text = "speed in km/h\n" + "".join(f"{i % 9} km/h\n" for i in range(50))
    with pytest.raises(InputDataError, match=r"--delimiter , if there is one"):
        read(tmp_path, text)
    data = read(tmp_path, text, delimiter=",")
    assert data.columns[0]["suffix"] == " km/h"
    text = text.replace("speed in km/h", "speed")
    assert read(tmp_path, text).columns[0]["suffix"] == " km/h"


def test_single_column_of_identifiers_advises_a_delimiter(tmp_path):
    text = "name_v\n" + "".join(f"p_{i}\n" for i in range(50))
    with pytest.raises(InputDataError, match=r"identifiers or constant.*Set --delimiter if the file has more"):
        read(tmp_path, text)
    with pytest.raises(InputDataError, match=r"at least one column of data\.$"):
        read(tmp_path, text, delimiter=",")


def test_delimiter_can_be_set(tmp_path):
    text = "a~b\n1~2\n2~3\n"
    assert read(tmp_path, text, delimiter="~").x.tolist() == [[1, 2], [2, 3]]
    with pytest.raises(InputDataError, match="--delimiter is ab; expected one character"):
        read(tmp_path, text, delimiter="ab")


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\na;b\n1;x\n2;y\n",
        "# made by a tool, 2024, v1\na,b\n1,x\n2,y\n",
        ",a,b\n0,1,x\n1,2,y\n",
        "a,b,\n1,x,\n2,y,\n",
        "a,c,b\n1,7,x\n2,7,y\n",
        "Unnamed: 0,a,b\n0,1,x\n1,2,y\n",
    ],
    ids=["sep", "comment", "index of pandas", "delimiter at the end", "constant column", "index read as a column"],
)
def test_what_is_not_data_is_left_out(tmp_path, text):
    for encoding in ("utf-8", "utf-16"):
        data = read(tmp_path, text.encode(encoding))
        assert [column["name"] for column in data.columns] == ["a", "b"]
        assert data.x.tolist() == [[1, 0], [2, 1]]
        assert len(data.notes) == (0 if text.startswith("sep") else 1)


@pytest.mark.parametrize("first", [0, 1])
def test_row_numbers_without_a_name_are_written_back(tmp_path, first):
    data = read(tmp_path, f",a,b\n{first},1,x\n{first + 1},2,y\n")
    assert data.outside == ({"name": "", "type": "id", "prefix": "", "start": first, "width": 0},)
    assert data.order == ("", "a", "b")
    assert data.notes[0].endswith(f"It is written as {first}, {first + 1}, ...")


def test_all_problems_of_a_table_are_in_one_message(tmp_path):
    rows = ""
    for i in range(ROWS):
        rows += f"{'user' if i == 3 else i},{'inf' if i == 4 else i},{i % 5}\n"
    with pytest.raises(InputDataError, match="2 columns that cannot be read") as error:
        read(tmp_path, "a,b,c\n" + rows)
    message = str(error.value)
    for part in (
        "row 5, column a contains user, but most others are numbers",
        "row 6, column b contains inf",
        "--drop-columns a,b.",
    ):
        assert part in message
    assert read(tmp_path, "a,b,c\n" + rows, drop_columns=("a", "b")).x.shape == (ROWS, 1)


@pytest.mark.parametrize("cells", [("1,234", "5,678"), ("1,234", "1234")])
def test_numbers_with_two_readings_are_refused(tmp_path, cells):
    text = "a;b\n" + "".join(f"{cells[i % 2]};{i}\n" for i in range(4))
    with pytest.raises(InputDataError, match=r"1,234 is either 1\.234 or 1234"):
        read(tmp_path, text)
    # Another column shows the decimal comma.
    if cells[1] == "5,678":
        data = read(tmp_path, "a;b\n" + "".join(f"{cells[i % 2]};{i},5\n" for i in range(4)))
        np.testing.assert_array_equal(data.x[:2], np.array([[1.234, 0.5], [5.678, 1.5]], "f4"))


def test_numbers_with_a_currency_and_two_readings_are_refused(tmp_path):
    with pytest.raises(InputDataError, match=r"row 2, column a: 1,234 is either 1\.234 or 1234"):
        read(tmp_path, "a;b\n" + "".join(f"$1,23{4 + i};{i}\n" for i in range(4)))


def test_numbers_with_a_unit_are_not_vectors(tmp_path):
    table = csv.parse(write(tmp_path, "a,b\n5 kg,1%\n6 kg,2%\n"), "a.csv")
    with pytest.raises(InputDataError, match=r"^a.csv, row 2, column a contains 5 kg; expected a number\.$"):
        csv.as_numbers(table, (), ReadOptions())


def test_condition_with_a_unit_is_read_in_both_splits(tmp_path):
    rows = "".join(f"{150 + i} cm,{i % 9}\n" for i in range(ROWS))
    write(tmp_path, "a,b\n" + rows, "train.csv")
    write(tmp_path, "a,b\n" + rows, "test.csv")
    options = ReadOptions(condition_columns=("a",))
    for split in ("train", "test"):
        data = read_dataset(tmp_path, split, options)
        assert data.conditions["a"].tolist() == [150 + i for i in range(ROWS)]
    write(tmp_path, "a,b\n1.6 m,2\n1.7 m,3\n", "test.csv")
    with pytest.raises(InputDataError, match=r"row 2, column a contains 1\.6 m; expected numbers .* the unit cm"):
        read_dataset(tmp_path, "test", options)


def test_columns_of_pixels_are_images(tmp_path):
    x = np.arange(3 * 20, dtype=np.uint8).reshape(3, 20)
    header = "label," + ",".join(f"pixel{index}" for index in range(20))
    text = header + "\n" + "".join(f"{7 - row}," + ",".join(map(str, x[row])) + "\n" for row in range(3))
    data = read(tmp_path, text, image_size=(4, 5))
    np.testing.assert_array_equal(data.x, x.reshape(3, 4, 5, 1))
    assert data.x.dtype == np.uint8
    assert data.class_names == {"label": ("5", "6", "7")}
    assert data.conditions["label"].tolist() == [2, 1, 0]
    with pytest.raises(InputDataError, match=r"20 columns of pixels, which are not gray images of 4x4.*--image-size"):
        read(tmp_path, text)
