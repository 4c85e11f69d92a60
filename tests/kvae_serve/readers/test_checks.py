"""Values on a smaller scale than the model's are refused; dark images are not."""

import numpy as np
import pytest

from kvae_serve.errors import InputDataError
from kvae_serve.readers import ReadOptions, read_dataset
from kvae_serve.readers.checks import check_range, check_units

PIXELS = (0.0, 255.0)


@pytest.mark.parametrize(
    ("dtype", "highest", "value_range", "words"),
    [
        ("float32", 1, PIXELS, "divided by 255. Use pixels from 0 to 255, and uint8 for images that are dark"),
        ("float32", 0.3, PIXELS, "divided by 255"),
        ("float32", 16, PIXELS, "on the scale 0 to 16. Use pixels from 0 to 255"),
        ("int64", 100, PIXELS, "on the scale 0 to 100"),
        ("uint8", 1, PIXELS, "divided by 255. Use pixels from 0 to 255"),
        ("float32", 1, (0.0, 16.0), "divided by 16. Use pixels from 0 to 16"),
    ],
)
def test_smaller_scale_is_refused(dtype, highest, value_range, words):
    with pytest.raises(InputDataError, match=words):
        check_units(np.array([[0, highest]], dtype), value_range, "x.npy")


@pytest.mark.parametrize(
    ("dtype", "highest", "value_range"),
    [
        ("uint8", 10, PIXELS),
        ("uint8", 0, PIXELS),
        ("float32", 0, PIXELS),
        ("float32", 90.5, PIXELS),
        ("float32", 255, PIXELS),
        ("float32", 1, (0.0, 1.0)),
        ("float32", 0.5, (-1.0, 255.0)),
        ("float32", 0.5, None),
    ],
)
def test_dark_images_and_other_ranges_are_accepted(dtype, highest, value_range):
    check_units(np.array([[0, highest]], dtype), value_range, "x.npy")


def test_many_8_bit_images_without_bright_pixels_are_refused():
    check_units(np.full((9, 4), 16, np.uint8), PIXELS, "x.npy")
    with pytest.raises(InputDataError, match="on the scale 0 to 16"):
        check_units(np.full((10, 4), 16, np.uint8), PIXELS, "x.npy")
    check_units(np.full((10, 4), 17, np.uint8), PIXELS, "x.npy")


def test_range_allows_the_rounding_of_float32():
    x = np.full((2, 4), np.nextafter(np.float32(255), np.float32(300)), np.float32)
    check_range(x, (0.0, 255.0), "means")
    with pytest.raises(InputDataError, match="expected 0 to 255"):
        check_range(x + 0.1, (0.0, 255.0), "means")


@pytest.mark.parametrize(
    ("highest", "value_range", "advice"),
    [(255, (0, 1), "Divide them by 255 if"), (250, (0, 16), "Divide them by 15.9375 if"), (7, (2, 3), "Use the units")],
)
def test_refusal_of_a_larger_scale_names_the_factor(highest, value_range, advice):
    with pytest.raises(InputDataError, match=f"values from 0 to {highest}; expected .*{advice}"):
        check_range(np.array([[0, highest]], np.uint8), value_range, "x")


@pytest.mark.parametrize(
    "x",
    [
        1.7e9 + np.arange(300.0).reshape(150, 2),
        (1.7e9 + np.arange(60.0) * 1e-3).reshape(30, 2),
        np.array([[16777216, 1], [16777217, 2]]),
        np.stack([np.full((40, 7), 3.0), 1.7e9 + np.arange(280.0).reshape(40, 7)], axis=-1),
    ],
    ids=["seconds", "milliseconds", "integers", "a feature of sequences"],
)
def test_differences_that_float32_loses_are_refused(tmp_path, x):
    np.savez(tmp_path / "x.npz", x=x)
    np.save(tmp_path / "x.npy", x)
    for name in ("x.npz", "x.npy"):
        with pytest.raises(InputDataError, match="differences float32 cannot store"):
            read_dataset(tmp_path / name, options=ReadOptions(in_memory=1))


@pytest.mark.parametrize(
    "x",
    [
        np.full((30, 2), 0.1),
        1.7e9 + np.arange(0.0, 3e7, 1e5).reshape(150, 2),
        np.random.default_rng(0).normal(size=(20, 3)) * [1.0, 1e6, 1e-6],
        np.arange(80).reshape(5, 4, 4),
    ],
    ids=["constant", "days", "scales", "images"],
)
def test_values_that_float32_can_tell_apart_are_read(tmp_path, x):
    np.savez(tmp_path / "x.npz", x=x)
    assert read_dataset(tmp_path / "x.npz").x.dtype == np.float32
