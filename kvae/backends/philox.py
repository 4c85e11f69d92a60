"""TensorFlow's stateless random numbers, word for word, for the engines that have none of the kind.

Written with the operators of arrays alone, so that one text runs on NumPy, JAX and PyTorch. A word is 32 bits in an
integer of 64, so that a product of two is whole.

Reference: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3": Philox4x32 with 10 rounds.
"""

import numpy as np

_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_BUMPS = 0x9E3779B9, 0xBB67AE85
_KEY = 0x3EC8F720, 0x02461E29
_LOW = 0xFFFFFFFF


def block(counter, key):
    """Four words from four of a counter and two of a key; each an integer array, shapes that broadcast."""
    a, b, c, d = counter
    key_0, key_1 = key
    for _ in range(10):
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        # The mask is for signed integers, whose shift draws ones in.
        a, c = ((second >> 32) & _LOW) ^ b ^ key_0, ((first >> 32) & _LOW) ^ d ^ key_1
        b, d = second & _LOW, first & _LOW
        key_0, key_1 = (key_0 + _BUMPS[0]) & _LOW, (key_1 + _BUMPS[1]) & _LOW
    return a, b, c, d


def stream(seed):
    """A function of positions to words: block i of the numbers that belong to a pair of seeds.

    Args:
        seed: two integers (arrays, or of Python) of at most 64 bits, not negative.

    Returns:
        A function of an integer array of block numbers to the block's four words.
    """
    low, high = seed
    # The seeds are stirred first, so that neighbours give streams that have nothing in common.
    key_0, key_1, third, fourth = block((low & _LOW, low >> 32, high & _LOW, high >> 32), _KEY)
    return lambda index: block((index & _LOW, index >> 32, third, fourth), (key_0, key_1))


def words(seed, count):
    """The first words that belong to a pair of seeds, uint64 `[count]`, by NumPy."""
    at = stream(tuple(np.asarray(part, "uint64") for part in seed))
    return np.stack(at(np.arange(-(-count // 4), dtype="uint64")), axis=-1).reshape(-1)[:count]


def uniform(words):
    """Words as numbers from 0 to 1, 1 excluded, float32, by NumPy."""
    # 23 bits make a float of 1 to 2.
    return ((words.astype("uint32") & np.uint32(0x7FFFFF)) | np.uint32(0x3F800000)).view("float32") - np.float32(1.0)


def normal(words):
    """An even number of words as as many standard normals, float32, by NumPy (Box and Muller 1958)."""
    pairs = uniform(words).reshape(-1, 2)
    radius = np.sqrt(np.float32(-2.0) * np.log(np.maximum(pairs[:, 0], np.float32(1e-7))))
    angle = (2.0 * np.pi * pairs[:, 1].astype("float64")).astype("float32")
    return np.stack([np.sin(angle) * radius, np.cos(angle) * radius], axis=-1).reshape(-1)
