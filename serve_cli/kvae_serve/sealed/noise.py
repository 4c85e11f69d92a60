"""Counter-based random numbers: sample i of a seed is the same whoever draws it and with whom.

Words come from Philox4x64-10 at a position computed from the sample's index, a fixed number of
words a sample; a transform that consumes a fixed count makes them uniforms or normals. So any part
of a job equals the same part of the whole. docs/format.md is the specification.

Reference: Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3, doi:10.1145/2063384.2063405.
"""

from __future__ import annotations

import numpy as np

from kvae_serve.errors import RequestError

STREAM_Z = 0
STREAM_DRAW = 1
STREAM_BINARIZE = 2
STREAM_GOLDEN = 3
STREAM_EVALUATE = 4
STREAM_AGGREGATE = 5

SCHEME = "philox4x64-10/box-muller/1"
"""Name of what this module computes, written into outputs beside the seed."""

EVALUATE_SCHEME = "philox4x64-10/box-muller-32/1"
"""The same for what `evaluate` reports: see `example_normals`."""

MAX_SEED = 2**64 - 1
MAX_INDEX = 2**63 - 1

# Importing numpy.random costs a tenth of the start of `kvae sample`; up to so many blocks plain integers are quicker.
_FEW_BLOCKS = 256
# A power of two near the fastest: 64 KiB of words.
_CACHED_WORDS = 8192
_MASK = 2**64 - 1
_MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B


def words(seed: int, stream: int, start: int, num: int, words_per_sample: int) -> np.ndarray:
    """Return the raw words of samples `start` to `start + num - 1`.

    A sample takes whole counters of four words each, so it depends on (seed, stream, index) alone.

    Args:
        seed: 0 to 2**64 - 1, the low half of the Philox key.
        stream: what the numbers are for (`STREAM_Z`, ...), the high half of the key.
        start: index of the first sample.
        num: how many samples.
        words_per_sample: how many words each of them takes.

    Returns:
        uint64 `[num, words_per_sample]`.
    """
    _check(seed, start, num)
    blocks = -(-words_per_sample // 4)
    total = num * blocks
    if total <= _FEW_BLOCKS:
        # numpy's Philox steps its counter before it makes a block: its first block from counter c is that of c + 1.
        first = start * blocks + 1
        few = [word for counter in range(first, first + total) for word in _philox_block(seed, stream, counter)]
        raw = np.array(few, np.uint64)
    else:
        from numpy.random import Philox

        raw = Philox(key=seed + (stream << 64), counter=start * blocks).random_raw(4 * total)
    return raw.reshape(num, 4 * blocks)[:, :words_per_sample]


def uniforms(seed: int, stream: int, start: int, num: int, dim: int) -> np.ndarray:
    """Return `dim` uniforms in [0, 1) for each of `num` samples, float64 `[num, dim]`."""
    return words_to_uniforms(words(seed, stream, start, num, dim))


def normals(seed: int, stream: int, start: int, num: int, dim: int) -> np.ndarray:
    """Return `dim` standard normals for each of `num` samples, float32 `[num, dim]`."""
    return words_to_normals(words(seed, stream, start, num, num_normal_words(dim)), dim)


def latent_noise(seed: int, start: int, num: int, latent_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what a draw of z needs: its normals, and the uniform that picks a mixture's component.

    Returns:
        float32 `[num, latent_dim]` and float64 `[num]`.
    """
    split = num_normal_words(latent_dim)
    raw = words(seed, STREAM_Z, start, num, split + 1)
    return words_to_normals(raw[:, :split], latent_dim), words_to_uniforms(raw[:, split])


def example_normals(seed: int, example: int, start: int, num: int, dim: int) -> np.ndarray:
    """Return draws `start` to `start + num - 1` of one example's own stream, standard normals, float32 `[num, dim]`.

    The example's index is the second word of the counter, so that a draw depends on (seed, example, number) alone,
    however many there are. One word makes two normals, its trigonometry is float32: evaluation takes billions of them,
    and this way they cost less than those of numpy's Generator.
    """
    from numpy.random import Philox

    _check(seed, start, num)
    _check(seed, example, 1)
    pairs = -(-dim // 2)
    blocks = -(-pairs // 4)
    made = np.empty((num, dim), np.float32)
    # So many at a time that they stay in the cache of a core: twice as fast as all at once.
    step = max(1, _CACHED_WORDS // (4 * blocks))
    philox = Philox(key=seed + (STREAM_EVALUATE << 64), counter=(example << 64) + start * blocks)
    for first in range(0, num, step):
        rows = min(step, num - first)
        raw = philox.random_raw(4 * blocks * rows)
        above = (raw >> np.uint64(32)).astype(np.float64) * 2.0**-32 + 2.0**-33
        radius = np.sqrt(-2.0 * np.log(above)).astype(np.float32).reshape(rows, -1)[:, :pairs]
        angle = raw.astype(np.uint32).view(np.int32).astype(np.float32) * np.float32(np.pi * 2.0**-31)
        some = made[first : first + rows]
        np.multiply(radius, np.cos(angle).reshape(rows, -1)[:, :pairs], out=some[:, :pairs])
        np.multiply(radius[:, : dim - pairs], np.sin(angle).reshape(rows, -1)[:, : dim - pairs], out=some[:, pairs:])
    return made


def num_normal_words(dim: int) -> int:
    """Return how many words `dim` normals take: they are made in pairs."""
    return 2 * -(-dim // 2)


def words_to_uniforms(raw: np.ndarray) -> np.ndarray:
    """Turn words into float64 uniforms in [0, 1): the upper 53 bits of each."""
    return (raw >> np.uint64(11)) * 2.0**-53


def words_to_normals(raw: np.ndarray, dim: int) -> np.ndarray:
    """Turn words `[num, 2 * ceil(dim / 2)]` into float32 normals `[num, dim]` by Box-Muller, computed in float64."""
    pairs = raw.shape[1] // 2
    # Fresh arrays without strides: numpy takes other code for strided ones, which could round otherwise.
    radius = np.sqrt(-2.0 * np.log(1.0 - words_to_uniforms(raw[:, :pairs])))
    angle = 2.0 * np.pi * words_to_uniforms(raw[:, pairs:])
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return both[:, :dim].astype(np.float32)


def random_seed() -> int:
    """Draw a seed from the operating system, 0 to 2**64 - 1."""
    import os

    return int.from_bytes(os.urandom(8), "little")


def _philox_block(seed: int, stream: int, counter: int) -> tuple[int, int, int, int]:
    """Return the four words of one counter: ten rounds of Philox4x64 in plain integers."""
    c0, c1, c2, c3 = (counter >> shift & _MASK for shift in (0, 64, 128, 192))
    k0, k1 = seed, stream
    for _ in range(10):
        low, high = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (high >> 64) ^ c1 ^ k0, high & _MASK, (low >> 64) ^ c3 ^ k1, low & _MASK
        k0, k1 = k0 + _WEYL[0] & _MASK, k1 + _WEYL[1] & _MASK
    return c0, c1, c2, c3


def _check(seed: int, start: int, num: int) -> None:
    if not 0 <= seed <= MAX_SEED:
        raise RequestError(f"A seed is a whole number from 0 to 2**64 - 1, got {seed}.")
    if start < 0 or num < 0 or start + num > MAX_INDEX:
        raise RequestError(f"Sample indices run from 0 to 2**63 - 1, got {num} from {start} on.")
