"""Sprites: their geometry against a loop over pixels, their files, and the original dSprites .npz."""

import itertools
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from kvae import metrics
from kvae.data.sprites import files, render
from kvae_serve.errors import InputDataError, OutputError, RequestError
from kvae_serve.readers import read_dataset


def pixel(factors, row, column):
    """Compute one pixel as the docstring of the module describes it, in plain Python."""
    shape, scale, orientation, i, j = map(int, factors)
    right, up = column + 0.5 - (16.87 + i), -(row + 0.5 - (16.83 + j))
    angle = 2 * np.pi * orientation / 39
    size = 0.5 + 0.1 * scale
    # The sprite turns counter-clockwise; the pixel is converted to the frame of the sprite.
    u = (right * np.cos(angle) + up * np.sin(angle)) / size
    v = (up * np.cos(angle) - right * np.sin(angle)) / size
    if shape == 0:
        return max(abs(u), abs(v)) <= 10.8
    if shape == 1:
        return (u / 15.1) ** 2 + (v / 7.6) ** 2 <= 1
    p, q = u / 12.2, v / 12.2 + 0.25
    return (p * p + q * q - 1) ** 3 <= p**2 * q**3


def test_pixels_match_the_documented_geometry():
    index = render.select(num=12, seed=5)
    factors = np.vstack([render.index_to_factors(index), [[2, 5, 3, 0, 31], [0, 5, 5, 31, 0], [1, 0, 39, 0, 0]]])
    x = render.render(factors)
    assert x.dtype == np.uint8
    assert x.shape == (15, 64, 64, 1)
    for image, wanted in zip(x[..., 0], factors, strict=True):
        expected = [[255 * pixel(wanted, row, column) for column in range(64)] for row in range(64)]
        np.testing.assert_array_equal(image, expected)


def all_sprites():
    """Return each shape, scale and orientation at one position, `[720, 5]`."""
    grid = np.stack(np.meshgrid(*map(np.arange, (3, 6, 40)), indexing="ij"), -1).reshape(-1, 3)
    return np.hstack([grid, np.full((720, 2), 15)])


def test_all_images_differ_except_the_first_and_last_orientation():
    factors = all_sprites()
    x = render.render(factors).reshape(3, 6, 40, -1)
    np.testing.assert_array_equal(x[:, :, 0], x[:, :, 39])
    assert len(np.unique(x[:, :, :39].reshape(-1, 64 * 64), axis=0)) == 3 * 6 * 39


def test_no_pixel_depends_on_rounding_and_no_sprite_is_clipped():
    assert np.abs(render.implicit(all_sprites()[:, :3])).min() > 1e-8
    sums = {}
    for corner in itertools.product((0, 31), repeat=2):
        factors = all_sprites()
        factors[:, 3:] = corner
        x = render.render(factors)
        sums[corner] = x.sum(axis=(1, 2, 3), dtype=np.int64)
        assert not x[:, [0, -1]].any()
        assert not x[:, :, [0, -1]].any()
    for other in sums.values():
        np.testing.assert_array_equal(other, sums[0, 0])


def test_a_position_step_is_one_pixel_and_larger_scales_cover_smaller_ones():
    at = render.render(np.array([[2, 3, 7, 4, 9], [2, 3, 7, 5, 9], [2, 3, 7, 4, 10]]))[..., 0]
    np.testing.assert_array_equal(at[1, :, 1:], at[0, :, :-1])
    np.testing.assert_array_equal(at[2, 1:], at[0, :-1])
    scales = render.render(np.array([[1, scale, 11, 8, 8] for scale in range(6)]))
    assert (np.diff(scales.astype(int), axis=0) >= 0).all()
    # The area grows as the square of the scale: an ellipse of pi x 15.1 x 7.6 pixels at scale 1.
    areas = (scales > 0).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(areas, np.pi * 15.1 * 7.6 * render.VALUES["scale"] ** 2, rtol=0.04)


def test_factor_values_equal_those_of_dsprites():
    values = render.factor_values(np.array([[0, 0, 0, 0, 0], [2, 5, 39, 31, 31], [1, 1, 1, 1, 2]]))
    np.testing.assert_allclose(
        values, [[1, 0.5, 0, 0, 0], [3, 1, 6.28318531, 1, 1], [2, 0.6, 0.16110732, 0.03225806, 0.06451613]], atol=1e-8
    )
    assert np.prod(render.SIZES) == render.NUM_IMAGES
    # The order is that of dSprites too: position_y changes fastest.
    np.testing.assert_array_equal(
        render.index_to_factors([0, 1, 32, 737_279])[:, 3:], [[0, 0], [0, 1], [1, 0], [31, 31]]
    )


