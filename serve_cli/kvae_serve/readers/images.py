"""Images in .png and .jpg files: one, a folder of them, or a folder with a sub-folder for each class.

Pillow decodes them, held to these two formats; a file's header is read before its pixels, so that one that claims too
many pixels is never decoded.
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
from kvae_serve.readers.dataset import Dataset, ReadOptions, Split, check_size

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 2**26
"""No image of more pixels is decoded: a file of a few kilobytes can claim any number."""

_OTHER_IMAGES = (".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".heic", ".jp2", ".ppm", ".pgm")
_GREY, _COLOUR = {"1", "L", "LA"}, {"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr"}
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)


def holds_images(folder: Path) -> bool:
    """Tell whether a folder, its sub-folders or its splits hold images."""
    inner = [folder / "train", folder / "test"] if (folder / "train").is_dir() else []
    places = [place for each in (folder, *inner) if each.is_dir() for place in (each, *_folders(each))]
    return any(_files(place, strict=False) for place in places)


def read_folder(folder: Path, split: Split | None, options: ReadOptions, source: str) -> Dataset:
    """Read all images under a folder, by class and name; the class is the condition `label`.

    A folder with the sub-folders `train` and `test` has two splits; the classes are those of `train`.
    """
    train = folder / "train"
    root, names = folder, None
    if train.is_dir() and (split == "test" or holds_images(train)):
        root = folder / (split or "train")
        if not root.is_dir():
            raise InputDataError(f"{source} has no test split: it holds no folder named test.")
        names = [place.name for place in _folders(train)]
    elif split == "test":
        raise InputDataError(f"{source} has no test split. Give a folder with the sub-folders train and test.")
    classes = _folders(root)
    loose = _files(root)
    if loose and any(_files(place, strict=False) for place in classes):
        raise InputDataError(
            f"{source} holds images both beside and inside its sub-folders, such as {printable(loose[0].name)}. "
            "Put each image in the folder of its class, or all in one folder."
        )
    if loose:
        return _dataset(loose, {}, {}, options, source)
    by_class = {place.name: _files(place) for place in classes}
    if empty := [name for name, paths in by_class.items() if not paths]:
        raise InputDataError(f"{source} holds no image in {printable(empty[0])}. Fill or remove that folder.")
    if unknown := sorted(set(by_class) - set(names or by_class)):
        raise InputDataError(f"{source} has no class {printable(unknown[0])} in its training split.")
    class_names = tuple(names or by_class)
    paths = [path for name in by_class for path in by_class[name]]
    label = np.repeat([class_names.index(name) for name in by_class], [len(each) for each in by_class.values()])
    return _dataset(paths, {"label": label.astype(np.int64)}, {"label": class_names}, options, source)


def read_one(path: Path, options: ReadOptions, source: str) -> Dataset:
    """Read one image as a data set of one example."""
    return _dataset([path], {}, {}, options, source)


class ImagesOnDisk:
    """Image files as an array, decoded when they are asked for: `x[rows]` is uint8 `[rows, height, width, channels]`.

    Args:
        paths: the files.
        options: `image_size` and `channels`; where they do not say, all files must agree.
        source: what messages call the whole.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, paths: Sequence[Path], options: ReadOptions, source: str) -> None:
        self.paths = list(paths)
        first: tuple[int, int] | None = options.image_size
        channels = options.channels
        for path in self.paths:
            with _opened(path) as image:
                size, own = _size(image), 1 if image.mode in _GREY else 3
            first, channels = first or size, channels or own
            if options.image_size is None and size != first:
                raise InputDataError(
                    f"{printable(path)} has {size[0]}x{size[1]} pixels, {printable(self.paths[0].name)} has "
                    f"{first[0]}x{first[1]} (height x width). Give a size for all, such as "
                    f"--image-size {first[0]}x{first[1]}."
                )
            if options.channels is None and own != channels:
                kinds = {1: "grey", 3: "coloured"}
                raise InputDataError(
                    f"{printable(path)} is {kinds[own]}, {printable(self.paths[0].name)} is {kinds[channels]}. "
                    "Give --channels 1 or --channels 3 for all."
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
        """Pixels of one file, uint8 `[height, width, channels]`."""
        from PIL import Image, ImageOps

        height, width, channels = self.shape[1:]
        with _opened(path, again=True) as opened:
            image: Image.Image = opened
            may_be_clear = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
            if may_be_clear and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
                raise InputDataError(f"{printable(path)} has transparent pixels. Flatten it onto a background.")
            if image.format == "JPEG":
                image = ImageOps.exif_transpose(image)
            image = image.convert("L" if channels == 1 else "RGB")
            if self._resize and image.size != (width, height):
                image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
            pixels = np.asarray(image, np.uint8).reshape(*image.size[::-1], channels)
        if pixels.shape != (height, width, channels):
            raise InputDataError(f"{printable(path)} was changed while it was read. Try again.")
        return pixels


def _dataset(
    paths: list[Path],
    conditions: dict[str, np.ndarray],
    class_names: dict[str, tuple[str, ...]],
    options: ReadOptions,
    source: str,
) -> Dataset:
    if not paths:
        raise InputDataError(f"{source} holds no .png or .jpg images.")
    images = ImagesOnDisk(paths, options, source)
    x: Any = images
    if options.in_memory is None or images.nbytes <= options.in_memory:
        check_size(images.nbytes, source)
        x = images[:]
    return Dataset(x, conditions, class_names, source, (0.0, 255.0))


@contextlib.contextmanager
def _opened(path: Path, again: bool = False) -> Iterator[Any]:
    """An image of one of the two formats, its header read; whatever Pillow raises over it becomes one line.

    Args:
        path: the file.
        again: whether its header was seen before; then several threads may open images at once, which filters of
            warnings would not survive.
    """
    from PIL import Image

    try:
        with contextlib.nullcontext() if again else warnings.catch_warnings():
            if not again:
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputDataError(
                        f"{printable(path)} claims {image.width}x{image.height} pixels, at most {MAX_PIXELS} are read."
                    )
                if image.mode not in _GREY | _COLOUR:
                    raise InputDataError(
                        f"{printable(path)} has pixels of the kind {image.mode}, expected 8 bits a channel. Convert it."
                    )
                yield image
    except InputDataError:
        raise
    except FileNotFoundError as error:
        raise InputDataError(f"{printable(path)} does not exist (any more).") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputDataError(f"{printable(path)} claims more pixels than the {MAX_PIXELS} that are read.") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more
        raise InputDataError(
            f"{printable(path)} is no readable PNG or JPEG: it is damaged, cut short or of another format."
        ) from error


def _size(image: Any) -> tuple[int, int]:
    """Height and width as the image is seen: a camera may have noted that it was turned."""
    turned = image.format == "JPEG" and image.getexif().get(_ORIENTATION) in _TURNED
    return (image.width, image.height) if turned else (image.height, image.width)


def _folders(folder: Path) -> list[Path]:
    return sorted(Path(each.path) for each in os.scandir(folder) if each.is_dir() and not each.name.startswith("."))


def _files(folder: Path, strict: bool = True) -> list[Path]:
    """Images in a folder itself, by name. Other files are no matter, but images of other formats are refused."""
    found = []
    for each in os.scandir(folder):
        suffix = Path(each.name).suffix.lower()
        if each.name.startswith(".") or each.is_dir():
            continue
        if strict and suffix in _OTHER_IMAGES:
            raise InputDataError(f"{printable(each.path)} is neither .png nor .jpg. Convert it, or take it away.")
        if suffix in SUFFIXES:
            if strict and not each.is_file():
                raise InputDataError(f"{printable(each.path)} is no regular file.")
            found.append(Path(each.path))
    return sorted(found)
