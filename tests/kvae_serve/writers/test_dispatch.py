"""Outputs of samples: other tools read them back, and equal samples give equal bytes."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest

from kvae_serve.errors import OutputError, RequestError
from kvae_serve.inference.sampling import Draws
from kvae_serve.model import load
from kvae_serve.readers import read_dataset
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import ascii, dispatch
from kvae_serve.writers import images as pictures
from kvae_serve.writers.grid import grid, to_uint8
from kvae_serve.writers.png import encode

PIL = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def draws(tiny: Path) -> Draws:
    return load(tiny / "conditional").sample(4, label=["dog", "0"], seed=2**64 - 1, start=5)


def picture(path: Path) -> np.ndarray:
    with PIL.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (1, 1), (300, 2, 3)])
def test_pillow_reads_png_pixels_and_text(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = encode(image, {"kvae seed": "3"})
    with PIL.open(io.BytesIO(data)) as result:
        assert result.text == {"kvae seed": "3"}
        assert (np.asarray(result).reshape(image.shape) == image).all()


@pytest.mark.parametrize(
    "image", [np.zeros((2, 2)), np.zeros((2, 2, 5), np.uint8), np.zeros((0, 2), np.uint8), np.zeros(4, np.uint8)]
)
def test_png_refuses_arrays_that_are_not_images(image):
    with pytest.raises(ValueError, match="uint8"):
        encode(image)


def test_grid_places_images_row_by_row_with_a_gap():
    images = np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1) * np.ones((5, 2, 3, 1), np.float32)
    result = grid(images, 3, (0, 4))
    assert result.shape == (6, 13, 1)
    assert result[:, :, 0][[0, 0, 0, 4], [0, 5, 10, 0]].tolist() == [0, 64, 128, 191]
    assert result[4, 5, 0] == 255
    assert (result[2:4] == 0).all()
    assert grid(images[:1], None, (0, 4)).shape == (2, 3, 1)
    assert grid(images).shape == (6, 13, 1)
    with pytest.raises(ValueError, match="at least one"):
        grid(images[:0])


def test_data_values_are_scaled_rounded_and_clipped():
    assert to_uint8(np.array([-9, 0, 0.4, 0.6, 254.5, 255, 300]), (0, 255)).tolist() == [0, 0, 0, 1, 254, 255, 255]
    assert to_uint8(np.array([-1, 0, 1.0]), (-1, 1)).tolist() == [0, 128, 255]
    assert to_uint8(np.array([5.0, 7]), None).tolist() == [0, 255]
    assert to_uint8(np.array([5.0, 5]), None).tolist() == [0, 0]


def test_plain_png_has_one_row_per_label(draws, tmp_path):
    dispatch.write(str(tmp_path / "a.png"), draws, style=dispatch.PictureStyle(plain=True))
    result = picture(tmp_path / "a.png")
    assert result.shape == (2 * 8 + 2, 4 * 6 + 3 * 2)
    assert (result[10:18, 8:14] == np.rint(draws.x[5, :, :, 0])).all()
    with PIL.open(tmp_path / "a.png") as image:
        assert image.text["kvae seed"] == str(2**64 - 1)
        assert image.text["kvae start"] == "5"
        assert image.text["kvae scheme"] == "philox4x64-10/box-muller/1"
        assert image.text["kvae model"].startswith("conditional 0000")


def test_npz_has_all_arrays_and_reads_back_as_a_dataset(draws, tmp_path):
    dispatch.write(str(tmp_path / "a.npz"), draws)
    with np.load(tmp_path / "a.npz") as result:
        assert sorted(result.files) == ["label", "scheme", "seed", "start", "x", "z"]
        assert (result["x"] == draws.x).all()
        assert (result["z"] == draws.z).all()
        assert result["label"].tolist() == [1] * 4 + [2] * 4
        assert result["seed"].dtype == np.uint64
        assert int(result["seed"]) == 2**64 - 1
        assert str(result["scheme"]) == draws.scheme
    again = read_dataset(tmp_path / "a.npz")
    assert (again.x == draws.x).all()
    assert list(again.conditions) == ["label"]


def test_npy_has_x_in_either_type(draws, tmp_path):
    dispatch.write(str(tmp_path / "a.npy"), draws)
    assert (np.load(tmp_path / "a.npy") == draws.x).all()
    dispatch.write(str(tmp_path / "b.npy"), draws, dtype="uint8")
    assert np.load(tmp_path / "b.npy").dtype == np.uint8
    assert (np.load(tmp_path / "b.npy") == np.rint(draws.x)).all()


def test_folder_has_one_png_per_image(draws, tmp_path):
    dispatch.write(str(tmp_path / "images"), draws)
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert names == sorted(f"label-{name}_{index:06d}.png" for name in ("dog", "0") for index in range(5, 9))
    assert (picture(tmp_path / "images" / "label-0_000006.png") == np.rint(draws.x[5, :, :, 0])).all()


def test_unsafe_class_names_give_distinct_safe_file_names(draws):
    raw = draws.manifest.to_dict()
    raw["conditions"][0]["classes"] = ["../x", ".x", "a/b"]
    evil = Draws(draws.x, draws.z, draws.conditions, 1, 0, 4, Manifest.from_dict(raw))
    rows = evil.row_stream()
    names = pictures.file_names(rows, evil.arrays(), 0)
    assert len(set(names)) == 8
    assert not [name for name in names if "/" in name or name.startswith(".")]


@pytest.mark.parametrize("name", ["a.png", "a.npz", "a.npy"])
def test_equal_samples_give_equal_bytes(draws, tiny, tmp_path, name):
    dispatch.write(str(tmp_path / name), draws)
    again = load(tiny / "conditional").sample(4, label=["dog", "0"], seed=2**64 - 1, start=5, batch_size=3)
    (tmp_path / "again").mkdir()
    dispatch.write(str(tmp_path / "again" / name), again)
    assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_check_refuses_unknown_suffixes_and_existing_outputs(draws, tmp_path):
    (tmp_path / "a.png").touch()
    for path in ("a.jpg", "a.PNGX", "a.onnx"):
        with pytest.raises(RequestError, match=r"\.csv, \.parquet or \.html"):
            dispatch.check(str(tmp_path / path))
    with pytest.raises(OutputError):
        dispatch.check(str(tmp_path / "a.png"))
    dispatch.check(str(tmp_path / "a.png"), force=True)
    dispatch.check(str(tmp_path / "new.PNG"))
    dispatch.check("-")
    (tmp_path / "full").mkdir()
    dispatch.check(str(tmp_path / "full"))
    (tmp_path / "full" / "x").touch()
    with pytest.raises(OutputError):
        dispatch.check(str(tmp_path / "full"))


def test_vector_data_is_shown_as_csv_and_not_written_as_pictures(draws, tmp_path):
    raw = draws.manifest.to_dict() | {"data": {"kind": "vector", "shape": [48], "range": None}}
    vector = Draws(draws.x.reshape(8, 48), draws.z, draws.conditions, 1, 0, 4, Manifest.from_dict(raw))
    for path in ("a.png", "folder"):
        with pytest.raises(RequestError, match="vector data"):
            dispatch.write(str(tmp_path / path), vector)
    with pytest.raises(RequestError, match="uint8"):
        dispatch.write(str(tmp_path / "a.npy"), vector, dtype="uint8")
    stream = io.StringIO()
    dispatch.show(vector, stream)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("label,x0,x1,")
    np.testing.assert_allclose([float(each) for each in lines[1].split(",")[1:]], vector.x[0], rtol=1e-7)
    assert list(tmp_path.iterdir()) == []


def ramp(num: int, height: int, width: int) -> np.ndarray:
    return np.broadcast_to(np.linspace(0, 255, width), (num, height, width))[..., None]


def test_text_without_colour_is_ascii_of_the_given_width():
    result = ascii.render(ramp(3, 28, 28), (0, 255), 80, colours=0)
    assert result.isascii()
    lines = result.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(" ")
    assert lines[0][27] == "@"
    assert len(lines) == 14 + 1 + 14  # Two in the first row, one in the second, an empty line between.


@pytest.mark.parametrize(
    ("num", "height", "width"), [(1, 28, 28), (10, 28, 28), (100, 28, 28), (1, 64, 64), (4, 200, 300), (1, 1, 1)]
)
@pytest.mark.parametrize("columns", [20, 80, 200])
def test_text_of_any_images_fits_any_width(num, height, width, columns):
    for colours in (0, 256, ascii.TRUE_COLOUR):
        lines = ascii.render(ramp(num, height, width), (0, 255), columns, colours).splitlines()
        widths = [line.count("▀") + 2 * line.count("\x1b[0m  ") if colours else len(line) for line in lines]
        assert max(widths) <= columns


def test_each_colour_character_shows_two_pixels():
    image = np.array([[[255, 0, 0], [1, 2, 3]], [[0, 0, 255], [4, 5, 6]]], np.float32)[None]
    result = ascii.render(image, (0, 255), 80, colours=ascii.TRUE_COLOUR)
    assert result == "\x1b[38;2;255;0;0;48;2;0;0;255m▀\x1b[38;2;1;2;3;48;2;4;5;6m▀\x1b[0m\n"


def test_colours_of_a_palette_are_the_nearest():
    levels = [0, 95, 135, 175, 215, 255]
    palette = [[red, green, blue] for red in levels for green in levels for blue in levels]
    palette += [[8 + 10 * step] * 3 for step in range(24)]
    rng = np.random.default_rng(0)
    pixels = np.concatenate([rng.integers(0, 256, (300, 3)), rng.integers(0, 256, (100, 1)).repeat(3, axis=1)])
    images = pixels[:, None, None].repeat(2, axis=1)
    codes = re.findall(r"48;5;(\d+)m", ascii.render(images, (0, 255), 80, 256))
    for pixel, code in zip(pixels.tolist(), map(int, codes), strict=True):
        distances = np.abs(np.array(palette) - pixel).max(axis=1)
        assert distances[code - 16] == distances.min()


def test_each_label_starts_a_new_row_if_it_fits():
    result = ascii.render(ramp(6, 4, 4), (0, 255), 80, colours=0, per_row=3)
    assert [len(block.splitlines()) for block in result.split("\n\n")] == [2, 2]


def test_rows_of_images_are_balanced():
    # Three fit side by side; four are two and two, not three and one.
    result = ascii.render(ramp(4, 28, 28), (0, 255), 3 * 28 + 2 * ascii.GAP, colours=0)
    assert [max(map(len, block.splitlines())) for block in result.split("\n\n")] == [2 * 28 + ascii.GAP] * 2