def test_select_keeps_evenly_spaced_values():
    counts = {"shape": 2, "scale": 3, "orientation": 4, "position_x": 1, "position_y": 5}
    factors = render.index_to_factors(render.select(counts))
    assert len(factors) == 2 * 3 * 4 * 1 * 5
    kept = [np.unique(column).tolist() for column in factors.T]
    assert kept == [[0, 2], [0, 3, 5], [0, 10, 20, 30], [15], [0, 8, 16, 23, 31]]
    assert len(render.select()) == render.NUM_IMAGES
    one = dict.fromkeys(render.FACTORS, 1)
    for size, name in zip(render.SIZES, render.FACTORS, strict=True):
        for count in range(1, size + 1):
            assert (
                len(
                    np.unique(
                        render.index_to_factors(render.select({**one, name: count}))[:, render.FACTORS.index(name)]
                    )
                )
                == count
            )


def test_a_draw_is_a_prefix_of_a_larger_draw_without_duplicates():
    few, many = render.select(num=10, seed=3), render.select(num=2000, seed=3)
    np.testing.assert_array_equal(many[:10], few)
    assert len(set(many.tolist())) == 2000
    assert not np.array_equal(render.select(num=10, seed=4), few)
    factors = render.index_to_factors(many)
    for column, size in zip(factors.T, render.SIZES, strict=True):
        counts = np.bincount(column, minlength=size)
        assert np.abs(counts - 2000 / size).max() < 5 * np.sqrt(2000 / size)
    assert len(render.select({"shape": 1, "position_x": 2}, num=40, seed=1)) == 40
    # The draw is the same in every release.
    assert render.select(num=3, seed=1).tolist() == [689674, 215049, 137623]


@pytest.mark.parametrize(
    ("counts", "num", "words"),
    [({"colour": 1}, None, "got colour"), ({"shape": 4}, None, "1 to 3 values, got 4"), ({"scale": 0}, None, "got 0"),
     ({}, 0, "Cannot draw 0"), ({"orientation": 1}, 18433, "there are 18432 with these factors")],
)  # fmt: skip
def test_invalid_selections_are_rejected(counts, num, words):
    with pytest.raises(RequestError, match=words):
        render.select(counts, num)


@pytest.mark.parametrize(
    "factors", [[[0, 0, 0, 0]], [0, 0, 0, 0, 0], [[0, 0, 0, 0, 32]], [[-1, 0, 0, 0, 0]], [[0.0, 0, 0, 0, 0]]]
)
def test_invalid_factors_are_rejected(factors):
    with pytest.raises(RequestError, match=r"Factors? of sprites|outside the classes of sprites"):
        render.render(np.array(factors))


def test_a_file_is_read_as_images_without_conditions(tmp_path):
    index = render.select({"orientation": 2, "position_x": 4, "position_y": 4})
    files.write(tmp_path / "s.npz", index)
    found = files.read(tmp_path / "s.npz")
    factors = render.index_to_factors(index)
    np.testing.assert_array_equal(found.factors, factors)
    np.testing.assert_array_equal(found.x, render.render(factors))
    np.testing.assert_array_equal(found.values, render.factor_values(factors))
    data = read_dataset(tmp_path / "s.npz")
    np.testing.assert_array_equal(data.x, found.x)
    assert data.conditions == {}
    assert tuple(data.range) == (0.0, 255.0)
    assert set(np.unique(data.x)) == {0, 255}
    with np.load(tmp_path / "s.npz", allow_pickle=False) as arrays:
        described = json.loads(str(arrays["scheme"]))
        assert arrays.files == ["x", "z", "scheme"]
    assert described["scheme"] == render.SCHEME
    assert described["factors"]["shape"] == ["square", "ellipse", "heart"]
    assert described["factors"]["orientation"][1] == pytest.approx(2 * np.pi / 39)
    files.write(tmp_path / "again.npz", index)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "s.npz").read_bytes()


