"""Pages of tables: distributions equal those of the rows and of the training data, and names enter as text only."""

from __future__ import annotations

import copy
import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from kvae_serve.errors import RequestError
from kvae_serve.model import load
from kvae_serve.row_stream import Array, RowStream
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import dispatch

EVIL = '</script><img src=x onerror="alert(1)">'
COLUMNS = [
    {"name": "age", "kind": "numeric", "form": "quantile", "knots": [0.0, 24.0, 72.0], "scores": [-40.0, 0.0, 40.0]},
    {"name": EVIL, "kind": "categorical", "classes": ["a & b", EVIL, "c"]},
]
JOB = {"name": "job", "kind": "categorical", "classes": ["cook", "nurse"], "shares": [0.25, 0.75]}


class Tags(HTMLParser):
    """Collect the tags and the texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.texts = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


def table(tiny, num: int = 240, real=None) -> RowStream:
    raw = load(tiny / "conditional").manifest.to_dict()
    data = {"kind": "table", "shape": [2], "range": None, "columns": copy.deepcopy(COLUMNS)}
    likelihood = {"name": "mixed", "probabilities": [None, "x_probability_1"]}
    manifest = Manifest.from_dict(raw | {"data": data, "likelihood": likelihood, "conditions": [JOB]})
    x = np.stack([np.arange(num) % 72, np.arange(num) % 2], axis=1).astype("f4")
    x[:24, 0] = np.nan
    arrays = {"x": Array(np.dtype("f4"), (2,)), "job": Array(np.dtype("i8"), ())}
    chunks = [{"x": part, "job": np.arange(len(part)) % 2} for part in np.split(x, 2)]
    return RowStream(manifest, num, arrays, ("x",), iter(chunks), metadata={"kvae seed": "5"}, real=real)


def written(path, rows: RowStream) -> str:
    dispatch.stream(str(path), rows, quiet=True)
    return path.read_text(encoding="utf-8")


def heights(page: str) -> np.ndarray:
    """Return the heights of the line of the real distribution in the first histogram, as shares."""
    steps = re.search(r'class="real" d="M0 96(.*?)V96"', page)[1]
    values = 96 - np.array([float(each) for each in re.findall(r"L[\d.]+ ([\d.]+)h", steps)])
    return values / values.sum()


def test_real_distribution_is_that_of_the_model_file(tiny, tmp_path):
    page = written(tmp_path / "a.html", table(tiny))
    texts = Tags(page).texts
    # Half of the values are below 24 and half above, linear in between.
    shares = heights(page)
    assert shares[:8].sum() == pytest.approx(0.5, abs=0.03)
    assert np.ptp(shares[1:7]) < 0.005
    assert {"25.0%", "75.0%", "50.0%"} <= set(texts)
    assert "Missing: generated 10.0%." in texts
    assert page.count("The model file does not store the real distribution of 1 of 3 columns. Use --data.") == 1
    assert any("240 generated rows of conditional, seed 5" in each for each in texts)
    assert page.count("<tr>") == 1 + 100


def test_real_distribution_is_that_of_given_rows(tiny, tmp_path):
    real = {"x": np.array([[10.0, 2]] * 9 + [[50, 0]]), "job": np.array([0] * 8 + [1] * 2)}
    page = written(tmp_path / "a.html", table(tiny, real=real))
    shares = heights(page)
    assert sorted(shares)[-2:] == pytest.approx([0.1, 0.9], abs=0.01)
    assert {"90.0%", "10.0%", "80.0%", "20.0%"} <= set(Tags(page).texts)
    assert "10 rows of the given data" in page
    assert "Use --data" not in page


def test_real_distribution_of_classes_and_of_few_integers_is_that_of_the_model_file(tiny, tmp_path):
    rows = table(tiny)
    age, kind = rows.manifest.data.columns
    age |= {"form": "classes", "atoms": [0.0, 35.0, 71.0], "shares": [0.7, 0.1, 0.2], "decimals": 0}
    kind["shares"] = [0.35, 0.6, 0.05]
    page = written(tmp_path / "a.html", rows)
    shares = heights(page)
    assert shares[[0, 11, 23]] == pytest.approx([0.7, 0.1, 0.2], abs=0.01)
    assert {"35.0%", "60.0%", "5.0%"} <= set(Tags(page).texts)
    assert "Use --data" not in page


def test_missing_share_is_shown_without_a_real_distribution(tiny, tmp_path):
    rows = table(tiny)
    del rows.manifest.data.columns[0]["form"]
    page = written(tmp_path / "a.html", rows)
    assert "Missing: generated 10.0%." in Tags(page).texts
    assert page.count("The model file does not store the real distribution of 2 of 3 columns.") == 1


def test_bins_of_integers_hold_equally_many_integers(tiny, tmp_path):
    rows = table(tiny, 720, {"x": np.stack([np.arange(72.0), np.zeros(72)], 1), "job": np.arange(72) % 2})
    rows.manifest.data.columns[0]["decimals"] = 0
    page = written(tmp_path / "a.html", rows)
    # 24 bins of 3 integers. The first 24 rows are missing.
    bars = np.array([float(each) for each in re.findall(r'<rect .*? height="([\d.]+)"', page)])
    assert len(bars) == 24
    assert bars[:8] == pytest.approx(96 * 27 / 30)
    assert bars[8:] == pytest.approx(96)


def test_names_enter_as_text(tiny, tmp_path):
    page = written(tmp_path / "a.html", table(tiny))
    parsed = Tags(page)
    assert not parsed.tags & {"script", "img", "link", "iframe"}
    assert EVIL in parsed.texts
    assert "a & b" in parsed.texts
    assert "default-src 'none'" in page
    assert "http:" not in page
    assert "https:" not in page


def test_page_is_for_tables_only(tiny, tmp_path):
    draws = load(tiny / "conditional").sample(2, label="dog", seed=1)
    with pytest.raises(RequestError, match="shows rows of a table"):
        dispatch.write(str(tmp_path / "a.html"), draws)
    with pytest.raises(RequestError, match="shows rows of a table"):
        dispatch.stream(str(tmp_path / "a.html"), dataclasses.replace(table(tiny), main=("job",)), quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_command_writes_a_page_beside_real_rows(kvae, tmp_path):
    linear = Path(__file__).parents[2] / "data" / "linear_table"
    arguments = ["sample", "-m", linear, "-n", 5, "--seed", 1]
    assert kvae("sample", "-m", linear, "-n", 2, "-o", "rows.csv").returncode == 0
    assert kvae(*arguments, "--data", "rows.csv", "-o", "a.html").returncode == 0
    assert "2 rows of the given data" in (tmp_path / "a.html").read_text()
    done = kvae(*arguments, "--data", "rows.csv", "-o", "a.csv")
    assert done.returncode == 2
    assert "--data needs an .html" in done.stderr
