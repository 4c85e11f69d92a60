"""TensorFlow's fused kernel of Adam: one pass over memory per variable, where Keras makes a dozen."""

from types import MappingProxyType

import keras
import tensorflow as tf


class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` with a fused update. With `amsgrad`, sparse gradients or several devices it is Keras'."""

    def add_optimizer_variables(self, trainable_variables, name, initializer="zeros"):
        """Create variables as Keras does, and remember the moments of each trainable variable."""
        slots = super().add_optimizer_variables(trainable_variables, name, initializer)
        if name == ["momentum", "velocity"]:
            triples = [each for each in zip(trainable_variables, *slots, strict=True) if each[1] is not None]
            # Not a dict: TensorFlow and Keras would track these variables a second time.
            self.moments = MappingProxyType({id(var.value): (m.value, v.value) for var, m, v in triples})
        return slots

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable in place, given its gradient."""
        var = variable.value if isinstance(variable, keras.Variable) else variable
        if self.amsgrad or isinstance(gradient, tf.IndexedSlices) or id(var) not in self.moments:
            super().update_step(gradient, variable, learning_rate)
            return
        (m, v), dtype = self.moments[id(var)], var.dtype
        beta_1, beta_2, epsilon = (tf.constant(each, dtype) for each in (self.beta_1, self.beta_2, self.epsilon))
        # As Keras does, raise single-precision betas to a power, whatever the precision of the variable.
        step = tf.cast(self.iterations + 1, dtype)
        power_1, power_2 = (tf.pow(tf.cast(beta, dtype), step) for beta in (self.beta_1, self.beta_2))
        rate, gradient = tf.cast(learning_rate, dtype), tf.cast(gradient, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=var.handle, m=m.handle, v=v.handle, beta1_power=power_1, beta2_power=power_2, lr=rate, beta1=beta_1,
            beta2=beta_2, epsilon=epsilon, grad=gradient,
        )  # fmt: skip
