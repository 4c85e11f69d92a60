"""Read .png and .jpg images: one file, a folder of files, or a folder with one sub-folder per class.

Pillow decodes them, limited to these two formats. The header is read first, so a file that claims too many pixels is
never decoded.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers.dataset import Dataset, MissingSplitError, ReadOptions, Split, check_size

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 2**26
"""Pixels of the largest image that is decoded. A file of a few kilobytes can claim any number."""

_OTHER_IMAGES = (".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".heic", ".jp2", ".ppm", ".pgm")
_GRAY, _COLOUR = {"1", "L", "LA"}, {"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr"}
_ORIENTATION, _ROTATED = 0x0112, (5, 6, 7, 8)


def holds_images(folder: Path) -> bool:
    """Return whether a folder, its sub-folders or its splits contain images."""
    inner = [folder / "train", folder / "test"] if (folder / "train").is_dir() else []
    places = [place for each in (folder, *inner) if each.is_dir() for place in (each, *_folders(each))]
    return any(_files(place, strict=False) for place in places)


def read_folder(folder: Path, split: Split | None, options: ReadOptions, source: str) -> Dataset:
    """Read all images in a folder, sorted by class and name. The class is the condition `label`.

    The sub-folders `train` and `test` are splits. The classes are those of `train`.
    """
    train = folder / "train"
    root, names = folder, None
    if train.is_dir() and (split == "test" or holds_images(train)):
        root = folder / (split or "train")
        if not root.is_dir():
            raise MissingSplitError(
                f"{source} does not have a test split: the folder test is missing. Leave out --split, or add it."
            )
        names = [place.name for place in _folders(train)]
    elif split == "test":
        raise MissingSplitError(
            f"{source} does not have a test split. Use a folder with the sub-folders train and test."
        )
    classes = _folders(root)
    outside = _files(root)
    if outside and any(_files(place, strict=False) for place in classes):
        raise InputDataError(
            f"{source} contains images both inside and outside its sub-folders, such as {printable(outside[0].name)}. "
            "Move each image to the folder of its class, or all to one folder."
        )
    if outside:
        return _dataset(outside, {}, {}, options, source)
    by_class = {place.name: _files(place) for place in classes}
    if empty := [name for name, paths in by_class.items() if not paths]:
        raise InputDataError(
            f"The folder {printable(empty[0])} of {source} does not contain an image. Add images, or remove it."
        )
    if unknown := sorted(set(by_class) - set(names or by_class)):
        raise InputDataError(
            f"{source} has the class {printable(unknown[0])} in its test split; expected a class of its train split."
        )
    class_names = tuple(names or by_class)
    paths = [path for name in by_class for path in by_class[name]]
    label = np.repeat([class_names.index(name) for name in by_class], [len(each) for each in by_class.values()])
    return _dataset(paths, {"label": label.astype(np.int64)}, {"label": class_names}, options, source)


def read_one(path: Path, options: ReadOptions, source: str) -> Dataset:
    """Read one image as a dataset of one example."""
    return _dataset([path], {}, {}, options, source)


class ImagesOnDisk:
    """Array of image files that are decoded on access: `x[rows]` is uint8 `[rows, height, width, channels]`.

    Args:
        paths: The files.
        options: `image_size` and `channels`. Without them all files must have the same.

    Raises:
        InputDataError: A file cannot be read, or has another size or other channels than the first.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, paths: Sequence[Path], options: ReadOptions) -> None:
        self.paths = list(paths)
        first: tuple[int, int] | None = options.image_size
        channels = options.channels
        for path in self.paths:
            with _opened(path) as image:
                size, num_channels = _size(image), 1 if image.mode in _GRAY else 3
            first, channels = first or size, channels or num_channels
            if options.image_size is None and size != first:
                raise InputDataError(
                    f"{printable(path)} has {size[0]}x{size[1]} pixels, {printable(self.paths[0].name)} has "
                    f"{first[0]}x{first[1]} (height x width). Use one size for all, such as "
                    f"--image-size {first[0]}x{first[1]}."
                )
            if options.channels is None and num_channels != channels:
                kinds = {1: "gray", 3: "in colour"}
                raise InputDataError(
                    f"{printable(path)} is {kinds[num_channels]}, {printable(self.paths[0].name)} is "
                    f"{kinds[channels]}. Use --channels 1 or --channels 3 for all."
                )
        assert first is not None
        assert channels is not None
        self.shape = (len(self.paths), *first, channels)
        self.nbytes = int(np.prod([float(size) for size in self.shape]))
        self._resize = options.image_size is not None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Any) -> np.ndarray:
        chosen = np.arange(len(self))[rows]
        if chosen.ndim == 0:
            return self._decode(self.paths[int(chosen)])
        x = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for place, row in enumerate(chosen):
            x[place] = self._decode(self.paths[row])
        return x

    def _decode(self, path: Path) -> np.ndarray:
        """Return the pixels of one file, uint8 `[height, width, channels]`."""
        from PIL import Image, ImageOps

        height, width, channels = self.shape[1:]
        with _opened(path, again=True) as opened:
            image: Image.Image = opened
            may_be_transparent = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
            if may_be_transparent and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
                raise InputDataError(f"{printable(path)} has transparent pixels. Flatten it on a background.")
            if image.format == "JPEG":
                image = ImageOps.exif_transpose(image)
            image = image.convert("L" if channels == 1 else "RGB")
            if self._resize and image.size != (width, height):
                image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
            pixels = np.asarray(image, np.uint8).reshape(*image.size[::-1], channels)
        if pixels.shape != (height, width, channels):
            raise InputDataError(f"{printable(path)} changed while it was read. Try again.")
        return pixels


