"""Read images: one file, a folder of files, or a folder with one sub-folder per class.

Pillow decodes them, limited to the formats below. The header is read first, so a file that claims too many pixels is
never decoded. Large images are checked and converted in strips, because each copy of the pixels takes memory.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from kvae_serve.errors import InputDataError, printable
from kvae_serve.readers.dataset import (
    LISTED,
    Dataset,
    MissingSplitError,
    ReadOptions,
    Split,
    check_size,
    natural_key,
)
from kvae_serve.sealed.manifest import MAX_VALUES

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".tif", ".tiff", ".bmp")
MAX_PIXELS, MAX_COLOUR_PIXELS = 2**26, 2**25
"""Pixels of the largest image that is decoded: gray of 8 bits, and all others, which need four times the memory.

A file of a few kilobytes can claim any number.
"""

_MAX_READS = 20_000
"""Reads of a file besides those of its pixels. Each takes one piece of metadata, of which a file may have a million."""

_STRIP = 2**20
"""Pixels per strip."""


_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")
_OTHER_IMAGES = (".avif", ".heic", ".jp2", ".ppm", ".pgm")
_GRAY, _COLOUR = {"1", "L", "LA"}, {"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr"}
_SIXTEEN_BITS = {"I;16", "I;16B", "I;16L", "I"}
_ONE_BYTE = {"1", "L", "P"}
_ORIENTATION, _ROTATED = 0x0112, (5, 6, 7, 8)
_SPLITS = {"train": ("train", "training"), "test": ("test", "testing"), "validation": ("val", "valid", "validation")}


def holds_images(folder: Path) -> bool:
    """Return whether there are images in a folder or below it."""
    return next(_walk(folder, strict=False), None) is not None


def read_folder(folder: Path, split: Split | None, options: ReadOptions, source: str) -> Dataset:
    """Read all images in a folder, in natural order of class and name. The class is the condition `label`.

    The class of an image is the name of its sub-folder of `folder`. The sub-folders `train` and `test` are splits. The
    classes are those of `train`.
    """
    by_split = {
        name: place
        for name, names in _SPLITS.items()
        for place in _folders(folder)
        if place.name.lower() in names and holds_images(place)
    }
    root, names, notes = folder, None, []
    if "train" in by_split:
        if (split or "train") not in by_split:
            raise MissingSplitError(
                f"{source} does not have a test split: the folder test is missing. Leave out --split, or add it."
            )
        root = by_split[split or "train"]
        names = [place.name for place in _folders(by_split["train"])]
        if "validation" in by_split:
            notes.append(
                f"The images in {printable(by_split['validation'].name)} are not used, because validation data are "
                "held out of the training split."
            )
    elif split == "test":
        raise MissingSplitError(
            f"{source} does not have a test split. Use a folder with the sub-folders train and test."
        )
    classes = _folders(root)
    outside = _files(root)
    if outside and any(holds_images(place) for place in classes):
        raise InputDataError(
            f"{source} contains images both inside and outside its sub-folders, such as {printable(outside[0].name)}. "
            "Move each image to the folder of its class, or all to one folder."
        )
    if outside:
        return _dataset(outside, {}, {}, options, source, root, notes)
    by_class = {place.name: sorted(_walk(place), key=lambda path: natural_key(str(path))) for place in classes}
    if empty := [name for name, paths in by_class.items() if not paths]:
        raise InputDataError(
            f"The folder {printable(empty[0])} of {source} does not contain an image. Add images, or remove it."
        )
    nested = sum(path.parent.parent != root for paths in by_class.values() for path in paths)
    if len(by_class) == 1 and names is None and nested:
        inner = printable(classes[0])
        raise InputDataError(
            f"{source} contains only the folder {printable(classes[0].name)}. Use {inner} as the data."
        )
    if nested:
        notes.append(f"{nested} images in nested folders have the class of the folder directly below {source}.")
    if unknown := sorted(set(by_class) - set(names or by_class)):
        raise InputDataError(
            f"{source} has the class {printable(unknown[0])} in its test split; expected a class of its train split."
        )
    class_names = tuple(names or by_class)
    paths = [path for name in by_class for path in by_class[name]]
    label = np.repeat([class_names.index(name) for name in by_class], [len(each) for each in by_class.values()])
    return _dataset(paths, {"label": label.astype(np.int64)}, {"label": class_names}, options, source, root, notes)


def read_one(path: Path, options: ReadOptions, source: str) -> Dataset:
    """Read one image as a dataset of one example."""
    return _dataset([path], {}, {}, options, source, path.parent, [])


class ImagesOnDisk:
    """Array of image files that are decoded on access: `x[rows]` is uint8 `[rows, height, width, channels]`.

    Args:
        paths: The files.
        options: `image_size` and `channels`. Without them all files must have the same.
        source: Name of the folder in messages.
        keep_bad: Do not raise an error for files that cannot be read, even without `skip_bad`.

    Attributes:
        bad: Messages about files that cannot be read, by row. They are left out of `paths`.

    Raises:
        InputDataError: Files cannot be read, or have another size or other channels than the first.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, paths: Sequence[Path], options: ReadOptions, source: str = "", keep_bad: bool = False) -> None:
        self.bad: dict[int, str] = {}
        first: tuple[int, int] | None = options.image_size
        channels = options.channels
        sizes: list[str] = []
        kinds: list[str] = []
        example = paths[0]
        for row, path in enumerate(paths):
            try:
                with _opened(path) as image:
                    size, num_channels = _size(image), _num_channels(image)
            except InputDataError as error:
                self.bad[row] = str(error)
                continue
            if first is None or channels is None:
                example = path
            first, channels = first or size, channels or num_channels
            if options.image_size is None and size != first:
                sizes.append(f"{printable(path)} has {size[0]}x{size[1]} pixels")
            if options.channels is None and num_channels != channels:
                kinds.append(f"{printable(path)} is {'gray' if num_channels == 1 else 'in colour'}")
        if self.bad and (not (options.skip_bad or keep_bad) or len(self.bad) == len(paths)):
            raise InputDataError(_unreadable(self.bad, paths, source, options))
        assert first is not None
        name = printable(example.name)
        problems = []
        if sizes:
            height, width = (side - side % 4 if side >= 16 else side for side in first)  # Sides that suit conv.
            problems.append(
                f"{_first_of(sizes)}, {name} has {first[0]}x{first[1]} (height x width). "
                f"Use one size for all, such as --image-size {height}x{width}."
            )
        if kinds:
            problems.append(
                f"{_first_of(kinds)}, {name} is {'gray' if channels == 1 else 'in colour'}. "
                "Use --channels 1 or --channels 3 for all."
            )
        if problems:
            if self.bad and not options.skip_bad:
                problems.append(_unreadable(self.bad, paths, source, options))
            raise InputDataError(" ".join(problems))
        self.paths = [path for row, path in enumerate(paths) if row not in self.bad]
        assert first is not None
        assert channels is not None
        self.shape = (len(self.paths), *first, channels)
        self.nbytes = int(np.prod([float(size) for size in self.shape]))
        self._resize = options.image_size is not None
        if not self._resize and self.nbytes > MAX_VALUES * len(self.paths):
            advice = options.advice("Use --image-size.", "Set image_size.")
            raise InputDataError(
                f"{name} has {first[0]}x{first[1]} pixels; expected at most {MAX_VALUES} values per image. {advice}"
            )

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

        def resized(image: Image.Image) -> Image.Image:
            if not self._resize or image.size == (width, height):
                return image
            return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)

        with _opened(path, again=True) as opened:
            image: Image.Image = opened
            may_be_transparent = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
            if may_be_transparent and any(
                strip.convert("RGBA").getchannel("A").getextrema()[0] < 255  # type: ignore[operator]
                for strip in _strips(image)
            ):
                raise InputDataError(f"{printable(path)} has transparent pixels. Flatten it on a background.")
            if image.getexif().get(_ORIENTATION, 1) != 1:
                image = ImageOps.exif_transpose(image)
            if image.mode in _SIXTEEN_BITS:
                image = Image.fromarray(np.concatenate([_eight_bits(strip, path) for strip in _strips(image)]))
            is_large = self._resize and image.width * image.height > _STRIP
            if is_large and channels == 3 and image.mode in ("RGB", "RGBA"):  # band by band, to copy less at once
                image = Image.merge("RGB", [resized(image.getchannel(name)) for name in "RGB"])
            else:
                image = resized(image.convert("L" if channels == 1 else "RGB"))
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
    root: Path,
    notes: list[str],
) -> Dataset:
    if not paths:
        raise InputDataError(f"{source} does not contain images. Use another folder.")
    images = ImagesOnDisk(paths, options, source, keep_bad=True)
    bad = dict(images.bad)
    rows = [row for row in range(len(paths)) if row not in bad]
    x: Any = images
    in_memory = options.in_memory is None or images.nbytes <= options.in_memory
    if in_memory:
        check_size(images.nbytes, source)
        x = np.empty(images.shape, np.uint8)
    if in_memory or options.skip_bad:
        for place, row in enumerate(rows):
            try:
                pixels = images[place]
            except InputDataError as error:
                bad[row] = str(error)
                continue
            if in_memory:
                x[place] = pixels
    if bad and (not options.skip_bad or len(bad) == len(paths)):
        raise InputDataError(_unreadable(bad, paths, source, options))
    if bad:
        good = [place for place, row in enumerate(rows) if row not in bad]
        rows = [rows[place] for place in good]
        x = x[good] if in_memory else ImagesOnDisk([paths[row] for row in rows], options, source)
        conditions = {name: values[rows] for name, values in conditions.items()}
        listed = ", ".join(printable(paths[row].name, 40) for row in sorted(bad)[:LISTED])
        notes.append(
            f"{len(bad)} images that cannot be read are left out: {listed}{', ...' if len(bad) > LISTED else ''}."
        )
    files = tuple(paths[row].relative_to(root).as_posix() for row in rows)
    return Dataset(x, conditions, class_names, source, (0.0, 255.0), (), tuple(notes), files)


