"""Counter-based random numbers: sample i of a seed does not depend on batch size, process or other samples.

Philox4x64-10 yields a fixed number of words per sample, at a position computed from the index of the sample. A
transform with a fixed number of words turns them into uniforms or normals. Any part of a job therefore equals the same
part of the whole. docs/format.md is the specification.

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
STREAM_IMPUTE = 6
STREAM_CONDITIONS = 7

SCHEME = "philox4x64-10/box-muller/1"
"""Name of the algorithm, written into outputs together with the seed."""

EVALUATE_SCHEME = "philox4x64-10/box-muller-32/1"
"""Name of the algorithm of `example_normals`, written into the report of `evaluate`."""

MAX_SEED = 2**64 - 1
MAX_INDEX = 2**63 - 1

# Importing numpy.random takes a tenth of the start of `kvae sample`. Up to this many blocks, plain integers are faster.
_FEW_BLOCKS = 256
# The fastest power of two, measured: 64 KiB of words.
_CACHED_WORDS = 8192
_MASK = 2**64 - 1
_MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B


def words(seed: int, stream: int, start: int, num: int, words_per_sample: int) -> np.ndarray:
    """Return the raw words of samples `start` to `start + num - 1`.

    A sample uses whole counters of four words each, so it depends on (seed, stream, index) only.

    Args:
        seed: 0 to 2**64 - 1, the low half of the Philox key.
        stream: Purpose of the numbers (`STREAM_Z`, ...), the high half of the key.
        start: Index of the first sample.
        num: Number of samples.
        words_per_sample: Number of words per sample.

    Returns:
        uint64 `[num, words_per_sample]`.

    Raises:
        RequestError: If the seed or an index is out of range.
    """
    _check(seed, start, num)
    blocks = -(-words_per_sample // 4)
    total = num * blocks
    if total <= _FEW_BLOCKS:
        # numpy's Philox increments its counter before each block: its first block from counter c is that of c + 1.
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
    """Return the noise of z: its normals, and the uniform that selects the component of a mixture prior.

    Returns:
        float32 `[num, latent_dim]` and float64 `[num]`.
    """
    split = num_normal_words(latent_dim)
    raw = words(seed, STREAM_Z, start, num, split + 1)
    return words_to_normals(raw[:, :split], latent_dim), words_to_uniforms(raw[:, split])


def example_normals(seed: int, example: int, start: int, num: int, dim: int) -> np.ndarray:
    """Return standard normals of one example, draws `start` to `start + num - 1`, float32 `[num, dim]`.

    The index of the example is the second word of the counter, so a draw depends on (seed, example, number) only. One
    word yields two normals, with trigonometry in float32. Evaluation needs billions of normals, and these are cheaper
    than those of numpy's Generator.
    """
    from numpy.random import Philox

    _check(seed, start, num)
    _check(seed, example, 1)
    pairs = -(-dim // 2)
    blocks = -(-pairs // 4)
    normals = np.empty((num, dim), np.float32)
    # Chunks that fit into the cache of a core are twice as fast as all words at once.
    step = max(1, _CACHED_WORDS // (4 * blocks))
    philox = Philox(key=seed + (STREAM_EVALUATE << 64), counter=(example << 64) + start * blocks)
    for first in range(0, num, step):
        rows = min(step, num - first)
        raw = philox.random_raw(4 * blocks * rows)
        above = (raw >> np.uint64(32)).astype(np.float64) * 2.0**-32 + 2.0**-33
        radius = np.sqrt(-2.0 * np.log(above)).astype(np.float32).reshape(rows, -1)[:, :pairs]
        angle = raw.astype(np.uint32).view(np.int32).astype(np.float32) * np.float32(np.pi * 2.0**-31)
        chunk = normals[first : first + rows]
        np.multiply(radius, np.cos(angle).reshape(rows, -1)[:, :pairs], out=chunk[:, :pairs])
        np.multiply(radius[:, : dim - pairs], np.sin(angle).reshape(rows, -1)[:, : dim - pairs], out=chunk[:, pairs:])
    return normals


def num_normal_words(dim: int) -> int:
    """Return the number of words for `dim` normals, which are computed in pairs."""
    return 2 * -(-dim // 2)


def words_to_uniforms(raw: np.ndarray) -> np.ndarray:
    """Turn words into float64 uniforms in [0, 1): the upper 53 bits of each."""
    return (raw >> np.uint64(11)) * 2.0**-53


def words_to_normals(raw: np.ndarray, dim: int) -> np.ndarray:
    """Turn words `[num, 2 * ceil(dim / 2)]` into float32 normals `[num, dim]` by Box-Muller, computed in float64."""
    pairs = raw.shape[1] // 2
    # New contiguous arrays: numpy uses different code for strided arrays, which could round differently.
    radius = np.sqrt(-2.0 * np.log(1.0 - words_to_uniforms(raw[:, :pairs])))
    angle = 2.0 * np.pi * words_to_uniforms(raw[:, pairs:])
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return both[:, :dim].astype(np.float32)


def random_seed() -> int:
    """Return a random seed from the operating system, 0 to 2**64 - 1."""
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
        raise RequestError(f"The seed is {seed}; expected an integer from 0 to 2**64 - 1.")
    if start < 0 or num < 0 or start + num > MAX_INDEX:
        raise RequestError(f"{num} samples from index {start} on are out of range; indices are 0 to 2**63 - 1.")
