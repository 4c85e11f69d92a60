"""Captioned pictures: every image is there in its place and enlarged, and the captions name it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from kvae_serve.errors import RequestError
from kvae_serve.inference.sampling import Draws
from kvae_serve.latent_path import LatentPath
from kvae_serve.model import load
from kvae_serve.row_stream import Array, RowStream
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import captioned_grid, dispatch, paths
from kvae_serve.writers.captioned_grid import PictureStyle
from support.pictures import places, text_places

PIL = pytest.importorskip("PIL.Image")
ONE = PictureStyle(scale=1)


@pytest.fixture(scope="module")
def draws(tiny) -> Draws:
    return load(tiny / "conditional").sample(4, label=["dog", "0"], seed=11, start=5)


def with_manifest(draws: Draws, **changes) -> Draws:
    return dataclasses.replace(draws, manifest=Manifest.from_dict(draws.manifest.to_dict() | changes))


def written(path, draws, style=None) -> np.ndarray:
    dispatch.write(str(path), draws, style=style, force=True)
    with PIL.open(path) as image:
        return np.asarray(image)


def pixels(x: np.ndarray) -> np.ndarray:
    return np.rint(x[..., 0]).astype(np.uint8)


def test_each_label_is_a_named_row_and_each_sample_a_numbered_column(draws, tmp_path):
    picture = written(tmp_path / "a.png", draws, ONE)
    corners = [places(picture, each) for each in pixels(draws.x)]
    assert [len(each) for each in corners] == [1] * 8
    y, x = np.array(corners).reshape(2, 4, 2).transpose(2, 0, 1)
    assert (np.ptp(y, axis=1) == 0).all()
    assert (np.ptp(x, axis=0) == 0).all()
    assert (np.diff(x[0]) > 6).all()  # There are gaps.
    ((dog_y, dog_x),) = text_places(picture, "dog")
    assert dog_x < x[0, 0]
    assert abs(dog_y - y[0, 0]) < 12
    for column, index in enumerate("5678"):
        assert any(abs(at - x[0, column]) < 12 for _, at in text_places(picture, index, ink=110))
    assert text_places(picture, "conditional, seed 11, samples 5 to 8")


@pytest.mark.parametrize("shape", [(8, 6, 1), (28, 28, 1), (32, 32, 3), (64, 64, 1), (90, 70, 3), (1, 1, 1)])
@pytest.mark.parametrize("columns", [1, 3, 10])
def test_images_have_at_least_56_pixels_by_default(shape, columns):
    scale = captioned_grid.scale_of(PictureStyle(), shape, columns, columns)
    assert min(shape[:2]) * scale >= 56
    assert max(shape[:2]) * scale <= 448
    assert captioned_grid.scale_of(PictureStyle(plain=True), shape, columns, columns) == 1


def test_pixels_are_enlarged_to_squares(draws, tmp_path):
    one = dataclasses.replace(draws, x=draws.x[:1], z=draws.z[:1], conditions={"label": np.array([1])}, num=1)
    picture = written(tmp_path / "a.png", one)
    expected = pixels(one.x)[0].repeat(19, axis=0).repeat(19, axis=1)  # 112 / 6 pixels, rounded
    assert picture.shape > expected.shape
    y, x = np.argwhere(picture != 240)[-1] + 1 - expected.shape
    assert (picture[y : y + expected.shape[0], x : x + expected.shape[1]] == expected).all()
    assert text_places(picture, "conditional, label dog, seed 11, sample 5", size=14)


def test_large_grids_are_enlarged_less_and_too_large_ones_are_refused(draws, tmp_path):
    def scale(num):
        return captioned_grid.scale_of(PictureStyle(), (28, 28, 1), 100, num)

    assert scale(10_000) == 2
    assert scale(20_000) == 1
    with pytest.raises(RequestError, match="Lower --scale"):
        written(
            tmp_path / "a.png", with_manifest(draws, data={"kind": "image", "shape": [800, 800, 1]}), PictureStyle(5)
        )
    with pytest.raises(RequestError, match="scale is 65"):
        PictureStyle(scale=65)


def test_two_conditions_are_the_axes_of_the_picture(draws, tmp_path):
    conditions = [
        {"name": "shape", "kind": "categorical", "classes": ["disc", "box"]},
        {"name": "size", "kind": "categorical", "classes": ["small", "large", "huge"]},
    ]
    x = draws.x[:6]
    values = {"shape": np.array([0, 0, 0, 1, 1, 1]), "size": np.array([0, 1, 2] * 2)}
    both = dataclasses.replace(
        with_manifest(draws, conditions=conditions), x=x, z=draws.z[:6], conditions=values, num=1
    )
    picture = written(tmp_path / "a.png", both, ONE)
    ((y, x_of_last),) = places(picture, pixels(x)[5])
    ((box, _),), ((_, huge),) = text_places(picture, "box"), text_places(picture, "huge", ink=110)
    assert abs(box - y) < 12
    assert abs(huge - x_of_last) < 24


def test_originals_are_above_their_reconstructions(draws, tmp_path):
    rows = RowStream(
        draws.manifest,
        5,
        dict.fromkeys(("x", "x_mean"), Array(np.dtype("f4"), (8, 6, 1))) | {"label": Array(np.dtype("i8"), ())},
        ("x_mean",),
        iter([{"x": 255 - draws.x[:5], "x_mean": draws.x[:5], "label": draws.conditions["label"][:5]}]),
        group_size=5,
        pairs=True,
    )
    dispatch.stream(str(tmp_path / "a.png"), rows, style=ONE, quiet=True)
    picture = np.asarray(PIL.open(tmp_path / "a.png"))
    for x in draws.x[:5]:
        (original,), (reconstruction,) = places(picture, pixels(255 - x)), places(picture, pixels(x))
        assert original[1] == reconstruction[1]
        assert 8 < reconstruction[0] - original[0] < 20
    assert text_places(picture, "original", ink=110)
    assert text_places(picture, "reconstruction", ink=110)
    assert text_places(picture, "dog")


def test_names_that_the_font_lacks_are_replaced_and_long_ones_cut(draws, tmp_path):
    label = {"name": "label", "kind": "categorical", "classes": ["x", "Käse", "犬"]}
    picture = written(tmp_path / "a.png", with_manifest(draws, conditions=[label], name="w" * 200), ONE)
    assert text_places(picture, "Kase")
    assert text_places(picture, "label 2")
    long = {"name": "label", "kind": "categorical", "classes": ["x", "y" * 5000, "\U0001f9ff" * 5000]}
    assert written(tmp_path / "b.png", with_manifest(draws, conditions=[long], name="w" * 200), ONE).shape[1] < 700


def test_traversal_names_dimensions_and_positions(tiny, tmp_path):
    path = load(tiny / "conditional").traverse(label="dog", dims=[1, 0], steps=3).path()
    paths.write(str(tmp_path / "a.png"), path, paths.Style(scale=1))
    picture = np.asarray(PIL.open(tmp_path / "a.png"))
    for row, dim in enumerate(["z1", "z0"]):
        for step in range(3):
            assert len(places(picture, pixels(path.x[row, step]))) >= 1
        ((y, _),) = text_places(picture, dim)
        assert y in range(*[places(picture, pixels(path.x[row, 0]))[0][0] + offset for offset in (-8, 12)])
    assert text_places(picture, "-3", ink=110)
    paths.write(str(tmp_path / "a.gif"), path, paths.Style(loop="once"))
    with PIL.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 3
        assert min(animation.size) > 112


def test_paths_of_sequences_are_line_plots(tmp_path, draws):
    manifest = with_manifest(draws, data={"kind": "sequence", "shape": [24, 2], "range": None}, conditions=[]).manifest
    x = np.random.default_rng(0).normal(size=(2, 3, 24, 2)).astype("f4")
    path = LatentPath(x, np.zeros((2, 3, 3), "f4"), {}, {"t": np.tile([0, 0.5, 1], (2, 1))}, {}, manifest)
    for name, plain in (("a.png", False), ("b.png", True), ("a.gif", False), ("b.gif", True)):
        paths.write(str(tmp_path / name), path, paths.Style(plain=plain))
        with PIL.open(tmp_path / name) as image:
            assert image.width >= (3 * 160 if name.endswith("png") else 160)


def test_pillow_without_freetype_draws_captions_in_its_bitmap_font(draws, tmp_path, monkeypatch):
    from PIL import ImageFont, features

    bitmap = getattr(ImageFont, "load_default_imagefont", None)
    if bitmap is None:
        pytest.skip("This Pillow hides its bitmap font behind FreeType")
    monkeypatch.setattr(features, "check", lambda feature: False)
    monkeypatch.setattr(ImageFont, "load_default", bitmap)  # It does not accept a size.
    picture = written(tmp_path / "a.png", draws, ONE)
    assert (picture[:20] < 100).sum() > 50