def test_factors_are_conditions_where_that_is_asked_for(tmp_path):
    index = render.select(num=50, seed=9)
    files.write(tmp_path / "s.npz", index, seed=9, as_conditions=("shape", "orientation"))
    data = read_dataset(tmp_path / "s.npz")
    factors = render.index_to_factors(index)
    assert list(data.conditions) == ["shape", "orientation"]
    assert data.class_names == {"shape": ("ellipse", "heart", "square")}
    assert [data.class_names["shape"][k] for k in data.conditions["shape"]] == [render.SHAPES[k] for k in factors[:, 0]]
    np.testing.assert_allclose(data.conditions["orientation"], factors[:, 2] * 2 * np.pi / 39, rtol=1e-6)


def write_original(path, index, **other):
    """A file with the arrays of dSprites, its pickled metadata included."""
    factors = render.index_to_factors(index)
    arrays = {
        "metadata": np.array({"title": "dSprites dataset"}, dtype=object),
        "imgs": render.render(factors)[..., 0] // 255,
        "latents_classes": np.hstack([np.zeros((len(index), 1), np.int64), factors]),
        "latents_values": np.hstack([np.ones((len(index), 1)), render.factor_values(factors)]),
    }
    np.savez_compressed(path, **(arrays | other))


def test_dsprites_are_read_without_opening_their_pickle(tmp_path, monkeypatch):
    index = render.select({"scale": 2, "orientation": 10, "position_x": 4, "position_y": 6})
    write_original(tmp_path / "dsprites.npz", index)
    opened = []
    plain_open = zipfile.ZipFile.open

    def noted_open(bundle, name, *rest, **named):
        opened.append(name)
        return plain_open(bundle, name, *rest, **named)

    monkeypatch.setattr(zipfile.ZipFile, "open", noted_open)
    monkeypatch.setattr("pickle.load", None)
    monkeypatch.setattr(files, "_CHUNK", 100)
    found = files.read(tmp_path / "dsprites.npz")
    np.testing.assert_array_equal(found.factors, render.index_to_factors(index))
    np.testing.assert_array_equal(found.x, render.render(found.factors))
    assert set(opened) == {"imgs.npy", "latents_classes.npy"}
    original = files.OriginalDSprites(tmp_path / "dsprites.npz")
    # In the order of the file, reversed, and shuffled, with gaps.
    for wanted in (index[5:1300:7], index[::-1], render.select(num=60, seed=2, among=original.index)):
        parts = list(original.images(wanted))
        np.testing.assert_array_equal(np.concatenate(parts), render.render(render.index_to_factors(wanted)))
    with pytest.raises(RequestError, match="lacks 1 of the requested images"):
        list(original.images(np.array([index[0], 1])))
    with pytest.raises(RequestError, match="lacks images with these values"):
        render.select({"position_x": 1}, among=original.index)


BAD = np.zeros((4, 6), np.int64)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"imgs": np.zeros((4, 32, 32), np.uint8)}, "contains imgs as uint8"),
        ({"imgs": np.zeros((4, 64, 64))}, "expected uint8"),
        ({"imgs": np.asfortranarray(np.zeros((4, 64, 64), np.uint8))}, "Fortran order"),
        ({"imgs": np.full((4, 64, 64), 7, np.uint8)}, "pixels of 7"),
        ({"latents_classes": BAD}, "the same factors twice"),
        ({"latents_classes": BAD - 1}, "dSprites does not have"),
        ({"latents_classes": BAD[:3]}, "3 rows of latents_classes"),
        ({"latents_classes": BAD.astype(object)}, "latents_classes as object"),
        ({"latents_classes": BAD[:, :5]}, "expected int64"),
    ],
)
def test_invalid_dsprites_files_are_rejected(tmp_path, other, words):
    write_original(tmp_path / "d.npz", np.arange(4), **other)
    with pytest.raises(InputDataError, match=words):
        files.read(tmp_path / "d.npz")


