"""Renderer of sprites: images of one white shape on black with known shape, scale, orientation and position.

The factors and their values are those of dSprites (Matthey et al. 2017, https://github.com/google-deepmind/dsprites-dataset):
shape 3, scale 6, orientation 40, position_x 32, position_y 32. These are 737,280 images of 64 x 64; the last factor
changes fastest. The pixels differ from those of dSprites, which came from another renderer; its .npz can be read too.

Geometry, in pixels; u points right and v up in the frame of the sprite, divided by its scale (0.5 to 1):

- square: max(|u|, |v|) <= 10.8;
- ellipse: (u / 15.1)^2 + (v / 7.6)^2 <= 1;
- heart: (p^2 + q^2 - 1)^3 <= p^2 q^3 with p = u / 12.2, q = v / 12.2 + 1/4.

A pixel is white if its centre lies in the shape; gray levels do not occur. Orientation turns the sprite
counter-clockwise. Its centre is at column 16.87 + i and row 16.83 + j. The corner of the image is (0, 0), and i and j
are the indices of position_x and position_y: one step is one pixel, to the right and down. Because of the fractions, a
turned square does not show the same pixels again, so all images differ. One exception is kept from dSprites:
orientation runs from 0 to 2 pi with both ends, so its first and last value give the same image. No pixel's centre is so
close to an edge that rounding could decide it, so every machine renders the same bytes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kvae_serve.errors import RequestError, printable
from kvae_serve.sealed import noise

FACTORS = ("shape", "scale", "orientation", "position_x", "position_y")
SIZES = (3, 6, 40, 32, 32)
SHAPES = ("square", "ellipse", "heart")
IMAGE_SHAPE = (64, 64, 1)
NUM_IMAGES = 737_280

VALUES: dict[str, np.ndarray] = {
    "shape": np.array([1.0, 2.0, 3.0]),
    "scale": np.linspace(0.5, 1.0, 6),
    "orientation": np.linspace(0.0, 2.0 * np.pi, 40),
    "position_x": np.linspace(0.0, 1.0, 32),
    "position_y": np.linspace(0.0, 1.0, 32),
}
"""Value of each class of each factor, as in dSprites; orientation in radians."""

SCHEME = "kvae-sprites/1"
"""Name of the geometry above, stored in files."""

# Different from the streams of `kvae_serve.sealed.noise`.
_STREAM = 64
_REACH = 16  # Largest distance of a white pixel from the pixel of the centre.
_CENTRE = np.array([0.37, 0.33])  # Offset of the sprite's centre from the centre of its pixel, right and down.


class Sprites(NamedTuple):
    """Images and their factors.

    Attributes:
        x: uint8 `[num, 64, 64, 1]`, 0 or 255.
        factors: int64 `[num, 5]`, the class of each of `FACTORS`.
    """

    x: np.ndarray
    factors: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """Factors in the units of dSprites, float64 `[num, 5]`."""
        return factor_values(self.factors)


def select(
    counts: Mapping[str, int] | None = None,
    num: int | None = None,
    seed: int = 0,
    among: np.ndarray | None = None,
) -> np.ndarray:
    """Choose images by their index in the whole set.

    Args:
        counts: Number of evenly spaced values to keep, by factor; all values of the other factors. They include the
            first and the last value; of orientation only the first, because the last is the same image. A count of 1
            keeps the middle value, or the upright orientation.
        num: Number of images to draw from these without replacement; all by default. The draw of a seed is a prefix of
            its draw with a larger num.
        seed: Seed of the draw, 0 to 2**64 - 1.
        among: Indices to choose from, ascending int64; the whole set by default.

    Returns:
        int64 `[num]`: ascending, or in the order of the draw.

    Raises:
        RequestError: If a factor or a count does not exist, or `num` exceeds the number of images.

    Example:
        >>> index = select({"shape": 1, "scale": 1, "orientation": 2, "position_x": 2, "position_y": 2})
        >>> len(index)
        8
    """
    grids = [np.arange(size) for size in SIZES]
    for name, count in (counts or {}).items():
        if name not in FACTORS:
            raise RequestError(f"Sprites have the factors {', '.join(FACTORS)}, got {printable(name)}.")
        grids[FACTORS.index(name)] = _evenly_spaced(name, count)
    chosen = np.ravel_multi_index(np.meshgrid(*grids, indexing="ij"), SIZES).ravel().astype(np.int64)
    if among is not None:
        chosen = chosen[np.isin(chosen, among)]
        if not len(chosen):
            raise RequestError("The file lacks images with these values of the factors. Request more values.")
    if num is None:
        return chosen
    if not 1 <= num <= len(chosen):
        raise RequestError(f"Cannot draw {num} images; there are {len(chosen)} with these factors.")
    keys = noise.words(seed, _STREAM, 0, NUM_IMAGES, 1)[chosen, 0]
    return chosen[np.argsort(keys, kind="stable")[:num]]


def index_to_factors(index: np.ndarray) -> np.ndarray:
    """Convert indices in the whole set to factors, int64 `[num, 5]`."""
    return np.stack(np.unravel_index(np.asarray(index), SIZES), axis=-1).astype(np.int64)


def factor_values(factors: np.ndarray) -> np.ndarray:
    """Convert classes `[num, 5]` to values in the units of dSprites, float64 `[num, 5]`."""
    factors = check_factors(factors)
    return np.stack([VALUES[name][factors[:, axis]] for axis, name in enumerate(FACTORS)], axis=-1)


def render(factors: np.ndarray) -> np.ndarray:
    """Render one image for each row of factors.

    Args:
        factors: Integers `[num, 5]`, the class of each of `FACTORS`: 0 to 2, 5, 39, 31 and 31.

    Returns:
        uint8 `[num, 64, 64, 1]`, 0 or 255.

    Raises:
        RequestError: If a class does not exist.

    Example:
        >>> import numpy as np
        >>> render(np.array([[0, 5, 0, 16, 16]])).shape
        (1, 64, 64, 1)
    """
    shape, scale, orientation, column, row = check_factors(factors).T
    sprite = (shape * SIZES[1] + scale) * SIZES[2] + orientation
    return _windows()[sprite, SIZES[4] - 1 - row, SIZES[3] - 1 - column][..., None]


def check_factors(factors: np.ndarray) -> np.ndarray:
    """Return factors as int64 `[num, 5]`, or raise `RequestError` if they are not classes of sprites."""
    factors = np.asarray(factors)
    if factors.ndim != 2 or factors.shape[1] != len(FACTORS) or factors.dtype.kind not in "iu":
        raise RequestError(
            f"Factors of sprites must be integers [num, {len(FACTORS)}] ({', '.join(FACTORS)}), "
            f"got {factors.dtype} {list(factors.shape)}."
        )
    if factors.size and ((factors < 0) | (factors >= np.array(SIZES))).any():
        highest = ", ".join(f"{name} {size - 1}" for name, size in zip(FACTORS, SIZES, strict=True))
        raise RequestError(f"A factor is outside the classes of sprites: 0 to {highest}.")
    return factors.astype(np.int64)


def _evenly_spaced(name: str, count: int) -> np.ndarray:
    """Return `count` evenly spaced classes of a factor."""
    size = SIZES[FACTORS.index(name)]
    if not 1 <= count <= size:
        raise RequestError(f"The factor {name} has 1 to {size} values, got {count}.")
    if name == "orientation":
        return np.arange(count) * size // count
    if count == 1:
        return np.array([(size - 1) // 2])
    # Rounded half up, in integers: (2 i (size - 1) + count - 1) / (2 (count - 1)).
    return (2 * np.arange(count) * (size - 1) + count - 1) // (2 * (count - 1))


def implicit(factors: np.ndarray) -> np.ndarray:
    """Evaluate the function whose sign defines a sprite: at most 0 inside.

    Args:
        factors: int64 `[num, 3]`, classes of shape, scale and orientation.

    Returns:
        float64 `[num, 33, 33]`, at the pixels around the sprite's centre.
    """
    right, down = np.meshgrid(*[np.arange(-_REACH, _REACH + 1.0) - offset for offset in _CENTRE])
    # The last orientation equals the first, bit for bit.
    angle = 2.0 * np.pi * (factors[:, 2, None, None] % 39) / 39.0
    scale = VALUES["scale"][factors[:, 1]][:, None, None]
    u = (right * np.cos(angle) - down * np.sin(angle)) / scale
    v = -(right * np.sin(angle) + down * np.cos(angle)) / scale
    p, q = u / 12.2, v / 12.2 + 0.25
    square = np.maximum(np.abs(u), np.abs(v)) - 10.8
    ellipse = (u / 15.1) ** 2 + (v / 7.6) ** 2 - 1.0
    heart = (p * p + q * q - 1.0) ** 3 - p * p * q * q * q
    return np.choose(factors[:, 0, None, None], [square, ellipse, heart])


@functools.cache
def _windows() -> np.ndarray:
    """Return uint8 `[720, 32, 32, 64, 64]`: each sprite at each position, a view of 6.5 MB."""
    factors = np.stack(np.unravel_index(np.arange(np.prod(SIZES[:3])), SIZES[:3]), axis=-1)
    field = np.zeros((len(factors), 95, 95), np.uint8)
    field[:, 31:64, 31:64] = np.where(implicit(factors) <= 0.0, 255, 0)
    field.flags.writeable = False
    return np.lib.stride_tricks.sliding_window_view(field, IMAGE_SHAPE[:2], axis=(1, 2))
