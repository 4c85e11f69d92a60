"""Philox words without TensorFlow, compared with published vectors and with TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf

from kvae.backends import philox

SEEDS = [(0, 0), (3 + (1 << 32), 7), (2**31 - 1, 10**6)]


# The authors' test vectors: kat_vectors of Random123, philox4x32 with 10 rounds.
@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_block_equals_the_published_vector(counter, key, answer):
    assert philox.block(counter, key) == answer
    as_arrays = philox.block([np.uint64(word) for word in counter], [np.uint64(word) for word in key])
    assert tuple(map(int, as_arrays)) == answer


@pytest.mark.parametrize("seed", SEEDS)
def test_words_equal_those_of_tensorflow(seed):
    pair = tf.constant(seed, tf.int64)
    words = tf.random.stateless_uniform([1003], pair, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
    np.testing.assert_array_equal(philox.words(seed, 1003), words.numpy())
