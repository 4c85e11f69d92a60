"""Adam with one fused kernel a variable: the formula of `keras.optimizers.Adam`, in a fraction of its time on a CPU."""

from typing import Any

import keras

from kvae.serialization import register

_Adam: Any = keras.optimizers.Adam
if keras.backend.backend() == "torch":
    # What Keras makes of its own Adam there, but of no class that is derived from it: all variables at once.
    from keras.src.backend.torch.optimizers.torch_adam import Adam as _Adam  # type: ignore[no-redef]

if keras.backend.backend() == "tensorflow":
    from kvae.backends.tensorflow.adam import update
else:

    def update(adam, gradient, variable, learning_rate):
        """Leave it to Keras: a compiler fuses its update."""
        return False


@register("optimizers.Adam")
class Adam(_Adam):
    """Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980), each variable updated by one kernel under TensorFlow.

    Arguments, state and result are those of `keras.optimizers.Adam`, whose update is a dozen operations a variable,
    each one pass over memory. Weight decay, clipping, moving averages and gradient accumulation are Keras' own, before
    and after the update. What the kernel does not cover (`amsgrad`, sparse gradients) takes Keras' update too.
    """

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable in place, given its gradient."""
        if not update(self, gradient, variable, learning_rate):
            super().update_step(gradient, variable, learning_rate)
