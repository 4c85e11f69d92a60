"""Notebook views: pictures that decode to the samples, tables with the values, and captions."""

import base64
import io
import re

import numpy as np
from PIL import Image

import kvae
from kvae_serve.readers import Dataset
from kvae_serve.writers import grid


def picture_in(html):
    """Return the picture of a figure as an array."""
    data = re.search(r"data:image/png;base64,([^\"]+)", html)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_samples_show_a_grid_with_one_row_per_label(tiny):
    draws = kvae.load(tiny / "conditional").sample(4, seed=3)
    expected = grid.grid(draws.x, 4, draws.manifest.data.range)
    html = draws._repr_html_()
    np.testing.assert_array_equal(np.squeeze(picture_in(html)), np.squeeze(expected))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(draws._repr_png_()))), np.squeeze(expected))
    assert f"{len(draws)} samples of conditional; label {', '.join(draws.manifest.conditions[0].classes)}" in html
    assert "seed 3" in html


def test_many_samples_show_ten_columns_and_twenty_rows_at_most(tiny):
    draws = kvae.load(tiny / "conditional").sample(50, label=0, seed=3)
    height, width = draws.x.shape[1:3]
    expected = (5 * (height + grid.GAP) - grid.GAP, 10 * (width + grid.GAP) - grid.GAP)
    assert picture_in(draws._repr_html_()).shape[:2] == expected


def test_traversal_shows_one_row_per_dimension_and_saves(tiny, tmp_path):
    traversal = kvae.load(tiny / "conditional").traverse(steps=3, dims=[1, 0])
    expected = grid.grid(traversal.x.reshape(-1, *traversal.x.shape[3:]), 3, traversal.manifest.data.range)
    np.testing.assert_array_equal(np.squeeze(picture_in(traversal._repr_html_())), np.squeeze(expected))
    traversal.save(tmp_path / "t.png", plain=True)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "t.png")), np.squeeze(expected))


def test_samples_save_in_the_format_of_the_suffix(tiny, tmp_path):
    draws = kvae.load(tiny / "conditional").sample(2, seed=3)
    draws.save(tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as saved:
        np.testing.assert_array_equal(saved["x"], draws.x)
        assert saved["seed"] == 3


def test_show_prints_text_in_a_terminal(tiny, capsys):
    draws = kvae.load(tiny / "conditional").sample(1, label=0, seed=3)
    draws.show()
    assert len(capsys.readouterr().out.splitlines()) > 1


def test_data_has_a_repr_of_one_line_and_a_captioned_picture():
    x = np.arange(3 * 4 * 4).reshape(3, 4, 4, 1).astype("uint8")
    data = Dataset(x, {"label": np.array([0, 1, 0])}, {"label": ("cat", "<dog>")}, "/tmp/pets.npz", (0.0, 255.0))
    assert repr(data) == "<3 examples of pets.npz: x uint8 [3, 4, 4, 1], label 2 classes>"
    html = data._repr_html_()
    assert "3 examples of pets.npz" in html
    np.testing.assert_array_equal(picture_in(html), np.squeeze(grid.grid(x, 10)))


def test_table_shows_its_first_rows_with_column_names():
    columns = ({"name": "age", "kind": "continuous"}, {"name": "a<b", "kind": "continuous"})
    data = Dataset(np.array([[1.5, 2.0], [3.0, 4.0]]), {}, {}, "t.csv", None, columns)
    html = data._repr_html_()
    assert "<th>age</th><th>a&lt;b</th>" in html
    assert "<tr><td>1.5</td><td>2</td></tr>" in html


def test_model_shows_a_table_of_properties(tiny):
    html = kvae.load(tiny / "conditional")._repr_html_()
    assert "<td>latent_dim</td><td>3</td>" in html
    assert "<td>likelihood</td><td>bernoulli</td>" in html
