"""Folders of images: pixels, classes and order are read back, and each kind of bad file has its message."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kvae_serve.errors import InputDataError
from kvae_serve.readers import ReadOptions, images, read_dataset

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (4, 5, 6), np.uint8)
COLOUR = RNG.integers(0, 256, (4, 5, 6, 3), np.uint8)


def save(path: Path, pixels: np.ndarray, **kwargs) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **kwargs)
    return path


def classes(folder: Path, images: np.ndarray = GRAY) -> Path:
    """Write two dogs and two cats, not in the order of their names."""
    for name, pixels in zip(("dog/b.png", "cat/z.PNG", "dog/a.png", "cat/10.png"), images, strict=True):
        save(folder / name, pixels)
    return folder


@pytest.mark.parametrize("images", [GRAY, COLOUR], ids=["grey", "colour"])
def test_classes_are_the_sub_folders_sorted_by_name(tmp_path, images):
    classes(tmp_path, images)
    (tmp_path / "README.txt").write_text("about")
    (tmp_path / "dog" / ".hidden.png").write_bytes(b"")
    (tmp_path / ".git").mkdir()
    data = read_dataset(tmp_path)
    assert data.x.dtype == np.uint8
    assert data.x.shape == (4, 5, 6, 3 if images.ndim == 4 else 1)
    np.testing.assert_array_equal(data.x, images.reshape(data.x.shape)[[3, 1, 2, 0]])
    assert data.conditions["label"].tolist() == [0, 0, 1, 1]
    assert data.class_names == {"label": ("cat", "dog")}
    assert data.range == (0, 255)


def test_folder_without_classes_and_single_image_are_read(tmp_path):
    for name, pixels in zip("bdac", GRAY, strict=True):
        save(tmp_path / f"{name}.png", pixels)
    data = read_dataset(tmp_path)
    np.testing.assert_array_equal(data.x[..., 0], GRAY[[2, 0, 3, 1]])
    assert data.conditions == {}
    np.testing.assert_array_equal(read_dataset(tmp_path / "b.png").x[..., 0], GRAY[:1])


def test_image_splits_share_the_classes_of_the_train_split(tmp_path):
    classes(tmp_path / "train")
    save(tmp_path / "test" / "dog" / "x.png", GRAY[2])
    assert len(read_dataset(tmp_path).x) == 4
    test = read_dataset(tmp_path, "test")
    assert test.class_names == {"label": ("cat", "dog")}
    assert test.conditions["label"].tolist() == [1]
    save(tmp_path / "test" / "ox" / "x.png", GRAY[2])
    with pytest.raises(InputDataError, match="class ox in its test split"):
        read_dataset(tmp_path, "test")


def test_folder_without_splits_has_only_train_data(tmp_path):
    classes(tmp_path)
    with pytest.raises(InputDataError, match="does not have a test split"):
        read_dataset(tmp_path, "test")


def test_jpeg_rotation_is_applied(tmp_path):
    gradient = np.repeat(np.arange(0, 256, 8, np.uint8)[:, None], 16, axis=1)  # dark above, bright below
    plain = save(tmp_path / "plain" / "a.jpg", gradient, quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned = save(tmp_path / "turned" / "a.jpeg", gradient, quality=95, exif=exif)
    upright = read_dataset(plain).x[0, :, :, 0]
    np.testing.assert_allclose(upright.astype(int), gradient.astype(int), atol=3)
    np.testing.assert_array_equal(read_dataset(turned).x[0, :, :, 0], np.rot90(upright, -1))


def test_images_are_cropped_and_resized_on_request(tmp_path):
    pixels = np.zeros((20, 40), np.uint8)
    pixels[:, 10:30] = 200  # the middle square
    save(tmp_path / "a.png", pixels)
    save(tmp_path / "b.png", np.full((7, 5), 90, np.uint8))
    data = read_dataset(tmp_path, options=ReadOptions(image_size=(10, 10)))
    assert data.x.shape == (2, 10, 10, 1)
    np.testing.assert_allclose(data.x[0].astype(int), 200, atol=12)  # the filter rings at the cut
    assert (data.x[1] == 90).all()
    # Of the right size already: not a pixel is touched.
    save(tmp_path / "c" / "a.png", GRAY[0])
    np.testing.assert_array_equal(read_dataset(tmp_path / "c", options=ReadOptions((5, 6))).x[0, ..., 0], GRAY[0])


def test_channels_are_converted_on_request(tmp_path):
    save(tmp_path / "a.png", GRAY[0])
    save(tmp_path / "b.png", COLOUR[0])
    three = read_dataset(tmp_path, options=ReadOptions(channels=3)).x
    np.testing.assert_array_equal(three, [np.repeat(GRAY[0][..., None], 3, -1), COLOUR[0]])
    one = read_dataset(tmp_path, options=ReadOptions(channels=1)).x
    luma = COLOUR[0] @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(one[1, ..., 0], luma, atol=1)


@pytest.mark.parametrize("mode", ["1", "LA", "RGBA", "P", "CMYK"])
def test_other_pixel_types_are_converted(tmp_path, mode):
    image = Image.fromarray(COLOUR[0] // 2 + 100).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path)
    channels = 1 if mode in ("1", "LA") else 3
    x = read_dataset(path).x
    assert x.shape == (1, 5, 6, channels)
    if mode != "CMYK":
        expected = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        np.testing.assert_array_equal(x[0], expected.reshape(5, 6, channels))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def png(tmp_path: Path, pixels: np.ndarray = GRAY[0]) -> bytes:
    return save(tmp_path.parent / f"{tmp_path.name}.png", pixels).read_bytes()


BAD = {
    "empty": (lambda t: b"", "not a readable image"),
    "text": (lambda t: b"hello", "not a readable image"),
    "cut short": (lambda t: png(t)[:-30], "not a readable image"),
    "cut in the header": (lambda t: png(t)[:20], "not a readable image"),
    "a flipped bit": (lambda t: png(t).replace(b"IDAT", b"IDBT"), "not a readable image"),
    "an archive of old": (lambda t: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable image"),
    "a bomb": (lambda t: bomb(20_000, 20_000), "claims"),
    "a smaller bomb": (lambda t: bomb(9_000, 9_000), "claims 9000x9000 pixels"),
    "a bomb that Pillow refuses": (lambda t: bomb(60_000, 60_000), "claims"),
    "transparent": (lambda t: png(t, np.full((5, 6, 2), 9, np.uint8)), "transparent"),
    "another format": (lambda t: b"P2 1 1 255 7", "not a readable image"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_image_is_refused_with_its_name(tmp_path, name):
    make, reason = BAD[name]
    save(tmp_path / "a.png", GRAY[0])
    (tmp_path / "b.png").write_bytes(make(tmp_path))
    with pytest.raises(InputDataError, match=reason) as error:
        read_dataset(tmp_path, options=ReadOptions(image_size=(5, 6)))
    assert "b.png" in str(error.value)
    assert str(error.value).isprintable()


def test_image_that_differs_from_the_others_is_refused_with_its_name(tmp_path):
    save(tmp_path / "a.png", GRAY[0])
    save(tmp_path / "b.png", GRAY[0])
    save(tmp_path / "odd.png", GRAY[0][:4])
    with pytest.raises(InputDataError, match=r"odd\.png has 4x6 pixels, a\.png has 5x6 .*--image-size 5x6"):
        read_dataset(tmp_path)
    save(tmp_path / "odd.png", COLOUR[0])
    with pytest.raises(InputDataError, match=r"odd\.png is in colour, a\.png is gray.*--channels"):
        read_dataset(tmp_path)


def test_folders_with_unclear_content_are_refused(tmp_path):
    classes(tmp_path / "mixed")
    save(tmp_path / "mixed" / "loose.png", GRAY[0])
    with pytest.raises(InputDataError, match="both inside and outside"):
        read_dataset(tmp_path / "mixed")
    classes(tmp_path / "hole")
    (tmp_path / "hole" / "ox").mkdir()
    with pytest.raises(InputDataError, match=r"folder ox of .* does not contain an image"):
        read_dataset(tmp_path / "hole")
    classes(tmp_path / "gifs")
    (tmp_path / "gifs" / "cat" / "b.gif").write_bytes(b"GIF89a")
    with pytest.raises(InputDataError, match=r"b\.gif is not a readable image"):
        read_dataset(tmp_path / "gifs")
    classes(tmp_path / "pipes")
    os.mkfifo(tmp_path / "pipes" / "cat" / "b.png")
    with pytest.raises(InputDataError, match=r"b\.png is not a regular file"):
        read_dataset(tmp_path / "pipes")


def test_total_number_of_pixels_is_limited(tmp_path, monkeypatch):
    classes(tmp_path)
    monkeypatch.setattr("kvae_serve.readers.dataset.MAX_BYTES", 4 * 30 - 1)
    with pytest.raises(InputDataError, match="claims 120 bytes"):
        read_dataset(tmp_path)


def test_images_on_disk_equal_images_in_memory(tmp_path):
    classes(tmp_path, COLOUR)
    in_memory = read_dataset(tmp_path).x
    lazy = read_dataset(tmp_path, options=ReadOptions(in_memory=100)).x
    assert type(lazy).__name__ == "ImagesOnDisk"
    assert lazy.shape == in_memory.shape
    assert lazy.nbytes == in_memory.nbytes
    np.testing.assert_array_equal(lazy[:], in_memory)
    np.testing.assert_array_equal(lazy[2], in_memory[2])
    np.testing.assert_array_equal(lazy[np.array([3, 0, 3])], in_memory[[3, 0, 3]])
    np.testing.assert_array_equal(lazy[1:3], in_memory[1:3])


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif", "bmp"])
def test_other_formats_are_read(tmp_path, suffix):
    image = Image.fromarray(GRAY[0][..., 0] if GRAY[0].ndim == 3 else GRAY[0])
    image.save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    expected = np.asarray(image)
    x = read_dataset(tmp_path, options=ReadOptions(channels=1)).x
    np.testing.assert_array_equal(x[0, ..., 0], expected)


def test_16_bit_images_are_scaled_to_8_bits(tmp_path):
    levels = np.array([[0, 257, 65_535], [128, 129, 32_896]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    assert read_dataset(tmp_path / "a.png").x[0, ..., 0].tolist() == [[0, 1, 255], [0, 1, 128]]


def test_palette_of_grays_is_gray(tmp_path):
    image = Image.fromarray(np.arange(30, dtype=np.uint8).reshape(5, 6))
    image.convert("P").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_dataset(tmp_path).x[0, ..., 0], np.asarray(image))


def test_all_unreadable_images_are_listed_or_left_out(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            save(tmp_path / name / f"{number}.png", GRAY[0])
    (tmp_path / "cat" / "1.png").write_bytes(b"")
    (tmp_path / "dog" / "0.png").write_bytes(png(tmp_path)[:-30])  # Its header is intact.
    (tmp_path / "dog" / "2.heic").write_bytes(b"")
    with pytest.raises(InputDataError, match=r"3 images that cannot be read.*--skip-bad to leave out such images\."):
        read_dataset(tmp_path)
    for in_memory in (None, 0):
        data = read_dataset(tmp_path, options=ReadOptions(skip_bad=True, in_memory=in_memory))
        assert data.files == ("cat/0.png", "cat/2.png", "dog/1.png", "dog/2.png")
        assert data.conditions["label"].tolist() == [0, 0, 1, 1]
        assert len(data.x) == 4
        assert "3 images that cannot be read are left out" in data.notes[0]


def test_unreadable_images_are_grouped_by_reason(tmp_path):
    classes(tmp_path)
    for name in ("cat/1.png", "dog/1.png", "dog/2.heic"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputDataError) as error:
        read_dataset(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} has 3 images that cannot be read. Each of cat/1.png, dog/1.png is not a readable image: it is "
        "damaged, cut short or in another format. Save it again. dog/2.heic is in a format that is not read. "
        "Convert it to PNG. Or use --skip-bad to leave out such images."
    )


def test_all_kinds_of_problems_of_a_folder_are_in_one_message(tmp_path):
    classes(tmp_path)
    save(tmp_path / "dog" / "c.png", COLOUR[0])
    save(tmp_path / "dog" / "d.png", GRAY[0, :4])
    (tmp_path / "cat" / "1.png").write_bytes(b"")
    sizes, kinds, bad = "d.png has 4x6 pixels, ", "c.png is in colour, ", "1.png is not a readable image"
    with pytest.raises(InputDataError, match=f"{sizes}.*--image-size 5x6.*{kinds}.*--channels 1.*{bad}.*--skip-bad"):
        read_dataset(tmp_path)
    with pytest.raises(InputDataError, match=f"{sizes}.*{kinds}.*--channels 3 for all.$"):
        read_dataset(tmp_path, options=ReadOptions(skip_bad=True))


def test_files_and_classes_are_in_natural_order_and_nested_images_belong_to_their_class(tmp_path):
    for name in ("1", "2", "10"):
        (tmp_path / name / "more").mkdir(parents=True)
        save(tmp_path / name / "9.png", GRAY[0])
        save(tmp_path / name / "11.png", GRAY[0])
    save(tmp_path / "2" / "more" / "a.png", GRAY[0])
    data = read_dataset(tmp_path)
    assert data.class_names == {"label": ("1", "2", "10")}
    assert data.files == ("1/9.png", "1/11.png", "2/9.png", "2/11.png", "2/more/a.png", "10/9.png", "10/11.png")
    assert data.conditions["label"].tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert data.notes == (f"1 images in nested folders have the class of the folder directly below {tmp_path}.",)


def test_split_folders_have_several_names(tmp_path):
    for split in ("Training", "Testing", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            save(tmp_path / split / name / f"{split}.png", GRAY[0])
    assert read_dataset(tmp_path).files == ("a/Training.png", "b/Training.png")
    assert read_dataset(tmp_path, "test").files == ("a/Testing.png", "b/Testing.png")


def test_folder_that_contains_only_the_data_folder_is_refused(tmp_path):
    classes(tmp_path / "all" / "images")
    with pytest.raises(InputDataError, match=r"contains only the folder images. Use .*all/images as the data"):
        read_dataset(tmp_path / "all")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
def test_large_image_equals_its_conversion_as_a_whole(tmp_path, mode):
    """Large images are converted in strips and bands."""
    from PIL import ImageOps

    rng = np.random.default_rng(0)
    if mode == "I;16":
        levels = rng.integers(0, 2**16, (1200, 1000)).astype(np.uint16)
        Image.fromarray(levels).save(tmp_path / "a.png")
        whole = Image.fromarray(((levels.astype(np.int64) + 128) // 257).astype(np.uint8))
    else:
        pixels = rng.integers(0, 256, (1200, 1000, len(mode))).astype(np.uint8)
        pixels[..., 3:] = 255
        Image.fromarray(pixels).save(tmp_path / "a.png")
        whole = Image.fromarray(pixels[..., :3])
    x = images.read_one(tmp_path / "a.png", ReadOptions(image_size=(30, 20)), "a.png").x
    expected = np.asarray(ImageOps.fit(whole, (20, 30), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(x[0], expected.reshape(x[0].shape))


def test_transparency_in_the_last_rows_of_a_large_image_is_found(tmp_path):
    pixels = np.full((1200, 1000, 4), 255, np.uint8)
    pixels[-1, -1, 3] = 254
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(InputDataError, match="transparent"):
        images.read_one(tmp_path / "a.png", ReadOptions(image_size=(30, 20)), "a.png")
