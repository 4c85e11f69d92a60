"""Adam as `kvae train` uses it: `keras.optimizers.Adam`, with a fused kernel under TensorFlow."""

from typing import Any

import keras

from kvae.serialization import register

_Adam: Any
if keras.backend.backend() == "tensorflow":
    from kvae.backends.tensorflow.adam import FusedAdam as _Adam
else:
    # Under PyTorch Keras replaces its Adam by a class that updates all variables at once.
    _Adam = type(keras.optimizers.Adam())


@register("optimizers.Adam")
class Adam(_Adam):
    """Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980), with one fused kernel per variable under TensorFlow.

    Arguments, state and result are those of `keras.optimizers.Adam`. A model that was saved with this optimizer opens
    under every backend. (Keras' own Adam, saved under PyTorch, opens under PyTorch only.)
    """