def test_invalid_sprite_files_are_rejected(tmp_path):
    path = tmp_path / "s.npz"
    with pytest.raises(InputDataError, match="not a regular file"):
        files.read(path)
    np.savez(path, y=np.zeros(3))
    with pytest.raises(InputDataError, match="does not contain sprites"):
        files.read(path)
    np.savez(path, imgs=np.zeros((4, 64, 64), np.uint8))
    with pytest.raises(InputDataError, match="does not contain latents_classes"):
        files.read(path)
    np.savez(path, x=np.zeros((2, 64, 64, 1), np.uint8), z=np.full((2, 5), 50))
    with pytest.raises(InputDataError, match="factors that sprites do not have"):
        files.read(path)
    path.unlink()
    files.write(path, render.select(num=40, seed=0))
    whole = path.read_bytes()
    for cut in range(0, len(whole), max(1, len(whole) // 23)):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputDataError):
            files.read(path)
    damaged = bytearray(whole)
    damaged[len(whole) // 4] ^= 16
    path.write_bytes(damaged)
    with pytest.raises(InputDataError, match="damaged"):
        files.read(path)


def test_a_file_appears_complete_or_not_at_all(tmp_path):
    path, index = tmp_path / "s.npz", render.select(num=4, seed=0)

    def broken():
        yield render.render(render.index_to_factors(index[:2]))
        raise InputDataError("cut short")

    with pytest.raises(InputDataError, match="cut short"):
        files.write(path, index, broken())
    with pytest.raises(OutputError, match="expected 4 images, got 2"):
        files.write(path, index, [render.render(render.index_to_factors(index[:2]))])
    assert list(tmp_path.iterdir()) == []
    files.write(path, index)
    with pytest.raises(OutputError, match="exists already"):
        files.write(path, index)
    with pytest.raises(RequestError, match=r"written as \.npz"):
        files.write(tmp_path / "s.npy", index)


def test_command_renders_draws_and_converts(kvae, tmp_path):
    small = ("--orientations", 4, "--xs", 3, "--ys", 2)
    done = kvae("sprites", *small, "-o", "s.npz")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "s.npz: 432 images\n")
    done = kvae("sprites", *small, "-n", 7, "--as-condition", "shape", "-o", "d.npz", "--json", "-q")
    report = json.loads(done.stdout)
    assert (report["images"], done.stderr) == (7, "")
    again = kvae("sprites", *small, "-n", 7, "--seed", report["seed"], "--as-condition", "shape", "-o", "e.npz")
    assert again.stderr == f"e.npz: 7 images, seed {report['seed']}\n"
    assert (tmp_path / "d.npz").read_bytes() == (tmp_path / "e.npz").read_bytes()
    with np.load(tmp_path / "d.npz") as arrays:
        assert int(arrays["seed"]) == report["seed"]
    index = render.select({"orientation": 4, "position_x": 3, "position_y": 2})
    write_original(tmp_path / "dsprites.npz", index)
    assert kvae("sprites", "--from", "dsprites.npz", "--shapes", 2, "-o", "f.npz").returncode == 0
    found, rendered = files.read(tmp_path / "f.npz"), files.read(tmp_path / "s.npz")
    np.testing.assert_array_equal(found.x, rendered.x[rendered.factors[:, 0] != 1])
    with np.load(tmp_path / "f.npz") as arrays:
        assert json.loads(str(arrays["scheme"]))["scheme"] == "dsprites/1"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("-o", "s.png"), 2, "written as .npz"),
        (("-o", "s.npz", "--seed", 1), 2, "Give -n as well"),
        (("-o", "s.npz", "-n", 5, "--seed", -1), 2, "The seed is -1"),
        (("-o", "s.npz", "-n", 800_000), 2, "there are 737280"),
        (("-o", "s.npz", "--shapes", 4), 2, "4 is not in the range"),
        (("-o", "s.npz", "--as-condition", "colour"), 2, "got colour"),
        (("-o", "s.npz", "--from", "none.npz"), 4, "not a regular file"),
        (("-o", "none/s.npz", "-n", 2), 7, "does not exist"),
        ((), 2, "Missing option"),
    ],
)
def test_command_errors_are_one_line_and_write_nothing(kvae, tmp_path, arguments, code, words):
    done = kvae("sprites", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_command_does_not_import_keras(kvae, command_environment, tmp_path):
    code = (
        "import sys; from kvae.__main__ import run\n"
        "run(['sprites', '-n', '2', '--seed', '0', '-o', 's.npz', '-q'])\n"
        "print([name for name in ('keras', 'tensorflow', 'onnxruntime', 'sklearn', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=command_environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_metrics_accept_the_factors_of_a_sprite_file(tmp_path):
    files.write(tmp_path / "s.npz", render.select({"orientation": 4, "position_x": 4, "position_y": 4}))
    found = files.read(tmp_path / "s.npz")
    codes = found.values + 0.0
    assert metrics.mig(codes, found.factors) == pytest.approx(1.0)
    sampler, sizes = metrics.grid_sampler(codes, found.factors)
    assert sizes == (3, 6, 4, 4, 4)
    assert metrics.factor_vae_score(sampler, sizes, num_train=200, num_test=200) == 1.0
