"""Adam with one fused kernel a variable: the formula of `keras.optimizers.Adam`, in a fraction of its time on a CPU."""

import keras
import tensorflow as tf

from kvae.registry import register


@register
class Adam(keras.optimizers.Adam):
    """Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980), each variable updated by one TensorFlow kernel.

    Arguments, state and result are those of `keras.optimizers.Adam`, whose update is a dozen operations a variable,
    each one pass over memory. Weight decay, clipping, moving averages and gradient accumulation are Keras' own, before
    and after the update. What the kernel does not cover (`amsgrad`, sparse gradients) takes Keras' update too.
    """

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable in place, given its gradient."""
        if self.amsgrad or isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, learning_rate)
            return
        index, dtype = self._get_variable_index(variable), variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            # As Keras has it: powers of the single-precision beta, whatever the precision of the variable.
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, dtype), step),
            lr=tf.cast(learning_rate, dtype),
            beta1=tf.convert_to_tensor(self.beta_1, dtype),
            beta2=tf.convert_to_tensor(self.beta_2, dtype),
            epsilon=tf.convert_to_tensor(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )


def _handle(variable):
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