def _dataset(
    paths: list[Path],
    conditions: dict[str, np.ndarray],
    class_names: dict[str, tuple[str, ...]],
    options: ReadOptions,
    source: str,
) -> Dataset:
    if not paths:
        raise InputDataError(f"{source} does not contain .png or .jpg images. Use another folder.")
    images = ImagesOnDisk(paths, options)
    x: Any = images
    if options.in_memory is None or images.nbytes <= options.in_memory:
        check_size(images.nbytes, source)
        x = images[:]
    return Dataset(x, conditions, class_names, source, (0.0, 255.0))


@contextlib.contextmanager
def _opened(path: Path, again: bool = False) -> Iterator[Any]:
    """Open an image, read its header, and convert the errors of Pillow.

    Args:
        path: The file.
        again: Whether the header was checked before. Then several threads may open images at the same time, and
            warning filters, which are not thread-safe, are not needed.
    """
    from PIL import Image

    try:
        with contextlib.nullcontext() if again else warnings.catch_warnings():
            if not again:
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputDataError(
                        f"{printable(path)} claims {image.width}x{image.height} pixels; the most is {MAX_PIXELS}. "
                        "Resize it."
                    )
                if image.mode not in _GRAY | _COLOUR:
                    raise InputDataError(
                        f"{printable(path)} has pixels of the type {image.mode}; expected 8 bits per channel. "
                        "Convert it."
                    )
                yield image
    except InputDataError:
        raise
    except FileNotFoundError as error:
        raise InputDataError(f"{printable(path)} does not exist any more. Try again.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputDataError(
            f"{printable(path)} claims more than {MAX_PIXELS} pixels, the most that are read. Resize it."
        ) from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more
        raise InputDataError(
            f"{printable(path)} is not a readable PNG or JPEG: it is damaged, cut short or in another format. "
            "Save it again."
        ) from error


def _size(image: Any) -> tuple[int, int]:
    """Return height and width as displayed: the metadata of a JPEG may rotate it."""
    rotated = image.format == "JPEG" and image.getexif().get(_ORIENTATION) in _ROTATED
    return (image.width, image.height) if rotated else (image.height, image.width)


def _folders(folder: Path) -> list[Path]:
    return sorted(Path(each.path) for each in os.scandir(folder) if each.is_dir() and not each.name.startswith("."))


def _files(folder: Path, strict: bool = True) -> list[Path]:
    """Return the images in a folder, sorted by name. Images in other formats are errors, other files are ignored."""
    paths = []
    for each in os.scandir(folder):
        suffix = Path(each.name).suffix.lower()
        if each.name.startswith(".") or each.is_dir():
            continue
        if strict and suffix in _OTHER_IMAGES:
            raise InputDataError(f"{printable(each.path)} is neither .png nor .jpg. Convert or remove it.")
        if suffix in SUFFIXES:
            if strict and not each.is_file():
                raise InputDataError(f"{printable(each.path)} is not a regular file. Remove it.")
            paths.append(Path(each.path))
    return sorted(paths)
