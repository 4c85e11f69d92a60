"""What every likelihood answers."""

import keras

from kvae.data.disk import chunks, subsample

_LOOKED_AT = 5000


class Likelihood(keras.layers.Layer):
    """Base of all likelihoods. A layer, so that one with learned parameters is saved with the model."""

    #: The name in the manifest of an exported file.
    kind: str
    #: Numbers that the decoder gives for each data value.
    num_parameters = 1
    #: Whether p(x given z) is a density, which has a unit, rather than a probability.
    is_density = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.built = True

    def target(self, x, noise):
        """Return what this step models of unit data `x`, float32 `[batch, *data]`: `x` itself, or a draw from it."""
        return x

    def nll(self, x, parameters, training=False):
        """-log p(x given z) of unit data `x`, float32 `[batch]`, in nats, every constant included.

        Args:
            x: unit data, float32 `[batch, *data]`.
            parameters: the decoder's output, `[batch, *data]` with the last axis `num_parameters` times as long.
            training: whether this is a step of training, from which some likelihoods learn without a gradient.
        """
        raise NotImplementedError

    def mean(self, parameters):
        """The mean of p(x given z) in unit data, float32 `[batch, *data]`."""
        raise NotImplementedError

    def outputs(self, parameters, data):
        """What the decoder's graph gives beside the mean, by name, in data units: all that a draw needs.

        Args:
            parameters: the decoder's output.
            data: the model's `DataSpec`.
        """
        return {}

    def output_shapes(self, shape):
        """Shape of each of `outputs`, the batch axis left out, from the shape of the data."""
        return {}

    def initial_bias(self, mean):
        """What the decoder's last bias should start at, or None for zeros.

        Args:
            mean: mean of the unit data, array `[*data]`; the result has the last axis `num_parameters` times as long.
        """
        return

    def check(self, x, data, where):
        """Raise ValueError, with what to do, unless the NumPy array `x` (in data units) is what this models."""

    def manifest(self):
        """What a reader of the exported file must know, as JSON."""
        return {"name": self.kind}


def first_of(x, wanted):
    """The first value of `x` that `wanted`, array to booleans, picks; None where there is none.

    Of data that stay on disk some rows are looked at.
    """
    for piece in chunks(subsample(x, _LOOKED_AT)):
        if (picked := wanted(piece)).any():
            return float(piece[picked][0])
    return None


def is_fraction(x):
    """Which values are no whole numbers."""
    return x != x.round()
