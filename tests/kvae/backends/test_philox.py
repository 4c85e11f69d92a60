"""Random numbers without TensorFlow: those that TensorFlow draws, from published answers and from TensorFlow itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kvae.backends import initializers, philox
from kvae.data import disk
from kvae.dataloaders import arrays, tensorflow

SEEDS = [(0, 0), (3 + (1 << 32), 7), (2**31 - 1, 10**6)]


# The authors' own vectors: kat_vectors of Random123, philox4x32 with 10 rounds.
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
def test_a_block_is_the_published_one(counter, key, answer):
    assert philox.block(counter, key) == answer
    as_arrays = philox.block([np.uint64(word) for word in counter], [np.uint64(word) for word in key])
    assert tuple(map(int, as_arrays)) == answer


@pytest.mark.parametrize("seed", SEEDS)
def test_words_and_normals_are_those_of_tensorflow(seed):
    pair = tf.constant(seed, tf.int64)
    words = tf.random.stateless_uniform([1003], pair, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
    np.testing.assert_array_equal(philox.words(seed, 1003), words.numpy())
    np.testing.assert_array_equal(
        philox.uniform(philox.words(seed, 1003)), tf.random.stateless_uniform([1003], pair, alg="philox").numpy()
    )
    normals = philox.normal(philox.words(seed, 1004))[:1003]
    # Of numbers up to 5: the last digits of logarithm, sine and cosine.
    np.testing.assert_allclose(normals, tf.random.stateless_normal([1003], pair, alg="philox"), atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("num", [1, 2, 1000])
def test_the_order_of_the_data_is_that_of_tensorflow(seed, num):
    shuffled = tf.random.experimental.stateless_shuffle(tf.range(num), tf.constant(seed, tf.int64))
    np.testing.assert_array_equal(arrays.permutation(num, seed), shuffled.numpy())


@pytest.mark.parametrize("shape", [(784, 20), (3, 50), (4, 4, 3, 8)])
@pytest.mark.parametrize(
    "initializer",
    [
        keras.initializers.HeNormal(5),
        keras.initializers.GlorotUniform(6),
        keras.initializers.LecunNormal(7),
        keras.initializers.Orthogonal(seed=8),
        keras.initializers.RandomNormal(0.5, 2.0, seed=10**9),
        keras.initializers.RandomUniform(-0.5, 2.0, seed=10**9),
        keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal", seed=9),
    ],
    ids=lambda one: type(one).__name__,
)
def test_initial_weights_are_those_of_keras_on_tensorflow(initializer, shape):
    expected = keras.ops.convert_to_numpy(initializer(shape))
    found = initializers.draw(initializer, shape)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_what_draws_nothing_is_left_alone():
    assert initializers.draw(keras.initializers.Zeros(), (3, 3)) is None
    assert initializers.draw(None, (3, 3)) is None


def _all(dataset):
    return [keras.tree.map_structure(np.asarray, batch) for batch in dataset]


@pytest.mark.parametrize("conditions", ["none", "label", "several"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_batches_of_arrays_are_those_of_tf_data(conditions, on_disk, tmp_path):
    x = np.arange(2 * 53, dtype="uint8").reshape(53, 2)
    label = np.arange(53)
    given = {"none": None, "label": label, "several": {"label": label, "age": label / 7}}[conditions]
    if on_disk:
        np.save(tmp_path / "x.npy", x)
        x = disk.OnDisk(np.load(tmp_path / "x.npy", mmap_mode="r"))
    ours, begin, steps = arrays.training_batches(x, given, 10, 4)
    theirs, theirs_begin, theirs_steps = tensorflow.training_batches(x, given, 10, 4)
    assert (steps, len(ours)) == (theirs_steps, 5)
    for epoch in (0, 1, 7):
        begin(epoch)
        theirs_begin(epoch)
        keras.tree.map_structure(np.testing.assert_array_equal, _all(ours), _all(theirs))
    validation = [each.validation_batches(x, given, 25) for each in (arrays, tensorflow)]
    keras.tree.map_structure(np.testing.assert_array_equal, *map(_all, validation))
    assert [len(batch[0]) for batch in validation[0]] == [25, 25, 3]
