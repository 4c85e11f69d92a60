"""columns.toml: the file of a dry run gives the same columns, and an edited one changes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import numpy as np
import pytest
from click.testing import CliRunner

import kvae
from kvae.commands.train import train as train_command
from kvae.data import column_file
from kvae_serve.errors import InputDataError

ROWS = 100


@pytest.fixture
def table(tmp_path):
    letters, ages = ["NA", "p", "q", "p", "q"], ["", *range(8), 8, 3]
    lines = [
        f"{i + 1},DE,{i % 2},{i % 9}.5,{letters[i % 5]},0{1 + i % 3}/{12 + i % 4}/2024,{ages[i % 11]}"
        for i in range(ROWS)
    ]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(['Row,"the ""land""",bit,size,letter,day,age', *lines]) + "\n")
    return path


def write(table):
    path = table.parent / "columns.toml"
    done = CliRunner().invoke(train_command, ["--data", str(table), "--dry-run", "-o", str(path)])
    assert done.exit_code == 0, done.output
    return path


def test_dry_run_ignores_the_folder_of_the_run(table):
    folder = table.parent / "run"
    done = CliRunner().invoke(train_command, ["--data", str(table), "-o", str(folder), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert f"{ROWS} rows of" in done.output
    assert not folder.exists()


def test_unchanged_file_gives_the_same_columns(table):
    path = write(table)
    inferred, chosen = kvae.data.load(str(table)), kvae.data.load(str(table), columns=path)
    assert chosen.columns == inferred.columns
    assert chosen.outside == inferred.outside
    assert chosen.order == inferred.order
    np.testing.assert_array_equal(chosen.x, inferred.x)


def test_edited_file_changes_the_columns(table):
    path = write(table)
    text = path.read_text()
    assert '["the \\"land\\""]' in text
    text = text.replace('type = "number"', 'type = "category"', 1)
    path.write_text(text.replace('["age"]', '["age"]\nmissing = "8"').replace('missing = ""', ""))
    done = CliRunner().invoke(train_command, ["--data", str(table), "--dry-run", "--columns", str(path)])
    assert done.exit_code == 0, done.output
    assert "size: category, 9 classes (0.5, 1.5, 2.5, 3.5, ...)" in done.output
    assert "day: datetime from 01/12/2024 to 03/15/2024" in done.output
    assert "age: integer from 0 to 7, missing cells are" in done.output


def test_format_settles_dates_with_two_readings(tmp_path):
    path, columns = tmp_path / "a.csv", tmp_path / "columns.toml"
    path.write_text("the day,size\n" + "".join(f"0{1 + i % 3}/0{1 + i % 4}/2024,{i % 9}\n" for i in range(ROWS)))
    refused = CliRunner().invoke(train_command, ["--data", str(path), "--dry-run"], standalone_mode=False)
    assert isinstance(refused.exception, InputDataError)
    line = re.search(r'the line (.*?\.format = ".*?")', str(refused.exception))
    columns.write_text(line[1])
    done = CliRunner().invoke(train_command, ["--data", str(path), "--dry-run", "--columns", str(columns)])
    assert done.exit_code == 0, done.output
    assert "the day: datetime from 01/01/2024 to 03/04/2024" in done.output
    columns.write_text('"the day".format = "%m/%d/%Y"')
    days = kvae.data.load(str(path), columns=columns).columns[0]
    first, last = (datetime(2024, month, day, tzinfo=UTC).timestamp() for month, day in ((1, 1), (3, 4)))
    assert (days["minimum"], days["maximum"]) == (first, last)


BAD = {
    "[a\n": "not a valid TOML file",
    "a = 1": "column a is 1; expected a table with type",
    "[b]\nkind = 'x'": "column b has the setting kind; expected type, format",
    "[b]\ntype = 'money'": "column b has type 'money'; expected one of integer",
    "[b]\nformat = '%Q'": "column b has format '%Q'; expected a date format",
    "[b]\ndecimals = -1": "decimals -1; expected an integer from 0 to 9",
    "[b]\nmissing = 3": "missing 3; expected a text or a list",
}


@pytest.mark.parametrize("text", BAD)
def test_invalid_settings_are_refused(text, tmp_path):
    path = tmp_path / "columns.toml"
    path.write_text(text)
    with pytest.raises(InputDataError, match=BAD[text]):
        column_file.read(path)


def test_settings_of_an_unknown_column_or_of_images_are_refused(table):
    with pytest.raises(InputDataError, match="does not have a column more"):
        kvae.data.load(str(table), columns={"more": {"type": "id"}})
    with pytest.raises(InputDataError, match="cannot be read"):
        kvae.data.load(str(table), columns=table.parent / "none.toml")
    done = CliRunner().invoke(train_command, ["--data", "mnist-sample", "--dry-run", "--missing-values", "x"])
    assert "is not a table; leave out --missing-values" in str(done.exception)
    done = CliRunner().invoke(train_command, ["--data", "mnist-sample", "--dry-run", "-o", "columns.toml"])
    assert "is not a table. -o writes the types of columns" in str(done.exception)
