"""TensorFlow's stateless random words for NumPy, JAX and PyTorch.

The functions use array operators only, so one definition runs on all three. A word has 32 bits and is stored in a
64-bit integer, so that the product of two words does not overflow.

Reference: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3": Philox4x32 with 10 rounds.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_BUMPS = 0x9E3779B9, 0xBB67AE85
_KEY = 0x3EC8F720, 0x02461E29
_LOW = 0xFFFFFFFF


def block(counter: tuple, key: tuple) -> tuple:
    """Compute one block of random words.

    Args:
        counter: Four words, integer arrays of broadcastable shapes.
        key: Two words.

    Returns:
        Four words.
    """
    a, b, c, d = counter
    key_0, key_1 = key
    for _ in range(10):
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        # The mask is for signed integers, whose right shift fills with the sign bit.
        a, c = ((second >> 32) & _LOW) ^ b ^ key_0, ((first >> 32) & _LOW) ^ d ^ key_1
        b, d = second & _LOW, first & _LOW
        key_0, key_1 = (key_0 + _BUMPS[0]) & _LOW, (key_1 + _BUMPS[1]) & _LOW
    return a, b, c, d


def stream(seed: tuple) -> Callable[[Any], tuple]:
    """Return the random stream of a pair of seeds, as a function of the block number.

    Args:
        seed: Two non-negative integers of at most 64 bits, Python integers or arrays.

    Returns:
        Function of an integer array of block numbers. It returns the four words of each block.
    """
    low, high = seed
    # Scramble the seeds first, so that neighbouring seeds give unrelated streams.
    key_0, key_1, third, fourth = block((low & _LOW, low >> 32, high & _LOW, high >> 32), _KEY)
    return lambda index: block((index & _LOW, index >> 32, third, fourth), (key_0, key_1))


def words(seed: tuple, count: int) -> np.ndarray:
    """Return the first words of a stream, uint64 `[count]`, computed by NumPy."""
    at = stream(tuple(np.asarray(part, "uint64") for part in seed))
    return np.stack(at(np.arange(-(-count // 4), dtype="uint64")), axis=-1).reshape(-1)[:count]