def _first_of(messages: Sequence[str]) -> str:
    return messages[0] + (f" (and {len(messages) - 1} more)" if len(messages) > 1 else "")


def _unreadable(bad: Mapping[int, str], paths: Sequence[Path], source: str, options: ReadOptions) -> str:
    """Return the text of one error for all files that cannot be read, by reason."""
    advice = options.advice(" Or use --skip-bad to leave out such images.", "") if len(bad) < len(paths) else ""
    if len(bad) == 1:
        return next(iter(bad.values())) + advice
    root = os.path.commonpath([path.parent for path in paths])
    by_reason: dict[str, list[str]] = {}
    for row in sorted(bad)[:LISTED]:
        reason = bad[row].removeprefix(printable(paths[row]))
        by_reason.setdefault(reason, []).append(printable(paths[row].relative_to(root), 60))
    shown = " ".join(
        f"{'Each of ' if len(names) > 1 else ''}{', '.join(names)}{reason}" for reason, names in by_reason.items()
    )
    more = f" And {len(bad) - LISTED:,} more." if len(bad) > LISTED else ""
    return f"{source} has {len(bad):,} images that cannot be read. {shown}{more}{advice}"


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
        if not again and not path.is_file():  # Opening a named pipe would block.
            raise InputDataError(f"{printable(path)} is not a regular file. Remove it.")
        if path.suffix.lower() in _OTHER_IMAGES:
            raise InputDataError(f"{printable(path)} is in a format that is not read. Convert it to PNG.")
        with contextlib.nullcontext() if again else warnings.catch_warnings():
            if not again:
                warnings.simplefilter("ignore")  # damaged metadata, of which Pillow warns
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            with path.open("rb") as file, Image.open(_Limited(file, path), formats=_FORMATS) as image:
                limit = MAX_PIXELS if image.mode in _ONE_BYTE else MAX_COLOUR_PIXELS
                if image.width * image.height > limit:
                    raise InputDataError(
                        f"{printable(path)} claims {image.width}x{image.height} pixels of the type {image.mode}; the "
                        f"most is {limit}. Resize it."
                    )
                if image.mode not in _GRAY | _COLOUR | _SIXTEEN_BITS:
                    raise InputDataError(
                        f"{printable(path)} has pixels of the type {image.mode}; expected 8 or 16 bits per channel. "
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
            f"{printable(path)} is not a readable image: it is damaged, cut short or in another format. Save it again."
        ) from error


