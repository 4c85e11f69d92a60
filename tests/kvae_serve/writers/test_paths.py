"""Outputs of traverse and interpolate: every format has the images of the path, in its order."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from kvae_serve.errors import OutputError, RequestError
from kvae_serve.latent_path import LatentPath
from kvae_serve.model import load
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import paths


@pytest.fixture(scope="module")
def images(tiny) -> LatentPath:
    """Return a path with 2 rows of 3 images of 8 x 6 pixels."""
    return load(tiny / "conditional").traverse(label="dog", dims=[1, 0], steps=3).path()


@pytest.fixture(scope="module")
def table(images) -> LatentPath:
    """Return a path with 1 row of 2 table rows: a class and a number."""
    columns = [{"name": "animal", "kind": "categorical", "classes": ["=ox", "cat"]}, {"name": "age", "kind": "numeric"}]
    data = {"kind": "table", "shape": [2], "range": None, "columns": columns}
    likelihood = {"name": "mixed", "probabilities": ["x_probability_animal", None]}
    manifest = Manifest.from_dict(images.manifest.to_dict() | {"data": data, "likelihood": likelihood})
    x = np.array([[[0, 1.5], [0.6, -2]]], np.float32)
    label = {"label": np.array([[1, 2]])}
    return LatentPath(x, np.zeros((1, 2, 3), np.float32), label, {"t": np.array([[0, 1.0]])}, {}, manifest)


def test_npz_has_one_entry_per_image_in_all_arrays(images, tmp_path):
    paths.write(str(tmp_path / "a.npz"), images)
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays.files == ["x", "z", "label", "dim", "value", "activity"]
        np.testing.assert_array_equal(arrays["x"], images.x.reshape(6, 8, 6, 1))
        np.testing.assert_array_equal(arrays["z"], images.z.reshape(6, 3))
        assert arrays["label"].tolist() == [1] * 6
        assert arrays["dim"].tolist() == [1, 1, 1, 0, 0, 0]
        assert arrays["value"].tolist() == [-3, 0, 3, -3, 0, 3]


def test_npy_has_x_only(images, tmp_path):
    paths.write(str(tmp_path / "a.npy"), images)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), images.x.reshape(6, 8, 6, 1))


def test_plain_png_has_one_row_of_images_per_row_and_is_enlarged(images, tmp_path):
    paths.write(str(tmp_path / "a.png"), images, paths.Style(scale=2, plain=True))
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture)
        assert picture.text["kvae dims"] == "1 0"
    assert pixels.shape == (2 * (8 + 2 + 8), 2 * (6 + 2 + 6 + 2 + 6))
    np.testing.assert_array_equal(pixels[::2, ::2][10:, 16:], np.rint(images.x[1, 2, :, :, 0]))


def test_plain_animation_has_one_frame_per_step(images, tmp_path):
    paths.write(str(tmp_path / "a.gif"), images, paths.Style(loop="once", plain=True))
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 3
        assert animation.size == (6 + 2 + 6, 8)


def test_csv_has_positions_conditions_and_columns_with_class_names(table, tmp_path):
    paths.write(str(tmp_path / "a.csv"), table)
    expected = "t,label,animal,age\n0,dog,'=ox,1.5\n1,0,cat,-2\n"
    assert (tmp_path / "a.csv").read_text() == expected
    stream = io.StringIO()
    paths.show(table, stream)
    assert stream.getvalue() == expected


def test_outputs_that_do_not_fit_the_data_are_refused(images, table, tmp_path):
    for name, latent_path, reason in (
        ("a.csv", images, "makes images"),
        ("a.png", table, "table data"),
        ("a.gif", table, "table data"),
        ("a.bmp", images, "unknown suffix"),
        (".png", images, "unknown suffix"),
    ):
        with pytest.raises(RequestError, match=reason):
            paths.write(str(tmp_path / name), latent_path)
    with pytest.raises(RequestError, match="scale is 65"):
        paths.write(str(tmp_path / "a.png"), images, paths.Style(scale=65))
    assert list(tmp_path.iterdir()) == []


def test_existing_output_is_kept_without_force(images, tmp_path):
    (tmp_path / "a.npy").touch()
    with pytest.raises(OutputError, match="--force"):
        paths.check(str(tmp_path / "a.npy"))
    paths.check(str(tmp_path / "a.npy"), force=True)
    paths.check("-")
