"""The terms of a batch in halves, side by side on two processors.

A chain of layers is a chain of operations: with one thread to each of them (`kvae.backends.startup`) a second
processor has work
in the backward pass alone. Two chains, of half the batch each, keep both busy.
"""

import tensorflow as tf

from kvae.loss_terms import Terms

_PHILOX = 1
_WORDS = 4  # of a block of Philox


def terms(model, data, noise):
    """The terms of a batch in training: those of `model.terms` up to rounding, with the same noise.

    Args:
        model: a `kvae.VAE`; in halves where it allows that by `in_halves`, for which its networks, likelihood and prior
            must look at each example by itself.
        data: a batch, as `fit` hands it over.
        noise: `kvae.backends.tensorflow.step.Noise`.
    """
    columns = tf.nest.flatten(data)
    num = columns[0].shape[0]
    if not model.in_halves or num is None or num % 2:
        return model.terms(data, noise, training=True)
    found = []
    for number, half in enumerate(zip(*(tf.split(column, 2) for column in columns), strict=True)):
        found.append(model.terms(tf.nest.pack_sequence_as(data, half), _Half(noise, number), training=True))
    return Terms(*(None if halves[0] is None else tf.concat(halves, axis=0) for halves in zip(*found, strict=True)))


class _Half:
    """What each example of the first (0) or the second (1) half of a batch has of the noise of the whole."""

    def __init__(self, noise, number):
        self._noise, self._number = noise, number

    def normal(self, like):
        count = like.shape.num_elements()
        if not self._number or self._noise.jit_compile or not count or count % _WORDS:
            return self._of_whole(self._noise.normal, like)
        key, counter = self._after(self._noise.latent_key, count // _WORDS)
        return tf.raw_ops.StatelessRandomNormalV2(
            shape=like.shape, key=key, counter=counter, alg=_PHILOX, dtype=tf.float32
        )

    def bernoulli(self, probabilities):
        count = probabilities.shape.num_elements()
        if not self._number or not count or count % (2 * _WORDS):
            return self._of_whole(self._noise.bernoulli, probabilities)
        key, counter = self._after(self._noise.target_key, count // (2 * _WORDS))
        words = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[count // 2], key=key, counter=counter, alg=_PHILOX, dtype=tf.uint32
        )
        return self._noise.compared(words, probabilities)

    def _of_whole(self, draw, like):
        return draw(tf.concat([like, like], axis=0))[tf.shape(like)[0] :] if self._number else draw(like)

    @staticmethod
    def _after(seed, blocks):
        """Philox's key and its counter, so many blocks on."""
        key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
        return key, counter + tf.constant([blocks, 0], tf.uint64)
