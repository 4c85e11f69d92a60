"""Files of sprites: write .npz in chunks, and read them and the original dSprites .npz.

A written file contains

- `x`: uint8 `[num, 64, 64, 1]`, 0 or 255, so that a Bernoulli likelihood sees 0 and 1;
- `z`: int64 `[num, 5]`, the class of each factor, with columns as in `kvae.data.sprites.render.FACTORS`. These are the
  factors for `kvae.metrics`. Data readers do not use `z` as a condition;
- `scheme`: JSON text with the name of the geometry and the value of each class of each factor;
- `seed`: seed of the draw, if rows were drawn;
- one array for each factor that is requested as a condition: shape as text, the others as float32 values.

The same request writes the same bytes with the same version of zlib. Writing all 737,280 images took 16 seconds
(2 busy cores, 2026-11-23) and at most 122 MB of memory, for a file of 18 MB: `kvae sprites -o sprites.npz`.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np

from kvae.data.sprites import render
from kvae.data.sprites.render import FACTORS, IMAGE_SHAPE, NUM_IMAGES, Sprites
from kvae_serve.errors import InputDataError, OutputError, RequestError, printable
from kvae_serve.writers.atomic import write_whole

DSPRITES_SCHEME = "dsprites/1"
"""Name of the geometry in files with the pixels of the original dSprites."""

_CHUNK = 4096  # Images in memory at a time: 16 MiB.
_DAMAGED = (ValueError, zipfile.BadZipFile, EOFError, zlib.error, OSError, RuntimeError, NotImplementedError)


class OriginalDSprites:
    """The original dSprites .npz, read in chunks. Its pickled metadata are never opened.

    Args:
        path: The file.

    Attributes:
        index: int64 `[num]`, index of each image in the whole set.
        source: The path, for messages.

    Raises:
        InputDataError: If the file does not exist, is damaged, or is not dSprites.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.source = printable(path)
        with _ZipReader(self._path, self.source) as bundle:
            for name in ("imgs", "latents_classes"):
                if f"{name}.npy" not in bundle.namelist():
                    raise InputDataError(
                        f"{self.source} does not contain {name}; expected imgs and latents_classes as in dSprites."
                    )
            with _array(bundle, "imgs", self.source) as images:
                num = _check_array(images, "imgs", np.uint8, IMAGE_SHAPE[:2], self.source)
            with _array(bundle, "latents_classes", self.source) as classes:
                rows = _check_array(classes, "latents_classes", np.int64, (len(FACTORS) + 1,), self.source)
                if rows != num:
                    raise InputDataError(f"{self.source} contains {num} images but {rows} rows of latents_classes.")
                factors = classes.read(num)
        if factors[:, 0].any() or (factors < 0).any() or (factors[:, 1:] >= np.array(render.SIZES)).any():
            raise InputDataError(f"{self.source} contains latents_classes that dSprites does not have.")
        self.index = np.ravel_multi_index(tuple(factors[:, 1:].T), render.SIZES).astype(np.int64)
        if len(np.unique(self.index)) != num:
            raise InputDataError(f"{self.source} contains the same factors twice, expected each once as in dSprites.")

    def images(self, index: np.ndarray) -> Iterator[np.ndarray]:
        """Yield images in chunks, in the order of `index`.

        One chunk is in memory at a time if this is the order of the file, otherwise all of the images.

        Args:
            index: Indices in the whole set, int64 `[num]`.

        Yields:
            uint8 `[chunk, 64, 64, 1]`, 0 or 255.

        Raises:
            RequestError: If the file lacks one of the images.
        """
        position = np.full(NUM_IMAGES, -1, np.int64)
        position[self.index] = np.arange(len(self.index))
        rows = position[index]
        if (rows < 0).any():
            raise RequestError(f"{self.source} lacks {int((rows < 0).sum())} of the requested images.")
        if (np.diff(rows) > 0).all():
            yield from self._in_order(rows)
            return
        order = np.argsort(rows)
        gathered = np.empty((len(rows), *IMAGE_SHAPE), np.uint8)
        done = 0
        for part in self._in_order(rows[order]):
            gathered[order[done : done + len(part)]] = part
            done += len(part)
        yield gathered

    def _in_order(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield images by their row in the file, ascending."""
        with _ZipReader(self._path, self.source) as bundle, _array(bundle, "imgs", self.source) as images:
            for start in range(0, int(rows[-1]) + 1, _CHUNK):
                part = images.read(min(_CHUNK, len(self.index) - start))
                first, last = np.searchsorted(rows, [start, start + len(part)])
                if first < last:
                    part = part[rows[first:last] - start]
                    if part.max() > 1:
                        raise InputDataError(
                            f"{self.source} contains pixels of {part.max()}, expected 0 and 1 as in dSprites."
                        )
                    yield part[..., None] * np.uint8(255)


def render_chunks(index: np.ndarray) -> Iterator[np.ndarray]:
    """Render images by their index in the whole set; yield chunks, uint8 `[chunk, 64, 64, 1]`."""
    for start in range(0, len(index), _CHUNK):
        yield render.render(render.index_to_factors(index[start : start + _CHUNK]))


def write(
    path: str | Path,
    index: np.ndarray,
    images: Iterable[np.ndarray] | None = None,
    *,
    scheme: str = render.SCHEME,
    seed: int | None = None,
    as_conditions: Iterable[str] = (),
    force: bool = False,
) -> None:
    """Write images and their factors; the file appears complete or not at all.

    Args:
        path: File that ends in .npz.
        index: Indices of the images in the whole set, int64 `[num]`; see `render.select`.
        images: Chunks of their pixels, as from `OriginalDSprites.images`; rendered if None.
        scheme: Name of the geometry of the pixels.
        seed: Seed of the draw, stored in the file.
        as_conditions: Factors that are also written as conditions.
        force: Whether to replace an existing file.

    Raises:
        RequestError: If the suffix is different, or a factor does not exist.
        OutputError: If the file exists or cannot be written.
    """
    names = tuple(as_conditions)
    check_request(path, names)
    factors = render.index_to_factors(index)
    arrays: dict[str, np.ndarray] = {"z": factors, "scheme": np.array(_describe(scheme))}
    if seed is not None:
        arrays["seed"] = np.array(seed, np.uint64)
    for name in names:
        column = factors[:, FACTORS.index(name)]
        arrays[name] = (
            np.array(render.SHAPES)[column] if name == "shape" else render.VALUES[name][column].astype(np.float32)
        )

    def fill(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
            with bundle.open("x.npy", "w", force_zip64=True) as member:
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(index), *IMAGE_SHAPE)}
                np.lib.format.write_array_header_1_0(member, header)
                num = 0
                for part in render_chunks(index) if images is None else images:
                    member.write(np.ascontiguousarray(part, np.uint8).data)
                    num += len(part)
            if num != len(index):
                raise OutputError(f"{printable(path)}: expected {len(index)} images, got {num}. Nothing was written.")
            for name, array in arrays.items():
                with bundle.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    write_whole(path, fill, force)


def check_request(path: str | Path, as_conditions: Iterable[str]) -> None:
    """Raise `RequestError` if a file of that name or with these conditions cannot be written."""
    if Path(path).suffix.lower() != ".npz":
        raise RequestError(f"Sprites are written as .npz, got {printable(path)}. Give a name that ends in .npz.")
    for name in as_conditions:
        if name not in FACTORS:
            raise RequestError(f"Sprites have the factors {', '.join(FACTORS)}, got {printable(name)}.")


def read(path: str | Path) -> Sprites:
    """Read a file that `kvae sprites` wrote, or the original dSprites .npz, into memory.

    Args:
        path: The file.

    Returns:
        `Sprites`. All of dSprites needs 3 GB; `OriginalDSprites` reads it in chunks.

    Raises:
        InputDataError: If the file does not exist, is damaged, or does not contain sprites.
    """
    source = printable(path)
    with _ZipReader(Path(path), source) as bundle:
        names = bundle.namelist()
        if "imgs.npy" not in names:
            if "x.npy" not in names or "z.npy" not in names:
                raise InputDataError(
                    f"{source} does not contain sprites: expected x and z as written by `kvae sprites`, or dSprites."
                )
            with _array(bundle, "x", source) as member:
                x = member.read(_check_array(member, "x", np.uint8, IMAGE_SHAPE, source))
            with _array(bundle, "z", source) as member:
                factors = member.read(_check_array(member, "z", np.int64, (len(FACTORS),), source))
            if len(x) != len(factors):
                raise InputDataError(f"{source} contains {len(x)} images but {len(factors)} rows of factors.")
            try:
                return Sprites(x, render.check_factors(factors))
            except RequestError as error:
                raise InputDataError(f"{source} contains factors that sprites do not have. Write it again.") from error
    original = OriginalDSprites(path)
    x = np.empty((len(original.index), *IMAGE_SHAPE), np.uint8)
    done = 0
    for part in original.images(original.index):
        x[done : done + len(part)] = part
        done += len(part)
    return Sprites(x, render.index_to_factors(original.index))


def _describe(scheme: str) -> str:
    values = {name: render.VALUES[name].tolist() for name in FACTORS} | {"shape": list(render.SHAPES)}
    return json.dumps({"scheme": scheme, "factors": values})


class _ZipReader:
    """Context manager that opens a zip; every error of a damaged one becomes an InputDataError."""

    def __init__(self, path: Path, source: str) -> None:
        self._path, self._source = path, source

    def __enter__(self) -> zipfile.ZipFile:
        if not self._path.is_file():
            raise InputDataError(f"{self._source} is not a regular file. Give an .npz of sprites.")
        try:
            self._bundle = zipfile.ZipFile(self._path)
        except _DAMAGED as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or "it is damaged or truncated"
            raise InputDataError(f"{self._source} cannot be read as .npz: {reason}.") from error
        return self._bundle

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._bundle.close()
        ours = isinstance(error, (InputDataError, RequestError, OutputError))
        if isinstance(error, _DAMAGED) and not ours:
            raise InputDataError(f"{self._source} is damaged or truncated. Copy it again.") from error


class _Array(NamedTuple):
    """Array in a zip, read sequentially from its first row."""

    member: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, num: int) -> np.ndarray:
        """Return the next `num` rows."""
        size = num * self.dtype.itemsize * math.prod(self.shape[1:])
        body = bytearray()
        while len(body) < size:
            part = self.member.read(min(2**24, size - len(body)))
            if not part:
                raise EOFError
            body += part
        return np.frombuffer(body, self.dtype).reshape(num, *self.shape[1:])

    def __enter__(self) -> _Array:
        return self

    def __exit__(self, *_: object) -> None:
        self.member.close()


def _array(bundle: zipfile.ZipFile, name: str, source: str) -> _Array:
    """Open an array and read its header, which is parsed as data and never run."""
    member = bundle.open(f"{name}.npy")
    version = np.lib.format.read_magic(member)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(member)
    if fortran:
        raise InputDataError(f"{source} contains {name} in Fortran order, expected C order. Save it again.")
    return _Array(member, shape, dtype)


def _check_array(array: _Array, name: str, dtype: type, row: tuple[int, ...], source: str) -> int:
    """Return the number of rows of an array, or raise if its type or shape is different."""
    expected = f"[num, {', '.join(map(str, row))}]"
    if array.dtype != dtype or len(array.shape) != 1 + len(row) or array.shape[1:] != row or not array.shape[0]:
        raise InputDataError(
            f"{source} contains {name} as {array.dtype} {list(array.shape)}, expected {np.dtype(dtype)} {expected}."
        )
    if array.shape[0] > NUM_IMAGES:
        raise InputDataError(f"{source} declares {array.shape[0]} rows of {name}, but there are {NUM_IMAGES} sprites.")
    return array.shape[0]