class _Limited:
    """Image file that refuses more reads than its pixels need."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._read, self._file, self._path = file.read, file, path
        self.seek, self.tell = file.seek, file.tell
        self._left = _MAX_READS + os.fstat(file.fileno()).st_size // 512

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise InputDataError(f"{printable(self._path)} consists of too many pieces of metadata. Save it again.")
        return self._read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    """Yield an image in strips of full width, from the top."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _eight_bits(image: Image.Image, path: Path) -> np.ndarray:
    """Return the levels of an image of 16 bits, rounded to uint8 `[height, width]`."""
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 65_535:
        raise InputDataError(f"{printable(path)} has more than 16 bits per channel. Convert it to 8 bits.")
    return ((levels + 128) // 257).astype(np.uint8)


def _size(image: Any) -> tuple[int, int]:
    """Return height and width as displayed: the metadata of an image may rotate it."""
    rotated = image.getexif().get(_ORIENTATION) in _ROTATED
    return (image.width, image.height) if rotated else (image.height, image.width)


def _num_channels(image: Any) -> int:
    """Return 1 for a gray image, also one with a palette of grays, and 3 for a colour image."""
    if image.mode == "P":
        palette = np.reshape(image.getpalette("RGB") or [0, 1, 2], (-1, 3))
        return 1 if (palette == palette[:, :1]).all() else 3
    return 1 if image.mode in _GRAY | _SIXTEEN_BITS else 3


def _folders(folder: Path) -> list[Path]:
    """Return the sub-folders in natural order, without hidden ones and those of archive programs."""
    found = [Path(each.path) for each in os.scandir(folder) if each.is_dir() and not _is_hidden(each.name)]
    return sorted(found, key=lambda path: natural_key(path.name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _walk(folder: Path, strict: bool = True) -> Iterator[Path]:
    """Yield the images in a folder and below it."""
    yield from _files(folder, strict)
    for place in _folders(folder):
        if not place.is_symlink():
            yield from _walk(place, strict)


def _files(folder: Path, strict: bool = True) -> list[Path]:
    """Return the images in a folder in natural order; with `strict` also those of formats that are not read."""
    paths = []
    for each in os.scandir(folder):
        suffix = Path(each.name).suffix.lower()
        if each.name.startswith(".") or each.is_dir():
            continue
        if suffix in SUFFIXES or (strict and suffix in _OTHER_IMAGES):
            paths.append(Path(each.path))
    return sorted(paths, key=lambda path: natural_key(path.name))
